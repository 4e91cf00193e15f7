"""Operators that act on each of several maps of an image."""

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from rot180.graph.box import Span
from rot180.graph.operators.backward_kind import BackwardKind
from rot180.graph.operators.operator import (
    MAPS,
    Axes,
    BackwardNeeds,
    InteriorField,
    MethodRules,
    Operator,
    Region,
    Saved,
)


@dataclass(frozen=True, eq=False)
class Folded(Operator):
    """An operator that takes the m maps (n, m, c, h, w) of each image as images of their own.

    A model that folds frames, windows or channels into its batch does that.

    Attributes:
        operator: the operator on each map (c, h, w).
        count: the number m of maps for each image.
    """

    operator: Operator
    count: int

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return self.operator.kind

    @property
    def backward_kind(self) -> BackwardKind:
        """The kind of the operator itself."""
        return self.operator.backward_kind

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether the operator is."""
        return self.operator.local

    @property
    def switches(self) -> bool:  # type: ignore[override]
        """Whether the operator returns switches."""
        return self.operator.switches

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """Whether the operator is."""
        return self.operator.linear

    def backward_needs(self, method: str | None) -> BackwardNeeds:
        """Return what the operator needs."""
        return self.operator.backward_needs(method)

    def input_span(self, axis: int, span: Span, sizes: tuple[int, ...]) -> tuple[Span, ...]:
        """Return the operator's."""
        return self.operator.input_span(axis, span, sizes)

    def interior_field(self, axis: int) -> InteriorField | None:
        """Return the operator's."""
        return self.operator.interior_field(axis)

    def alignment(self, axis: int, span: Span) -> Hashable:
        """Return the operator's."""
        return self.operator.alignment(axis, span)

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the axes of maps."""
        return MAPS

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of all maps of an image."""
        return (self.count, *self.operator.output_shape(shape[1:]))

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, Tensor | None]:
        """Apply the operator to each map."""
        region = region._replace(may_overwrite_input=False)
        output, switches = self.operator.forward((inputs[0].flatten(0, 1),), region)
        return self._unfolded(output), None if switches is None else self._unfolded(switches)

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor | None, ...]:
        """Carry the signal of each map back on its own."""
        signals = len(signal)

        def folded(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            return value.expand(signals, *value.shape[1:]).flatten(0, 1)

        inputs = tuple(
            value.expand(signals, *value.shape[1:]).flatten(0, 1) for value in saved.inputs
        )
        folded_saved = Saved(inputs, folded(saved.output), folded(saved.switches))
        region = region._replace(may_overwrite_signal=False)
        back = self.operator.backward(signal.flatten(0, 1), folded_saved, rules, region)
        return tuple(None if at_input is None else self._unfolded(at_input) for at_input in back)

    def _unfolded(self, value: Tensor) -> Tensor:
        return value.reshape(-1, self.count, *value.shape[1:])

    def macs(self, region: Region) -> int:
        """Count the products for all maps."""
        return self.count * self.operator.macs(region)
