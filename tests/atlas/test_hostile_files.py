"""Atlases that were made to do something: refused with a sentence, within bounds."""

import random
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import rot180
from rot180.atlas import file as atlas_file
from rot180.atlas import merge
from rot180.errors import Rot180Error
from rot180.web.app import application
from rot180.web.collection import AtlasCollection
from tests.atlas.scans import change, read_everything, scanned

SCHEMAS = [
    "CREATE VIEW other AS SELECT 1",
    "CREATE TRIGGER t AFTER INSERT ON class BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE words USING fts5(word)",
    "CREATE TABLE more (a, b AS (a * 2))",
    "ALTER TABLE class ADD COLUMN more AS (number * 2)",
    "CREATE INDEX i ON class (abs(number))",
    "DROP VIEW histograms",
]


@pytest.mark.parametrize("statement", SCHEMAS)
def test_a_schema_with_anything_else_in_it_is_refused(copy: Path, statement: str) -> None:
    change(copy, statement)
    with pytest.raises(Rot180Error, match="has other tables than an atlas"):
        rot180.open(copy)


def test_a_view_in_the_place_of_a_table_is_refused(copy: Path) -> None:
    change(
        copy,
        "DROP TABLE skipped",
        "CREATE VIEW skipped AS SELECT 1 AS image, 'a' AS name, randomblob(1000000) AS reason",
    )
    with pytest.raises(Rot180Error, match="has other tables than an atlas"):
        rot180.open(copy)


def test_limits_of_a_connection_are_low(copy: Path) -> None:
    with closing(atlas_file.open_readonly(copy)) as connection:
        with pytest.raises(sqlite3.DataError, match="too big"):
            connection.execute("SELECT zeroblob(200000000)").fetchone()
        with pytest.raises(sqlite3.Error):
            connection.execute("ATTACH ':memory:' AS other")
        with pytest.raises(sqlite3.Error, match="too many arguments"):
            connection.execute("SELECT max(1, 2, 3, 4, 5, 6, 7, 8, 9)")
        assert connection.execute("PRAGMA trusted_schema").fetchone() == (0,)
        assert connection.execute("PRAGMA cell_size_check").fetchone() == (1,)


def _damaged(path: Path) -> None:
    """Write over a page in the middle of the largest table that is not read at opening."""
    with closing(sqlite3.connect(path)) as file:
        ((page, root),) = file.execute(
            "SELECT (SELECT page_size FROM pragma_page_size), rootpage FROM sqlite_schema "
            "WHERE name = 'example'"
        ).fetchall()
    with path.open("r+b") as file:
        file.seek(page * (root - 1) + 8)
        file.write(b"\xff" * 200)


def test_damage_is_found_when_a_small_file_is_opened(copy: Path) -> None:
    _damaged(copy)
    with pytest.raises(Rot180Error, match="damaged"):
        rot180.open(copy)


def test_damage_of_a_large_file_is_found_before_it_is_merged(
    part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atlas_file, "_CHECKED_WHOLE", 0)
    bad, good = Path(shutil.copy(part, tmp_path / "bad.atlas")), tmp_path / "good.atlas"
    scanned(good, shard=(1, 3))
    _damaged(bad)
    rot180.open(bad).close()
    with pytest.raises(Rot180Error, match="damaged"):
        merge.merge([bad, good], tmp_path / "whole.atlas")
    assert not (tmp_path / "whole.atlas").exists()


PAGES = (
    "",
    ".json",
    "/images",
    "/search?q=north",
    "/layers/two",
    "/layers/two.json?sort=class",
    "/features/two/1",
    "/features/two/1.json",
    "/features/two/1/patches-4.webp",
    "/images/0",
    "/images/0.json",
)
VALUES = [
    "UPDATE histogram SET high = -1 WHERE feature = 7",
    "UPDATE feature SET class_selectivity = '' WHERE best_class = 0",
    "UPDATE feature SET channel = x'ff' WHERE id = 7",
    "UPDATE feature SET dead = 1e308",
    "UPDATE feature SET max = 1.7976931348623157e308",
    "UPDATE feature SET red = 1.7976931348623157e308, green = -1.7976931348623157e308",
    "UPDATE class_response SET mean_peak = 1.7976931348623157e308",
    "UPDATE example SET activation = 'strong'",
    "UPDATE example SET x = 0",
    "UPDATE example SET rank = rank - 5",
    "UPDATE metadata SET value = '\"\\ud800\"' WHERE key = 'model'",
    "UPDATE metadata SET value = '{\"name\": \"\\ud800\"}' WHERE key = 'data'",
]
SECONDS = 8.0
LONGEST = 10.0  # of processor time; a page that loops takes a minute. Other threads count, too


def _flipped(whole: Path, path: Path, chance: random.Random) -> None:
    data = bytearray(whole.read_bytes())
    for _ in range(chance.choice((1, 1, 4, 40))):
        data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
    path.write_bytes(data)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("CRITICAL"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("checked", [atlas_file._CHECKED_WHOLE, 0])
def test_flipped_bytes_get_a_sentence_or_do_nothing(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: None, checked: int
) -> None:
    monkeypatch.setattr(atlas_file, "_CHECKED_WHOLE", checked)
    chance, end = random.Random(checked), time.monotonic() + SECONDS
    path = tmp_path / "flipped.atlas"
    while time.monotonic() < end:
        _flipped(whole, path, chance)
        began = time.process_time()
        assert "\n" not in _sentence(path)
        _ask(path)
        assert time.process_time() - began < LONGEST


@pytest.mark.slow
@pytest.mark.parametrize("statement", VALUES)
def test_absurd_values_get_a_sentence_on_every_page(
    copy: Path, tmp_path: Path, quiet: None, statement: str
) -> None:
    path = copy.rename(tmp_path / "flipped.atlas")
    change(path, statement)
    _ask(path)


def _sentence(path: Path) -> str:
    """Read everything; return what is said of it, if anything."""
    try:
        read_everything(path)
    except Rot180Error as error:
        return str(error)
    return ""


def _ask(path: Path) -> None:
    """Look at pages of an atlas that may be damaged."""
    try:
        atlas = rot180.open(path)
    except Rot180Error:
        return
    with atlas:
        try:
            collection = AtlasCollection([atlas])
        except Rot180Error:
            return
        collection["flipped"].model.load()
        with TestClient(application(collection), base_url="http://127.0.0.1") as client:
            for page in PAGES:
                answer = client.get(f"/atlas/flipped{page}")
                assert answer.status_code < 500, (page, answer.text)
