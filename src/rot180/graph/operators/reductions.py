"""Sums, means and maxima along axes."""

from dataclasses import dataclass

from torch import Tensor

from rot180.graph.operators.backward_kind import BY_DERIVATIVE, BackwardKind
from rot180.graph.operators.operator import (
    Axes,
    BackwardNeeds,
    MethodRules,
    Operator,
    Region,
    Saved,
)


def axes_after_removal(map_axes: Axes | None, axes: tuple[int, ...]) -> Axes | None:
    """Return the axes of rows and columns after other axes, counted from the end, are removed."""
    if map_axes is None or set(map_axes) & set(axes):
        return None
    rows, columns = (axis + sum(removed > axis for removed in axes) for axis in map_axes)
    return rows, columns


@dataclass(frozen=True, eq=False)
class Total(Operator):
    """The sum along some axes times a factor; a factor of 1 / size makes it the mean.

    Attributes:
        shape: shape of the input for one image.
        summed: the axes, counted from the end.
        keeps: whether the axes stay, with size 1.
        map_axes: the input's axes of rows and columns; None where there are none.
        factor: factor of the sum.
    """

    shape: tuple[int, ...]
    summed: tuple[int, ...]
    keeps: bool
    map_axes: Axes | None
    factor: float = 1.0
    linear = True
    allocates_output = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "sum along axes" if self.factor == 1 else "mean"

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether rows and columns stay as they are."""
        return self.map_axes is None or not set(self.summed) & set(self.map_axes)

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the new axes of rows and columns."""
        if self.keeps:
            return self.map_axes
        return axes_after_removal(self.map_axes, self.summed)

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Sum along the axes."""
        total = inputs[0].sum(self.summed, keepdim=self.keeps)
        return (total if self.factor == 1 else total * self.factor), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Pass the signal to each term."""
        signal = signal if self.factor == 1 else signal * self.factor
        if not self.keeps:
            for axis in sorted(len(self.shape) + summed for summed in self.summed):
                signal = signal.unsqueeze(1 + axis)
        sizes = [
            self.shape[axis] if axis - len(self.shape) in self.summed else signal.shape[1 + axis]
            for axis in range(len(self.shape))
        ]
        return (signal.expand(len(signal), *sizes),)


@dataclass(frozen=True, eq=False)
class Largest(Operator):
    """The largest value along one axis; of equal ones the first counts.

    By every method the signal goes to the position of the largest value, as in a max pooling with
    switches.

    Attributes:
        axis: the axis, counted from the end.
        keeps: whether the axis stays, with size 1.
        map_axes: the input's axes of rows and columns; None where there are none.
    """

    axis: int
    keeps: bool
    map_axes: Axes | None
    allocates_output = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "largest along an axis"

    @property
    def backward_kind(self) -> BackwardKind:
        """By derivative."""
        return BY_DERIVATIVE

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether rows and columns stay as they are."""
        return self.map_axes is None or self.axis not in self.map_axes

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the new axes of rows and columns."""
        return self.map_axes if self.keeps else axes_after_removal(self.map_axes, (self.axis,))

    def backward_needs(self, method: str | None) -> BackwardNeeds:
        """Every method needs the position of the largest value."""
        return BackwardNeeds(inputs=True)

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Return the largest values."""
        return inputs[0].amax(self.axis, keepdim=self.keeps), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Put the signal at the position of the largest value."""
        (a,) = saved.inputs
        position = a.argmax(self.axis, keepdim=True)
        signal = signal if self.keeps else signal.unsqueeze(self.axis)
        back = signal.new_zeros(len(signal), *a.shape[1:])
        return (back.scatter_(self.axis, position.expand_as(signal), signal),)


@dataclass(frozen=True, eq=False)
class Expansion(Operator):
    """Axes of size 1 broadcast to other sizes.

    Attributes:
        before, after: the shapes for one image, with the same number of axes.
        map_axes: the axes of rows and columns; None where there are none.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    map_axes: Axes | None
    linear = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "spread"

    @property
    def _broadcast(self) -> tuple[int, ...]:
        rank = len(self.after)
        return tuple(
            axis - rank
            for axis, (before, after) in enumerate(zip(self.before, self.after, strict=True))
            if before != after
        )

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether rows and columns stay as they are."""
        return self.map_axes is None or not set(self._broadcast) & set(self.map_axes)

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the same axes."""
        return self.map_axes

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Broadcast."""
        (a,) = inputs
        sizes = [-1] * len(self.after)
        for axis in self._broadcast:
            sizes[axis] = self.after[axis]
        return a.expand(len(a), *sizes), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Sum over what was broadcast."""
        return (signal.sum(self._broadcast, keepdim=True),)
