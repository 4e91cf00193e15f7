"""Resizing images to the size of a network's input."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from rot180.errors import Rot180Error


def resize_and_crop(
    pixels: UInt8[np.ndarray, "h w c"], size: tuple[int, int], channels: int
) -> UInt8[np.ndarray, "height width channels"]:
    """Resize and crop an image to ``size`` = (height, width), with 1 or 3 channels.

    The largest centred box with the proportions of ``size`` is resampled (bicubic, antialiased), so
    the longer side is cropped. An image that has the size already keeps its pixels. RGB becomes
    grey by the luma of ITU-R 601-2; grey becomes RGB by repetition.

    Raises:
        Rot180Error: ``size`` is not positive, or ``channels`` is neither 1 nor 3.
    """
    check_size(size, channels)
    if pixels.shape[:2] == size and pixels.shape[2] == channels:
        return pixels
    grey = pixels.shape[2] == 1
    return resize_image(Image.fromarray(pixels[:, :, 0] if grey else pixels), size, channels)


def resize_image(
    image: Image.Image, size: tuple[int, int], channels: int
) -> UInt8[np.ndarray, "height width channels"]:
    """Resize and crop an image in Pillow's mode L or RGB, as ``resize_and_crop`` does."""
    height, width = check_size(size, channels)
    if channels == 1:
        image = image.convert("L")
    if image.size != (width, height):
        box = _centred_box(image.height, image.width, height, width)
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    pixels = np.array(image, dtype=np.uint8)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return np.repeat(pixels, channels, axis=2) if pixels.shape[2] < channels else pixels


def check_size(size: tuple[int, int], channels: int) -> tuple[int, int]:
    """Return (height, width) if images can have that size and that number of channels.

    Raises:
        Rot180Error: they cannot.
    """
    if min(size) < 1:
        raise Rot180Error(f"Images cannot be {size[0]} x {size[1]} pixels: give positive sizes.")
    if channels not in (1, 3):
        raise Rot180Error(f"Images have 1 channel (grey) or 3 (RGB), not {channels}.")
    return size


def _centred_box(h: int, w: int, height: int, width: int) -> tuple[float, float, float, float]:
    """Return the largest centred box in an h x w image with the proportions height : width.

    Returns:
        left, top, right, bottom in pixels.
    """
    scale = min(h / height, w / width)
    # Pillow refuses a box that rounding moves beyond the border.
    bottom, right = float(h), float(w)
    box_h, box_w = min(bottom, height * scale), min(right, width * scale)
    left, top = (w - box_w) / 2, (h - box_h) / 2
    return left, top, min(right, left + box_w), min(bottom, top + box_h)
