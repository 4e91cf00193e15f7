"""Encodes arrays as image files for browsers."""

from io import BytesIO
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, features

FORMS = {"webp": "image/webp", "png": "image/png"}


class EncodedImage(NamedTuple):
    """An image file: its bytes and its media type."""

    content: bytes
    kind: str


def size_in_bytes(file: EncodedImage) -> int:
    """Return the approximate memory of an encoded image, in bytes."""
    return len(file.content) + 200


def encode(
    pixels: UInt8[np.ndarray, "h w c"], form: str = "webp", exact: bool = False
) -> EncodedImage:
    """Encode a picture of 1 (grey), 3 or 4 (with alpha) channels.

    Args:
        pixels: the picture.
        form: "webp" or "png".
        exact: whether WebP is lossless; else it is lossy at high quality.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    buffer = BytesIO()
    if form == "png" or not features.check("webp"):
        image.save(buffer, "PNG")
        return EncodedImage(buffer.getvalue(), FORMS["png"])
    if exact:
        image.save(buffer, "WEBP", lossless=True, quality=20, method=1)
    else:
        image.save(buffer, "WEBP", quality=88, method=2)
    return EncodedImage(buffer.getvalue(), FORMS["webp"])
