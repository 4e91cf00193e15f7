"""Limits on the connections of the explorer's server: their number, and the time of a request.

Clients that open idle connections, or send a file a byte at a time, must not keep others out. So
the head and the body of a request each have a deadline, and if there are too many connections, the
one that has been idle longest is closed.
"""

import asyncio
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 500
"""Most connections at a time."""

HEAD, BODY = 10.0, 60.0
"""Seconds within which the head of a request, and its body, must arrive."""

_LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with deadlines for receiving requests.

    Attributes:
        since: time at which the connection opened or its last response ended (monotonic, seconds).
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.since = time.monotonic()
        self._awaited = ""
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether the connection is idle: no request is being received or answered."""
        idle = self.conn.our_state is h11.IDLE and self.conn.their_state is h11.IDLE
        return idle and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first request."""
        super().connection_made(transport)
        self._expect("head", HEAD)
        if len(self.connections) > MOST:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Receive bytes of a request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Start to wait for the next request."""
        self.since = time.monotonic()
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        self._expect("", 0)
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Set the deadline of the request part that is incomplete."""
        if self.conn.their_state is h11.SEND_BODY:
            self._expect("body", BODY)
        elif self.waits and self.conn.trailing_data[0]:
            self._expect("head", HEAD)
        else:
            self._expect("", 0)

    def _expect(self, what: str, seconds: float) -> None:
        if what == self._awaited:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._awaited = what
        self._deadline = self.loop.call_later(seconds, self._end, _LATE) if what else None

    def _end(self, words: bytes) -> None:
        """Send the reason, if no response has started, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            self.transport.write(words)
        self.transport.close()

    def _make_room(self) -> None:
        """Close the connection that has been idle longest, or this one if none is idle."""
        waiting: list[BoundedProtocol] = [
            one
            for one in self.connections
            if isinstance(one, BoundedProtocol) and one is not self and one.waits
        ]
        oldest = min(waiting, key=lambda one: one.since, default=self)
        oldest._end(_FULL if oldest is self else _LATE)
