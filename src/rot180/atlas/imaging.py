"""The pictures inside an atlas."""

from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, features

from rot180.errors import Rot180Error

IMAGES = ("lossless", "compact", "none")
"""How pictures are stored: exactly (as WebP without loss, or as PNG), as WebP of quality 85, or not
at all."""

_QUALITY = 85
_FORMS = ("PNG", "WEBP", "BMP")
"""Those that are read; rot180 writes the first two."""


def encode(pixels: UInt8[np.ndarray, "h w c"], kind: str) -> bytes:
    """Return the file of a picture.

    Args:
        pixels: with 3 channels, or 1 for grey.
        kind: "lossless" or "compact".
    """
    grey = pixels.shape[2] == 1
    image = Image.fromarray(pixels[:, :, 0] if grey else pixels)
    if not features.check("webp"):
        return _saved(image, "PNG")
    if kind == "compact":
        return _saved(image, "WEBP", quality=_QUALITY, method=4)
    if grey:  # WebP knows no grey
        return _saved(image, "PNG")
    return _saved(image, "WEBP", lossless=True, quality=20, method=1)


def header_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a stored picture as its header tells them; nothing is decoded.

    Raises:
        Rot180Error: it is no picture of a form that atlases hold.
    """
    try:
        with Image.open(BytesIO(data), formats=_FORMS) as image:
            return image.height, image.width
    except Exception as error:  # parsers fail on damaged bytes in ways that no list of types covers
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise Rot180Error(f"This is no picture: {reason}.") from error


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
