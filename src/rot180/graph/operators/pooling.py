"""Max pooling, and every step that is one linear map of the rows times one of the columns, or one
along another axis.
"""

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
from rot180.graph.operators.convolution import nominal_of, padded
from rot180.graph.operators.operator import (
    MAPS,
    Axes,
    Kept,
    Nominal,
    Operator,
    Part,
    Rules,
    pair,
)


@dataclass(frozen=True, eq=False)
class MaxPool(Operator):
    """Max pooling with any window, overlapping ones included.

    Its switches are the flat positions of the maxima in the box that the step was given.
    """

    window: Window
    fresh = True
    fresh_back = True
    switches = True

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "MaxPool":
        """Read ``aten.max_pool2d``; a missing stride is the window's size."""
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
        """What it is."""
        return "max pooling"

    @property
    def backward_kind(self) -> BackwardKind:
        """A maximum, where the unpooling decides."""
        return MAXIMUM

    def reach(self, axis: int, span: Span, sizes: tuple[int, ...]) -> tuple[Span, ...]:
        """Return the span under the window."""
        return (self.window.reach(axis, span),)

    def nominal(self, axis: int) -> Nominal:
        """Return the window's stride and extent."""
        return nominal_of(self.window, axis)

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, Tensor]:
        """Pool; a tie goes to the first position, row by row."""
        a, padding = padded(inputs[0], part, self.window, -inf)
        kernel, stride, _, dilation = self.window
        pooled, switches = F.max_pool2d(a, kernel, stride, padding, dilation, return_indices=True)
        if a is not inputs[0]:  # count in the box instead of the padded box
            top, left, _, _ = part.margins[0]
            width = a.shape[-1]
            y, x = switches // width - top, switches % width - left
            switches = y * inputs[0].shape[-1] + x
        return pooled, switches

    def pooled(self, inputs: tuple[Tensor, ...], part: Part) -> Tensor:
        """Pool without switches, where nothing goes back."""
        a, padding = padded(inputs[0], part, self.window, -inf)
        kernel, stride, _, dilation = self.window
        return F.max_pool2d(a, kernel, stride, padding, dilation)

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Leave it to the unpooling that was chosen."""
        assert kept.switches is not None
        return (rules.unpool(signal, kept.switches, self, part),)


@dataclass(frozen=True, eq=False)
class AdaptiveMaxPool(Operator):
    """Max pooling to a given size that does not divide the map's: windows of several sizes.

    Window i of an axis covers the positions from floor(i size / out) to ceil((i + 1) size / out).
    Whole maps are pooled; the switches are flat positions of the maxima on them.

    Attributes:
        size, out: rows and columns of the input, and of the output.
    """

    size: tuple[int, int]
    out: tuple[int, int]
    local = False
    fresh = True
    fresh_back = True
    switches = True

    @property
    def kind(self) -> str:
        """What it is."""
        return "max pooling"

    @property
    def backward_kind(self) -> BackwardKind:
        """A maximum, where the unpooling decides."""
        return MAXIMUM

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return those of maps."""
        return MAPS

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, Tensor]:
        """Pool; a tie goes to the first position, row by row."""
        pooled, switches = F.adaptive_max_pool2d(inputs[0], self.out, return_indices=True)
        return pooled, switches

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Leave it to the unpooling that was chosen."""
        assert kept.switches is not None
        return (rules.unpool(signal, kept.switches, self, part),)

    def repeated(self, signal: Tensor, part: Part) -> Tensor:
        """Give every position of each window the window's value; overlapping windows add."""
        rows, columns = (
            _covered(size, out).to(signal) for size, out in zip(self.size, self.out, strict=True)
        )
        return rows.mT @ signal @ columns


def _covered(size: int, out: int) -> Tensor:
    """Return which positions each window of an adaptive pooling covers, (out, size), as 0 and 1."""
    place, window = torch.arange(size), torch.arange(out)[:, None]
    first, last = window * size // out, -((-(window + 1) * size) // out)
    return ((place >= first) & (place < last)).double()


@dataclass(frozen=True, eq=False)
class Separable(Operator):
    """``rows a columns^T``: average pooling, padding, slicing, flipping, interpolation.

    Each is one linear map of the rows times one of the columns, so one matrix an axis says all
    about it: the forward pass, the way back (the transposed matrices), and the reach (where a row
    of the matrix is not zero).

    Attributes:
        name: what it is.
        rows, columns: matrices (out, in) in float64; None for an axis that is left as it is.
        fill: the value of positions that take no input.
        zeros: how many rows and columns of zeros are put above and on the left of the maps, where
            putting zeros around them is all that is done.
    """

    name: str
    rows: Tensor | None
    columns: Tensor | None
    fill: float = 0.0
    zeros: tuple[int, int] | None = None
    fresh = True
    linear = True
    _cut: dict[Any, Tensor] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        """What it is."""
        return self.name

    @cached_property
    def _reached(self) -> tuple[list[Span] | None, list[Span] | None]:
        """The span of inputs that each output position takes."""
        found = []
        for matrix in (self.rows, self.columns):
            spans = None
            if matrix is not None:
                spans = []
                for row in matrix:
                    taken = row.nonzero()
                    spans.append(
                        Span(int(taken[0]), int(taken[-1]) + 1) if len(taken) else Span(0, 0)
                    )
            found.append(spans)
        return found[ROWS], found[COLUMNS]

    def reach(self, axis: int, span: Span, sizes: tuple[int, ...]) -> tuple[Span, ...]:
        """Return the span of inputs whose entries in the matrix are not zero."""
        reached = self._reached[axis]
        if reached is None:
            return (span,)
        joined = Span(0, 0)
        for one in reached[span.start : span.stop]:
            joined = joined.joined(one)
        return (joined,)

    def nominal(self, axis: int) -> Nominal | None:
        """Return the reach of the middle position, and how far the reaches lie apart."""
        reached = self._reached[axis]
        if reached is None:
            return super().nominal(axis)
        inner = [n for n, one in enumerate(reached) if one.size]
        inner = inner[len(inner) // 4 : max(len(inner) - len(inner) // 4, 2)]
        for period in range(1, min(len(inner), 9)):
            steps = {
                reached[n + period].start - reached[n].start for n in inner[: len(inner) - period]
            }
            if len(steps) == 1:
                scale = Fraction(steps.pop(), period)
                break
        else:
            return None
        if scale <= 0:  # a mirror image, or all of it
            return None
        return Nominal(
            scale,
            min(reached[n].start - scale * n for n in inner),
            max(reached[n].stop - scale * n for n in inner),
        )

    def situation(self, axis: int, span: Span) -> bytes | None:
        """Return the entries of the matrix."""
        matrix = (self.rows, self.columns)[axis]
        if matrix is None:
            return None
        (need,) = self.reach(axis, span, ())
        return matrix[span.start : span.stop, need.start : need.stop].numpy().tobytes()

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return as many rows and columns as the matrices give."""
        channels, height, width = shape
        return (
            channels,
            height if self.rows is None else len(self.rows),
            width if self.columns is None else len(self.columns),
        )

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Multiply from the left and from the right."""
        (a,) = inputs
        rows, columns = (self._matrix(axis, part, a) for axis in (ROWS, COLUMNS))
        out = a if rows is None else rows @ a
        out = out if columns is None else out @ columns.mT
        if self.fill:
            covered: Any = torch.ones(1, 1, dtype=torch.bool, device=a.device)
            for matrix, mine in ((rows, (-1, 1)), (columns, (1, -1))):
                if matrix is not None:
                    covered = covered & (matrix != 0).any(1).reshape(mine)
            out = torch.where(covered, out, self.fill)
        return out, None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Multiply with the transposed matrices."""
        rows, columns = (self._matrix(axis, part, signal) for axis in (ROWS, COLUMNS))
        signal = signal if rows is None else rows.mT @ signal
        return (signal if columns is None else signal @ columns,)

    def _matrix(self, axis: int, part: Part, like: Tensor) -> Tensor | None:
        """Return the part's entries of a matrix, in the precision and place of the maps."""
        matrix = (self.rows, self.columns)[axis]
        if matrix is None:
            return None
        out, need = _span(part.out, axis), _span(part.needs[0], axis)
        key = (axis, out, need, like.dtype, like.device)
        if key not in self._cut:
            cut = matrix[out.start : out.stop, need.start : need.stop]
            self._cut[key] = cut.to(like.device, like.dtype)
        return self._cut[key]


@dataclass(frozen=True, eq=False)
class Along(Operator):
    """One linear map along one axis of values of any rank: a window over channels, padding there.

    Attributes:
        name: what it is.
        matrix: (out, in), in float64.
        axis: along which it acts, counted from the end.
        where: the axes of rows and columns; None where there are none.
        fill: the value of positions that take no input.
    """

    name: str
    matrix: Tensor
    axis: int
    where: Axes | None = MAPS
    fill: float = 0.0
    fresh = True
    linear = True

    @property
    def kind(self) -> str:
        """What it is."""
        return self.name

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether the axis is neither rows nor columns; along those it takes whole maps."""
        return self.where is None or self.axis not in self.where

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return the input's: no axis moves."""
        return before[0]

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return as many positions along the axis as the matrix gives."""
        sizes = list(shape)
        sizes[self.axis] = len(self.matrix)
        return tuple(sizes)

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Multiply the values along the axis with the matrix."""
        (a,) = inputs
        matrix = self.matrix.to(a.device, a.dtype)
        out = self._times(a, matrix)
        if self.fill:
            covered = (matrix != 0).any(1).reshape(-1, *[1] * (-1 - self.axis))
            out = torch.where(covered, out, self.fill)
        return out, None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Multiply the signal along the axis with the transposed matrix."""
        return (self._times(signal, self.matrix.to(signal.device, signal.dtype).mT),)

    def _times(self, a: Tensor, matrix: Tensor) -> Tensor:
        return (a.movedim(self.axis, -1) @ matrix.mT).movedim(-1, self.axis)


def _span(box: Box, axis: int) -> Span:
    return box.columns if axis else box.rows


def matrix_of(call: Any, size: int) -> Tensor:
    """Return the matrix (out, in) of a linear call on maps (n, 1, size, 1), by what it makes of
    each unit vector.
    """
    basis = torch.eye(size, dtype=torch.float64).reshape(size, 1, size, 1)
    found: Tensor = call(basis)
    return found.flatten(1).T.contiguous()
