"""Boxes of pixels and the spans that they are made of, and what a sliding window needs.

A box is the product of a span of rows and a span of columns. Everything about where a step looks is
a statement about one axis, so rows and columns are computed apart.
"""

from typing import NamedTuple

ROWS, COLUMNS = 0, 1
"""The two axes of a map."""


class Span(NamedTuple):
    """Positions ``start <= i < stop`` along one axis; empty where ``stop == start``."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of positions."""
        return self.stop - self.start

    def clipped(self, size: int) -> "Span":
        """Return the part inside an axis of the given size; empty if the span lies outside."""
        start = min(max(self.start, 0), size)
        return Span(start, max(start, min(self.stop, size)))

    def joined(self, other: "Span") -> "Span":
        """Return the smallest span around both; an empty span adds nothing."""
        if not other.size:
            return self
        if not self.size:
            return other
        return Span(min(self.start, other.start), max(self.stop, other.stop))


class Box(NamedTuple):
    """Rows ``top <= y < bottom`` and columns ``left <= x < right`` of a map or image, in pixels.

    A box may be unpacked like a tuple.

    Attributes:
        top, left, bottom, right: its edges.
    """

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def of(cls, rows: Span, columns: Span) -> "Box":
        """Return the box of these rows and columns."""
        return cls(rows.start, columns.start, rows.stop, columns.stop)

    @property
    def rows(self) -> Span:
        """The rows."""
        return Span(self.top, self.bottom)

    @property
    def columns(self) -> Span:
        """The columns."""
        return Span(self.left, self.right)

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left


class Window(NamedTuple):
    """A window that slides over a padded map; every pair is (vertical, horizontal).

    Attributes:
        kernel: number of positions in the window.
        stride: distance between neighbouring windows.
        padding: rows added above and columns added on the left. What is added below and on the
            right does not move the window and is not needed here.
        dilation: distance between neighbouring positions in the window.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def extent(self, axis: int) -> int:
        """Return the number of positions from the window's first to its last, both included."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def input_span(self, axis: int, span: Span) -> Span:
        """Return the span of input positions that a span of output positions needs.

        Output y needs the inputs y s - p + d k for k = 0 .. K-1. What lies outside the input is
        padding.
        """
        first = span.start * self.stride[axis] - self.padding[axis]
        last = (span.stop - 1) * self.stride[axis] - self.padding[axis]
        return Span(first, last + self.extent(axis))
