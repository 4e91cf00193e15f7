"""How fast the explorer answers: clicks on units, feature pages, many clients at once, scrolling.

Everything is asked for over HTTP from a server on this machine, in a process of its own. The parts:

clicks  with an image open, one unit carried back and drawn over it, as a click on a unit asks for:
        ResNet-50 and VGG-16 (untrained, from seed 0; a photograph of scikit-image), for several
        layers the median over units at random positions and features, no two of them alike.
pages   the page of a feature with all its pictures, over six connections as browsers have: cold
        (nothing of it was made before), warm (all of it was), and again (the browser has it all
        and asks whether it changed). EfficientNet-Lite0.
load    50 clients that ask for pages and pictures at random for a while; every answer is compared
        with what one client alone got. With the server's memory.
scroll  a layer of 512 features in headless Chromium, scrolled from top to bottom: the time between
        frames. VGG-16. Needs Playwright and Chromium.

    python benchmarks/explorer.py [--parts clicks,pages,load,scroll] [--clicks 15] [--seconds 20]
"""

import argparse
import http.client
import json
import multiprocessing
import random
import re
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from classifiers import astronaut, photograph_paths, resnet50, vgg16
from measuring import figure, machine, met, spread
from PIL import Image

import rot180

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PARTS = ("clicks", "pages", "load", "scroll")
CLICK_MS, CONV5_MS, COLD_MS, WARM_MS, CLIENTS = 150, 220, 1000, 100, 50
CONV5 = ("features.24", "features.26", "features.28")
LAYERS = {
    "vgg16": ("features.2", "features.7", "features.14", "features.21", *CONV5),
    "resnet50": ("conv1", "layer1.2.conv3", "layer2.3.conv3", "layer3.5.conv3", "layer4.2.conv3"),
}


def lite0() -> torch.nn.Module:
    from tests.zoo import efficientnet_lite0

    return efficientnet_lite0()


MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "vgg16": vgg16,
    "resnet50": lambda: resnet50(astronaut(224)),
    "lite0": lite0,
}
USUAL = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def named(name: str) -> Any:
    """Return a model as the library loads it."""
    from rot180.models.model import Model

    return Model(MODELS[name]().eval(), (), *USUAL.values(), (224, 224), name=name)


def squares(count: int, size: int) -> np.ndarray:
    """Cut squares from scikit-image's photographs in turn, as bytes (n, size, size, 3)."""
    rng, photos, found = np.random.default_rng(0), photograph_paths(), []
    for number in range(count):
        photo = Image.open(photos[number % len(photos)]).convert("RGB")
        side = int(rng.integers(min(photo.size) // 2, min(photo.size) + 1))
        left, top = (int(rng.integers(0, whole - side + 1)) for whole in photo.size)
        square = photo.crop((left, top, left + side, top + side)).resize((size, size))
        found.append(np.asarray(square))
    return np.stack(found)


def scanned(name: str, folder: Path) -> Path:
    """Scan photographs with a model."""
    path = folder / f"{name}.atlas"
    if not path.exists():
        images = squares(32, 224)
        rot180.scan(named(name), images, path, batch=8).close()
    return path


def serve(name: str, path: Path, pipe: Any) -> None:
    """Serve an atlas, in a process of its own, until the other end of the pipe speaks."""
    from rot180.web.app import application
    from rot180.web.collection import AtlasCollection
    from rot180.web.server import serve_in_thread

    shelf = AtlasCollection([rot180.open(path)], [lambda _: named(name)])
    shelf[name].model.load()
    if shelf[name].model.reason:
        raise SystemExit(shelf[name].model.reason)
    with serve_in_thread(application(shelf)) as address:
        pipe.send(address)
        pipe.recv()
        pipe.send(largest_memory())


def largest_memory() -> float:
    """Return the most that this process has held, in MB.

    Linux counts the process that started this one into ``ru_maxrss``, and not into ``VmHWM``.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def serving(name: str, folder: Path, told: dict[str, float]) -> Iterator[str]:
    """Give the address of a server in another process; ``told`` learns its largest memory, MB."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(name, scanned(name, folder), there))
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("end")
        told["memory"] = here.recv()
        process.join(20)


class Client:
    """One connection that is kept, as a browser keeps it."""

    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
        self.tags: dict[str, str] = {}

    def get(self, path: str, remember: bool = False) -> tuple[int, bytes, float]:
        """Return status, body and seconds."""
        started = time.perf_counter()
        tag = self.tags.get(path) if remember else None
        self.connection.request("GET", path, headers={"If-None-Match": tag} if tag else {})
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.headers.get("ETag"):
            self.tags[path] = answer.headers["ETag"]
        return answer.status, body, time.perf_counter() - started


def clicks(folder: Path, count: int) -> None:
    print(f"\nclicks: ms from asking to the whole answer, the image open; {count} units a layer")
    print(f"{'':24}{'median (least to most)':>28}   limit  met")
    for name, layers in LAYERS.items():
        with serving(name, folder, {}) as address:
            client, random_ = Client(address), random.Random(0)
            images = json.loads(client.get(f"/atlas/{name}/images.json")[1])["images"]
            start = f"/atlas/{name}/images/{images[0]['image']}"
            for layer in layers:
                peaks = json.loads(client.get(f"{start}/layers/{layer}.json")[1])["peaks"]
                about = json.loads(client.get(f"/atlas/{name}/layers/{layer}.json")[1])["layer"]
                chosen = random_.sample([one["channel"] for one in peaks], count + 2)
                found = []
                for channel in chosen:
                    y, x = random_.randrange(about["height"]), random_.randrange(about["width"])
                    look = f"over-{y}-{x}-deconvnet-switches.webp"
                    status, _, seconds = client.get(f"{start}/features/{layer}/{channel}/{look}")
                    assert status == 200
                    found.append(1000 * seconds)
                limit = CONV5_MS if layer in CONV5 else CLICK_MS
                middle = statistics.median(found[2:])
                print(
                    f"{name:10}{layer:14}{spread(found[2:]):>28}{limit:8}  {met(middle <= limit)}"
                )


def whole_page(clients: list[Client], path: str, remember: bool) -> float:
    """Return the seconds until a page and all that it shows have come over several connections."""
    started = time.perf_counter()
    _, body, _ = clients[0].get(path, remember)
    text = body.decode()
    files = set(re.findall(r'(?:src|href)="(/static/[^"]+|/atlas/[^"]+\.webp)"', text))
    waiting = sorted(map(unescape, files))
    lock = threading.Lock()

    def work(client: Client) -> None:
        while True:
            with lock:
                if not waiting:
                    return
                one = waiting.pop()
            status, _, _ = client.get(one, remember)
            assert status in (200, 304), (status, one)

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(work, clients))
    return time.perf_counter() - started


def pages(folder: Path, count: int) -> None:
    print(f"\npages: ms for the page of a feature with all its pictures; {count} features")
    with serving("lite0", folder, {}) as address:
        first = Client(address)
        layers = json.loads(first.get("/atlas/lite0.json")[1])["layers"]
        random_ = random.Random(0)
        found: dict[str, list[float]] = {"cold": [], "warm": [], "again": []}
        for number in range(count + 1):
            layer = random_.choice(layers)
            path = f"/atlas/lite0/features/{layer['name']}/{random_.randrange(layer['channels'])}"
            clients = [Client(address) for _ in range(6)]
            for kind in found:
                if kind == "warm":
                    clients = [Client(address) for _ in range(6)]
                seconds = whole_page(clients, path, kind == "again")
                if number:  # the first one warms the network
                    found[kind].append(1000 * seconds)
        for kind, limit in (("cold", COLD_MS), ("warm", WARM_MS), ("again", WARM_MS)):
            middle = statistics.median(found[kind])
            print(f"  {kind:6}{spread(found[kind]):>28}{limit:8}  {met(middle <= limit)}")


def load(folder: Path, seconds: float) -> None:
    print(f"\nload: {CLIENTS} clients for {seconds:.0f} s, EfficientNet-Lite0")
    told: dict[str, float] = {}
    with serving("lite0", folder, told) as address:
        random_ = random.Random(1)
        alone = Client(address)
        layers = json.loads(alone.get("/atlas/lite0.json")[1])["layers"]
        paths = ["/atlas/lite0", "/atlas/lite0.json", "/learn/convolution"]
        for _ in range(60):
            layer = random_.choice(layers)
            start = f"/atlas/lite0/features/{layer['name']}/{random_.randrange(layer['channels'])}"
            paths += [start, f"{start}.json", f"{start}/patches-4.webp",
                      f"{start}/projection-0-deconvnet-switches.webp"]  # fmt: skip
        wanted = {path: alone.get(path)[1] for path in paths}
        statuses: Counter[int] = Counter()
        wrong: list[str] = []
        times: list[float] = []
        end = time.perf_counter() + seconds

        def client(number: int) -> None:
            mine, chosen = Client(address), random.Random(number)
            while time.perf_counter() < end:
                path = chosen.choice(paths)
                status, body, taken = mine.get(path)
                statuses[status] += 1
                times.append(1000 * taken)
                if status == 200 and body != wanted[path]:
                    wrong.append(path)

        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(client, range(CLIENTS)))
        still = alone.get("/atlas/lite0")[0]
    times.sort()
    print(f"  answers: {dict(statuses)}, {len(times) / seconds:.0f} a second, wrong: {len(wrong)}")
    print(f"  ms: median {figure(times[len(times) // 2])}, 99 of 100 within "
          f"{figure(times[int(0.99 * len(times))])}")  # fmt: skip
    print(f"  afterwards: {still}; largest memory of the server {told['memory']:.0f} MB")


SCROLL = """async () => {
  const deltas = [];
  const height = document.documentElement.scrollHeight;
  let last = performance.now();
  for (let y = 0; y < height; y += 60) {
    window.scrollTo(0, y);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    deltas.push(now - last);
    last = now;
  }
  return deltas;
}"""


def scroll(folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    print("\nscroll: ms between frames, VGG-16's features.28, 512 features; second time: warm")
    with serving("vgg16", folder, {}) as address, sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        for time_ in ("cold", "warm"):
            page.goto(f"{address}/atlas/vgg16/layers/features.28")
            page.wait_for_load_state("networkidle")
            deltas = sorted(page.evaluate(SCROLL))
            slow = sum(one > 50 for one in deltas)
            print(f"  {time_}: median {figure(statistics.median(deltas))}, 99 of 100 within "
                  f"{figure(deltas[int(0.99 * len(deltas))])}, most {figure(deltas[-1])}; "
                  f"{slow} of {len(deltas)} frames above 50")  # fmt: skip
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--clicks", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    print(f"{machine(torch.get_num_threads())}")
    with tempfile.TemporaryDirectory() as folder:
        for part in given.parts.split(","):
            if part == "clicks":
                clicks(Path(folder), given.clicks)
            elif part == "pages":
                pages(Path(folder), given.clicks)
            elif part == "load":
                load(Path(folder), given.seconds)
            elif part == "scroll":
                scroll(Path(folder))
            else:
                raise SystemExit(f"There is no part '{part}'. There are: {', '.join(PARTS)}.")


if __name__ == "__main__":
    main()
