"""Whatever a layer is called, the links of its pages lead to it."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import pytest
from fastapi.testclient import TestClient

import rot180
from rot180.web.app import application
from rot180.web.collection import AtlasCollection
from rot180.web.names import layer_of, word_of
from tests.atlas.scans import scanned

NAMES = (
    "a\nb",
    "a\r\n",
    "\n",
    "tail\n",
    "one/two",
    "one/2",
    "one/2/3.webp",
    "/one//",
    "..",
    "../..",
    ".",
    "",
    " ",
    "a  b ",
    "50%",
    "%2e%2e",
    "what?x=1#y",
    "a&b=c;d+e",
    "{channel}",
    "{layer}",
    "one.json",
    "one.json\n",
    "~6f6e65",
    "~zz",
    "back\\slash",
    "\x00nul\x1b[2J",
    "\u202eturned",
    "größe ☃ 𝕏",
    "<b>\"'</b>",
    "7",
    "x" * 300,
)


@pytest.mark.parametrize("name", NAMES)
def test_the_word_of_a_layer_leads_to_it(name: str) -> None:
    layers = [*NAMES, "one"]
    assert layer_of(word_of(name), layers) == name
    assert layer_of(name, layers) == name


def test_usual_names_are_their_own_words() -> None:
    for name in ("conv1", "layer4.1.conv2", "features.28", "0", "block/conv a", "größe"):
        assert word_of(name) == name


def _called(path: Path, name: str) -> Path:
    """Give layer 'two' of an atlas another name."""
    with closing(sqlite3.connect(path)) as file, file:
        ((told,),) = file.execute("SELECT value FROM metadata WHERE key = 'index'").fetchall()
        index = json.loads(told)
        index["layers"][1][0] = name
        file.execute("UPDATE metadata SET value = ? WHERE key = 'index'", (json.dumps(index),))
        file.execute("UPDATE layer SET name = ? WHERE name = 'two'", (name,))
        for table in ("receptive_field", "feature", "sample"):
            file.execute(f"UPDATE {table} SET layer = ? WHERE layer = 'two'", (name,))
    return path


WORST = ("a\r\n", "tail\n", "one/2", "/one//", "..", "", "a  b ", "%2e%2e", "{channel}", "one.json")
_LINK = re.compile(r'(?:href|src)="([^"]+)"')


@pytest.mark.slow
def test_every_link_of_every_page_of_such_layers_is_answered(tmp_path: Path) -> None:
    whole = scanned(tmp_path / "whole.atlas")
    for number, name in enumerate(WORST):
        path = _called(Path(shutil.copy(whole, tmp_path / f"{number}.atlas")), name)
        other = Path(shutil.copy(path, tmp_path / f"other-{number}.atlas"))
        with rot180.open(path) as first, rot180.open(other) as second:
            collection = AtlasCollection([first, second])
            with TestClient(application(collection), base_url="http://127.0.0.1") as client:
                _follow(client, f"/atlas/{number}", name)


def _follow(client: TestClient, start: str, name: str) -> None:
    seen, left = {start}, [start]
    while left:
        page = left.pop()
        answer = client.get(page, headers={"accept": "text/html"})
        assert answer.status_code == 200, (name, page, answer.text[-300:])
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        links = [unescape(one).split("#")[0] for one in _LINK.findall(answer.text)]
        for one in links:
            address = urljoin(page, one)
            kept = re.sub(r"/(0|1)(?=/|\.|$)", "/0", address)
            asked = address.startswith((start, "/compare", "/series")) and "/static" not in address
            if asked and "{" not in address and kept not in seen and _worth(address, start):
                seen.add(kept)
                left.append(address)
    assert len(seen) > 20


def _worth(address: str, start: str) -> bool:
    """Leave out all but the first features and images, which are many and alike."""
    number = re.search(r"/(?:features/.*|images)/([0-9]+)(?:[/.?]|$)", address.removeprefix(start))
    return number is None or int(number[1]) < 2
