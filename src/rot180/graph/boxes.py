"""Boxes of pixels, and which box of an input a sliding window reaches from a box of its output."""

from typing import NamedTuple


class Box(NamedTuple):
    """Rows ``top <= y < bottom`` and columns ``left <= x < right`` of a map or image, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    def clipped(self, height: int, width: int) -> "Box":
        """Cut to the part that lies inside a map of the given size (outside: empty)."""
        top, left = min(max(self.top, 0), height), min(max(self.left, 0), width)
        return Box(top, left, max(top, min(self.bottom, height)), max(left, min(self.right, width)))

    def joined(self, other: "Box") -> "Box":
        """Return the smallest box around both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )


class Window(NamedTuple):
    """A window that slides over a padded map; every pair is (vertical, horizontal).

    ``padding`` is what is added above and on the left; what is added below and on the right does
    not move the window and is not needed here.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def reach(self, box: Box) -> Box:
        """Return the box of input positions that a box of output positions looks at.

        Output row y looks at input rows y s - p + d k for k = 0 .. K-1. Parts of the answer that
        lie outside the input are padding.
        """
        (kh, kw), (sy, sx), (py, px), (dy, dx) = self
        return Box(
            box.top * sy - py,
            box.left * sx - px,
            (box.bottom - 1) * sy - py + dy * (kh - 1) + 1,
            (box.right - 1) * sx - px + dx * (kw - 1) + 1,
        )
