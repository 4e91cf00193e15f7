"""Pooling: each window of a map becomes one value, and the error goes back into the window."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rot180.equations.convolution import Array, check_error
from rot180.equations.layers import Layer, as_floats
from rot180.equations.padding import Padding, PadWidth, out_size, pair, resolve_padding
from rot180.errors import Rot180Error


class Pool(Layer):
    """The base class of poolings: cuts a map into windows, and puts windows back into a map."""

    pad_value = 0.0
    """Value of the border around the map."""

    def __init__(
        self,
        size: int | tuple[int, int] = 2,
        stride: int | tuple[int, int] | None = None,
        padding: Padding = 0,
    ) -> None:
        super().__init__()
        self.size = pair(size, "size of the windows")
        self.stride = pair(self.size if stride is None else stride, "stride")
        self.pad_width: PadWidth = resolve_padding(padding, self.size, self.stride)
        if any(max(border) >= k for border, k in zip(self.pad_width, self.size, strict=True)):
            raise Rot180Error(
                f"The padding {self.pad_width} is as large as the windows, which are {self.size}: "
                "some of them would hold nothing of the image."
            )
        self._input_shape: tuple[int, ...] = (0,)
        self._output_shape: tuple[int, ...] = (0,)

    def _windows(self, a: Array) -> Array:
        """Return the windows of maps (n, c, h, w) as (n, c, y, x, kh kw)."""
        a = self._remember(a)
        framed = np.pad(a, ((0, 0), (0, 0), *self.pad_width), constant_values=self.pad_value)
        windows = sliding_window_view(framed, self.size, axis=(2, 3))
        windows = windows[:, :, :: self.stride[0], :: self.stride[1]]
        return windows.reshape(*self._output_shape, -1)

    def _remember(self, a: Array) -> Array:
        """Save the shapes for the backward pass; return the maps as floating-point numbers."""
        if a.ndim != 4:
            raise Rot180Error(f"Pooling takes (images, channels, h, w), not the shape {a.shape}.")
        self._input_shape = a.shape
        y, x = out_size(a.shape[2:], self.size, self.stride, self.pad_width)
        self._output_shape = (*a.shape[:2], y, x)
        return as_floats(a)

    def _spread(self, shares: Iterable[Array | Any], signal: Array) -> Array:
        """Return maps in which each entry of a window gets its share of the window's signal.

        Overlapping windows add up.

        Args:
            shares: for each entry of a window, its shares (n, c, y, x), or one share for all.
            signal: (n, c, y, x), the signal of each window.
        """
        check_error(signal, self._output_shape)
        n, c, h, w = self._input_shape
        (top, bottom), (left, right) = self.pad_width
        (y, x), (down, across) = signal.shape[2:], self.stride
        framed = np.zeros((n, c, h + top + bottom, w + left + right), signal.dtype)
        for (i, j), share in zip(np.ndindex(self.size), shares, strict=True):
            framed[:, :, i : i + down * y : down, j : j + across * x : across] += signal * share
        return framed[:, :, top : top + h, left : left + w]


class MaxPool(Pool):
    """The largest value of each window. The error goes back to its position, the switch.

    Of several equal values the first one counts, row by row. A border counts as minus infinity.

    Args:
        size: size of the windows, one number or (height, width).
        stride: stride of the windows; their size if not given.
        padding: padding as for a convolution, less than the window.
    """

    pad_value = -np.inf

    def __init__(
        self,
        size: int | tuple[int, int] = 2,
        stride: int | tuple[int, int] | None = None,
        padding: Padding = 0,
    ) -> None:
        super().__init__(size, stride, padding)
        self._switches: Array = np.zeros((0,), np.int64)

    def forward(self, a: Array) -> Array:
        """Return the maxima (n, c, y, x)."""
        windows = self._windows(a)
        self._switches = windows.argmax(-1)
        maxima: Array = windows.max(-1)
        return maxima

    def backward(self, delta: Array) -> Array:
        """Return dC/d(input): each error at the switch of its window, zero elsewhere."""
        numbers = range(self.size[0] * self.size[1])
        return self._spread((self.switches == number for number in numbers), delta)

    def repeat(self, signal: Array) -> Array:
        """Give every entry of a window the signal of the window: unpooling without switches."""
        return self._spread([1] * (self.size[0] * self.size[1]), signal)

    @property
    def switches(self) -> Array:
        """The position of each maximum in its window, counted row by row, (n, c, y, x)."""
        return self._switches

    def kink_pattern(self) -> Array:
        """Return the switches."""
        return self.switches


class AveragePool(Pool):
    """The mean of each window, zeros of a border included. The error is shared equally.

    Args:
        size, stride, padding: see :class:`MaxPool`.
    """

    def forward(self, a: Array) -> Array:
        """Return the means (n, c, y, x)."""
        means: Array = self._windows(a).mean(-1)
        return means

    def backward(self, delta: Array) -> Array:
        """Return dC/d(input): each entry gets the window's error over the size of the window."""
        entries = self.size[0] * self.size[1]
        return self._spread([1] * entries, delta / entries)
