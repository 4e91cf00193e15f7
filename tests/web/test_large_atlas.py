"""An atlas of a network of today's size is shown as fast as a small one."""

import re
import time
from collections.abc import Iterator
from statistics import median

import pytest
from fastapi.testclient import TestClient

import rot180
from rot180.web.app import application
from rot180.web.shelf import Shelf
from tests.web.large import large_atlas

pytestmark = pytest.mark.slow

PATHS = (
    "",
    "/layers/_conv_head",
    "/layers/_blocks.4._project_conv",
    "/features/_conv_head/7",
    "/images",
    "/images/7",
)
"""A page of each kind, below the address of an atlas; each has its JSON."""
SEARCHES = ("/search?q=kind", "/search.json?q=kind")
OTHERS = ("/", "/index.json", "/compare", "/compare.json", "/compare?layer=_conv_head", "/series")
FIRST, AGAIN = 4.0, 1.0
"""Seconds of this process for a page: the first time, and the median afterwards. The aim is 0.3;
a join without an index took 8."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    path = large_atlas(tmp_path_factory.mktemp("large") / "large.atlas")
    shelf = Shelf([rot180.open(path), rot180.open(path)])
    with TestClient(application(shelf), base_url="http://127.0.0.1") as found:
        yield found


@pytest.mark.parametrize(
    "path",
    [
        *OTHERS,
        *(f"/atlas/large{path}" for path in SEARCHES),
        *(f"/atlas/large{path}{form}" for path in PATHS for form in ("", ".json")),
    ],
)
def test_every_page_is_there_soon(client: TestClient, path: str) -> None:
    seconds = []
    for _ in range(4):
        began = time.process_time()
        answer = client.get(path)
        seconds.append(time.process_time() - began)
        assert answer.status_code == 200
    assert seconds[0] < FIRST
    assert median(seconds[1:]) < AGAIN


def test_the_images_are_in_the_order_of_what_they_are_first_for(client: TestClient) -> None:
    found = client.get("/atlas/large/images.json").json()
    wins = [one["wins"] for one in found["images"]]
    assert wins == sorted(wins, reverse=True)
    rest = [
        one["wins"]
        for first in range(120, found["total"], 120)
        for one in client.get(f"/atlas/large/images.json?first={first}").json()["images"]
    ]
    assert len(wins) + len(rest) == found["total"] == 500
    assert sum(wins) + sum(rest) == 22_008


def test_the_layers_are_there_in_blocks(client: TestClient) -> None:
    text = client.get("/atlas/large").text
    assert len(re.findall("data-row=", text)) == 19  # the stem, 16 blocks, the head, the scores
    assert len(re.findall('class="layer-row"', text)) == 50
