"""A soak: many clients ask one explorer for some time, and each gets what one client gets alone."""

import http.client
import json
import random
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from tests.hostile.clients import SECONDS, held_by, serving
from tests.hostile.faults import Tally
from tests.hostile.mutations import encoded

CLIENTS = 50
_GROWTH, _DESCRIPTORS = 200, 10
"""Megabytes and descriptors by which the server may grow once it has answered each request."""

_STATUS = "/atlas/late/status.json"
_PICTURES = "/atlas/late/images"
_LAYERS = ("conv1", "conv2")
_PATHS = (
    *("/learn", "/learn/convolution", "/learn/convolution.json?seed=3", "/openapi.json", "/api"),
    *("/atlas/late", "/atlas/late.json", _PICTURES, "/atlas/late/images.json"),
    *("/atlas/late/search?q=co", "/atlas/late/search.json?q=cat", "/static/x/nothing.css"),
    *(f"/atlas/late/layers/{layer}{end}" for layer in _LAYERS for end in ("", ".json")),
    "/atlas/late/layers/conv2?sort=-max&show=mean&zoom=large",
)
_PICTURE = encoded("PNG")

Answer = tuple[int, bytes]


def _paths(netloc: str) -> list[str]:
    """Return addresses of pages, data, pictures, and of what the network is needed for."""
    found = list(_PATHS)
    for layer in _LAYERS:
        for channel in range(0, 24, 4):
            start = f"/atlas/late/features/{layer}/{channel}"
            found += [start, f"{start}.json", f"{start}/patches-4.webp", f"{start}/mean-9.png"]
            found.append(f"{start}/projections-4-guided-switches.webp")
    for row in json.loads(_ask(netloc, "/atlas/late/images.json")[1])["images"][:6]:
        start = f"{_PICTURES}/{row['image']}"
        found += [start, f"{start}.json", f"{start}.png", f"{start}/layers/conv2.json"]
        found.append(f"{start}/features/conv2/9/peak-gradient-switches.webp")
        found.append(f"{start}/pixels/conv1/5/7.json")
    return found


def _ask(netloc: str, path: str, body: bytes | None = None) -> Answer:
    connection = http.client.HTTPConnection(netloc, timeout=SECONDS)
    try:
        return _asked(connection, path, body)
    finally:
        connection.close()


def _asked(connection: http.client.HTTPConnection, path: str, body: bytes | None = None) -> Answer:
    connection.request("GET" if body is None else "POST", path, body)
    answer = connection.getresponse()
    return answer.status, answer.read()


def _bring(ask: Callable[..., Answer]) -> Answer:
    """Send a picture, and return what a layer makes of it."""
    status, said = ask(_PICTURES, _PICTURE)
    if status != 201:
        return status, said
    return ask(f"{_PICTURES}/{json.loads(said)['image']}/layers/conv2.json")


def _await_network(netloc: str) -> None:
    until = time.monotonic() + 60
    while json.loads(_ask(netloc, _STATUS)[1])["state"] != "ready":
        assert time.monotonic() < until, "the explorer has no network"
        time.sleep(0.2)


def digest(answer: Answer) -> tuple[int, str]:
    """Return what two answers are compared by."""
    return answer[0], sha256(answer[1]).hexdigest()


def soak(atlas: Path, seed: int, seconds: float, clients: int = CLIENTS) -> Tally:
    """Let clients ask for some time, and compare each answer with that to one client.

    Memory and descriptors of the server are looked at all the while.
    """
    tally, lock = Tally(), threading.Lock()
    with serving(atlas) as (netloc, process):
        _await_network(netloc)
        paths = _paths(netloc)
        wanted = {path: digest(_ask(netloc, path)) for path in paths}
        wanted[""] = digest(_bring(lambda *given: _ask(netloc, *given)))
        before = held_by(process)
        most, end = before, time.monotonic() + seconds

        def client(number: int) -> None:
            rng = random.Random(f"{seed} {number}")
            connection = http.client.HTTPConnection(netloc, timeout=SECONDS)
            while time.monotonic() < end:
                path = "" if rng.random() < 0.03 else rng.choice(paths)
                try:
                    answer = (
                        _asked(connection, path)
                        if path
                        else _bring(lambda *given: _asked(connection, *given))
                    )
                    kind = kind_of(answer, wanted[path])
                except (OSError, http.client.HTTPException) as error:
                    kind = f"{type(error).__name__}: {error}"
                    connection.close()
                with lock:
                    tally.tried += 1
                    if kind in ("right", "busy"):
                        tally.note(kind)
                    else:
                        tally.wrong.append(
                            f"seed {seed}, client {number}, {path or 'POST'}: {kind}"
                        )
            connection.close()

        threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
        for one in threads:
            one.start()
        while any(one.is_alive() for one in threads):
            time.sleep(0.5)
            most = max(most, held_by(process))
        time.sleep(1)
        after = held_by(process)
    tally.note(f"memory {before[0]} -> {most[0]} MB at most, descriptors {before[1]} -> {after[1]}")
    if most[0] > before[0] + _GROWTH:
        tally.wrong.append(f"memory grew from {before[0]} to {most[0]} MB")
    if after[1] > before[1] + _DESCRIPTORS:
        tally.wrong.append(f"descriptors grew from {before[1]} to {after[1]}")
    if 2 * tally.notes.get("right", 0) < tally.tried:
        tally.wrong.append("more than half of the requests were put off")
    return tally


def kind_of(answer: Answer, wanted: tuple[int, str]) -> str:
    """Say whether an answer is right, puts off, or is something else."""
    if digest(answer) == wanted:
        return "right"
    if answer[0] == 503:
        return "busy"
    return f"{answer[0]} with {len(answer[1])} bytes, not what one client gets ({wanted[0]})"
