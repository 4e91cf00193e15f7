"""Many clients at once: answers stay right, what waits is bounded, who leaves is forgotten."""

import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rot180.web.app import application
from rot180.web.collection import AtlasCollection, Caches
from rot180.web.server import serve_in_thread
from tests.web.atlases import ask, loader, opened

pytestmark = pytest.mark.slow

CLIENTS, SECONDS = 50, 3.0


@pytest.fixture(scope="module")
def small(late_path: Path) -> Iterator[tuple[str, AtlasCollection]]:
    """A server that may keep little, so that it has to forget and to make again."""
    caches = Caches(64)
    for one in (caches.files, caches.signals, caches.pixels):
        one.limit = 200_000
    collection = AtlasCollection(opened([late_path]), [loader], caches=caches)
    collection["late"].model.load()
    with serve_in_thread(application(collection)) as address:
        yield address, collection


def test_fifty_clients_get_what_one_gets(small: tuple[str, AtlasCollection]) -> None:
    address, collection = small
    number = collection["late"].atlas["conv2"][40].examples[0].image
    paths = ["/atlas/late", "/atlas/late.json", "/atlas/late/layers/conv2", "/learn"]
    for channel in range(0, 60, 3):
        start = f"/atlas/late/features/conv2/{channel}"
        paths += [f"{start}.json", start, f"{start}/patches-4.webp",
                  f"{start}/projection-3-guided-switches.webp",
                  f"/atlas/late/images/{number}/features/conv2/{channel}/whole-deconvnet-repeat.png",
                  f"/atlas/late/images/{number}/pixels/conv2/{channel % 32}/7.json"]  # fmt: skip
    wanted = {path: ask(address, path).body for path in paths}
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    end = time.monotonic() + SECONDS

    def client(seed: int) -> None:
        mine = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
        chosen = random.Random(seed)
        while time.monotonic() < end:
            path = chosen.choice(paths)
            mine.request("GET", path)
            answer = mine.getresponse()
            body = answer.read()
            statuses[answer.status] += 1
            if answer.status == 200 and body != wanted[path]:
                wrong.append(path)
        mine.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    assert wrong == []
    assert set(statuses) <= {200, 503}
    assert statuses[200] > CLIENTS
    for store in (collection.caches.files, collection.caches.signals, collection.caches.pixels):
        assert store.held <= store.limit
    assert ask(address, "/atlas/late").body == wanted["/atlas/late"]


def test_those_who_leave_are_not_waited_for(small: tuple[str, AtlasCollection]) -> None:
    address, collection = small
    place = urlsplit(address)
    begun, go_on = threading.Event(), threading.Event()
    live = collection["late"].model
    examples, made = live.examples, []

    def slow(feature: object, *rest: object) -> object:
        made.append(feature)
        begun.set()
        assert go_on.wait(20)
        return examples(feature, *rest)  # type: ignore[arg-type]

    live.examples = slow  # type: ignore[method-assign, assignment]
    leaving = []
    try:
        for channel in range(12):
            one = socket.create_connection((place.hostname, place.port), 10)
            path = f"/atlas/late/features/conv1/{channel}/projection-0-gradient-repeat.webp"
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            leaving.append(one)
        assert begun.wait(10)
        time.sleep(0.3)  # so that all are waiting
        for one in leaving:
            one.close()
        time.sleep(0.3)
    finally:
        go_on.set()
        live.examples = examples  # type: ignore[method-assign]
    assert (
        ask(address, "/atlas/late/features/conv1/31/projection-0-guided-repeat.webp").status == 200
    )
    assert len(made) == 1  # the one that had begun
