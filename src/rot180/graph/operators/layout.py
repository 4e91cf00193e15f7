"""Operators that move numbers without changing them: reshape, permute, concatenate, select."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from rot180.errors import Rot180Error
from rot180.graph.box import Span
from rot180.graph.operators.backward_kind import STOPPED, BackwardKind
from rot180.graph.operators.operator import (
    IDENTITY_FIELD,
    MAPS,
    Axes,
    InteriorField,
    MethodRules,
    Operator,
    Region,
    Saved,
)

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Reshape(Operator):
    """Flatten, view, squeeze: the numbers of one image in another shape.

    If rows and columns stay as they are, as in a channel shuffle, it is local.

    Attributes:
        before, after: the shapes for one image, without the batch axis.
        map_axes: the axes of rows and columns before; None where there are none.
    """

    before: Shape
    after: Shape
    map_axes: Axes | None = MAPS
    linear = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "reshape"

    @property
    def _axes_after(self) -> Axes | None:
        """The axes of rows and columns afterwards; None if they do not stay as they are."""
        if self.map_axes is None:
            return None
        axes = []
        for axis in self.map_axes:
            old = len(self.before) + axis
            candidates = [
                new
                for new in range(len(self.after))
                if self.after[new] == self.before[old]
                and prod(self.after[:new]) == prod(self.before[:old])
            ]
            if not candidates:
                return None
            axes.append(candidates[-1] - len(self.after))
        return None if axes[0] == axes[1] else (axes[0], axes[1])

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether rows and columns stay as they are; a vector becomes whole maps."""
        if self.map_axes is None:
            return len(self.after) != 3
        return self._axes_after is not None

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the new axes of rows and columns."""
        return self._axes_after

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Reshape each image of the batch."""
        (a,) = inputs
        return a.reshape(len(a), *self._on_region(self.after, self._axes_after, region)), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Undo it."""
        axes = self.map_axes if self._axes_after else None
        return (signal.reshape(len(signal), *self._on_region(self.before, axes, region)),)

    def _on_region(self, shape: Shape, axes: Axes | None, region: Region) -> Shape:
        if axes is None:
            return shape
        sizes = list(shape)
        sizes[axes[0]], sizes[axes[1]] = region.out.height, region.out.width
        return tuple(sizes)


@dataclass(frozen=True, eq=False)
class Permute(Operator):
    """The axes in another order.

    Attributes:
        order: the axes of the input, the batch axis first.
        map_axes: the input's axes of rows and columns, counted from the end; None where there are
            none.
    """

    order: tuple[int, ...]
    map_axes: Axes | None = MAPS
    linear = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "permute"

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether rows and columns are known; if not, maps in the output are whole maps."""
        return self.map_axes is not None or len(self.order) != 4

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the new axes of rows and columns."""
        (axes,) = input_axes
        if axes is None:
            return None
        rank = len(self.order)
        rows, columns = (self.order.index(rank + axis) - rank for axis in axes)
        return rows, columns

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Permute the axes."""
        return inputs[0].permute(self.order), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Undo it."""
        inverse = [self.order.index(axis) for axis in range(len(self.order))]
        return (signal.permute(inverse),)


@dataclass(frozen=True, eq=False)
class Concatenation(Operator):
    """Several terms joined along an axis.

    Attributes:
        axis: the axis, counted from the end.
        sizes: the size of each term along it, constants included.
        map_axes: the axes of rows and columns; None where there are none.
        constants: for each term its value for one image, or None if it is an input; None if all
            terms are inputs.
    """

    axis: int
    sizes: tuple[int, ...]
    map_axes: Axes | None = MAPS
    constants: tuple[Tensor | None, ...] | None = None
    linear = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "concatenation"

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether regions can be joined; maps next to constants are joined as a whole."""
        return self.constants is None or self.map_axes is None

    def _along(self, axis: int) -> bool:
        return self.map_axes is not None and self.map_axes[axis] == self.axis

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the same axes."""
        return self.map_axes

    def input_span(self, axis: int, span: Span, sizes: Shape) -> tuple[Span, ...]:
        """Return the part of each term that falls into the span."""
        if not self._along(axis) or not self.local:
            return super().input_span(axis, span, sizes)
        spans, start = [], 0
        for size in self.sizes:
            spans.append(Span(span.start - start, span.stop - start).clipped(size))
            start += size
        return tuple(spans)

    def interior_field(self, axis: int) -> InteriorField | None:
        """Return the identity; along the joined axis there is no such field."""
        return None if self._along(axis) or not self.local else IDENTITY_FIELD

    def alignment(self, axis: int, span: Span) -> Span | None:
        """Return the span itself along the joined axis."""
        return span if self._along(axis) else None

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Concatenate the terms."""
        if self.constants is None:
            return torch.cat(inputs, self.axis), None
        images, rest = len(inputs[0]), iter(inputs)
        terms = [
            next(rest) if constant is None else constant.expand(images, *constant.shape)
            for constant in self.constants
        ]
        return torch.cat(terms, self.axis), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Split the signal; the part of a constant is dropped."""
        sizes = list(self.sizes)
        for axis in (0, 1):
            if self._along(axis) and self.constants is None:
                spans = [(need.columns if axis else need.rows) for need in region.needs]
                sizes = [span.size for span in spans]
        each = torch.split(signal, sizes, self.axis)
        if self.constants is None:
            return tuple(each)
        return tuple(
            term for term, constant in zip(each, self.constants, strict=True) if constant is None
        )


@dataclass(frozen=True, eq=False)
class Channels(Operator):
    """Some positions along an axis in some order, as a slice, a split or an index takes them.

    The axis is usually that of the channels. Along rows or columns it takes whole maps.

    Attributes:
        chosen: for each position of the output, the number of the input's; -1 stands for zeros.
        channels: number of positions of the input.
        axis: the axis, counted from the end.
        map_axes: the axes of rows and columns; None where there are none.
    """

    chosen: tuple[int, ...]
    channels: int
    axis: int = -3
    map_axes: Axes | None = MAPS
    linear = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "choice of channels"

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether rows and columns stay as they are."""
        return self.map_axes is None or self.axis not in self.map_axes

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the same axes."""
        return self.map_axes

    @property
    def _contiguous(self) -> bool:
        """Whether the chosen positions follow one another."""
        first = self.chosen[0]
        return first >= 0 and self.chosen == tuple(range(first, first + len(self.chosen)))

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape with as many positions as are chosen."""
        sizes = list(shape)
        sizes[self.axis] = len(self.chosen)
        return tuple(sizes)

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Take the chosen positions."""
        (a,) = inputs
        if self._contiguous:
            return a.narrow(self.axis, self.chosen[0], len(self.chosen)), None
        index = torch.tensor(self.chosen, device=a.device)
        if min(self.chosen) < 0:
            a = self._padded(a, 0, 1)
            index = index % (self.channels + 1)
        return a.index_select(self.axis, index), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Put each signal back at its position; a position that is chosen twice gets the sum."""
        if self._contiguous:
            after = self.channels - self.chosen[-1] - 1
            return (self._padded(signal, self.chosen[0], after),)
        index = torch.tensor(self.chosen, device=signal.device) % (self.channels + 1)
        sizes = list(signal.shape)
        sizes[self.axis] = self.channels + 1
        back = signal.new_zeros(sizes).index_add_(self.axis, index, signal)
        return (back.narrow(self.axis, 0, self.channels),)

    def _padded(self, a: Tensor, before: int, after: int) -> Tensor:
        """Return values with zeros before and after them along the axis."""
        return F.pad(a, (*[0] * (-2 * self.axis - 2), before, after))


@dataclass(frozen=True, eq=False)
class Relabelled(Operator):
    """The same numbers, with other axes as rows and columns from here on.

    It takes and gives whole maps: regions of the new rows are no regions of the old ones.

    Attributes:
        map_axes: the axes of rows and columns from here on; None where there are none.
        before, after: the shapes for one image; they differ at most in axes of size 1.
    """

    map_axes: Axes | None
    before: Shape
    after: Shape
    local = False
    linear = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "relabelled axes"

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the new axes."""
        return self.map_axes

    def output_shape(self, shape: Shape) -> Shape:
        """Return the new shape."""
        return self.after

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Return the same numbers."""
        return inputs[0].reshape(len(inputs[0]), *self.after), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Return the same signal."""
        return (signal.reshape(len(signal), *self.before),)


@dataclass(frozen=True, eq=False)
class Detach(Operator):
    """``x.detach()``: the author of the model wants no signal to go back here."""

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "detach"

    @property
    def backward_kind(self) -> BackwardKind:
        """Stopped."""
        return STOPPED

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Return the input."""
        return inputs[0], None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[None, ...]:
        """Stop the gradient, as autograd does; other methods are not defined."""
        if rules.backward != "gradient":
            raise Rot180Error(
                f"The model calls detach(), where the method '{rules.method}' is not defined. Use "
                "method='gradient', or a layer below it."
            )
        return (None,)


@dataclass(frozen=True, eq=False)
class Conversion(Operator):
    """Conversion of floating-point numbers to another type: the identity, apart from rounding.

    Attributes:
        before, after: the types.
    """

    before: torch.dtype
    after: torch.dtype
    linear = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "conversion"

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Convert the numbers."""
        return inputs[0].to(self.after), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Convert the signal back."""
        return (signal.to(self.before),)
