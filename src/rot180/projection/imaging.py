"""Signals as pictures: zero is mid-grey, enlargement repeats pixels, PNG bytes."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

Picture = UInt8[np.ndarray, "h w 3"]

FAINTEST = 0.06
"""The least opacity of a masked image, so that one sees where it is."""

PERCENTILE = 99.5
"""Of the absolute values of a signal: what is shown as white or black."""


def signed_to_rgb(signal: Float[np.ndarray, "c h w"], scale: float | None = None) -> Picture:
    """Show a signed signal: 0 as mid-grey (128), ``-scale`` as 0 and ``scale`` as 255.

    Three channels are shown as red, green and blue; any other number as their sum in grey.
    ``scale`` is in the signal's own units; without it, that of :func:`scale_of`. What is larger is
    shown as the lightest or darkest.
    """
    if len(signal) != 3:
        signal = np.repeat(signal.sum(axis=0, keepdims=True), 3, axis=0)
    largest = scale_of(signal) if scale is None else scale
    unit = signal / largest if largest > 0 else np.zeros_like(signal)
    return np.rint(np.clip(128 + 127.5 * unit, 0, 255)).astype(np.uint8).transpose(1, 2, 0)


def opacity(signal: Float[np.ndarray, "c h w"]) -> Float[np.ndarray, "h w"]:
    """Return how opaque an image is to be shown at each pixel, so that what matters is seen.

    It is the square root of the signal's energy (the sum of its squares over the colours), smoothed
    by a Gaussian whose deviation is a 28th of the longer side, over the 95th percentile of that; at
    least ``FAINTEST`` and at most 1. Without a signal all is faint.
    """
    from skimage.filters import gaussian

    energy = np.square(signal.astype(np.float64)).sum(0)
    deviation = max(energy.shape) / 28
    smooth = gaussian(energy, deviation, mode="constant")  # type: ignore[no-untyped-call]
    bright = float(np.percentile(smooth, 95)) if smooth.size else 0.0
    share = np.sqrt(np.clip(smooth / bright, 0, 1)) if bright > 0 else np.zeros_like(energy)
    found: Float[np.ndarray, "h w"] = FAINTEST + (1 - FAINTEST) * share
    return found


def scale_of(signal: Float[np.ndarray, "c h w"]) -> float:
    """Return the scale of a picture: the 99.5th percentile of the absolute values that are not 0.

    So a few bright pixels do not make the rest grey. Values of 0 do not count, since most of a map
    may be empty.
    """
    values = np.abs(signal[signal != 0])
    return float(np.percentile(values, PERCENTILE)) if values.size else 0.0


def upscale(picture: Picture, factor: int) -> UInt8[np.ndarray, "{factor}*h {factor}*w 3"]:
    """Repeat each pixel ``factor`` times in both directions (nearest neighbour)."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def grid(
    pictures: Sequence[UInt8[np.ndarray, "h w c"]], columns: int, gap: int = 2, between: int = 255
) -> UInt8[np.ndarray, "rows columns c"]:
    """Lay pictures of one size out in rows, ``gap`` pixels of one value (white) between them."""
    height, width, channels = pictures[0].shape
    rows = -(-len(pictures) // columns)
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    sheet = np.full(size, between, np.uint8)
    for place, picture in enumerate(pictures):
        y, x = (place // columns) * (height + gap), (place % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = picture
    return sheet


def encode_png(picture: Picture) -> bytes:
    """Return the picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()
