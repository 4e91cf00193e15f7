"""What the tests of atlases share: small networks and data, and all that a file holds."""

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rot180
from rot180.datasets import ArrayDataset, BadImage, Dataset
from rot180.errors import Rot180Error
from rot180.graph.network import Network

TIMES = ("started", "finished", "seconds")
"""What an atlas says of itself that is another thing each time."""

SIZE = 12


class SmallNet(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, 6, 5, padding=2)
        self.two = nn.Conv2d(6, 8, 3)
        self.head = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.max_pool2d(torch.relu(self.one(x)), 2)
        return self.head(torch.flatten(torch.relu(self.two(x)), 1))


@cache
def small_network(channels: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> Network:
    torch.manual_seed(seed)
    model = SmallNet(channels).eval().to(dtype)
    return rot180.capture(model, torch.randn(1, channels, SIZE, SIZE, dtype=dtype))


def normalisation(channels: int = 3) -> dict[str, Any]:
    """The arguments that a captured network needs beside it."""
    return {"mean": (0.5, 0.4, 0.45)[:channels], "std": (0.25, 0.2, 0.3)[:channels]}


def pictures(count: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Images of soft blots, of which no two are equal."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((count, 4, 4, channels))
    soft = np.kron(coarse, np.ones((1, 3, 3, 1)))
    noise = rng.random(soft.shape)
    return (200 * soft + 55 * noise).astype(np.uint8)


def small_data(count: int = 120, channels: int = 3, seed: int = 0) -> ArrayDataset:
    """Images of four classes; each ninth belongs to none."""
    labels = np.arange(count) % 4
    labels[::9] = -1
    names = ("north", "east", "south", "west")
    return ArrayDataset(pictures(count, channels, seed), labels, names, name="blots")


class Odd:
    """A data set that is slow, or some of whose images are broken."""

    def __init__(self, data: Dataset, seconds: float = 0.0, broken: Sequence[int] = ()) -> None:
        self._data, self._seconds, self._broken = data, seconds, frozenset(broken)
        self.name, self.split, self.classes = data.name, data.split, data.classes
        self.fingerprint = data.fingerprint

    def __len__(self) -> int:
        return len(self._data)

    def image(self, index: int) -> np.ndarray:
        time.sleep(self._seconds)
        if index in self._broken:
            raise BadImage("it is torn", self.describe(index))
        return self._data.image(index)

    def label(self, index: int) -> int | None:
        return self._data.label(index)

    def describe(self, index: int) -> str:
        return self._data.describe(index)


def rows_of(path: Path) -> dict[str, list[Any]]:
    """All rows of all tables of an atlas, in their order, except for times."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as file:
        found = file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        rows = {name: file.execute(f"SELECT * FROM {name}").fetchall() for (name,) in found}
    rows["metadata"] = [row for row in rows["metadata"] if row[0] not in TIMES]
    return rows


def same_rows(one: Path, two: Path) -> None:
    """Assert that two atlases hold the same, and name the tables in which they do not."""
    first, second = rows_of(one), rows_of(two)
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []


def change(path: Path, *statements: str | tuple[str, Sequence[Any]]) -> None:
    """Write into an atlas with SQLite itself."""
    with closing(sqlite3.connect(path)) as file, file:
        for one in statements:
            words, values = (one, ()) if isinstance(one, str) else one
            file.execute(words, values)


def read_everything(path: Path) -> None:
    """Open an atlas and read all that it holds, in every way there is."""
    with rot180.open(path) as atlas:
        repr(atlas)
        for layer in atlas.values():
            repr((layer, layer.fields))
            atlas.sample(layer.name)
            for feature in layer:
                repr((feature, feature.statistics, feature.histogram))
                repr((feature.class_responses, feature.correlated_features))
                for example in feature.examples:
                    atlas.picture(example.image)
        for name in TABLES:
            atlas.table(name)
        repr((atlas.model, atlas.data, atlas.scanned, atlas.complete, atlas.finished))
        repr((atlas.seconds, atlas.connections, atlas.skipped))
        if atlas.rows("SELECT 1 FROM state LIMIT 1"):
            atlas.state()


TABLES = (
    "layer",
    "feature",
    "example",
    "histogram",
    "class_response",
    "correlation",
    "class",
    "skipped",
    "image",
)


def refused(path: Path, words: str = "") -> None:
    """Assert that reading it all gets a sentence in the end."""
    with pytest.raises(Rot180Error) as caught:
        read_everything(path)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert words in sentence


def scanned(path: Path, **others: Any) -> Path:
    given = {"batch": 8, "examples": 3, "sample": 20, **normalisation(), **others}
    rot180.scan(small_network(), small_data(60), path, **given).close()
    return path


def become_nobody() -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)
