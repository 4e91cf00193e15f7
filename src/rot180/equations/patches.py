"""The same three convolutions as matrix products, in buffers that are kept from step to step.

Each position of a kernel becomes a row: the patch of the image that it covers. Then forward, error
and gradient are products of two matrices each:

- forward: patches of a, times kernels;
- error: patches of the dilated delta with its full border, times rotated kernels;
- gradient: delta, times patches of a.

Arrays have the axes (n, c, h, w) as everywhere, but lie in memory with the channels last. A row of
a patch is then one piece of memory, which is what makes the copies cheap.
"""

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from rot180.equations.convolution import Array, check_shapes, rot180
from rot180.equations.geometry import Margins, out_size

_CACHE = 2**20
"""Bytes of rows that are laid out and multiplied together."""


class Buffers:
    """Arrays that are made once, and again when another shape or type is asked for."""

    def __init__(self) -> None:
        self._kept: dict[str, Array] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: Any, zero: bool = False) -> Array:
        """Return the array of this name. With ``zero`` it is zero when it is made, not later."""
        kept = self._kept.get(name)
        if kept is None or kept.shape != shape or kept.dtype != dtype:
            kept = np.zeros(shape, dtype) if zero else np.empty(shape, dtype)
            self._kept[name] = kept
        return kept

    def images(self, name: str, shape: tuple[int, ...], dtype: Any, zero: bool = False) -> Array:
        """Return an array (n, c, h, w) that lies in memory with the channels last."""
        n, c, h, w = shape
        return self.get(name, (n, h, w, c), dtype, zero).transpose(0, 3, 1, 2)

    def like(self, name: str, a: Array) -> Array:
        """Return an array of the same shape and type; (n, c, h, w) with the channels last."""
        if a.ndim == 4:
            return self.images(name, a.shape, a.dtype)
        return self.get(name, a.shape, a.dtype)


class Patches:
    """Forward, error and gradient of cross-correlations of one stride, border and grouping.

    The definitions that they equal are ``correlation``, ``correlation_error`` and
    ``correlation_gradient``.

    Args:
        stride: of the windows, (rows, columns).
        borders: rows and columns of zeros around the image.
        groups: of channels and features.
    """

    def __init__(self, stride: tuple[int, int], borders: Margins, groups: int) -> None:
        self.stride, self.borders, self.groups = stride, borders, groups
        self._buffers = Buffers()
        self._shape = (0, 0, 0, 0)
        self._rows: Array | None = None

    def forward(self, a: Array, w: Array, b: Array) -> Array:
        """Return z (n, f, y, x) of activations (n, c, h, w), in a buffer."""
        check_shapes(a, w, self.groups)
        (top, bottom), (left, right) = self.borders
        n, c, height, width = self._shape = a.shape
        y, x = out_size((height, width), w.shape[2:], self.stride, self.borders)
        whole = (n, c, height + top + bottom, width + left + right)
        dtype = np.result_type(a, w)
        image = self._buffers.images("image", whole, dtype, zero=True)
        image[:, :, top : top + height, left : left + width] = a
        each, (kh, kw) = c // self.groups, w.shape[2:]
        self._rows = self._buffers.get("rows", (self.groups, n, y, x, kh, kw, each), dtype)
        z = self._buffers.images("z", (n, w.shape[0], y, x), dtype)
        kernels = _matrix(w, self.groups)
        for some in _portions(self._rows.shape, dtype):
            _lay_out(image[some], self._rows[:, some], self.stride)
            np.matmul(_flat(self._rows[:, some]), kernels, out=self._as_rows(z[some]))
        z.transpose(0, 2, 3, 1)[...] += b
        return z

    def error(self, delta: Array, w: Array) -> Array:
        """Return dC/da (n, c, h, w) of the last forward pass's activations, in a buffer."""
        n, c, height, width = self._shape
        f, _, kh, kw = w.shape
        (top, _), (left, _) = self.borders
        down, across = (
            max(before + size + k - 1, k + step * (count - 1))
            for before, size, k, step, count in zip(
                (top, left), (height, width), (kh, kw), self.stride, delta.shape[2:], strict=True
            )
        )
        dtype = np.result_type(delta, w)
        spread = self._buffers.images("spread", (n, f, down, across), dtype, zero=True)
        spread[
            :,
            :,
            kh - 1 : kh + self.stride[0] * (delta.shape[2] - 1) : self.stride[0],
            kw - 1 : kw + self.stride[1] * (delta.shape[3] - 1) : self.stride[1],
        ] = delta
        turned = rot180(w).reshape(self.groups, f // self.groups, *w.shape[1:])
        kernels = np.ascontiguousarray(turned.transpose(0, 3, 4, 1, 2))
        kernels = kernels.reshape(self.groups, -1, w.shape[1])
        result = self._buffers.images("error", (n, c, height, width), dtype)
        shape = (self.groups, n, height, width, kh, kw, f // self.groups)
        portions = _portions(shape, dtype)
        rows = self._buffers.get("back", (self.groups, portions[0].stop, *shape[2:]), dtype)
        for some in portions:
            back = rows[:, : some.stop - some.start]
            _lay_out(spread[some, :, top:, left:], back, (1, 1))
            np.matmul(_flat(back), kernels, out=self._as_rows(result[some]))
        return result

    def gradient(self, delta: Array, w: Array) -> Array:
        """Return dC/dw, of the shape of w, for the last forward pass's activations."""
        assert self._rows is not None
        f, c, kh, kw = w.shape
        errors = self._as_rows(delta)
        shape = (self.groups, f // self.groups, kh * kw * c)
        found = self._buffers.get("gradient", shape, np.result_type(delta, self._rows))
        np.matmul(errors.transpose(0, 2, 1), _flat(self._rows), out=found)
        return found.reshape(f, kh, kw, c).transpose(0, 3, 1, 2)

    def bias_gradient(self, delta: Array) -> Array:
        """Return dC/db (f,): the sum of delta over images and positions, as a product with ones."""
        rows = delta.transpose(0, 2, 3, 1).reshape(-1, delta.shape[1])
        ones = self._buffers.get("ones", (len(rows),), delta.dtype)
        ones.fill(1)
        return ones @ rows

    def _as_rows(self, z: Array) -> Array:
        """View an array (n, f, y, x) with channels last as (groups, n y x, f)."""
        flat = z.transpose(0, 2, 3, 1).reshape(-1, self.groups, z.shape[1] // self.groups)
        return flat.transpose(1, 0, 2)


def _lay_out(image: Array, rows: Array, stride: tuple[int, int]) -> None:
    """Copy the windows of images (n, c, h, w) into rows (groups, n, y, x, kh, kw, c / groups)."""
    each = rows.shape[-1]
    across, channel, down, right = image.strides
    steps = (each * channel, across, stride[0] * down, stride[1] * right, down, right, channel)
    np.copyto(rows, as_strided(image, rows.shape, steps, writeable=False))


def _flat(rows: Array) -> Array:
    """View rows (groups, n, y, x, kh, kw, c) as matrices (groups, n y x, kh kw c)."""
    groups, n, y, x, *patch = rows.shape
    return rows.reshape(groups, n * y * x, math.prod(patch))


def _portions(shape: tuple[int, ...], dtype: Any) -> list[slice]:
    """Cut images into portions whose rows stay in a processor's cache until they are used."""
    groups, n, *rest = shape
    size = max(1, _CACHE // max(1, groups * math.prod(rest) * dtype.itemsize))
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]


def channels_last(w: Array) -> Array:
    """Copy (n, c, h, w) into memory with the channels last; the axes stay as they are."""
    return np.ascontiguousarray(w.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _matrix(w: Array, groups: int) -> Array:
    """View kernels (f, c, kh, kw) as (groups, kh kw c, f); a copy if channels are not last."""
    f = w.shape[0] // groups
    return w.transpose(0, 2, 3, 1).reshape(groups, f, -1).transpose(0, 2, 1)
