"""Sums, means and maxima along axes."""

from dataclasses import dataclass

from torch import Tensor

from rot180.graph.operators.backward_kind import BY_DERIVATIVE, BackwardKind
from rot180.graph.operators.operator import Axes, Kept, Looks, Operator, Part, Rules


def axes_left(where: Axes | None, axes: tuple[int, ...]) -> Axes | None:
    """Return where rows and columns are after some other axes, counted from the end, have gone."""
    if where is None or set(where) & set(axes):
        return None
    rows, columns = (one + sum(gone > one for gone in axes) for one in where)
    return rows, columns


@dataclass(frozen=True, eq=False)
class Total(Operator):
    """The sum along some axes, times a factor: with 1 over their size, the mean.

    Attributes:
        shape: of the input for one image.
        summed: the axes, counted from the end.
        keeps: whether they stay, with size 1.
        where: the input's axes of rows and columns; None where there are none.
        factor: what the sum is multiplied with.
    """

    shape: tuple[int, ...]
    summed: tuple[int, ...]
    keeps: bool
    where: Axes | None
    factor: float = 1.0
    linear = True
    fresh = True

    @property
    def kind(self) -> str:
        """What it is."""
        return "sum along axes" if self.factor == 1 else "mean"

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether rows and columns stay as they are."""
        return self.where is None or not set(self.summed) & set(self.where)

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return where rows and columns have gone."""
        if self.keeps:
            return self.where
        return axes_left(self.where, self.summed)

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Add up."""
        total = inputs[0].sum(self.summed, keepdim=self.keeps)
        return (total if self.factor == 1 else total * self.factor), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Hand the signal to each term."""
        signal = signal if self.factor == 1 else signal * self.factor
        if not self.keeps:
            for axis in sorted(len(self.shape) + one for one in self.summed):
                signal = signal.unsqueeze(1 + axis)
        sizes = [
            self.shape[axis] if axis - len(self.shape) in self.summed else signal.shape[1 + axis]
            for axis in range(len(self.shape))
        ]
        return (signal.expand(len(signal), *sizes),)


@dataclass(frozen=True, eq=False)
class Largest(Operator):
    """The largest value along one axis, the first of equal ones.

    Whatever the method, the signal goes to where it was, as the switches of a max pooling do.

    Attributes:
        axis: which axis, counted from the end.
        keeps: whether it stays, with size 1.
        where: the input's axes of rows and columns; None where there are none.
    """

    axis: int
    keeps: bool
    where: Axes | None
    fresh = True

    @property
    def kind(self) -> str:
        """What it is."""
        return "largest along an axis"

    @property
    def backward_kind(self) -> BackwardKind:
        """By derivative."""
        return BY_DERIVATIVE

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether rows and columns stay as they are."""
        return self.where is None or self.axis not in self.where

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return where rows and columns have gone."""
        return self.where if self.keeps else axes_left(self.where, (self.axis,))

    def looks_at(self, method: str | None) -> Looks:
        """Every method asks where the largest value was."""
        return Looks(inputs=True)

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Return the largest values."""
        return inputs[0].amax(self.axis, keepdim=self.keeps), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Put the signal where the largest value was."""
        (a,) = kept.inputs
        place = a.argmax(self.axis, keepdim=True)
        signal = signal if self.keeps else signal.unsqueeze(self.axis)
        back = signal.new_zeros(len(signal), *a.shape[1:])
        return (back.scatter_(self.axis, place.expand_as(signal), signal),)


@dataclass(frozen=True, eq=False)
class Expansion(Operator):
    """Axes of size 1 spread to other sizes, or new ones put in front.

    Attributes:
        before, after: the shapes for one image, of the same number of axes.
        where: the axes of rows and columns; None where there are none.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    where: Axes | None
    linear = True

    @property
    def kind(self) -> str:
        """What it is."""
        return "spread"

    @property
    def _spread(self) -> tuple[int, ...]:
        rank = len(self.after)
        return tuple(
            axis - rank
            for axis, (one, other) in enumerate(zip(self.before, self.after, strict=True))
            if one != other
        )

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether rows and columns stay as they are."""
        return self.where is None or not set(self._spread) & set(self.where)

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return the same axes."""
        return self.where

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Spread."""
        (a,) = inputs
        sizes = [-1] * len(self.after)
        for axis in self._spread:
            sizes[axis] = self.after[axis]
        return a.expand(len(a), *sizes), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Add up."""
        return (signal.sum(self._spread, keepdim=True),)
