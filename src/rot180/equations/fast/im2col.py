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
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from rot180.equations.convolution import Array, check_error, check_shapes, rot180
from rot180.equations.padding import PadWidth, out_size

_CACHE = 7 * 2**18
"""Bytes of patches that are laid out before they are multiplied; about a core's own cache."""


class Workspace:
    """Arrays that are made once, and again when another shape or type is asked for."""

    def __init__(self) -> None:
        self._kept: dict[str, Array] = {}

    def __deepcopy__(self, memo: object) -> "Workspace":
        """Return new buffers: what is in them belongs to one layer."""
        return Workspace()

    def get(self, name: str, shape: tuple[int, ...], dtype: Any, zero: bool = False) -> Array:
        """Return the array of this name. With ``zero`` it is zero when it is made, not later."""
        kept = self._kept.get(name)
        if kept is None or kept.shape != shape or kept.dtype != dtype:
            kept = np.zeros(shape, dtype) if zero else np.empty(shape, dtype)
            self._kept[name] = kept
        return kept

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array of this shape in memory that is made again only when it is too small."""
        size, kept = math.prod(shape), self._kept.get(name)
        if kept is None or kept.size < size or kept.dtype != dtype:
            kept = self._kept[name] = np.empty(size, dtype)
        return kept[:size].reshape(shape)

    def images(self, name: str, shape: tuple[int, ...], dtype: Any, zero: bool = False) -> Array:
        """Return an array (n, c, h, w) that lies in memory with the channels last."""
        n, c, h, w = shape
        return self.get(name, (n, h, w, c), dtype, zero).transpose(0, 3, 1, 2)

    def empty_like(self, name: str, a: Array) -> Array:
        """Return an array of the same shape and type; (n, c, h, w) with the channels last."""
        if a.ndim == 4:
            return self.images(name, a.shape, a.dtype)
        return self.get(name, a.shape, a.dtype)


class Im2Col:
    """Forward, error and gradient of cross-correlations of one stride, border and grouping.

    The definitions that they equal are ``correlation``, ``correlation_error`` and
    ``correlation_gradient``.

    Args:
        stride: of the windows, (rows, columns).
        pad_width: rows and columns of zeros around the image.
        groups: of channels and features.
    """

    def __init__(self, stride: tuple[int, int], pad_width: PadWidth, groups: int) -> None:
        self.stride, self.pad_width, self.groups = stride, pad_width, groups
        self._buffers = Workspace()
        self._size, self._above = (0, 0), (0, 0, 0, 0)
        self._image: Array | None = None

    def forward(self, a: Array, w: Array, b: Array) -> Array:
        """Return z (n, f, y, x) of activations (n, c, h, w), in a buffer."""
        check_shapes(a, w, self.groups)
        (top, bottom), (left, right) = self.pad_width
        n, c, height, width = a.shape
        y, x = out_size((height, width), w.shape[2:], self.stride, self.pad_width)
        dtype = np.result_type(a, w)
        whole = (n, c, height + top + bottom, width + left + right)
        self._size = (height, width)
        self._image = self._buffers.images("image", whole, dtype, zero=True)
        self._image[:, :, top : top + height, left : left + width] = a
        self._above = (n, w.shape[0], y, x)
        z = self._buffers.images("z", self._above, dtype)
        kernels = _matrix(w, self.groups)
        for rows, place in self._portions(self._image, (y, x), w.shape[2:], self.stride):
            np.matmul(rows, kernels, out=self._as_rows(z[place]))
        z.transpose(0, 2, 3, 1)[...] += b
        return z

    def error(self, delta: Array, w: Array) -> Array:
        """Return dC/da (n, c, h, w) of the last forward pass's activations, in a buffer."""
        check_error(delta, self._above)
        f, each, kh, kw = w.shape
        (top, _), (left, _) = self.pad_width
        down, across = (
            max(before + size + k - 1, k + step * (count - 1))
            for before, size, k, step, count in zip(
                (top, left), self._size, (kh, kw), self.stride, delta.shape[2:], strict=True
            )
        )
        n, dtype = len(delta), np.result_type(delta, w)
        # Which entries stay zero depends on the kernel, too, so each size of it has its own.
        name = f"spread for {kh}x{kw}"
        spread = self._buffers.images(name, (n, f, down, across), dtype, zero=True)
        spread[
            :,
            :,
            kh - 1 : kh + self.stride[0] * (delta.shape[2] - 1) : self.stride[0],
            kw - 1 : kw + self.stride[1] * (delta.shape[3] - 1) : self.stride[1],
        ] = delta
        turned = rot180(w).reshape(self.groups, f // self.groups, each, kh, kw)
        kernels = np.ascontiguousarray(turned.transpose(0, 3, 4, 1, 2))
        kernels = kernels.reshape(self.groups, -1, each)
        result = self._buffers.images("error", (n, each * self.groups, *self._size), dtype)
        inside = spread[:, :, top:, left:]
        for rows, place in self._portions(inside, self._size, (kh, kw), (1, 1)):
            np.matmul(rows, kernels, out=self._as_rows(result[place]))
        return result

    def gradient(self, delta: Array, w: Array) -> Array:
        """Return dC/dw, of the shape of w, for the last forward pass's activations."""
        check_error(delta, self._above)
        assert self._image is not None
        f, each, kh, kw = w.shape
        shape = (self.groups, f // self.groups, kh * kw * each)
        dtype = np.result_type(delta, self._image)
        total = self._buffers.get("gradient", shape, dtype)
        one = self._buffers.get("portion's gradient", shape, dtype)
        total.fill(0)
        for rows, place in self._portions(self._image, delta.shape[2:], (kh, kw), self.stride):
            np.matmul(self._as_rows(delta[place]).transpose(0, 2, 1), rows, out=one)
            total += one
        return total.reshape(f, kh, kw, each).transpose(0, 3, 1, 2)

    def bias_gradient(self, delta: Array) -> Array:
        """Return dC/db (f,): the sum of delta over images and positions, as a product with ones."""
        rows = delta.transpose(0, 2, 3, 1).reshape(-1, delta.shape[1])
        ones = self._buffers.get("ones", (len(rows),), delta.dtype)
        ones.fill(1)
        return ones @ rows

    def _portions(
        self, image: Array, count: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int]
    ) -> Iterator[tuple[Array, tuple[slice, slice, slice]]]:
        """Yield patches as rows (groups, positions, kh kw c), a portion at a time, and its place.

        A portion is what a processor's cache holds until it has been multiplied: several images,
        or some rows of one. Its place is where it lies in an array (n, f, y, x).
        """
        n, each = len(image), image.shape[1] // self.groups
        line = self.groups * count[1] * math.prod(kernel) * each * image.itemsize
        lines = min(count[0], max(1, _CACHE // max(1, line)))
        lines = math.ceil(count[0] / math.ceil(count[0] / lines))  # portions of about one size
        images = min(n, max(1, _CACHE // max(1, line * count[0]))) if lines == count[0] else 1
        for first in range(0, n, images):
            for top in range(0, count[0], lines):
                some = slice(first, min(first + images, n))
                at = slice(top, min(top + lines, count[0]))
                counts = (some.stop - first, at.stop - top, count[1])
                shape = (self.groups, *counts, *kernel, each)
                rows = self._buffers.scratch("rows", shape, image.dtype)
                _lay_out(image[some, :, top * stride[0] :], rows, stride)
                place = (some, slice(None), at)
                yield rows.reshape(self.groups, math.prod(counts), -1), place

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


def channels_last(w: Array) -> Array:
    """Copy (n, c, h, w) into memory with the channels last; the axes stay as they are."""
    return np.ascontiguousarray(w.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _matrix(w: Array, groups: int) -> Array:
    """View kernels (f, c, kh, kw) as (groups, kh kw c, f); a copy if channels are not last."""
    f = w.shape[0] // groups
    return w.transpose(0, 2, 3, 1).reshape(groups, f, -1).transpose(0, 2, 1)
