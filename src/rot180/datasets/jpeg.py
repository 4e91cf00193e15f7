"""The structure of JPEG files, read without decoding them.

A file is a list of segments: a marker (the byte 0xFF and another one) and, for most markers, a
length and content. Compressed data follow a segment that starts a scan; in them, 0xFF is always
followed by 0 or by a restart marker.
"""

import re
import struct
from io import BufferedReader, BytesIO

from PIL import Image

MOST_SCANS = 100
"""Maximal number of scans of a file. Encoders write about 10, in progressive files. A decoder goes
over the whole image in each scan, so a small file with thousands of them takes minutes. libtiff has
the same limit for the JPEG files in its own."""
MOST_SEGMENTS = 1_000_000
"""Maximal number of segments of a file, each of which is a step in Python here."""

START, SCAN_MARKER = b"\xff\xd8", b"\xff\xda"
_END = 0xD9
_SCAN = 0xDA
# Segments that do not affect how the image is shown, beyond what the decoder itself reads: tables,
# restart intervals, JFIF, comments. EXIF (orientation) is in none of them.
_PLAIN_SEGMENTS = frozenset((0xDB, 0xC4, 0xDD, 0xE0, 0xFE))
# Baseline, extended and progressive frames, which have the size and the number of components.
_FRAMES = frozenset((0xC0, 0xC1, 0xC2))
_MODES = {1: "L", 3: "RGB"}
# Markers that are followed by a length, and the end; the others occur in compressed data.
_SEGMENT = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_CHUNK = 2**20


def is_jpeg(source: BytesIO | BufferedReader) -> bool:
    """Return whether a file begins as JPEG files do; leave it at its start."""
    source.seek(0)
    start = source.read(len(START))
    source.seek(0)
    return start == START


def excess(source: BytesIO | BufferedReader) -> str | None:
    """Return how a JPEG file exceeds the limits above, in words; None if it does not.

    The file is left at its start. Segments are counted only if there may be too many scans.
    """
    if _marker_bytes(source) <= MOST_SCANS:
        source.seek(0)
        return None
    scans = segments = 0
    source.seek(len(START))
    while (marker := _next_marker(source)) is not None and marker != _END:
        scans += marker == _SCAN
        segments += 1
        if scans > MOST_SCANS or segments > MOST_SEGMENTS:
            break
        length = int.from_bytes(source.read(2), "big")
        source.seek(max(length - 2, 0), 1)
    source.seek(0)
    if scans > MOST_SCANS:
        return f"more than {MOST_SCANS} scans"
    return f"more than {MOST_SEGMENTS:,} segments" if segments > MOST_SEGMENTS else None


def _marker_bytes(source: BytesIO | BufferedReader) -> int:
    """Return how often the bytes of the marker of a scan occur.

    Counting them is fast, and gives an upper bound of the scans: they occur elsewhere, too.
    """
    source.seek(0)
    count, last = 0, b""
    while chunk := source.read(_CHUNK):
        count += (last + chunk).count(SCAN_MARKER)
        last = chunk[-1:]
    return count


def _next_marker(source: BytesIO | BufferedReader) -> int | None:
    """Return the next marker of a segment, and move behind it; None at the end of the file."""
    size = 256  # most segments follow each other
    while chunk := source.read(size):
        match = _SEGMENT.search(chunk)
        if match:
            source.seek(match.end() - len(chunk), 1)
            return match[1][0]
        if chunk[-1] == 0xFF and len(chunk) > 1:
            source.seek(-1, 1)
        size = _CHUNK
    return None


def plain_frame(data: bytes, most_pixels: int) -> tuple[str, tuple[int, int]] | None:
    """Return mode and (width, height) of a JPEG file with a plain header.

    A header is plain if it has no EXIF, no profiles and the like. The result is None for other
    files, and for images of more than ``most_pixels``.
    """
    if not data.startswith(START):
        return None
    frame = None
    position, end = 2, len(data) - 10  # a segment with a frame begins with 10 bytes
    while position < end and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _FRAMES and frame is None:
            bits, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
            limit = Image.MAX_IMAGE_PIXELS
            if (
                bits != 8
                or components not in _MODES
                or not 0 < width * height <= most_pixels
                or (limit is not None and width * height > limit)
            ):
                return None
            frame = _MODES[components], (width, height)
        elif marker == _SCAN:
            return frame
        elif marker not in _PLAIN_SEGMENTS:
            return None
        position += 2 + (data[position + 2] << 8) + data[position + 3]
    return None
