"""How long the server takes for each kind of page, and for its JSON, on a large atlas.

The atlas has 22,008 features in the 50 layers of EfficientNet-Lite0 and 500 images; its numbers are
random (tests/web/large.py), or it is one that is named. Everything is asked for over HTTP, on one
connection, from a server in this process. First: nothing was asked before. Median: afterwards.

    python benchmarks/pages.py [ATLAS] [--times 9]
"""

import argparse
import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import torch
from measuring import machine, met

import rot180

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

LIMIT_MS = 300


def paths(atlas: rot180.Atlas, name: str) -> Iterator[str]:
    """Give the address of each kind of page: of the middle and of the widest layer."""
    layers = list(atlas.layers.values())
    some = (layers[len(layers) // 2], max(layers, key=len))
    ((image,),) = atlas.rows("SELECT MIN(number) FROM image")
    start = f"/atlas/{quote(name)}"
    pages = [start, f"{start}/images", f"{start}/images/{image}"]
    for layer in some:
        pages += [f"{start}/layers/{quote(layer.name)}", f"{start}/features/{quote(layer.name)}/3"]
    yield from ("/", "/index.json")
    for page in pages:
        yield from (page, f"{page}.json")
    for query in (f"q={quote(layers[0].name[:4])}", "q=a"):
        yield from (f"{start}/search?{query}", f"{start}/search.json?{query}")
    for query in ("", f"?layer={quote(some[1].name)}"):
        yield from (f"/compare{query}", f"/compare.json{query}")
    yield from ("/series", "/series.json", "/learn", "/learn/convolution", "/api")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("atlas", nargs="?", type=Path)
    parser.add_argument("--times", type=int, default=9)
    given = parser.parse_args()
    print(machine(torch.get_num_threads()))
    with tempfile.TemporaryDirectory() as folder:
        path = given.atlas
        if path is None:
            from tests.web.large import large_atlas

            path = large_atlas(Path(folder) / "large.atlas")
        measure(path, given.times)


def measure(path: Path, times: int) -> None:
    from rot180.web.app import application
    from rot180.web.collection import AtlasCollection
    from rot180.web.server import serve_in_thread

    shelf = AtlasCollection([rot180.open(path), rot180.open(path)])
    name = next(iter(shelf))
    print(f"{shelf[name].atlas}\n{'ms':52}{'first':>8}{'median':>8}{'kB':>7}   limit  met")
    worst = 0.0
    with serve_in_thread(application(shelf)) as address:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
        for one in paths(shelf[name].atlas, name):
            found = []
            for _ in range(times + 1):
                began = time.perf_counter()
                connection.request("GET", one)
                answer = connection.getresponse()
                body = answer.read()
                found.append(1000 * (time.perf_counter() - began))
                assert answer.status in (200, 303), (answer.status, one)
            middle = statistics.median(found[1:])
            worst = max(worst, middle)
            print(f"{one:52}{found[0]:8.0f}{middle:8.0f}{len(body) / 1000:7.0f}{LIMIT_MS:8}  "
                  f"{met(middle <= LIMIT_MS)}")  # fmt: skip
    print(f"slowest median: {worst:.0f} ms")


if __name__ == "__main__":
    main()
