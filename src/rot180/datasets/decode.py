"""Decoding image files to arrays of bytes, and resizing them.

The pixels are those of ``PIL.Image.open(...).convert("RGB")`` (which networks see in training with
torchvision's folders), with two differences: the EXIF orientation is applied, and a grey image
keeps its single channel.

Large images are decoded with less memory, to the same pixels: large files are not read as a whole,
large images are decoded one at a time, and an image that is resized does not become an array of its
full size.
"""

import os
import threading
from contextlib import ExitStack
from functools import cache
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Literal, cast

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from rot180.datasets import jpeg
from rot180.datasets.resize import resize_and_crop, resize_image
from rot180.errors import Rot180Error, suggest
from rot180.files import open_regular
from rot180.visible import valid_name, visible

OnBadImage = Literal["skip", "fail"]
POLICIES = ("skip", "fail")
# The formats to try. Pillow knows more, among them some that start other programs (EPS runs
# Ghostscript), which foreign files must not be able to do.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
# A file of more bytes is not read: no image within the limit of pixels needs as many.
FILE_BYTES = 512 * 1024**2
# A file of more bytes is left to Pillow, which reads only the parts that it needs.
READ_WHOLE = 16 * 1024**2
# Images of more pixels are decoded one at a time, whatever the number of threads.
LARGE = 16 * 1000**2
# Larger images are converted to an array in bands of about this many pixels, to keep copies small.
BAND = 4 * 1000**2
# Maximal memory for decoding one image, in bytes.
MEMORY = 500 * 1000**2
# Memory of decoders that hold an image several times over, in bytes per pixel.
DECODER_BYTES = {"WEBP": 10, "JPEG2000": 10, "AVIF": 10}
# Pillow stores a pixel of these modes in one byte, and of all others in four.
ONE_BYTE_MODES = ("1", "L", "P")
# Maximal number of reads. Only files of millions of tiny pieces need more, and Pillow processes
# each of the pieces in Python: seconds or minutes for a file that shows little.
READS = 1_000_000
# ((height, width) in pixels, channels).
TargetSize = tuple[tuple[int, int], int]

_one_large = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child process may be forked while a thread holds the lock
    os.register_at_fork(after_in_child=_one_large._at_fork_reinit)  # type: ignore[attr-defined]


class BadImage(Rot180Error):
    """An image cannot be decoded.

    Attributes:
        reason: why it cannot be decoded.
        description: which image it is, for people.
    """

    def __init__(self, reason: str, description: str = "the image") -> None:
        super().__init__(
            f"Cannot read {description}: {reason}. Replace it, remove it, or let a data set skip "
            "it (--on-bad-image skip)."
        )
        # A scan stores both for the images that it skips.
        self.reason = visible(reason)
        self.description = visible(description)


def bad_image_policy(name: str) -> OnBadImage:
    """Return the policy for broken images: ``skip`` (leave them out and list them) or ``fail``.

    Raises:
        Rot180Error: the policy does not exist.
    """
    if name not in POLICIES:
        raise Rot180Error(
            f"'{name}' says nothing about bad images: choose one of {suggest(POLICIES, name)}."
        )
    return cast(OnBadImage, name)


def decode(
    data: bytes, description: str = "the image", target: TargetSize | None = None
) -> UInt8[np.ndarray, "h w c"]:
    """Decode an image file in memory; of an animation the first frame.

    Args:
        data: content of a JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, JPEG 2000 or AVIF file.
        description: which image it is, for the error.
        target: ((height, width), channels). The result is then that of ``resize_and_crop``, to the
            bit, but large images take less memory.

    Returns:
        0 to 255, upright. c = 1 for grey images (Pillow's modes L, 1, I;16), 3 for all others:
        palettes, CMYK and alpha become RGB (the colour under the alpha is kept as it is), 16 bits
        are scaled to 8.

    Raises:
        BadImage: the image is empty, of unknown format, truncated or damaged; has more than
            ``FILE_BYTES`` bytes, ``READS`` pieces or ``jpeg.MOST_SCANS`` scans; or is larger than
            Pillow's limit for decompression bombs (``PIL.Image.MAX_IMAGE_PIXELS``) or ``MEMORY``.
    """
    if not data:
        raise BadImage("it is empty (0 bytes)", description)
    if len(data) > FILE_BYTES:
        raise BadImage(_too_large_message(len(data)), description)
    if data.count(jpeg.SCAN_MARKER) > jpeg.MOST_SCANS:
        _check_scans(BytesIO(data), description)
    pixels = _decode_plain_jpeg(data)
    if pixels is None:
        return _decode_any(BytesIO(data), description, target)
    return pixels if target is None else resize_and_crop(pixels, *target)


def decode_file(
    path: Path, description: str | None = None, target: TargetSize | None = None
) -> UInt8[np.ndarray, "h w c"]:
    """Decode an image file, as ``decode`` does with its content.

    Args:
        path: path of the file.
        description: which image it is, for the error; the path by default.
        target: as for ``decode``.

    Raises:
        BadImage: the file cannot be read, is not a regular file, or cannot be decoded.
    """
    description = valid_name(str(path)) if description is None else description
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > FILE_BYTES:
                raise BadImage(_too_large_message(size), description)
            if size > READ_WHOLE:
                _check_scans(file, description)
                return _decode_any(file, description, target)
            data = file.read(READ_WHOLE + 1)
    except OSError as error:
        raise BadImage(error.strerror or str(error), description) from error
    return decode(data, description, target)


def _too_large_message(size: int) -> str:
    return f"it has {size:,} bytes, and image files of more than {FILE_BYTES:,} are not read"


def _check_scans(source: BytesIO | BufferedReader, description: str) -> None:
    """Raise BadImage for a JPEG file with very many scans, each of which takes a whole pass."""
    excess = jpeg.excess(source) if jpeg.is_jpeg(source) else None
    if excess is not None:
        raise BadImage(
            f"it is a JPEG file of {excess}, which would take very long to decode: save it anew",
            description,
        )


def _decode_any(
    source: BytesIO | BufferedReader, description: str, target: TargetSize | None
) -> UInt8[np.ndarray, "h w c"]:
    """Decode an image file of any format; result and errors are those of ``decode``."""
    with ExitStack() as alone:
        pixels = _decode_with_pillow(source, description, target, alone)
        return pixels if target is None else resize_and_crop(pixels, *target)


def _decode_with_pillow(
    source: BytesIO | BufferedReader,
    description: str,
    target: TargetSize | None,
    alone: ExitStack,
) -> UInt8[np.ndarray, "h w c"]:
    """Decode an image with Pillow; for a large one, enter the lock into ``alone`` first.

    If it can be done without a copy, the result has the target size already.
    """
    try:
        with Image.open(_bounded(source, description), formats=_formats()) as image:
            _check_pixels(image, description)
            if image.width * image.height > LARGE:
                alone.enter_context(_one_large)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            if target is not None and image.mode in ("L", "RGB"):
                return resize_image(image, *target)
            return to_array(image, description)
    except (BadImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadImage("it is not an image of a known kind", description) from error
    except Exception as error:  # parsers fail on damaged bytes in ways that no list of types covers
        reason = " ".join(str(error).split()).rstrip(".")
        raise BadImage(reason or type(error).__name__, description) from error


def _check_pixels(image: Image.Image, description: str) -> None:
    """Check the size that the header of the file claims, before anything is decoded."""
    width, height = image.size
    # Pillow itself only warns up to twice its limit.
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise BadImage(
            f"it claims {width} x {height} pixels, more than {Image.MAX_IMAGE_PIXELS} "
            "(a decompression bomb?)",
            description,
        )
    memory = width * height * _bytes_per_pixel(image)
    if memory > MEMORY:
        raise BadImage(
            f"it has {width} x {height} pixels, and decoding it as the {image.format} file that it "
            f"is (mode {image.mode}) takes about {memory // 10**6} MB, more than "
            f"{MEMORY // 10**6}: make it smaller",
            description,
        )


def _bytes_per_pixel(image: Image.Image) -> int:
    """Return about how many bytes per pixel decoding takes, besides the result."""
    most = held = 1 if image.mode in ONE_BYTE_MODES else 4
    if image.mode == "1" or image.mode.startswith("I"):
        most = held + 2
    elif image.mode not in ("L", "RGB"):  # the image or its copy in RGB, and two arrays
        most = 9
    if _has_rotation(image):
        most = max(most, 2 * held)
    if image.info.get("progressive"):  # all coefficients, two bytes each, of every component
        most = max(most, held + 2 * len(image.getbands()))
    return max(most, DECODER_BYTES.get(image.format or "", 0))


def _has_rotation(image: Image.Image) -> bool:
    """Return whether EXIF asks for a rotation, as far as that is known before decoding."""
    if image.format == "PNG" and "exif" not in image.info:
        return False  # Pillow would decode the image to look for EXIF at the end
    return image.getexif().get(0x0112, 1) not in (0, 1)


def _bounded(source: BytesIO | BufferedReader, description: str) -> BytesIO | BufferedReader:
    """Return the same file with a limit on the number of reads."""
    if isinstance(source, BytesIO):
        return _BoundedBytes(source.getvalue(), description)
    return _BoundedFile(source, description)


class _ReadCounter:
    """Counts the reads of a file."""

    reads = 0

    def __init__(self, description: str) -> None:
        self.description = description

    def count(self) -> None:
        """Count a read; raise BadImage if there are too many."""
        self.reads += 1
        if self.reads > READS:
            raise BadImage(
                f"it is made of more than {READS:,} pieces, which no image needs", self.description
            )


class _BoundedBytes(BytesIO):
    """A file in memory."""

    def __init__(self, data: bytes, description: str) -> None:
        super().__init__(data)
        self._counter = _ReadCounter(description)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read and count."""
        self._counter.count()
        return super().read(size)


class _BoundedFile(BufferedReader):
    """A file on the disk. The given file has to be closed by its owner."""

    def __init__(self, file: BufferedReader, description: str) -> None:
        super().__init__(file.raw)
        self.seek(0)  # the given file may have read ahead
        self._counter = _ReadCounter(description)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read and count."""
        self._counter.count()
        return super().read(size)


def _decode_plain_jpeg(data: bytes) -> UInt8[np.ndarray, "h w c"] | None:
    """Decode a JPEG file with a plain header; return None for other or damaged files.

    Pillow's decoder is called with the arguments that ``Image.open`` would give it, so the pixels
    are the same. This skips Pillow's reading of the header in Python, which for small images takes
    longer than the decoding and, unlike it, cannot run in two threads at once.
    """
    frame = jpeg.plain_frame(data, LARGE)
    if frame is None:
        return None
    mode, (width, height) = frame
    try:
        image = Image.frombytes(mode, (width, height), data, "jpeg", mode, "")
    except Exception:  # of any type, see above; ``Image.open`` finds the reason
        return None
    pixels = np.frombuffer(image.tobytes(), dtype=np.uint8)
    return pixels.reshape(height, width, -1).copy()  # the bytes are read-only


def to_array(image: Image.Image, description: str = "the image") -> UInt8[np.ndarray, "h w c"]:
    """Return the pixels of a Pillow image as ``decode`` does.

    Raises:
        BadImage: the mode has no known range of values (32-bit integers or floats).
    """
    if image.mode == "F":
        raise BadImage(
            "its pixels are floating point numbers, whose range is not known", description
        )
    if image.width * image.height <= BAND:
        return _band_to_array(image, description)
    step = max(1, BAND // image.width)
    channels = 1 if image.mode in ("L", "1") or image.mode.startswith("I") else 3
    pixels = np.empty((image.height, image.width, channels), dtype=np.uint8)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        band = image.crop((0, top, image.width, bottom))
        pixels[top:bottom] = _band_to_array(band, description)
    return pixels


def _band_to_array(image: Image.Image, description: str) -> UInt8[np.ndarray, "h w c"]:
    """Return the pixels of a small image, or of a band of a large one."""
    if image.mode in ("L", "1"):
        return np.array(image.convert("L"), dtype=np.uint8)[:, :, None]
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        # Pillow before 11 opens 16-bit PNG files with mode I.
        if wide.min() < 0 or wide.max() > 65535:
            raise BadImage("its grey values do not fit in 16 bits", description)
        return ((wide * 255 + 32767) // 65535).astype(np.uint8)[:, :, None]
    return np.array(image.convert("RGB"), dtype=np.uint8)


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats among ``FORMATS`` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
