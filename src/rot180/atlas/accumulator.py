"""The running state of a scan: one value, into which batches and other states can be merged.

``update`` and ``merge`` give the same result however the images are split, and in whatever order
the parts come. The state consists of largest values, with ties broken by the number of the image,
of a sample of the images, by a hash of their numbers, and of sums of whole numbers. Means and peaks
are rounded once, to 2^-30 of the layer's scale, and added as 64-bit integers.
"""

from math import frexp
from typing import no_type_check

import numpy as np
from jaxtyping import Float16, Float32, Int64, UInt64
from numba import njit

from rot180.atlas.feature_index import FeatureIndex
from rot180.atlas.moments import Moments
from rot180.atlas.observation import BatchObservation
from rot180.errors import Rot180Error

UNIT = 2.0**-30
"""Means and peaks are rounded to multiples of this, in scales of their layer."""

OCTAVES_BELOW, OCTAVES_ABOVE, IN_OCTAVE = 10, 4, 4
BINS_A_SIDE = 1 + (OCTAVES_BELOW + OCTAVES_ABOVE) * IN_OCTAVE
BINS = 2 * BINS_A_SIDE + 1
"""Of the histogram of peaks: for negative ones, for zero, and for positive ones.

On either side the first bin next to zero holds what is smaller than 2^-10 scales; then there are
four bins an octave, up to 2^4 scales; the last one holds all that is larger, too."""

_NO_IMAGE = np.int64(-1)
_LARGEST_SUM = 2**62


class ScanState:
    """Sums, extremes and samples over the images scanned so far.

    Attributes:
        index: the features, and their scales.
        images: number of images.
        class_images: (classes + 1), images of each class; the last: those without one.
        best, best_strength, best_image, best_position: (features, examples), best first: for the
            images that excite each feature most, their peaks, the values that rank them (see
            :class:`MapSummary`), their numbers (-1: none yet) and the positions of the peaks.
        mean: (features), sum of the mean activations of the images, in units.
        peaks: (classes + 1, features), sum of the peaks of each class, in units.
        fired, fired_images: (features), positions and images where the feature fired.
        histogram: (features, BINS), images by their peak.
        sample_images, sample_peaks: (k), (k, features), some images and their peaks in scales of
            the layers; in no order.
        moments: for each layer the sums over sampled positions.
    """

    def __init__(self, index: FeatureIndex) -> None:
        features, classes = index.features, index.classes + 1
        self.index = index
        self.images = 0
        self.class_images: Int64[np.ndarray, " k"] = np.zeros(classes, np.int64)
        shape = (features, index.examples)
        self.best: Float32[np.ndarray, "f k"] = np.full(shape, -np.inf, np.float32)
        self.best_strength: Float32[np.ndarray, "f k"] = np.full(shape, -np.inf, np.float32)
        self.best_image: Int64[np.ndarray, "f k"] = np.full(shape, _NO_IMAGE)
        self.best_position: Int64[np.ndarray, "f k"] = np.zeros(shape, np.int64)
        self.mean: Int64[np.ndarray, " f"] = np.zeros(features, np.int64)
        self.peaks: Int64[np.ndarray, "k f"] = np.zeros((classes, features), np.int64)
        self.fired: Int64[np.ndarray, " f"] = np.zeros(features, np.int64)
        self.fired_images: Int64[np.ndarray, " f"] = np.zeros(features, np.int64)
        self.histogram: Int64[np.ndarray, "f b"] = np.zeros((features, BINS), np.int64)
        self.sample_images: Int64[np.ndarray, " k"] = np.zeros(0, np.int64)
        self.sample_peaks: Float16[np.ndarray, "k f"] = np.zeros((0, features), np.float16)
        self.moments = tuple(Moments(part, index.colours) for part in index.layers)
        self._largest = 0

    def update(self, observed: BatchObservation) -> None:
        """Add a batch of images, none of which was added before.

        Raises:
            Rot180Error: an activation is so much larger than those of the first images that sums
                would overflow.
        """
        if not len(observed):
            return
        units = self.index.scales * UNIT
        summary = observed.summary
        sizes = np.maximum(np.abs(summary.peak), np.abs(summary.mean))
        with np.errstate(over="ignore"):
            self._check_sums(np.ceil((sizes / units).max(1)).tolist())
        labels = np.where(observed.labels < 0, self.index.classes, observed.labels)
        self.images += len(observed)
        self.class_images += np.bincount(labels, minlength=len(self.class_images))
        _update(
            observed.numbers,
            labels,
            *summary,
            self.index.scales,
            units,
            self.best,
            self.best_strength,
            self.best_image,
            self.best_position,
            self.mean,
            self.peaks,
            self.fired,
            self.fired_images,
            self.histogram,
        )
        self._sample(observed.numbers, summary.peak)
        for moments, some, colours in zip(
            self.moments, observed.samples, observed.colours, strict=True
        ):
            moments.add(some, colours)

    def _check_sums(self, more: list[float]) -> None:
        """Keep a bound of all sums, in units, as a whole number: the order does not matter."""
        largest = self._largest
        if all(one < _LARGEST_SUM for one in more):  # False for NaN
            largest += sum(map(int, more))
        else:
            largest = _LARGEST_SUM
        if largest >= _LARGEST_SUM:
            raise Rot180Error(
                "Activations of the network are millions of times larger on some images than on "
                "the first ones, and cannot be summed with them. Check the network's weights and "
                "the images."
            )
        self._largest = largest

    def _sample(self, numbers: Int64[np.ndarray, " n"], peaks: Float32[np.ndarray, "n f"]) -> None:
        """Keep the images whose numbers have the smallest hashes."""
        scaled = np.clip(peaks / self.index.scales, -60000, 60000).astype(np.float16)
        self.sample_images, self.sample_peaks = _smallest(
            self.index.sample,
            np.concatenate([self.sample_images, numbers]),
            self.sample_peaks,
            scaled,
        )

    def merge(self, other: "ScanState") -> "ScanState":
        """Return the state of both sets of images together; the sets must be disjoint.

        Raises:
            Rot180Error: the states are not of one scan: their indices of features differ.
        """
        if self.index != other.index:
            raise Rot180Error("These are states of different scans, which cannot be merged.")
        found = ScanState(self.index)
        found.images = self.images + other.images
        for name in ("class_images", "mean", "peaks", "fired", "fired_images", "histogram"):
            setattr(found, name, getattr(self, name) + getattr(other, name))
        best, strength, image, where = (
            np.concatenate([getattr(self, name), getattr(other, name)], axis=1)
            for name in ("best", "best_strength", "best_image", "best_position")
        )
        last = np.iinfo(np.int64).max
        order = np.lexsort((np.where(image < 0, last, image), -strength), axis=1)
        order = order[:, : self.index.examples]
        found.best, found.best_strength, found.best_image, found.best_position = (
            np.ascontiguousarray(np.take_along_axis(one, order, axis=1))
            for one in (best, strength, image, where)
        )
        found.sample_images, found.sample_peaks = _smallest(
            self.index.sample,
            np.concatenate([self.sample_images, other.sample_images]),
            self.sample_peaks.copy(),  # _smallest may change it in place
            other.sample_peaks,
        )
        found.moments = tuple(
            one.merged(two) for one, two in zip(self.moments, other.moments, strict=True)
        )
        found._check_sums([self._largest, other._largest])
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays by name, in an order that depends on the images alone.

        They may share memory with the state, and change with its next update.
        """
        order = np.argsort(self.sample_images)
        found = {name: getattr(self, name) for name in _ARRAYS}
        found["sample_images"] = self.sample_images[order]
        found["sample_peaks"] = self.sample_peaks[order]
        found["images"] = np.array([self.images], np.int64)
        found["largest"] = np.array([self._largest], np.int64)
        for part, moments in enumerate(self.moments):
            found |= {f"moments {part} {name}": x for name, x in moments.arrays().items()}
        return found

    @classmethod
    def from_arrays(cls, index: FeatureIndex, given: dict[str, np.ndarray]) -> "ScanState":
        """Return the state that :meth:`arrays` described.

        Raises:
            Rot180Error: an array is missing, or has another shape or type than it should.
        """
        found = cls(index)
        empty = found.arrays()
        sampled = np.size(given.get("sample_images", ()))
        if sampled > index.sample:
            raise Rot180Error("The state of the scan is damaged: its sample is too large.")
        for name, like in empty.items():
            shape = (sampled, *like.shape[1:]) if name.startswith("sample_") else like.shape
            one = given.get(name)
            if one is None or one.dtype != like.dtype or one.shape != shape:
                raise Rot180Error(
                    f"The state of the scan is damaged: '{name}' is not as it was written."
                )
        for name in _ARRAYS:
            setattr(found, name, given[name].copy())
        found.images, found._largest = int(given["images"][0]), int(given["largest"][0])
        for part, moments in enumerate(found.moments):
            start = f"moments {part} "
            moments.load_arrays(
                {name.removeprefix(start): x for name, x in given.items() if name.startswith(start)}
            )
        return found


_ARRAYS = (
    "class_images",
    "best",
    "best_strength",
    "best_image",
    "best_position",
    "mean",
    "peaks",
    "fired",
    "fired_images",
    "histogram",
    "sample_images",
    "sample_peaks",
)


def splitmix64(numbers: Int64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Return the SplitMix64 hash of each number (Steele, Lea & Flood, 2014)."""
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _smallest(
    most: int,
    numbers: Int64[np.ndarray, " k"],
    peaks: Float16[np.ndarray, "a f"],
    more: Float16[np.ndarray, "b f"],
) -> tuple[Int64[np.ndarray, " m"], Float16[np.ndarray, "m f"]]:
    """Keep the rows whose numbers have the smallest hashes; ``peaks`` may be changed in place."""
    if len(numbers) <= most:
        return numbers, np.concatenate([peaks, more]) if len(more) else peaks
    kept = (
        np.sort(np.argpartition(splitmix64(numbers), most - 1)[:most]) if most else np.zeros(0, int)
    )
    old, new = kept[kept < len(peaks)], kept[kept >= len(peaks)]
    if not len(new):
        return numbers[kept], peaks[old] if len(old) < len(peaks) else peaks
    if len(kept) > len(peaks):
        both = np.concatenate([peaks, more])
        return numbers[kept], both[kept]
    gone = np.setdiff1d(np.arange(len(peaks)), old)
    order = np.arange(len(peaks))
    spare = gone[: len(new)]
    peaks[spare] = more[new - len(peaks)]
    order[spare] = new
    return numbers[order], peaks


def bin_edges() -> Float32[np.ndarray, " b"]:
    """Return the lower ends of the bins, in scales, from the first; the last has no upper end.

    The middle bin, ``BINS // 2``, is zero itself.
    """
    steps = np.arange(-OCTAVES_BELOW * IN_OCTAVE, OCTAVES_ABOVE * IN_OCTAVE + 1) / IN_OCTAVE
    up = 2.0 ** steps[:-1]
    return np.concatenate([[-np.inf], -up[::-1], [0.0], [0.0], up]).astype(np.float32)


_QUARTERS = tuple(float(np.float32(2.0 ** (k / IN_OCTAVE))) / 2 for k in range(1, IN_OCTAVE))
"""Where the bins of the octave from 1/2 to 1 begin, rounded as in :func:`bin_edges`."""


@njit(nogil=True, cache=True)
@no_type_check
def _bin(ratio):
    """Return the bin of a peak over the scale."""
    if ratio == 0.0:
        return BINS_A_SIDE
    # A bin holds its lower end; below zero that is the one with the larger size.
    size = ratio if ratio > 0 else np.nextafter(-ratio, 0.0)
    place = 0
    if size >= 2.0**-OCTAVES_BELOW:
        mantissa, exponent = frexp(size)  # size = mantissa 2^exponent, 1/2 <= mantissa < 1
        quarter = 0
        for start in _QUARTERS:
            quarter += mantissa >= start
        place = 1 + (exponent - 1 + OCTAVES_BELOW) * IN_OCTAVE + quarter
        place = min(place, BINS_A_SIDE - 1)
    return BINS_A_SIDE + 1 + place if ratio > 0 else BINS_A_SIDE - 1 - place


@njit(nogil=True, cache=True)
@no_type_check
def _update(
    numbers,
    labels,
    peak,
    where,
    mean,
    fired,
    strength,
    scales,
    units,
    best,
    best_strength,
    best_image,
    best_position,
    mean_sum,
    peak_sum,
    fired_sum,
    fired_images,
    histogram,
):
    """Add the summaries of a batch, feature by feature, so that a feature's numbers stay cached.

    Scales and units are powers of two, so multiplying by their inverses is exact.
    """
    images, features = peak.shape
    last = best.shape[1] - 1
    for f in range(features):
        in_units, in_scales = 1.0 / units[f], 1.0 / scales[f]
        for i in range(images):
            number, value = numbers[i], peak[i, f]
            mean_sum[f] += np.int64(np.rint(mean[i, f] * in_units))
            peak_sum[labels[i], f] += np.int64(np.rint(value * in_units))
            fired_sum[f] += fired[i, f]
            fired_images[f] += value > 0
            histogram[f, _bin(value * in_scales)] += 1
            k, rank = last, strength[i, f]
            least = best_strength[f, k]
            if rank < least or (rank == least and 0 <= best_image[f, k] < number):
                continue
            while k > 0 and (
                rank > best_strength[f, k - 1]
                or best_image[f, k - 1] < 0
                or (rank == best_strength[f, k - 1] and number < best_image[f, k - 1])
            ):
                best[f, k] = best[f, k - 1]
                best_strength[f, k] = best_strength[f, k - 1]
                best_image[f, k] = best_image[f, k - 1]
                best_position[f, k] = best_position[f, k - 1]
                k -= 1
            best[f, k], best_strength[f, k] = value, rank
            best_image[f, k] = number
            best_position[f, k] = where[i, f]
