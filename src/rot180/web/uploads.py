"""Uploaded images: checked before they are decoded, and kept in memory only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from secrets import token_urlsafe

from rot180.atlas.images import Pixels
from rot180.web.collection import ServedAtlas
from rot180.web.decoding import Decoder
from rot180.web.errors import Busy, TooLarge

MOST_BYTES = 20 * 2**20
DECODER = Decoder()
"""The process that decodes uploads; it decodes one at a time, so its memory is bounded."""


class PendingUploads:
    """Counts the bytes of all uploads in progress together.

    Args:
        most: limit of these bytes.
    """

    def __init__(self, most: int) -> None:
        self.most, self.bytes = most, 0

    @contextmanager
    def another(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that adds received bytes of one upload; they count until it ends.

        The function raises :class:`Busy` if all uploads together exceed the limit.
        """
        mine = 0

        def taken(count: int) -> None:
            nonlocal mine
            if self.bytes + count > self.most:
                raise Busy("The server is receiving other images. Try again in a moment.")
            mine += count
            self.bytes += count

        try:
            yield taken
        finally:
            self.bytes -= mine


PENDING = PendingUploads(5 * MOST_BYTES)
"""The uploads in progress; used only from the server's event loop."""


def too_large_error() -> TooLarge:
    """Return the error for an upload with too many bytes."""
    return TooLarge(
        f"This image is larger than {MOST_BYTES // 2**20} MB, the largest size accepted."
    )


def save_upload(served: ServedAtlas, data: bytes) -> str:
    """Decode an upload into the network's input size, keep it in memory, and return its name.

    Raises:
        UnsupportedMedia, TooLarge: the upload is refused.
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
