"""How far features are explained by colour: a least-squares fit from the sums of a scan."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from rot180.atlas.accumulator import ScanState
from rot180.atlas.moments import Moments

FLAT = 1e-12
"""A variance below this share of the mean square is taken for rounding."""


class ColourFit(NamedTuple):
    """A linear model of each feature by the mean colour under its receptive field.

    Least squares over the samples: a_s = offset + sum_k coefficient_k colour_sk, with colours from
    0 to 1. A coefficient is the change of the activation over the full range of a channel, with the
    other channels fixed. Where several solutions fit equally well (all images are grey), it is the
    one with the smallest norm.

    Attributes:
        explained: R^2 = 1 - (sum of squared residuals) / (sum of squared deviations from the mean);
            NaN for a feature that never varies.
        by_brightness: R^2 of the model by brightness alone, the mean of the channels.
        coefficients: (channels of the images, features).
    """

    explained: Float64[np.ndarray, " f"]
    by_brightness: Float64[np.ndarray, " f"]
    coefficients: Float64[np.ndarray, "k f"]


def fit_colours(state: ScanState) -> ColourFit:
    """Return the fit of all features of all layers."""
    fits = [_fit(moments, moments.part.scale) for moments in state.moments]
    return ColourFit(
        np.concatenate([fit.explained for fit in fits]),
        np.concatenate([fit.by_brightness for fit in fits]),
        np.concatenate([fit.coefficients for fit in fits], axis=1),
    )


def _fit(sums: Moments, scale: float) -> ColourFit:
    sums.flush()
    k = len(sums.inputs) - 1
    count = max(int(sums.inputs[0, 0]), 1)
    means = sums.inputs[0] / count
    covariance = sums.inputs[1:] / count - np.outer(means[1 : 1 + k], means)
    colour, shared = covariance[:, 1 : 1 + k], covariance[:, 1 + k :]
    square = sums.squares / count
    variance = square - means[1 + k :] ** 2
    varies = variance > FLAT * square
    lightness = np.diagonal(sums.inputs[1:, 1:]) / count  # the colours' squares
    flat = np.diagonal(colour) <= FLAT * lightness
    colour[flat], colour[:, flat] = 0, 0
    solution = np.linalg.pinv(colour, rcond=1e-9, hermitian=True) @ shared
    bright = np.full(k, 1 / k)
    spread = bright @ colour @ bright
    with np.errstate(invalid="ignore", divide="ignore"):
        explained = np.where(varies, (solution * shared).sum(0) / variance, np.nan)
        alone = np.where(varies, (bright @ shared) ** 2 / (spread * variance), np.nan)
    if not spread > FLAT * lightness.max():
        alone = np.where(varies, 0.0, np.nan)
    return ColourFit(np.clip(explained, 0, 1), np.clip(alone, 0, 1), solution * scale)
