"""Rude clients: whatever they ask of the explorer, it answers, and keeps no memory or files."""

import http.client
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.hostile.faults import Tally
from tests.hostile.mutations import FORMATS, damaged, encoded

SECONDS = 20.0
"""Within which each answer has to come, while several clients ask at once."""

_PATHS = (
    *("/", "/lessons", "/atlas/late", "/atlas/late.json", "/atlas/late/features/conv2/3"),
    *("/atlas/late/layers/conv1", "/atlas/late/layers/conv2.json", "/atlas/late/images"),
    *("/atlas/late/images/0", "/atlas/late/images/0.png", "/atlas/late/images.json?from=3"),
    *("/atlas/late/features/conv1/0.json", "/static/style.css", "/openapi.json"),
)
_PIECES = (
    *("..", ".", "%00", "%2e%2e%2f", "%ff", "é", "'", '"', "<script>", "-1", "1e9", "9" * 400),
    *("NaN", "conv2", "late", "?from=", "#", "\\", ";", "&", "=", "a" * 5000, "%", "\N{SNOWMAN}"),
)
_HEADERS: tuple[dict[str, str], ...] = (
    {"Host": "evil.example"},
    {"Origin": "http://evil.example"},
    {"Cookie": "a=" + "x" * 4000},
    {"Cookie": 'b="\x7f'},
    {"Accept": "text/html"},
    {"Accept": "application/json, */*;q=" + "9" * 50},
    {"If-None-Match": '"' + "x" * 3000},
    {"Range": "bytes=5-1"},
    {"Accept-Language": "de;q=x"},
    {"Content-Length": "99999999999"},
)


@contextmanager
def serving(atlas: Path) -> Iterator[tuple[str, int]]:
    """Start the explorer on a free port, and yield its address and the number of its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "rot180", "serve", str(atlas), "--port", str(port), "--no-open"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"127.0.0.1:{port}", server.pid
    finally:
        server.terminate()
        server.wait(20)


def held_by(process: int) -> tuple[int, int]:
    """Return the memory of a process in MB, and how many descriptors it has."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    memory = next(int(one.split()[1]) // 1024 for one in lines if one.startswith("VmRSS"))
    return memory, len(list(Path(f"/proc/{process}/fd").iterdir()))


def _address(rng: random.Random) -> str:
    parts = rng.choice(_PATHS).split("/")
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        place = rng.randrange(len(parts)) if parts else 0
        piece = rng.choice(_PIECES)
        if rng.random() < 0.5:
            parts.insert(place, piece)
        else:
            parts[place] = rng.choice((piece, parts[place] + piece))
    return "/" + quote("/".join(parts).lstrip("/"), safe="/%?&=#;'\"<>\\.:,+-_~*()[]")


def _ask(netloc: str, rng: random.Random) -> tuple[str, int]:
    """Send one request; return what it was, and the status of the answer (0: hung up)."""
    connection = http.client.HTTPConnection(netloc, timeout=SECONDS)
    headers = dict(rng.choice(_HEADERS)) if rng.random() < 0.4 else {}
    try:
        if rng.random() < 0.25:
            form = rng.choice(FORMATS)
            data = damaged(encoded(form), rng) if rng.random() < 0.9 else encoded(form)
            method, path, body = "POST", "/atlas/late/images", data
        else:
            method = rng.choice(("GET", "GET", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST"))
            path, body = _address(rng), None
        what = f"{method} {path[:120]} {str(headers)[:80]}"
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
        except (ConnectionError, http.client.HTTPException, TimeoutError, ValueError) as error:
            if isinstance(error, TimeoutError) and headers.get("Content-Length") is None:
                return f"{what}: no answer within {SECONDS:g} s", 599
            return what, 0
        return what, answer.status
    finally:
        connection.close()


def rude_clients(atlas: Path, seed: int, count: int, clients: int = 4) -> Tally:
    """Let clients ask strange things, and look at the server's memory and descriptors after it."""
    tally, lock = Tally(), threading.Lock()
    with serving(atlas) as (netloc, process):
        _all(netloc, seed, min(count, 100), clients, Tally(), lock)  # to be warm
        before = held_by(process)
        _all(netloc, seed + 1, count, clients, tally, lock)
        time.sleep(1)
        after = held_by(process)
        tally.note(f"memory {before[0]} -> {after[0]} MB, descriptors {before[1]} -> {after[1]}")
        if after[0] > before[0] + 200:
            tally.wrong.append(f"memory grew from {before[0]} to {after[0]} MB")
        if after[1] > before[1] + 10:
            tally.wrong.append(f"descriptors grew from {before[1]} to {after[1]}")
    return tally


def _all(netloc: str, seed: int, count: int, clients: int, tally: Tally, lock: Any) -> None:
    def client(number: int) -> None:
        for n in range(number, count, clients):
            what, status = _ask(netloc, random.Random(f"{seed} {n}"))
            with lock:
                tally.tried += 1
                tally.note(f"{status // 100}xx" if status else "hung up")
                if status >= 500 and status != 503:
                    tally.wrong.append(f"seed {seed}, {n}: {status} for {what}")

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


@cache
def an_atlas(folder: Path) -> Path:
    """Scan the network of the package over photographs, for the server to show."""
    from tests.web.atlases import late_one

    return late_one(folder)
