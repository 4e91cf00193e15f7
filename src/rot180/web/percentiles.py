"""How unusual an activation is for its feature, from the atlas' histograms of peaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64

from rot180.atlas.feature import is_number
from rot180.web.collection import ServedAtlas


@dataclass(frozen=True)
class PeakHistograms:
    """The histograms of a layer's features, all bins in one array.

    Attributes:
        feature: (bins), the feature of each bin.
        lows, highs: (bins), the bounds of each bin. The highest bin of a feature is set so that the
            feature's largest activation lies in its middle.
        images: (bins), number of images whose peak lies in each bin.
        largest: (features), the largest activation of each feature.
    """

    feature: Int64[np.ndarray, " b"]
    lows: Float64[np.ndarray, " b"]
    highs: Float64[np.ndarray, " b"]
    images: Float64[np.ndarray, " b"]
    largest: Float64[np.ndarray, " f"]

    def shares_below(self, activations: Sequence[float]) -> Float64[np.ndarray, " f"]:
        """Return, for each feature, the share of images whose peak is lower than an activation.

        Peaks are assumed to be uniform inside a bin. The largest activation counts as the middle of
        the highest bin, because many images share it if a rectifier has an upper limit.

        Args:
            activations: an activation for each feature.

        Returns:
            Shares from 0 to 1; 0 if no image was counted.
        """
        values = np.asarray(activations, np.float64)[self.feature]
        width = self.highs - self.lows
        with np.errstate(invalid="ignore", divide="ignore"):
            inside = np.clip((values - self.lows) / width, 0.0, 1.0)
        whole = np.where(np.isfinite(width) & (width > 0), inside, values > self.highs)
        count = len(self.largest)
        below = np.bincount(self.feature, whole * self.images, count)
        found: Float64[np.ndarray, " f"] = below / np.maximum(
            np.bincount(self.feature, self.images, count), 1
        )
        return found


@lru_cache(maxsize=64)
def peak_histograms(served: ServedAtlas, layer: str) -> PeakHistograms:
    """Read the histograms of a layer's features."""
    atlas, part = served.atlas, served.atlas.layers[layer]
    first = atlas.index.starts[atlas.layer_index(layer)]
    found = atlas.rows(
        "SELECT feature, low, high, images FROM histogram WHERE feature BETWEEN ? AND ? "
        "ORDER BY feature, rank",
        first,
        first + len(part) - 1,
    )
    for _, low, high, images in found:
        ends = all(one is None or is_number(one) for one in (low, high))
        atlas.check(ends and isinstance(images, int) and 0 <= images <= atlas.images, "histogram")
        atlas.check(low is None or high is None or low <= high, "histogram")
    feature = np.array([one[0] - first for one in found], np.int64)
    lows = np.array([-np.inf if one[1] is None else one[1] for one in found], np.float64)
    highs = np.array([np.inf if one[2] is None else one[2] for one in found], np.float64)
    images = np.array([one[3] for one in found], np.float64)
    largest = np.array(
        [np.nan if one is None else one for one in part.statistics["max"]], np.float64
    )
    last = np.append(feature[1:] != feature[:-1], True) if len(feature) else np.zeros(0, bool)
    middle = largest[feature]
    top = last & (highs > lows) & (middle > lows)  # false where there is no largest
    highs = np.where(top, 2 * middle - lows, highs)
    return PeakHistograms(feature, lows, highs, images, largest)
