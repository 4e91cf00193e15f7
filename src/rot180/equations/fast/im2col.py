"""The three convolutions of ``rot180.equations.convolution`` as matrix products (im2col).

The patch of the image under the kernel, at each position, becomes a row of a matrix. The forward
pass, the error and the weight gradient are then products of two matrices:

- forward: patches of a, times kernels;
- error: patches of the dilated delta with its full border, times rotated kernels;
- gradient: delta, times patches of a.

Arrays have the axes (n, c, h, w), as everywhere, but lie in memory with the channels last. A row of
a patch is then contiguous in memory, which makes the copies cheap.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from rot180.equations.convolution import Array, check_error, check_shapes, rot180
from rot180.equations.fast.workspace import Workspace
from rot180.equations.padding import PadWidth, out_size

_CACHE = 7 * 2**18
"""Bytes of patches that are copied before they are multiplied; about the cache of one core."""


class Im2Col:
    """Cross-correlations of one stride, padding and number of groups.

    The results equal those of ``correlation``, ``correlation_error`` and
    ``correlation_gradient``. They lie in arrays that the next call overwrites.

    Args:
        stride: stride of the windows, (rows, columns).
        pad_width: rows and columns of zeros around the image.
        groups: number of groups of channels and features.
    """

    def __init__(self, stride: tuple[int, int], pad_width: PadWidth, groups: int) -> None:
        self.stride, self.pad_width, self.groups = stride, pad_width, groups
        self._workspace = Workspace()
        self._input_size, self._output_shape = (0, 0), (0, 0, 0, 0)
        self._image: Array | None = None

    def forward(self, a: Array, w: Array, b: Array) -> Array:
        """Return z (n, f, y, x) for activations (n, c, h, w)."""
        check_shapes(a, w, self.groups)
        (top, bottom), (left, right) = self.pad_width
        n, c, height, width = a.shape
        y, x = out_size((height, width), w.shape[2:], self.stride, self.pad_width)
        dtype = np.result_type(a, w)
        padded_shape = (n, c, height + top + bottom, width + left + right)
        self._input_size = (height, width)
        self._image = self._workspace.images("image", padded_shape, dtype, zero=True)
        self._image[:, :, top : top + height, left : left + width] = a
        self._output_shape = (n, w.shape[0], y, x)
        z = self._workspace.images("z", self._output_shape, dtype)
        kernels = _matrix(w, self.groups)
        for rows, positions in self._portions(self._image, (y, x), w.shape[2:], self.stride):
            np.matmul(rows, kernels, out=self._as_rows(z[positions]))
        z.transpose(0, 2, 3, 1)[...] += b
        return z

    def error(self, delta: Array, w: Array) -> Array:
        """Return dC/da (n, c, h, w) for the activations of the last forward pass."""
        check_error(delta, self._output_shape)
        f, group_channels, kh, kw = w.shape
        (top, _), (left, _) = self.pad_width
        down, across = (
            max(before + size + k - 1, k + step * (count - 1))
            for before, size, k, step, count in zip(
                (top, left), self._input_size, (kh, kw), self.stride, delta.shape[2:], strict=True
            )
        )
        n, dtype = len(delta), np.result_type(delta, w)
        # The entries that stay zero depend on the kernel size, so each size has its own array.
        name = f"dilated for {kh}x{kw}"
        dilated = self._workspace.images(name, (n, f, down, across), dtype, zero=True)
        dilated[
            :,
            :,
            kh - 1 : kh + self.stride[0] * (delta.shape[2] - 1) : self.stride[0],
            kw - 1 : kw + self.stride[1] * (delta.shape[3] - 1) : self.stride[1],
        ] = delta
        rotated = rot180(w).reshape(self.groups, f // self.groups, group_channels, kh, kw)
        kernels = np.ascontiguousarray(rotated.transpose(0, 3, 4, 1, 2))
        kernels = kernels.reshape(self.groups, -1, group_channels)
        error_shape = (n, group_channels * self.groups, *self._input_size)
        error = self._workspace.images("error", error_shape, dtype)
        inside = dilated[:, :, top:, left:]
        for rows, positions in self._portions(inside, self._input_size, (kh, kw), (1, 1)):
            np.matmul(rows, kernels, out=self._as_rows(error[positions]))
        return error

    def gradient(self, delta: Array, w: Array) -> Array:
        """Return dC/dw, in the shape of w, for the activations of the last forward pass."""
        check_error(delta, self._output_shape)
        assert self._image is not None
        f, group_channels, kh, kw = w.shape
        shape = (self.groups, f // self.groups, kh * kw * group_channels)
        dtype = np.result_type(delta, self._image)
        total = self._workspace.get("gradient", shape, dtype)
        portion = self._workspace.get("gradient of a portion", shape, dtype)
        total.fill(0)
        for rows, positions in self._portions(self._image, delta.shape[2:], (kh, kw), self.stride):
            np.matmul(self._as_rows(delta[positions]).transpose(0, 2, 1), rows, out=portion)
            total += portion
        return total.reshape(f, kh, kw, group_channels).transpose(0, 3, 1, 2)

    def bias_gradient(self, delta: Array) -> Array:
        """Return dC/db (f,), the sum of delta over images and positions, as a product with ones."""
        rows = delta.transpose(0, 2, 3, 1).reshape(-1, delta.shape[1])
        ones = self._workspace.get("ones", (len(rows),), delta.dtype)
        ones.fill(1)
        return ones @ rows

    def _portions(
        self, image: Array, count: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int]
    ) -> Iterator[tuple[Array, tuple[slice, slice, slice]]]:
        """Yield patches as rows (groups, positions, kh kw c), and their index in (n, f, y, x).

        A portion of patches fits into the processor's cache until it has been multiplied: it comes
        from several images, or from some rows of one image.
        """
        n, group_channels = len(image), image.shape[1] // self.groups
        line = self.groups * count[1] * math.prod(kernel) * group_channels * image.itemsize
        lines = min(count[0], max(1, _CACHE // max(1, line)))
        lines = math.ceil(count[0] / math.ceil(count[0] / lines))  # portions of similar size
        images = min(n, max(1, _CACHE // max(1, line * count[0]))) if lines == count[0] else 1
        for first in range(0, n, images):
            for top in range(0, count[0], lines):
                batch = slice(first, min(first + images, n))
                block = slice(top, min(top + lines, count[0]))
                counts = (batch.stop - first, block.stop - top, count[1])
                shape = (self.groups, *counts, *kernel, group_channels)
                rows = self._workspace.scratch("rows", shape, image.dtype)
                _copy_windows(image[batch, :, top * stride[0] :], rows, stride)
                positions = (batch, slice(None), block)
                yield rows.reshape(self.groups, math.prod(counts), -1), positions

    def _as_rows(self, z: Array) -> Array:
        """Return a view of (n, f, y, x), with channels last, as (groups, n y x, f)."""
        flat = z.transpose(0, 2, 3, 1).reshape(-1, self.groups, z.shape[1] // self.groups)
        return flat.transpose(1, 0, 2)


def _copy_windows(image: Array, rows: Array, stride: tuple[int, int]) -> None:
    """Copy the windows of images (n, c, h, w) into rows (groups, n, y, x, kh, kw, c / groups)."""
    n_step, channel, down, right = image.strides
    group = rows.shape[-1] * channel
    steps = (group, n_step, stride[0] * down, stride[1] * right, down, right, channel)
    np.copyto(rows, as_strided(image, rows.shape, steps, writeable=False))


def channels_last(w: Array) -> Array:
    """Return a copy of (n, c, h, w) that lies in memory with the channels last."""
    return np.ascontiguousarray(w.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _matrix(w: Array, groups: int) -> Array:
    """Return kernels (f, c, kh, kw) as (groups, kh kw c, f): a view if channels are last."""
    f = w.shape[0] // groups
    return w.transpose(0, 2, 3, 1).reshape(groups, f, -1).transpose(0, 2, 1)
