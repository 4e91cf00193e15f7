"""Image files to arrays of bytes, and arrays to the size that is wanted.

The pixels are those that ``PIL.Image.open(...).convert("RGB")`` gives (what torchvision's folders
show a network in training), with two differences: the EXIF orientation is honoured, and an image
that is truly grey keeps its one channel.
"""

import struct
from functools import cache
from io import BytesIO
from typing import Literal, cast

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from rot180.errors import Rot180Error, listed

OnBadImage = Literal["skip", "fail"]
POLICIES = ("skip", "fail")
# The formats that are tried. Pillow knows more, among them some that start other programs
# (EPS runs Ghostscript), which a file from somewhere else must not be able to ask for.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
# Segments of a JPEG file that say nothing about how to show it beyond what its decoder itself
# reads: tables, restart intervals, JFIF, comments. EXIF (orientation) is in none of them.
JPEG_SEGMENTS = frozenset((0xDB, 0xC4, 0xDD, 0xE0, 0xFE))
# Baseline, extended and progressive frames, which give the size and the number of components.
JPEG_FRAMES = frozenset((0xC0, 0xC1, 0xC2))
JPEG_SCAN = 0xDA
JPEG_MODES = {1: "L", 3: "RGB"}


class BadImage(Rot180Error):
    """An image that cannot be decoded: ``where`` names it, ``reason`` says why."""

    def __init__(self, reason: str, where: str = "the image") -> None:
        super().__init__(
            f"Cannot read {where}: {reason}. Replace it, remove it, or let a data set skip it "
            "(--on-bad-image skip)."
        )
        self.reason = reason
        self.where = where


def bad_image_policy(name: str) -> OnBadImage:
    """Return the policy for broken images, ``skip`` (leave out, name them) or ``fail`` (stop).

    Raises:
        Rot180Error: there is no such policy.
    """
    if name not in POLICIES:
        raise Rot180Error(
            f"'{name}' says nothing about bad images: choose one of {listed(POLICIES, name)}."
        )
    return cast(OnBadImage, name)


def decode(data: bytes, where: str = "the image") -> UInt8[np.ndarray, "h w c"]:
    """Decode an image file held in memory; of an animation the first frame.

    Args:
        data: the content of a JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, JPEG 2000 or AVIF file.
        where: how an error names the image.

    Returns:
        0 to 255, upright. c = 1 for true grey (Pillow's modes L, 1, I;16), 3 for all else:
        palettes, CMYK and alpha become RGB (the colour under the alpha is kept as it is), 16 bits
        are scaled to 8.

    Raises:
        BadImage: empty, of unknown kind, truncated, damaged, or larger than Pillow's limit for
            decompression bombs (``PIL.Image.MAX_IMAGE_PIXELS``).
    """
    if not data:
        raise BadImage("it is empty (0 bytes)", where)
    pixels = _plain_jpeg(data)
    return _any_image(data, where) if pixels is None else pixels


def _any_image(data: bytes, where: str) -> UInt8[np.ndarray, "h w c"]:
    """Decode an image file of any kind; arguments, result and errors are those of ``decode``."""
    try:
        with Image.open(BytesIO(data), formats=_formats()) as image:
            width, height = image.size
            # Pillow itself only warns up to twice its limit.
            if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
                raise BadImage(
                    f"it claims {width} x {height} pixels, more than {Image.MAX_IMAGE_PIXELS} "
                    "(a decompression bomb?)",
                    where,
                )
            image.load()
            return pixels_of(ImageOps.exif_transpose(image), where)
    except (BadImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadImage("it is not an image of a known kind", where) from error
    except Exception as error:  # parsers fail on damaged bytes in ways that no list of types covers
        reason = " ".join(str(error).split()).rstrip(".")
        raise BadImage(reason or type(error).__name__, where) from error


def _plain_jpeg(data: bytes) -> UInt8[np.ndarray, "h w c"] | None:
    """Decode a JPEG file without EXIF, profiles or the like; None where it is not, or is damaged.

    Pillow's decoder is called with the arguments that ``Image.open`` would give it, so the pixels
    are the same. What is left out is Pillow's reading of the header in Python, which for small
    images takes longer than the decoding and, unlike it, cannot run in two threads at once.
    """
    frame = _jpeg_frame(data)
    if frame is None:
        return None
    mode, (width, height) = frame
    try:
        image = Image.frombytes(mode, (width, height), data, "jpeg", mode, "")
    except Exception:  # the general way finds the sentence for what is wrong
        return None
    pixels = np.frombuffer(image.tobytes(), dtype=np.uint8)
    return pixels.reshape(height, width, -1).copy()  # bytes cannot be written to


def _jpeg_frame(data: bytes) -> tuple[str, tuple[int, int]] | None:
    """Mode and (width, height) of a JPEG file whose header is plain, otherwise None."""
    if not data.startswith(b"\xff\xd8"):
        return None
    frame = None
    at, end = 2, len(data) - 10  # a segment with a frame begins with 10 bytes
    while at < end and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in JPEG_FRAMES and frame is None:
            bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            limit = Image.MAX_IMAGE_PIXELS
            if (
                bits != 8
                or components not in JPEG_MODES
                or width * height == 0
                or (limit is not None and width * height > limit)
            ):
                return None
            frame = JPEG_MODES[components], (width, height)
        elif marker == JPEG_SCAN:
            return frame
        elif marker not in JPEG_SEGMENTS:
            return None
        at += 2 + (data[at + 2] << 8) + data[at + 3]
    return None


def pixels_of(image: Image.Image, where: str = "the image") -> UInt8[np.ndarray, "h w c"]:
    """The pixels of a Pillow image as ``decode`` returns them.

    Raises:
        BadImage: the mode has no agreed range of values (32-bit integers or floats).
    """
    if image.mode in ("L", "1"):
        return np.array(image.convert("L"), dtype=np.uint8)[:, :, None]
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        # Pillow before 11 opens 16-bit PNG files with mode I.
        if wide.min() < 0 or wide.max() > 65535:
            raise BadImage("its grey values do not fit in 16 bits", where)
        return ((wide * 255 + 32767) // 65535).astype(np.uint8)[:, :, None]
    if image.mode == "F":
        raise BadImage("its pixels are floating point numbers, whose range is not known", where)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def fitted(
    pixels: UInt8[np.ndarray, "h w c"], size: tuple[int, int], channels: int
) -> UInt8[np.ndarray, "height width channels"]:
    """Bring an image to ``size`` = (height, width) and to 1 or 3 channels.

    The largest centred box with the proportions of ``size`` is resampled (bicubic, antialiased):
    the short side fits, what the long side has too much is cut off. An image that has the size
    already keeps its pixels. RGB becomes grey by the luma of ITU-R 601-2; grey becomes RGB by
    repetition.

    Raises:
        Rot180Error: ``size`` is not positive or ``channels`` is neither 1 nor 3.
    """
    height, width = checked_size(size, channels)
    if pixels.shape[2] == 3 and channels == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]
    if pixels.shape[:2] != (height, width):
        grey = pixels.shape[2] == 1
        image = Image.fromarray(pixels[:, :, 0] if grey else pixels)
        box = _centred_box(image.height, image.width, height, width)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box))
        pixels = pixels[:, :, None] if grey else pixels
    return np.repeat(pixels, channels, axis=2) if pixels.shape[2] < channels else pixels


def checked_size(size: tuple[int, int], channels: int) -> tuple[int, int]:
    """Return (height, width) if images can have that size and that many channels.

    Raises:
        Rot180Error: they cannot.
    """
    if min(size) < 1:
        raise Rot180Error(f"Images cannot be {size[0]} x {size[1]} pixels: give positive sizes.")
    if channels not in (1, 3):
        raise Rot180Error(f"Images have 1 channel (grey) or 3 (RGB), not {channels}.")
    return size


def _centred_box(h: int, w: int, height: int, width: int) -> tuple[float, float, float, float]:
    """The largest centred box of an h x w image with the proportions height : width."""
    scale = min(h / height, w / width)
    # Rounding must not push the box over the border by a hair: Pillow refuses such a box.
    bottom, right = float(h), float(w)
    box_h, box_w = min(bottom, height * scale), min(right, width * scale)
    left, top = (w - box_w) / 2, (h - box_h) / 2
    return left, top, min(right, left + box_w), min(bottom, top + box_h)


@cache
def _formats() -> tuple[str, ...]:
    """The formats among ``FORMATS`` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
