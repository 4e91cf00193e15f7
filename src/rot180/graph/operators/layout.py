"""Steps that move numbers without changing them: reshape, permute, concatenate, choose channels."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from rot180.errors import Rot180Error
from rot180.graph.box import Span
from rot180.graph.operators.backward_kind import STOPPED, BackwardKind
from rot180.graph.operators.operator import (
    MAPS,
    SAME_PLACE,
    Axes,
    Kept,
    Nominal,
    Operator,
    Part,
    Rules,
)

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Reshape(Operator):
    """Flatten, view, squeeze: the numbers of one image in another order of axes.

    Where rows and columns come through as they are, as in a channel shuffle, parts of maps do.

    Attributes:
        before, after: the shapes for one image, without the batch axis.
        where: the axes of rows and columns before; None where there are none.
    """

    before: Shape
    after: Shape
    where: Axes | None = MAPS
    linear = True

    @property
    def kind(self) -> str:
        """What it is."""
        return "reshape"

    @property
    def _axes_after(self) -> Axes | None:
        """The axes of rows and columns afterwards, where they come through."""
        if self.where is None:
            return None
        found = []
        for axis in self.where:
            place = len(self.before) + axis
            behind = [
                k
                for k in range(len(self.after))
                if self.after[k] == self.before[place]
                and prod(self.after[:k]) == prod(self.before[:place])
            ]
            if not behind:
                return None
            found.append(behind[-1] - len(self.after))
        return None if found[0] == found[1] else (found[0], found[1])

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether rows and columns come through; maps that are made of a vector come as a whole."""
        if self.where is None:
            return len(self.after) != 3
        return self._axes_after is not None

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return where rows and columns have gone."""
        return self._axes_after

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Reshape each image of the batch by itself."""
        (a,) = inputs
        return a.reshape(len(a), *self._cut(self.after, self._axes_after, part)), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Undo it."""
        where = self.where if self._axes_after else None
        return (signal.reshape(len(signal), *self._cut(self.before, where, part)),)

    def _cut(self, shape: Shape, axes: Axes | None, part: Part) -> Shape:
        if axes is None:
            return shape
        sizes = list(shape)
        sizes[axes[0]], sizes[axes[1]] = part.out.height, part.out.width
        return tuple(sizes)


@dataclass(frozen=True, eq=False)
class Permute(Operator):
    """The axes in another order.

    Attributes:
        order: the axes of the input, the batch axis first.
        where: which of them, from the end, are rows and columns; None where there are none.
    """

    order: tuple[int, ...]
    where: Axes | None = MAPS
    linear = True

    @property
    def kind(self) -> str:
        """What it is."""
        return "permute"

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether rows and columns are known; else maps that come out come as a whole."""
        return self.where is not None or len(self.order) != 4

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return where rows and columns have gone."""
        (where,) = before
        if where is None:
            return None
        rank = len(self.order)
        rows, columns = (self.order.index(rank + one) - rank for one in where)
        return rows, columns

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Permute."""
        return inputs[0].permute(self.order), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Undo it."""
        undone = [self.order.index(axis) for axis in range(len(self.order))]
        return (signal.permute(undone),)


@dataclass(frozen=True, eq=False)
class Concatenation(Operator):
    """Values one behind the other along an axis (counted from the end), of the given sizes.

    Attributes:
        axis: which axis.
        sizes: of each term along it, constants included.
        where: the axes of rows and columns; None where there are none.
        constants: for each term the constant that it is, for one image; None: it is an input.
    """

    axis: int
    sizes: tuple[int, ...]
    where: Axes | None = MAPS
    constants: tuple[Tensor | None, ...] | None = None
    linear = True

    @property
    def kind(self) -> str:
        """What it is."""
        return "concatenation"

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether parts of maps can be joined; beside constants, whole maps are."""
        return self.constants is None or self.where is None

    def _along(self, axis: int) -> bool:
        return self.where is not None and self.where[axis] == self.axis

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return the same axes."""
        return self.where

    def reach(self, axis: int, span: Span, sizes: Shape) -> tuple[Span, ...]:
        """Return the part of each term that falls into the span."""
        if not self._along(axis) or not self.local:
            return super().reach(axis, span, sizes)
        found, start = [], 0
        for size in self.sizes:
            found.append(Span(span.start - start, span.stop - start).clipped(size))
            start += size
        return tuple(found)

    def nominal(self, axis: int) -> Nominal | None:
        """Return the place itself; along the axis there is nothing of the kind."""
        return None if self._along(axis) or not self.local else SAME_PLACE

    def situation(self, axis: int, span: Span) -> Span | None:
        """Return the span itself along the axis."""
        return span if self._along(axis) else None

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Concatenate."""
        if self.constants is None:
            return torch.cat(inputs, self.axis), None
        images, results = len(inputs[0]), iter(inputs)
        terms = [
            next(results) if one is None else one.expand(images, *one.shape)
            for one in self.constants
        ]
        return torch.cat(terms, self.axis), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Cut the signal; what comes to a constant goes no further."""
        sizes = list(self.sizes)
        for axis in (0, 1):
            if self._along(axis) and self.constants is None:
                spans = [(one.columns if axis else one.rows) for one in part.needs]
                sizes = [one.size for one in spans]
        each = torch.split(signal, sizes, self.axis)
        if self.constants is None:
            return tuple(each)
        return tuple(
            one for one, constant in zip(each, self.constants, strict=True) if constant is None
        )


@dataclass(frozen=True, eq=False)
class Channels(Operator):
    """Some positions along an axis in some order, as a slice, a split or an index takes them.

    The axis is usually that of the channels. Along rows or columns, whole maps are taken.

    Attributes:
        chosen: for each position of the output the input's; -1 for one of zeros.
        channels: how many the input has.
        axis: which axis, counted from the end.
        where: the axes of rows and columns; None where there are none.
    """

    chosen: tuple[int, ...]
    channels: int
    axis: int = -3
    where: Axes | None = MAPS
    linear = True

    @property
    def kind(self) -> str:
        """What it is."""
        return "choice of channels"

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether rows and columns stay as they are."""
        return self.where is None or self.axis not in self.where

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return the same axes."""
        return self.where

    @property
    def _run(self) -> bool:
        """Whether the chosen ones follow one another."""
        first = self.chosen[0]
        return first >= 0 and self.chosen == tuple(range(first, first + len(self.chosen)))

    def shape_after(self, shape: Shape) -> Shape:
        """Return as many channels as are chosen."""
        sizes = list(shape)
        sizes[self.axis] = len(self.chosen)
        return tuple(sizes)

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Take them."""
        (a,) = inputs
        if self._run:
            return a.narrow(self.axis, self.chosen[0], len(self.chosen)), None
        index = torch.tensor(self.chosen, device=a.device)
        if min(self.chosen) < 0:
            a = self._padded(a, 0, 1)
            index = index % (self.channels + 1)
        return a.index_select(self.axis, index), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Put each back in its place; a channel that is taken twice gets the sum."""
        if self._run:
            behind = self.channels - self.chosen[-1] - 1
            return (self._padded(signal, self.chosen[0], behind),)
        index = torch.tensor(self.chosen, device=signal.device) % (self.channels + 1)
        sizes = list(signal.shape)
        sizes[self.axis] = self.channels + 1
        back = signal.new_zeros(sizes).index_add_(self.axis, index, signal)
        return (back.narrow(self.axis, 0, self.channels),)

    def _padded(self, a: Tensor, before: int, behind: int) -> Tensor:
        """Put zeros before and behind along the axis."""
        return F.pad(a, (*[0] * (-2 * self.axis - 2), before, behind))


@dataclass(frozen=True, eq=False)
class Relabelled(Operator):
    """The same numbers, of which other axes are rows and columns from here on.

    It takes and gives whole maps: what were no rows, or other ones, cannot be cut by these.

    Attributes:
        where: the axes of rows and columns from here on; None: there are none.
        before, after: the shapes for one image, which differ in axes of size 1 at most.
    """

    where: Axes | None
    before: Shape
    after: Shape
    local = False
    linear = True

    @property
    def kind(self) -> str:
        """What it is."""
        return "relabelled axes"

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return the new ones."""
        return self.where

    def shape_after(self, shape: Shape) -> Shape:
        """Return the new shape."""
        return self.after

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Hand the numbers on."""
        return inputs[0].reshape(len(inputs[0]), *self.after), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Hand the signal back."""
        return (signal.reshape(len(signal), *self.before),)


@dataclass(frozen=True, eq=False)
class Detach(Operator):
    """``x.detach()``: the author's word that nothing goes back here."""

    @property
    def kind(self) -> str:
        """What it is."""
        return "detach"

    @property
    def backward_kind(self) -> BackwardKind:
        """Stopped."""
        return STOPPED

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Hand the input on."""
        return inputs[0], None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[None, ...]:
        """Stop the gradient, as autograd does; no other method is defined."""
        if rules.backward != "gradient":
            raise Rot180Error(
                f"The model calls detach(), where the method '{rules.method}' is not defined. Use "
                "method='gradient', or a layer below it."
            )
        return (None,)


@dataclass(frozen=True, eq=False)
class Conversion(Operator):
    """Conversion of floating-point numbers to another type: the identity, but for rounding.

    Attributes:
        before, after: the types.
    """

    before: torch.dtype
    after: torch.dtype
    linear = True

    @property
    def kind(self) -> str:
        """What it is."""
        return "conversion"

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Convert the numbers."""
        return inputs[0].to(self.after), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Convert the signal back."""
        return (signal.to(self.before),)
