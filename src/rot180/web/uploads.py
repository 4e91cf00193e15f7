"""Pictures that people bring: checked before they are decoded, kept in memory only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from secrets import token_urlsafe

from rot180.atlas.images import Pixels
from rot180.web.collection import ServedAtlas
from rot180.web.decoding import Decoder
from rot180.web.errors import Busy, TooLarge

MOST_BYTES = 20 * 2**20
DECODER = Decoder()
"""The one process that decodes: large pictures come one after the other, so memory is bounded."""


class PendingUploads:
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


PENDING = PendingUploads(5 * MOST_BYTES)
"""The pictures that are being sent to this server, from its one thread for connections."""


def too_large_error() -> TooLarge:
    """Return the error that says so."""
    return TooLarge(
        f"This picture has more than {MOST_BYTES // 2**20} MB, which is the most that is taken."
    )


def save_upload(served: ServedAtlas, data: bytes) -> str:
    """Keep a picture in memory, as the network takes it, and return what it is called.

    Raises:
        UnsupportedMedia, TooLarge: it cannot be taken.
    """
    if len(data) > MOST_BYTES:
        raise too_large_error()
    pixels = DECODER.fitted(data, served.atlas.size, served.atlas.channels)
    return keep(served, pixels)


def keep(served: ServedAtlas, pixels: Pixels) -> str:
    """Keep pixels under a new name."""
    name = f"u{token_urlsafe(9)}"
    served.caches.uploads.put((served.name, name), pixels)
    return name
