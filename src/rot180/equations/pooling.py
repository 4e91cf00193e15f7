"""Pooling: each window of a map becomes one value, and the error goes back into the window."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from rot180.equations.convolution import Array, check_error
from rot180.equations.layers import Layer
from rot180.equations.padding import Padding, PadWidth, out_size, pair, resolve_padding
from rot180.errors import Rot180Error


class _Pool(Layer):
    """Windows of a map, entry by entry: one strided view for each place in the window."""

    _border = 0.0

    def __init__(
        self,
        size: int | tuple[int, int] = 2,
        stride: int | tuple[int, int] | None = None,
        padding: Padding = 0,
    ) -> None:
        super().__init__()
        self.a: Array = np.zeros(0)
        self.size = pair(size, "size of the windows")
        self.stride = pair(self.size if stride is None else stride, "stride")
        self.pad_width: PadWidth = resolve_padding(padding, self.size, self.stride)
        if any(max(border) >= k for border, k in zip(self.pad_width, self.size, strict=True)):
            raise Rot180Error(
                f"The padding {self.pad_width} is as large as the windows, which are {self.size}: "
                "some of them would hold nothing of the image."
            )

    def _padded(self, a: Array) -> Array:
        if a.ndim != 4:
            raise Rot180Error(f"Pooling takes (images, channels, h, w), not the shape {a.shape}.")
        a = self.floating(a)
        self._shape = a.shape
        self._count = out_size(a.shape[2:], self.size, self.stride, self.pad_width)
        if self.pad_width == ((0, 0), (0, 0)):
            return a
        whole = self._buffers.images("padded", self._padded_shape(), a.dtype)
        whole.fill(self._border)
        self._inside(whole)[...] = a
        return whole

    def _padded_shape(self) -> tuple[int, ...]:
        n, c, h, w = self._shape
        (top, bottom), (left, right) = self.pad_width
        return n, c, h + top + bottom, w + left + right

    def _inside(self, whole: Array) -> Array:
        (top, _), (left, _) = self.pad_width
        return whole[:, :, top : top + self._shape[2], left : left + self._shape[3]]

    def _places(self, whole: Array) -> Iterator[Array]:
        """Yield, for each place of a window, the values that all windows have there."""
        (y, x), (down, right) = self._count, self.stride
        for i in range(self.size[0]):
            for j in range(self.size[1]):
                yield whole[:, :, i : i + down * y : down, j : j + right * x : right]

    def _spread(self, shares: Iterator[Array | Any], signal: Array) -> Array:
        """Give each place of each window its share of the signal; overlapping windows add."""
        dtype = signal.dtype
        whole = self._buffers.images("spread", (len(signal), *self._padded_shape()[1:]), dtype)
        apart = all(step >= k for step, k in zip(self.stride, self.size, strict=True))
        covered = all(
            step == k and count * step == size
            for step, k, count, size in zip(
                self.stride, self.size, self._count, whole.shape[2:], strict=True
            )
        )
        if not covered:
            whole.fill(0)
        for place, share in zip(self._places(whole), shares, strict=True):
            if apart:
                np.multiply(signal, share, out=place)
            else:
                place += signal * share
        return self._inside(whole)


class MaxPool(_Pool):
    """The largest value of each window. The error goes back to where it was: to the switch.

    Of several equal values the first counts, in the order of rows. A border counts as minus
    infinity.

    Args:
        size: of the windows, one number or (height, width).
        stride: of the windows; their size if not given.
        padding: as for a convolution, less than the window.
    """

    _border = -np.inf

    def forward(self, a: Array) -> Array:
        """Return (n, c, y, x), the maxima."""
        self._whole = self._padded(a)
        places = self._places(self._whole)
        first = next(places)
        self.a = self._buffers.images("a", first.shape, first.dtype)
        np.copyto(self.a, first)
        for place in places:
            np.maximum(self.a, place, out=self.a)
        return self.a

    def backward(self, delta: Array) -> Array:
        """Return dC/d(input): each error at its window's switch, zero elsewhere."""
        check_error(delta, self.a.shape)
        return self._spread(self._won(), delta)

    def repeat(self, signal: Array) -> Array:
        """Give every place of a window the window's value: unpooling without switches."""
        check_error(signal, self.a.shape)
        ones = (1 for _ in range(self.size[0] * self.size[1]))
        return self._spread(ones, signal)

    @property
    def switches(self) -> Array:
        """The number of each maximum in its window, counted along rows, (n, c, y, x)."""
        place = np.zeros(self.a.shape, np.int64)
        for number, won in enumerate(self._won()):
            place[won] = number
        return place

    def kink_pattern(self) -> Array:
        """Return the switches."""
        return self.switches

    def _won(self) -> Iterator[Array]:
        """Yield, for each place of a window, which windows have their maximum there."""
        open_ = self._buffers.images("open", self.a.shape, np.bool_)
        won = self._buffers.images("won", self.a.shape, np.bool_)
        open_.fill(True)
        for place in self._places(self._whole):
            np.equal(place, self.a, out=won)
            won &= open_
            open_ ^= won
            yield won


class AveragePool(_Pool):
    """The mean of each window, zeros of a border included. The error is shared out equally.

    Args:
        size, stride, padding: as for :class:`MaxPool`.
    """

    def forward(self, a: Array) -> Array:
        """Return (n, c, y, x), the means."""
        places = self._places(self._padded(a))
        total = next(places).copy()
        for place in places:
            total += place
        total /= self.size[0] * self.size[1]
        self.a = total
        return total

    def backward(self, delta: Array) -> Array:
        """Return dC/d(input): to each place the window's error over the window's size."""
        check_error(delta, self.a.shape)
        places = self.size[0] * self.size[1]
        return self._spread((1 for _ in range(places)), delta / places)
