"""Pictures that people bring: checked before they are decoded, kept in memory only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from secrets import token_urlsafe
from threading import Lock

from PIL import Image, UnidentifiedImageError

from rot180.datasets import BadImage, decode, fitted
from rot180.figures.scanned import Pixels
from rot180.web.failures import Busy, NotTaken, TooLarge
from rot180.web.shelf import Book

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MOST_BYTES = 20 * 2**20
MOST_PIXELS = 50_000_000
_ONE = Lock()
"""Large pictures are decoded one after the other, so that memory is bounded."""


class Unfinished:
    """Counts the bytes of pictures that have not arrived whole, all together.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self.most, self.bytes = most, 0

    @contextmanager
    def another(self) -> Iterator[Callable[[int], None]]:
        """Yield what is called with the number of bytes that have come; they count until the end.

        The function raises :class:`Busy` where all pictures together have too many.
        """
        mine = 0

        def taken(count: int) -> None:
            nonlocal mine
            if self.bytes + count > self.most:
                raise Busy("Other pictures are being sent: try again in a moment.")
            mine += count
            self.bytes += count

        try:
            yield taken
        finally:
            self.bytes -= mine


UNFINISHED = Unfinished(5 * MOST_BYTES)
"""The pictures that are being sent to this server, from its one thread for connections."""


def check(data: bytes) -> None:
    """See from the head of a file that it may be decoded.

    Raises:
        NotTaken: it is of another format, or damaged.
        TooLarge: it has too many bytes or pixels.
    """
    if len(data) > MOST_BYTES:
        raise too_many_bytes()
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except UnidentifiedImageError:
        raise NotTaken(
            "This is no picture that can be read here. Bring a JPEG, PNG, WebP, GIF or BMP file."
        ) from None
    except Exception as error:  # parsers fail on damaged bytes in ways that no list of types covers
        raise NotTaken(f"This picture cannot be read: {_reason(error)}.") from error
    if width * height > MOST_PIXELS:
        raise TooLarge(
            f"This picture has {width} x {height} pixels; at most {MOST_PIXELS // 10**6} million "
            "are taken. Make it smaller."
        )


def too_many_bytes() -> TooLarge:
    """Return the error that says so."""
    return TooLarge(
        f"This picture has more than {MOST_BYTES // 2**20} MB, which is the most that is taken."
    )


def brought(book: Book, data: bytes) -> str:
    """Keep a picture in memory, as the network takes it, and return what it is called.

    Raises:
        NotTaken, TooLarge: it cannot be taken.
    """
    check(data)
    try:
        with _ONE:
            pixels = fitted(decode(data, "this picture"), book.atlas.size, book.atlas.channels)
    except BadImage as error:
        raise NotTaken(f"This picture cannot be read: {error.reason}.") from error
    return keep(book, pixels)


def keep(book: Book, pixels: Pixels) -> str:
    """Keep pixels under a new name."""
    name = f"u{token_urlsafe(9)}"
    book.stores.uploads.put((book.name, name), pixels)
    return name


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
