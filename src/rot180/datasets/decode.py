"""Image files to arrays of bytes, and arrays to the size that is wanted.

The pixels are those that ``PIL.Image.open(...).convert("RGB")`` gives (what torchvision's folders
show a network in training), with two differences: the EXIF orientation is honoured, and an image
that is truly grey keeps its one channel.

What is large is treated with care for memory: a large file is not read as a whole, of large images
one is decoded at a time, and one that is to be made smaller never becomes an array first. The
pixels are the same.
"""

import os
import struct
import threading
from contextlib import ExitStack
from functools import cache
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Literal, cast

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from rot180.errors import Rot180Error, suggest
from rot180.files import open_regular
from rot180.visible import valid_name, visible

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
# A file of more bytes is not read: no image within the limit of pixels needs as many.
FILE_BYTES = 512 * 1024**2
# A file of more bytes is left to Pillow, which reads what it needs.
READ_WHOLE = 16 * 1024**2
# Of images of more pixels one is decoded at a time, whatever the number of threads.
LARGE = 16 * 1000**2
# Larger images become an array in bands of about this many pixels: the copies in between are small.
BAND = 4 * 1000**2
# What decoding one image may take in memory, in bytes.
MEMORY = 500 * 1000**2
# These decoders hold an image several times over: bytes for each pixel.
GREEDY = {"WEBP": 10, "JPEG2000": 10, "AVIF": 10}
# Pillow holds a pixel of these modes in one byte, and of all others in four.
NARROW = ("1", "L", "P")
# A file is read in more pieces than this only if it is made of millions of tiny ones, each of which
# Pillow goes through in Python: seconds or minutes for a file that shows little.
READS = 1_000_000
# Height and width in pixels, and channels.
Fit = tuple[tuple[int, int], int]

_one_large = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child process may be forked while a thread holds the lock
    os.register_at_fork(after_in_child=_one_large._at_fork_reinit)  # type: ignore[attr-defined]


class BadImage(Rot180Error):
    """An image that cannot be decoded: ``where`` names it, ``reason`` says why."""

    def __init__(self, reason: str, where: str = "the image") -> None:
        super().__init__(
            f"Cannot read {where}: {reason}. Replace it, remove it, or let a data set skip it "
            "(--on-bad-image skip)."
        )
        # Both are stored with what a scan has left out.
        self.reason = visible(reason)
        self.where = visible(where)


def bad_image_policy(name: str) -> OnBadImage:
    """Return the policy for broken images, ``skip`` (leave out, name them) or ``fail`` (stop).

    Raises:
        Rot180Error: there is no such policy.
    """
    if name not in POLICIES:
        raise Rot180Error(
            f"'{name}' says nothing about bad images: choose one of {suggest(POLICIES, name)}."
        )
    return cast(OnBadImage, name)


def decode(
    data: bytes, where: str = "the image", fit: Fit | None = None
) -> UInt8[np.ndarray, "h w c"]:
    """Decode an image file held in memory; of an animation the first frame.

    Args:
        data: the content of a JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, JPEG 2000 or AVIF file.
        where: how an error names the image.
        fit: ((height, width), channels): the result is then that of ``fitted``, bit by bit, but a
            large image takes less memory on the way.

    Returns:
        0 to 255, upright. c = 1 for true grey (Pillow's modes L, 1, I;16), 3 for all else:
        palettes, CMYK and alpha become RGB (the colour under the alpha is kept as it is), 16 bits
        are scaled to 8.

    Raises:
        BadImage: empty, of unknown kind, truncated, damaged, of more than ``FILE_BYTES`` bytes, or
            larger than Pillow's limit for decompression bombs (``PIL.Image.MAX_IMAGE_PIXELS``) or
            what fits in ``MEMORY``, or made of more than ``READS`` pieces.
    """
    if not data:
        raise BadImage("it is empty (0 bytes)", where)
    if len(data) > FILE_BYTES:
        raise BadImage(_too_long(len(data)), where)
    pixels = _plain_jpeg(data)
    if pixels is None:
        return _any_image(BytesIO(data), where, fit)
    return pixels if fit is None else fitted(pixels, *fit)


def decode_file(
    path: Path, where: str | None = None, fit: Fit | None = None
) -> UInt8[np.ndarray, "h w c"]:
    """Decode an image file, as ``decode`` does its content.

    Args:
        path: of the file.
        where: how an error names the image; the path by default.
        fit: as for ``decode``.

    Raises:
        BadImage: it cannot be read, is no regular file (a pipe, a device), or cannot be decoded.
    """
    where = valid_name(str(path)) if where is None else where
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > FILE_BYTES:
                raise BadImage(_too_long(size), where)
            if size > READ_WHOLE:
                return _any_image(file, where, fit)
            data = file.read(READ_WHOLE + 1)
    except OSError as error:
        raise BadImage(error.strerror or str(error), where) from error
    return decode(data, where, fit)


def _too_long(size: int) -> str:
    return f"it has {size:,} bytes, and image files of more than {FILE_BYTES:,} are not read"


def _any_image(
    source: BytesIO | BufferedReader, where: str, fit: Fit | None
) -> UInt8[np.ndarray, "h w c"]:
    """Decode an image file of any kind; result and errors are those of ``decode``."""
    with ExitStack() as alone:
        pixels = _opened(source, where, fit, alone)
        return pixels if fit is None else fitted(pixels, *fit)


def _opened(
    source: BytesIO | BufferedReader, where: str, fit: Fit | None, alone: ExitStack
) -> UInt8[np.ndarray, "h w c"]:
    """Decode an image with Pillow; a large one waits in ``alone`` for its turn.

    Where that takes no copy, the image is fitted already.
    """
    try:
        with Image.open(_bounded(source, where), formats=_formats()) as image:
            _check_pixels(image, where)
            if image.width * image.height > LARGE:
                alone.enter_context(_one_large)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            if fit is not None and image.mode in ("L", "RGB"):
                return _fitted(image, *fit)
            return pixels_of(image, where)
    except (BadImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadImage("it is not an image of a known kind", where) from error
    except Exception as error:  # parsers fail on damaged bytes in ways that no list of types covers
        reason = " ".join(str(error).split()).rstrip(".")
        raise BadImage(reason or type(error).__name__, where) from error


def _check_pixels(image: Image.Image, where: str) -> None:
    """Look at the size that the file's head claims, before anything is decoded."""
    width, height = image.size
    # Pillow itself only warns up to twice its limit.
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise BadImage(
            f"it claims {width} x {height} pixels, more than {Image.MAX_IMAGE_PIXELS} "
            "(a decompression bomb?)",
            where,
        )
    memory = width * height * _bytes_a_pixel(image)
    if memory > MEMORY:
        raise BadImage(
            f"it has {width} x {height} pixels, and decoding it as the {image.format} file that it "
            f"is (mode {image.mode}) takes about {memory // 10**6} MB, more than "
            f"{MEMORY // 10**6}: make it smaller",
            where,
        )


def _bytes_a_pixel(image: Image.Image) -> int:
    """Return about how much memory decoding takes for each pixel, beside the result."""
    most = held = 1 if image.mode in NARROW else 4
    if image.mode == "1" or image.mode.startswith("I"):
        most = held + 2
    elif image.mode not in ("L", "RGB"):  # the image, or its copy in RGB, and two arrays
        most = 9
    if _is_turned(image):
        most = max(most, 2 * held)
    if image.info.get("progressive"):  # all coefficients, two bytes each, of every component
        most = max(most, held + 2 * len(image.getbands()))
    return max(most, GREEDY.get(image.format or "", 0))


def _is_turned(image: Image.Image) -> bool:
    """Say whether EXIF wants an image turned, as far as that is known before decoding."""
    if image.format == "PNG" and "exif" not in image.info:
        return False  # Pillow would decode it to look for what stands at the end
    return image.getexif().get(0x0112, 1) not in (0, 1)


def _bounded(source: BytesIO | BufferedReader, where: str) -> BytesIO | BufferedReader:
    """Return the same file, of which only so many pieces can be read."""
    if isinstance(source, BytesIO):
        return _BoundedBytes(source.getvalue(), where)
    return _BoundedFile(source, where)


class _Bounded:
    """Counts how often something is read."""

    reads = 0

    def __init__(self, where: str) -> None:
        self.where = where

    def count(self) -> None:
        """Count one more; it is an error if there are too many."""
        self.reads += 1
        if self.reads > READS:
            raise _TooManyPieces(
                f"it is made of more than {READS:,} pieces, which no image needs", self.where
            )


class _TooManyPieces(BadImage):
    """A file of very many tiny parts."""


class _BoundedBytes(BytesIO):
    """A file in memory."""

    def __init__(self, data: bytes, where: str) -> None:
        super().__init__(data)
        self._pieces = _Bounded(where)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read a piece."""
        self._pieces.count()
        return super().read(size)


class _BoundedFile(BufferedReader):
    """A file on the disk; whoever opened the given one closes it."""

    def __init__(self, file: BufferedReader, where: str) -> None:
        super().__init__(file.raw)
        self._pieces = _Bounded(where)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read a piece."""
        self._pieces.count()
        return super().read(size)


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
                or not 0 < width * height <= LARGE
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
    if image.mode == "F":
        raise BadImage("its pixels are floating point numbers, whose range is not known", where)
    if image.width * image.height <= BAND:
        return _band(image, where)
    step = max(1, BAND // image.width)
    channels = 1 if image.mode in ("L", "1") or image.mode.startswith("I") else 3
    pixels = np.empty((image.height, image.width, channels), dtype=np.uint8)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        pixels[top:bottom] = _band(image.crop((0, top, image.width, bottom)), where)
    return pixels


def _band(image: Image.Image, where: str) -> UInt8[np.ndarray, "h w c"]:
    """The pixels of an image that is small, or of a part of one."""
    if image.mode in ("L", "1"):
        return np.array(image.convert("L"), dtype=np.uint8)[:, :, None]
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        # Pillow before 11 opens 16-bit PNG files with mode I.
        if wide.min() < 0 or wide.max() > 65535:
            raise BadImage("its grey values do not fit in 16 bits", where)
        return ((wide * 255 + 32767) // 65535).astype(np.uint8)[:, :, None]
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
    checked_size(size, channels)
    if pixels.shape[:2] == size and pixels.shape[2] == channels:
        return pixels
    grey = pixels.shape[2] == 1
    return _fitted(Image.fromarray(pixels[:, :, 0] if grey else pixels), size, channels)


def _fitted(
    image: Image.Image, size: tuple[int, int], channels: int
) -> UInt8[np.ndarray, "height width channels"]:
    """Fit an image of Pillow's mode L or RGB, as ``fitted`` does."""
    height, width = checked_size(size, channels)
    if channels == 1:
        image = image.convert("L")
    if image.size != (width, height):
        box = _centred_box(image.height, image.width, height, width)
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    pixels = np.array(image, dtype=np.uint8)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
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
