"""The statistics of features, from the sums of a scan; all in float64.

In the formulas i runs over the N images, p over the P positions of a map; a_ip is the activation,
m_i = max_p a_ip the peak of an image. Where positions are sampled (see
:meth:`rot180.atlas.feature_index.LayerSlice.sampled`), s runs over the S samples of all images.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from rot180.atlas import accumulator, moments
from rot180.atlas.accumulator import ScanState

PARTNERS = 8
"""How many of the most and of the least correlated features are named for each."""

_FLAT = 1e-12
"""A share of the squares below which a variance is rounding."""


def mean(of: ScanState) -> Float64[np.ndarray, " f"]:
    """The mean activation: sum_ip a_ip / (N P)."""
    found: Float64[np.ndarray, " f"] = of.mean * _units(of) / max(of.images, 1)
    return found


def mean_peak(of: ScanState) -> Float64[np.ndarray, " f"]:
    """The mean of the images' peaks: sum_i m_i / N."""
    found: Float64[np.ndarray, " f"] = of.peaks.sum(0) * _units(of) / max(of.images, 1)
    return found


def _units(of: ScanState) -> Float64[np.ndarray, " f"]:
    return of.index.scales * accumulator.UNIT


def firing_positions(of: ScanState) -> Float64[np.ndarray, " f"]:
    """The share of positions where the feature fires: |{(i, p): a_ip > 0}| / (N P)."""
    positions = of.index.per_feature([one.height * one.width for one in of.index.layers])
    found: Float64[np.ndarray, " f"] = of.fired / (positions * max(of.images, 1))
    return found


def firing_images(of: ScanState) -> Float64[np.ndarray, " f"]:
    """The share of images where the feature fires anywhere: |{i: m_i > 0}| / N."""
    found: Float64[np.ndarray, " f"] = of.fired_images / max(of.images, 1)
    return found


def dead(of: ScanState) -> Bool[np.ndarray, " f"]:
    """Whether the feature fires nowhere: no m_i is above 0."""
    found: Bool[np.ndarray, " f"] = of.fired_images == 0
    return found


def class_means(of: ScanState) -> Float64[np.ndarray, "k f"]:
    """The mean peak on the images of each class c: sum_{i in c} m_i / N_c; NaN without images."""
    counts = of.class_images[:-1, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Float64[np.ndarray, "k f"] = of.peaks[:-1] * _units(of) / counts
    return means


def class_selectivity(means: Float64[np.ndarray, "k f"]) -> Float64[np.ndarray, " f"]:
    """How much stronger a feature is on its best class than on the others, from 0 to 1.

    (mu_max - mu_rest) / (mu_max + mu_rest), where mu_max is the largest mean peak of a class and
    mu_rest the mean over the other classes; negative means count as 0. NaN for fewer than two
    classes with images, and for a feature that does not fire.

    Source: Morcos et al., On the importance of single directions for generalization, ICLR 2018.
    """
    known = means[~np.isnan(means).any(1)]
    if len(known) < 2:
        return np.full(means.shape[1], np.nan)
    known = np.maximum(known, 0)
    largest = known.max(0)
    rest = (known.sum(0) - largest) / (len(known) - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Float64[np.ndarray, " f"] = (largest - rest) / (largest + rest)
    return found


class ColourFit(NamedTuple):
    """How far features are explained by the mean colour under their receptive fields.

    Least squares over the samples: a_s = offset + sum_k coefficient_k colour_sk, the colours from 0
    to 1. The coefficients are activation for the full range of a channel, the others fixed. Where
    the colours do not say which of the solutions (all images are grey), it is the smallest.

    Attributes:
        explained: R^2 = 1 - (sum of squared residuals) / (sum of squared deviations from the mean);
            NaN for a feature that never varies.
        by_brightness: R^2 of brightness, the mean of the channels, alone.
        coefficients: (channels of the images, features).
    """

    explained: Float64[np.ndarray, " f"]
    by_brightness: Float64[np.ndarray, " f"]
    coefficients: Float64[np.ndarray, "k f"]


def fit_colours(of: ScanState) -> ColourFit:
    """Fit every feature to the colours; see :class:`ColourFit`."""
    parts = [_colours(one, one.part.scale) for one in of.moments]
    return ColourFit(
        np.concatenate([one.explained for one in parts]),
        np.concatenate([one.by_brightness for one in parts]),
        np.concatenate([one.coefficients for one in parts], axis=1),
    )


def _colours(sums: moments.Moments, scale: float) -> ColourFit:
    sums.flush()
    k = len(sums.inputs) - 1
    count = max(int(sums.inputs[0, 0]), 1)
    means = sums.inputs[0] / count
    covariance = sums.inputs[1:] / count - np.outer(means[1 : 1 + k], means)
    colour, shared = covariance[:, 1 : 1 + k], covariance[:, 1 + k :]
    square = sums.squares / count
    variance = square - means[1 + k :] ** 2
    varies = variance > _FLAT * square
    lightness = np.diagonal(sums.inputs[1:, 1:]) / count  # the colours' squares
    flat = np.diagonal(colour) <= _FLAT * lightness
    colour[flat], colour[:, flat] = 0, 0
    solution = np.linalg.pinv(colour, rcond=1e-9, hermitian=True) @ shared
    bright = np.full(k, 1 / k)
    spread = bright @ colour @ bright
    with np.errstate(invalid="ignore", divide="ignore"):
        explained = np.where(varies, (solution * shared).sum(0) / variance, np.nan)
        alone = np.where(varies, (bright @ shared) ** 2 / (spread * variance), np.nan)
    if not spread > _FLAT * lightness.max():
        alone = np.where(varies, 0.0, np.nan)
    return ColourFit(np.clip(explained, 0, 1), np.clip(alone, 0, 1), solution * scale)


class CorrelatedFeatures(NamedTuple):
    """The features of a layer that go with each feature most, and least.

    Pearson's correlation over the samples: sum_s (a_s - mean a)(b_s - mean b) over the root of both
    sums of squares. Partners are sorted from the largest correlation to the smallest; pairs with a
    feature that never varies are left out (-1, NaN).

    Attributes:
        numbers: (channels, 2 PARTNERS or fewer) of the features.
        correlations: likewise.
    """

    numbers: Int64[np.ndarray, "c k"]
    correlations: Float64[np.ndarray, "c k"]


def most_correlated(sums: moments.Moments) -> CorrelatedFeatures | None:
    """Return the partners of a layer's features; None where they were not correlated."""
    found = correlations(sums)
    if found is None:
        return None
    channels = len(found)
    most = min(PARTNERS, channels - 1)
    np.fill_diagonal(found, np.nan)
    # Those that are not numbers go last; of equal ones the lower number comes first.
    order = np.argsort(-found, axis=1, kind="stable")
    valid = (~np.isnan(found)).sum(1)
    place = np.arange(2 * most)[None, :]
    from_end = place - 2 * most + valid[:, None]
    place = np.where((place < most) | (valid[:, None] <= 2 * most), place, from_end)
    numbers = np.take_along_axis(order, np.minimum(place, channels - 1), axis=1)
    values = np.take_along_axis(found, numbers, axis=1)
    there = place < valid[:, None]
    return CorrelatedFeatures(np.where(there, numbers, -1), np.where(there, values, np.nan))


def correlations(sums: moments.Moments) -> Float64[np.ndarray, "c c"] | None:
    """Return the correlation of every two features of a layer; NaN where one never varies."""
    sums.flush()
    if sums.products is None:
        return None
    k, count = len(sums.inputs), max(int(sums.inputs[0, 0]), 1)
    means = sums.inputs[0, k:] / count
    covariance = sums.products / count - np.outer(means, means)
    variance = np.diagonal(covariance).copy()
    variance[variance <= _FLAT * sums.squares / count] = np.nan
    deviation = np.sqrt(variance)
    covariance /= deviation[:, None]
    covariance /= deviation[None, :]
    found: Float64[np.ndarray, "c c"] = np.clip(covariance, -1, 1)
    return found
