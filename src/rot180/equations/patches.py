"""The same three convolutions as matrix products, in buffers that are kept from step to step.

Each position of a kernel becomes a row: the patch of the image that it covers. Then forward, error
and gradient are products of two matrices each:

- forward: patches of a, times kernels;
- error: patches of the dilated delta with its full border, times rotated kernels;
- gradient: delta, times patches of a.

Arrays have the axes (n, c, h, w) as everywhere, but lie in memory with the channels last. A row of
a patch is then one piece of memory, which is what makes the copies cheap.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from rot180.equations.convolution import Array, check_shapes, rot180
from rot180.equations.geometry import Margins, out_size


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
        image = self._buffers.images("image", whole, a.dtype, zero=True)
        image[:, :, top : top + height, left : left + width] = a
        self._rows = self._patches("rows", image, (y, x), w.shape[2:], self.stride)
        z = self._buffers.images("z", (n, w.shape[0], y, x), a.dtype)
        np.matmul(self._rows, _matrix(w, self.groups), out=self._as_rows(z))
        flat = z.transpose(0, 2, 3, 1).reshape(-1, w.shape[0])
        flat += b
        return z

    def error(self, delta: Array, w: Array) -> Array:
        """Return dC/da (n, c, h, w) of the last forward pass's activations, in a buffer."""
        n, c, height, width = self._shape
        f, _, kh, kw = w.shape
        (top, _), (left, _) = self.borders
        rows, columns = (
            max(before + size + k - 1, k + step * (count - 1))
            for before, size, k, step, count in zip(
                (top, left), (height, width), (kh, kw), self.stride, delta.shape[2:], strict=True
            )
        )
        spread = self._buffers.images("spread", (n, f, rows, columns), delta.dtype, zero=True)
        spread[
            :,
            :,
            kh - 1 : kh + self.stride[0] * (delta.shape[2] - 1) : self.stride[0],
            kw - 1 : kw + self.stride[1] * (delta.shape[3] - 1) : self.stride[1],
        ] = delta
        turned = rot180(w).reshape(self.groups, f // self.groups, *w.shape[1:])
        kernels = np.ascontiguousarray(turned.transpose(0, 3, 4, 1, 2))
        kernels = kernels.reshape(self.groups, -1, w.shape[1])
        result = self._buffers.images("error", (n, c, height, width), delta.dtype)
        for one in range(n):  # the patches of one image stay in the processor's cache
            image = spread[one : one + 1, :, top:, left:]
            back = self._patches("back", image, (height, width), (kh, kw), (1, 1))
            np.matmul(back, kernels, out=self._as_rows(result[one : one + 1]))
        return result

    def gradient(self, delta: Array, w: Array) -> Array:
        """Return dC/dw, of the shape of w, for the last forward pass's activations."""
        assert self._rows is not None
        f, c, kh, kw = w.shape
        errors = self._as_rows(delta)
        shape = (self.groups, f // self.groups, kh * kw * c)
        found = self._buffers.get("gradient", shape, delta.dtype)
        np.matmul(errors.transpose(0, 2, 1), self._rows, out=found)
        return found.reshape(f, kh, kw, c).transpose(0, 3, 1, 2)

    def bias_gradient(self, delta: Array) -> Array:
        """Return dC/db (f,): the sum of delta over images and positions, as a product with ones."""
        rows = delta.transpose(0, 2, 3, 1).reshape(-1, delta.shape[1])
        ones = self._buffers.get("ones", (len(rows),), delta.dtype)
        ones.fill(1)
        return ones @ rows

    def _patches(
        self,
        name: str,
        image: Array,
        count: tuple[int, int],
        kernel: tuple[int, ...],
        stride: tuple[int, int],
    ) -> Array:
        """Lay out the windows of an image as the rows (groups, n y x, kh kw c) of matrices."""
        n, c = image.shape[:2]
        across, channel, down, right = image.strides
        each = c // self.groups
        shape = (self.groups, n, *count, *kernel, each)
        steps = (each * channel, across, stride[0] * down, stride[1] * right, down, right, channel)
        windows = as_strided(image, shape, steps, writeable=False)
        rows = self._buffers.get(name, windows.shape, image.dtype)
        np.copyto(rows, windows)
        return rows.reshape(self.groups, n * count[0] * count[1], -1)

    def _as_rows(self, z: Array) -> Array:
        """View an array (n, f, y, x) with channels last as (groups, n y x, f)."""
        flat = z.transpose(0, 2, 3, 1).reshape(-1, self.groups, z.shape[1] // self.groups)
        return flat.transpose(1, 0, 2)


def channels_last(w: Array) -> Array:
    """Copy (n, c, h, w) into memory with the channels last; the axes stay as they are."""
    return np.ascontiguousarray(w.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _matrix(w: Array, groups: int) -> Array:
    """View kernels (f, c, kh, kw) as (groups, kh kw c, f); a copy if channels are not last."""
    f = w.shape[0] // groups
    return w.transpose(0, 2, 3, 1).reshape(groups, f, -1).transpose(0, 2, 1)
