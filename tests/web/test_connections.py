"""Whoever asks slowly, or never ends asking, keeps nobody out."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from rot180.web import connections, uploads
from rot180.web.app import application
from rot180.web.server import serve_in_thread
from rot180.web.uploads import PendingUploads
from tests.web.atlases import ask

HALF = b"GET /learn HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
WHOLE = b"GET /learn HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
UPLOAD = b"POST /atlas/x/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(connections, "HEAD", 0.5)
    monkeypatch.setattr(connections, "BODY", 0.5)
    monkeypatch.setattr(connections, "MOST", 20)
    with serve_in_thread(application()) as found:
        yield found


def connected(server: str, words: bytes = b"") -> socket.socket:
    place = urlsplit(server)
    found = socket.create_connection((place.hostname, place.port), 20)
    found.sendall(words)
    return found


def received(connection: socket.socket) -> bytes:
    """Return all that comes until the server hangs up."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


@pytest.mark.slow
@pytest.mark.parametrize("words", [b"", b"G", HALF, HALF + b"y\r\n", UPLOAD, UPLOAD + b"x" * 999])
def test_a_request_that_never_ends_is_ended(server: str, words: bytes) -> None:
    started = time.monotonic()
    with connected(server, words) as one:
        received(one)
    assert 0.3 < time.monotonic() - started < 10
    assert ask(server, "/learn").status == 200


@pytest.mark.slow
def test_a_byte_at_a_time_is_not_enough(server: str) -> None:
    with connected(server, HALF) as one:
        try:
            for _ in range(100):
                time.sleep(0.05)
                one.sendall(b"y")
        except ConnectionError:
            return
        assert received(one).startswith(b"HTTP/1.1 408")


@pytest.mark.slow
def test_many_that_never_end_keep_nobody_out(server: str) -> None:
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connected(server, HALF))
            assert ask(server, "/learn").status == 200


@pytest.mark.slow
def test_an_open_connection_is_asked_again_later(server: str) -> None:
    with connected(server) as one:
        for _ in range(3):
            one.sendall(WHOLE)
            answer = b""
            while b"</html>" not in answer:
                part = one.recv(65536)
                assert part
                answer += part
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.7)  # longer than a head may take


@pytest.mark.slow
def test_half_a_request_behind_a_whole_one_is_ended(server: str) -> None:
    with connected(server, WHOLE + HALF) as one:
        answer = received(one)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in answer


def test_pictures_on_their_way_are_bounded_together() -> None:
    unfinished = PendingUploads(100)
    with unfinished.another() as one:
        one(60)
        with unfinished.another() as other:
            other(40)
            with pytest.raises(uploads.Busy, match="Try again"):
                other(1)
        assert unfinished.bytes == 60
        one(40)
    assert unfinished.bytes == 0
