"""An operator on maps, for values that hold several maps for each image."""

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from rot180.graph.box import Span
from rot180.graph.operators.backward_kind import BackwardKind
from rot180.graph.operators.operator import MAPS, Axes, Kept, Looks, Nominal, Operator, Part, Rules


@dataclass(frozen=True, eq=False)
class Folded(Operator):
    """An operator that takes the maps (n, m, c, h, w) of each image as images of their own.

    That is what a model does that folds frames, windows or channels into its batch.

    Attributes:
        operator: what is done to each of the maps, (c, h, w).
        count: m, the number of maps for each image.
    """

    operator: Operator
    count: int

    @property
    def kind(self) -> str:
        """What it is."""
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
        """Whether the operator leaves switches."""
        return self.operator.switches

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """Whether the operator is."""
        return self.operator.linear

    def looks_at(self, method: str | None) -> Looks:
        """Return what the operator looks at."""
        return self.operator.looks_at(method)

    def reach(self, axis: int, span: Span, sizes: tuple[int, ...]) -> tuple[Span, ...]:
        """Return the operator's reach."""
        return self.operator.reach(axis, span, sizes)

    def nominal(self, axis: int) -> Nominal | None:
        """Return the operator's."""
        return self.operator.nominal(axis)

    def situation(self, axis: int, span: Span) -> Hashable:
        """Return the operator's."""
        return self.operator.situation(axis, span)

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return those of maps."""
        return MAPS

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of as many maps."""
        return (self.count, *self.operator.shape_after(shape[1:]))

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, Tensor | None]:
        """Compute each map by itself."""
        part = part._replace(spare=False)
        output, switches = self.operator.forward((inputs[0].flatten(0, 1),), part)
        return self._apart(output), None if switches is None else self._apart(switches)

    def backward(
        self, signal: Tensor, kept: Kept, rules: Rules, part: Part
    ) -> tuple[Tensor | None, ...]:
        """Carry the signal of each map back by itself."""
        signals = len(signal)

        def folded(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            return value.expand(signals, *value.shape[1:]).flatten(0, 1)

        inputs = tuple(one.expand(signals, *one.shape[1:]).flatten(0, 1) for one in kept.inputs)
        here = Kept(inputs, folded(kept.output), folded(kept.switches))
        part = part._replace(spare_signal=False)
        found = self.operator.backward(signal.flatten(0, 1), here, rules, part)
        return tuple(None if one is None else self._apart(one) for one in found)

    def _apart(self, value: Tensor) -> Tensor:
        return value.reshape(-1, self.count, *value.shape[1:])

    def multiply_adds(self, part: Part) -> int:
        """Count the products for all maps."""
        return self.count * self.operator.multiply_adds(part)
