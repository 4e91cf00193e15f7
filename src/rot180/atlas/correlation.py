"""Correlations between the features of a layer, from the sums of a scan; in float64.

Pearson's correlation over the S sampled positions of all images:
sum_s (a_s - mean a)(b_s - mean b) over the root of the product of both sums of squares.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from rot180.atlas.colour_fit import FLAT
from rot180.atlas.moments import Moments

MOST_CORRELATED = 8
"""Number of the most, and of the least, correlated features that are stored for each feature."""


class CorrelatedFeatures(NamedTuple):
    """For each feature of a layer, the features most and least correlated with it.

    They are sorted from the largest correlation to the smallest. Pairs with a feature that never
    varies are left out: their number is -1, their correlation NaN.

    Attributes:
        numbers: numbers of the features, (channels, 2 MOST_CORRELATED or fewer).
        correlations: their correlations, of the same shape.
    """

    numbers: Int64[np.ndarray, "c k"]
    correlations: Float64[np.ndarray, "c k"]


def most_correlated(sums: Moments) -> CorrelatedFeatures | None:
    """Return the most and least correlated features of each; None for layers without products."""
    found = correlations(sums)
    if found is None:
        return None
    channels = len(found)
    most = min(MOST_CORRELATED, channels - 1)
    np.fill_diagonal(found, np.nan)
    # NaN comes last; of equal correlations, the feature with the lower number comes first.
    order = np.argsort(-found, axis=1, kind="stable")
    valid = (~np.isnan(found)).sum(1)
    place = np.arange(2 * most)[None, :]
    from_end = place - 2 * most + valid[:, None]
    place = np.where((place < most) | (valid[:, None] <= 2 * most), place, from_end)
    numbers = np.take_along_axis(order, np.minimum(place, channels - 1), axis=1)
    values = np.take_along_axis(found, numbers, axis=1)
    there = place < valid[:, None]
    return CorrelatedFeatures(np.where(there, numbers, -1), np.where(there, values, np.nan))


def correlations(sums: Moments) -> Float64[np.ndarray, "c c"] | None:
    """Return the correlation of every two features of a layer; NaN where one never varies."""
    sums.flush()
    if sums.products is None:
        return None
    k, count = len(sums.inputs), max(int(sums.inputs[0, 0]), 1)
    means = sums.inputs[0, k:] / count
    covariance = sums.products / count - np.outer(means, means)
    variance = np.diagonal(covariance).copy()
    variance[variance <= FLAT * sums.squares / count] = np.nan
    deviation = np.sqrt(variance)
    covariance /= deviation[:, None]
    covariance /= deviation[None, :]
    found: Float64[np.ndarray, "c c"] = np.clip(covariance, -1, 1)
    return found
