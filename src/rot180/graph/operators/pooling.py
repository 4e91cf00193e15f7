"""Max pooling, and the operators that are one linear map along each axis."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rot180.graph.box import COLUMNS, ROWS, Box, Span, Window
from rot180.graph.operators.backward_kind import MAXIMUM, BackwardKind
from rot180.graph.operators.convolution import interior_field_of, pad_input
from rot180.graph.operators.operator import (
    MAPS,
    Axes,
    InteriorField,
    MethodRules,
    Operator,
    Region,
    Saved,
    pair,
)


@dataclass(frozen=True, eq=False)
class MaxPool(Operator):
    """Max pooling with any window; windows may overlap.

    Its switches are the flat positions of the maxima in the box that the step was given.
    """

    window: Window
    allocates_output = True
    allocates_signal = True
    switches = True

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "MaxPool":
        """Return that of ``aten.max_pool2d``; a missing stride is the window's size."""
        kernel = pair(given["kernel_size"])
        return cls(
            Window(
                kernel,
                pair(given["stride"] or kernel),
                pair(given["padding"]),
                pair(given["dilation"]),
            )
        )

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "max pooling"

    @property
    def backward_kind(self) -> BackwardKind:
        """A maximum, where the unpooling decides."""
        return MAXIMUM

    def input_span(self, axis: int, span: Span, sizes: tuple[int, ...]) -> tuple[Span, ...]:
        """Return the span under the window."""
        return (self.window.input_span(axis, span),)

    def interior_field(self, axis: int) -> InteriorField:
        """Return the window's stride and extent."""
        return interior_field_of(self.window, axis)

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, Tensor]:
        """Pool; of equal maxima the first counts, row by row."""
        a, padding = pad_input(inputs[0], region, self.window, -inf)
        kernel, stride, _, dilation = self.window
        pooled, switches = F.max_pool2d(a, kernel, stride, padding, dilation, return_indices=True)
        if a is not inputs[0]:  # positions in the box instead of the padded box
            top, left, _, _ = region.padding[0]
            width = a.shape[-1]
            y, x = switches // width - top, switches % width - left
            switches = y * inputs[0].shape[-1] + x
        return pooled, switches

    def forward_only(self, inputs: tuple[Tensor, ...], region: Region) -> Tensor:
        """Return the output without switches, where no backward pass follows."""
        a, padding = pad_input(inputs[0], region, self.window, -inf)
        kernel, stride, _, dilation = self.window
        return F.max_pool2d(a, kernel, stride, padding, dilation)

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Apply the unpooling of the method's rules."""
        assert saved.switches is not None
        return (rules.unpool(signal, saved.switches, self, region),)


@dataclass(frozen=True, eq=False)
class AdaptiveMaxPool(Operator):
    """Max pooling to a given size that does not divide the map's: windows of several sizes.

    Window i of an axis covers the positions from floor(i size / out) to ceil((i + 1) size / out).
    It takes whole maps; the switches are flat positions of the maxima on them.

    Attributes:
        size, out: rows and columns of the input and of the output.
    """

    size: tuple[int, int]
    out: tuple[int, int]
    local = False
    allocates_output = True
    allocates_signal = True
    switches = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "max pooling"

    @property
    def backward_kind(self) -> BackwardKind:
        """A maximum, where the unpooling decides."""
        return MAXIMUM

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the axes of maps."""
        return MAPS

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, Tensor]:
        """Pool; of equal maxima the first counts, row by row."""
        pooled, switches = F.adaptive_max_pool2d(inputs[0], self.out, return_indices=True)
        return pooled, switches

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Apply the unpooling of the method's rules."""
        assert saved.switches is not None
        return (rules.unpool(signal, saved.switches, self, region),)

    def repeated(self, signal: Tensor, region: Region) -> Tensor:
        """Return the signal of each window at all its positions; overlapping windows add."""
        rows, columns = (
            _covered(size, out).to(signal) for size, out in zip(self.size, self.out, strict=True)
        )
        return rows.mT @ signal @ columns


def _covered(size: int, out: int) -> Tensor:
    """Return which positions each window of an adaptive pooling covers, (out, size), as 0 and 1."""
    position, window = torch.arange(size), torch.arange(out)[:, None]
    first, last = window * size // out, -((-(window + 1) * size) // out)
    return ((position >= first) & (position < last)).double()


@dataclass(frozen=True, eq=False)
class SeparableLinear(Operator):
    """``rows a columns^T``: average pooling, padding, slicing, flipping, interpolation.

    Each of these is one linear map of the rows times one of the columns. So one matrix an axis
    gives the forward pass, the backward pass (by the transposed matrices), and the input span
    (where a row of the matrix is not zero).

    Attributes:
        name: name of the operator.
        rows, columns: matrices (out, in) in float64; None for an axis that stays as it is.
        fill: the value of positions that take no input.
        zeros: numbers of rows of zeros above the maps and of columns on their left, if the operator
            does nothing but put zeros around maps.
    """

    name: str
    rows: Tensor | None
    columns: Tensor | None
    fill: float = 0.0
    zeros: tuple[int, int] | None = None
    allocates_output = True
    linear = True
    _cropped: dict[Any, Tensor] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return self.name

    @cached_property
    def _input_spans(self) -> tuple[list[Span] | None, list[Span] | None]:
        """The input span of each output position, along both axes."""
        along = []
        for matrix in (self.rows, self.columns):
            spans = None
            if matrix is not None:
                spans = []
                for row in matrix:
                    needed = row.nonzero()
                    spans.append(
                        Span(int(needed[0]), int(needed[-1]) + 1) if len(needed) else Span(0, 0)
                    )
            along.append(spans)
        return along[ROWS], along[COLUMNS]

    def input_span(self, axis: int, span: Span, sizes: tuple[int, ...]) -> tuple[Span, ...]:
        """Return the span of inputs whose entries in the matrix are not zero."""
        spans = self._input_spans[axis]
        if spans is None:
            return (span,)
        joined = Span(0, 0)
        for input_span in spans[span.start : span.stop]:
            joined = joined.joined(input_span)
        return (joined,)

    def interior_field(self, axis: int) -> InteriorField | None:
        """Return the field of the inner half, if its spans repeat at a fixed distance."""
        spans = self._input_spans[axis]
        if spans is None:
            return super().interior_field(axis)
        inner = [n for n, span in enumerate(spans) if span.size]
        inner = inner[len(inner) // 4 : max(len(inner) - len(inner) // 4, 2)]
        for period in range(1, min(len(inner), 9)):
            distances = {
                spans[n + period].start - spans[n].start for n in inner[: len(inner) - period]
            }
            if len(distances) == 1:
                scale = Fraction(distances.pop(), period)
                break
        else:
            return None
        if scale <= 0:  # a mirror image, or each position needs all of the input
            return None
        return InteriorField(
            scale,
            min(spans[n].start - scale * n for n in inner),
            max(spans[n].stop - scale * n for n in inner),
        )

    def alignment(self, axis: int, span: Span) -> bytes | None:
        """Return the entries of the matrix that the span uses."""
        matrix = (self.rows, self.columns)[axis]
        if matrix is None:
            return None
        (need,) = self.input_span(axis, span, ())
        return matrix[span.start : span.stop, need.start : need.stop].numpy().tobytes()

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape with as many rows and columns as the matrices give."""
        channels, height, width = shape
        return (
            channels,
            height if self.rows is None else len(self.rows),
            width if self.columns is None else len(self.columns),
        )

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Multiply from the left and from the right."""
        (a,) = inputs
        rows, columns = (self._matrix(axis, region, a) for axis in (ROWS, COLUMNS))
        out = a if rows is None else rows @ a
        out = out if columns is None else out @ columns.mT
        if self.fill:
            covered: Any = torch.ones(1, 1, dtype=torch.bool, device=a.device)
            for matrix, shape in ((rows, (-1, 1)), (columns, (1, -1))):
                if matrix is not None:
                    covered = covered & (matrix != 0).any(1).reshape(shape)
            out = torch.where(covered, out, self.fill)
        return out, None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Multiply by the transposed matrices."""
        rows, columns = (self._matrix(axis, region, signal) for axis in (ROWS, COLUMNS))
        signal = signal if rows is None else rows.mT @ signal
        return (signal if columns is None else signal @ columns,)

    def _matrix(self, axis: int, region: Region, like: Tensor) -> Tensor | None:
        """Return the region's entries of a matrix, in the maps' precision and on their device."""
        matrix = (self.rows, self.columns)[axis]
        if matrix is None:
            return None
        out, need = _span(region.out, axis), _span(region.needs[0], axis)
        key = (axis, out, need, like.dtype, like.device)
        if key not in self._cropped:
            cropped = matrix[out.start : out.stop, need.start : need.stop]
            self._cropped[key] = cropped.to(like.device, like.dtype)
        return self._cropped[key]


@dataclass(frozen=True, eq=False)
class AxisLinear(Operator):
    """One linear map along one axis of values of any rank, as a window over channels is.

    Attributes:
        name: name of the operator.
        matrix: matrix (out, in) in float64.
        axis: the axis, counted from the end.
        map_axes: the axes of rows and columns; None where there are none.
        fill: the value of positions that take no input.
    """

    name: str
    matrix: Tensor
    axis: int
    map_axes: Axes | None = MAPS
    fill: float = 0.0
    allocates_output = True
    linear = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return self.name

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether the axis is neither rows nor columns, along which it takes whole maps."""
        return self.map_axes is None or self.axis not in self.map_axes

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the input's axes: nothing moves."""
        return input_axes[0]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape with as many positions along the axis as the matrix gives."""
        sizes = list(shape)
        sizes[self.axis] = len(self.matrix)
        return tuple(sizes)

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Multiply by the matrix along the axis."""
        (a,) = inputs
        matrix = self.matrix.to(a.device, a.dtype)
        out = self._times(a, matrix)
        if self.fill:
            covered = (matrix != 0).any(1).reshape(-1, *[1] * (-1 - self.axis))
            out = torch.where(covered, out, self.fill)
        return out, None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Multiply by the transposed matrix along the axis."""
        return (self._times(signal, self.matrix.to(signal.device, signal.dtype).mT),)

    def _times(self, a: Tensor, matrix: Tensor) -> Tensor:
        return (a.movedim(self.axis, -1) @ matrix.mT).movedim(-1, self.axis)


def _span(box: Box, axis: int) -> Span:
    return box.columns if axis else box.rows


def as_matrix(call: Any, size: int) -> Tensor:
    """Return the matrix (out, in) of a linear call on maps (n, 1, size, 1).

    Its columns are the outputs of the call for the unit vectors.
    """
    basis = torch.eye(size, dtype=torch.float64).reshape(size, 1, size, 1)
    columns: Tensor = call(basis)
    return columns.flatten(1).T.contiguous()
