"""What a scan takes from the maps of a layer: one pass over them while they are in the cache.

On a processor the loops are compiled (by Numba), because each PyTorch reduction would read the maps
again from memory; on other devices they are PyTorch's reductions.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int32, Int64, UInt8
from numba import njit
from torch import Tensor

_WORTH_TWO = 2**17
"""Values from which a map is worth more than one thread."""


class MapSummary(NamedTuple):
    """Of each image and feature of some maps.

    Attributes:
        peak: the largest activation.
        where: its position, y times width plus x; of equal ones the first.
        mean: the mean over all positions.
        fired: the number of positions where the activation is above 0.
        strength: by what images are ranked: the largest value before the rectifier of layers whose
            rectifier has an upper limit (``where`` is its position then), else the peak.
    """

    peak: Float32[np.ndarray, "n c"]
    where: Int32[np.ndarray, "n c"]
    mean: Float64[np.ndarray, "n c"]
    fired: Int32[np.ndarray, "n c"]
    strength: Float32[np.ndarray, "n c"]

    @classmethod
    def empty(cls, images: int, features: int) -> "MapSummary":
        """Return one to be filled."""
        shape = (images, features)
        return cls(
            np.empty(shape, np.float32),
            np.empty(shape, np.int32),
            np.empty(shape, np.float64),
            np.empty(shape, np.int32),
            np.empty(shape, np.float32),
        )

    def part(self, images: slice, features: slice) -> "MapSummary":
        """Return views of some images and features."""
        return MapSummary(*(one[images, features] for one in self))


def summarise(maps: Float[Tensor, "n c h w"], into: MapSummary) -> None:
    """Write the summary of maps into arrays (n, c); the strength is the peak.

    Sums are float64. A position that is not a number makes its mean one, too.
    """
    if maps.device.type == "cpu":
        _on_processor(positions_first(maps), into[:4])
    else:
        flat = maps.flatten(2)
        peak, where = flat.max(2)
        exact = torch.float32 if maps.device.type == "mps" else torch.float64
        found = (peak, where, flat.mean(2, dtype=exact), (flat > 0).sum(2))
        for mine, its in zip(into[:4], found, strict=True):
            mine[:] = its.cpu().numpy()
    into.strength[:] = into.peak


def positions_first(maps: Float[Tensor, "n c h w"]) -> Float[np.ndarray, "n p c"]:
    """Return maps as (image, position, channel), without a copy where they lie so."""
    laid = maps.permute(0, 2, 3, 1)
    found: np.ndarray = laid.reshape(len(maps), -1, maps.shape[1]).contiguous().numpy()
    return found


def _on_processor(values: np.ndarray, into: tuple[np.ndarray, ...]) -> None:
    images, _, channels = values.shape
    threads = torch.get_num_threads()
    if threads == 1 or values.size < _WORTH_TWO:
        _summarise(values, 0, channels, *into)
        return
    parts: list[tuple[Any, ...]]
    if images >= threads:
        borders = [images * k // threads for k in range(threads + 1)]
        parts = [
            (values[a:b], 0, channels, *(one[a:b] for one in into)) for a, b in pairwise(borders)
        ]
    else:  # in multiples of a cache line
        borders = [min(channels, -(-channels * k // threads // 16) * 16) for k in range(threads)]
        parts = [(values, a, b, *into) for a, b in pairwise([*borders, channels]) if b > a]
    waiting = [_pool(threads).submit(_summarise, *one) for one in parts[1:]]
    _summarise(*parts[0])
    for one in waiting:
        one.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1 or 1, thread_name_prefix="rot180-summary")


@njit(nogil=True, cache=True)
@no_type_check
def _summarise(values, first, last, peak, where, mean, fired):
    """Go through (image, position, channel) in the order of memory, some channels of them.

    Arrays that lie together, beginning at 0, and 32-bit counts let the compiler work on whole
    vectors of channels. The peak is as exact as the maps until it is known.
    """
    images, positions, _ = values.shape
    channels = last - first
    top, total = np.empty(channels, values.dtype), np.empty(channels, np.float64)
    at, count = np.empty(channels, np.int32), np.empty(channels, np.int32)
    for i in range(images):
        top[:], total[:] = -np.inf, 0.0
        at[:], count[:] = 0, 0
        for p in range(positions):
            row, here = values[i, p, first:last], np.int32(p)
            for k in range(channels):
                value = row[k]
                if value > top[k]:
                    top[k] = value
                    at[k] = here
                total[k] += value
                count[k] += np.int32(value > 0)
        peak[i, first:last], where[i, first:last] = top, at
        mean[i, first:last], fired[i, first:last] = total / positions, count


@njit(nogil=True, cache=True)
@no_type_check
def _integral_images(images):
    """Return for images (n, h, w, c) of bytes the sums (n, h + 1, w + 1, c) above and left."""
    n, h, w, c = images.shape
    sums = np.zeros((n, h + 1, w + 1, c), np.int64)
    for i in range(n):
        for y in range(h):
            for k in range(c):
                row = np.int64(0)
                for x in range(w):
                    row += images[i, y, x, k]
                    sums[i, y + 1, x + 1, k] = sums[i, y, x + 1, k] + row
    return sums


def local_colours(
    sums: Int64[np.ndarray, "n rows columns c"],
    positions: Int64[np.ndarray, "n s"],
    rows: Int64[np.ndarray, "h 2"],
    columns: Int64[np.ndarray, "w 2"],
) -> Float64[np.ndarray, "n s c"]:
    """Return the mean colour, from 0 to 1, under the receptive fields of positions.

    Args:
        sums: from :func:`integral_images`.
        positions: y times width plus x.
        rows, columns: the span of the image that each row and column of the maps sees.
    """
    found: Float64[np.ndarray, "n s c"] = _local_colours(sums, positions, rows, columns)
    return found


@njit(nogil=True, cache=True)
@no_type_check
def _local_colours(sums, positions, rows, columns):
    n, s = positions.shape
    c, width = sums.shape[3], len(columns)
    found = np.empty((n, s, c), np.float64)
    for i in range(n):
        for j in range(s):
            y, x = divmod(positions[i, j], width)
            top, bottom = rows[y, 0], rows[y, 1]
            left, right = columns[x, 0], columns[x, 1]
            area = max((bottom - top) * (right - left), 1) * 255.0
            for k in range(c):
                found[i, j, k] = (
                    sums[i, bottom, right, k]
                    - sums[i, top, right, k]
                    - sums[i, bottom, left, k]
                    + sums[i, top, left, k]
                ) / area
    return found


def integral_images(images: UInt8[np.ndarray, "n h w c"]) -> Int64[np.ndarray, "n rows columns c"]:
    """Return the integral images of pictures."""
    found: Int64[np.ndarray, "n rows columns c"] = _integral_images(np.ascontiguousarray(images))
    return found
