"""Pictures that people bring: checked before they are decoded, kept in memory only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from secrets import token_urlsafe

from rot180.atlas.images import Pixels
from rot180.web.decoding import Decoder
from rot180.web.failures import Busy, TooLarge
from rot180.web.shelf import Book

MOST_BYTES = 20 * 2**20
DECODER = Decoder()
"""The one process that decodes: large pictures come one after the other, so memory is bounded."""


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
    if len(data) > MOST_BYTES:
        raise too_many_bytes()
    pixels = DECODER.fitted(data, book.atlas.size, book.atlas.channels)
    return keep(book, pixels)


def keep(book: Book, pixels: Pixels) -> str:
    """Keep pixels under a new name."""
    name = f"u{token_urlsafe(9)}"
    book.stores.uploads.put((book.name, name), pixels)
    return name
