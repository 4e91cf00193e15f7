"""Opening an atlas that may come from anywhere: it works, or one sentence says what is wrong."""

import os
import random
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow
import pytest

import rot180
from rot180.atlas.schema import VERSION
from rot180.errors import Rot180Error
from tests.atlas.scans import (
    TABLES,
    become_nobody,
    change,
    normalisation,
    read_everything,
    refused,
    scanned,
    small_data,
    small_network,
)

Copy = Callable[[], Path]


def test_opening_does_not_change_the_file(whole: Path, part: Path) -> None:
    for path in (whole, part):
        before = path.read_bytes(), path.stat().st_mtime_ns
        read_everything(path)
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before
        assert [one.name for one in path.parent.iterdir()] == ["a.atlas"]


def test_what_it_is_to_python(whole: Path) -> None:
    with rot180.open(str(whole)) as atlas:
        assert list(atlas) == ["one", "two", "head"]
        assert len(atlas) == 3
        assert "two" in atlas
        assert "three" not in atlas
        layer = atlas["two"]
        assert (layer.name, len(layer), layer.height, layer.width) == ("two", 8, 4, 4)
        assert layer[-1].channel == 7
        assert [one.channel for one in layer[2:4]] == [2, 3]
        assert sum(1 for _ in atlas.features()) == 6 + 8 + 5
        with pytest.raises(IndexError, match="8 features, 0 to 7; not 8"):
            layer[8]
        with pytest.raises(Rot180Error, match="whole number"):
            layer["one"]
        with pytest.raises(Rot180Error, match=r"no layer 'tow' .* has: two"):
            atlas["tow"]
        with pytest.raises(Rot180Error, match="no layer"):
            atlas.sample("tow")
        with pytest.raises(AttributeError, match="no 'strength'"):
            repr(layer[0].strength)
        with pytest.raises(Rot180Error, match="holds no state to continue from"):
            atlas.state()
    with pytest.raises(Rot180Error, match="was closed; open it again"):
        repr(layer[0].examples)


def test_plain_sqlite_reads_it(whole: Path) -> None:
    with closing(sqlite3.connect(whole)) as file:
        found = file.execute("SELECT layer, channel, max FROM feature ORDER BY max DESC").fetchall()
        assert len(found) == 19
        views = ("examples", "class_responses", "correlations", "histograms")
        counts = [
            file.execute(f"SELECT COUNT(*) FROM {one}").fetchone()
            == file.execute(f"SELECT COUNT(*) FROM {one[:-1]}").fetchone()
            for one in views
        ]
        assert all(counts)
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert file.execute("PRAGMA foreign_key_check").fetchall() == []
    with rot180.open(whole) as atlas:
        first = max(atlas.features(), key=lambda one: one.max)
    assert found[0] == (first.layer, first.channel, first.max)


@pytest.mark.parametrize("name", TABLES)
def test_tables_as_arrow(whole: Path, part: Path, name: str) -> None:
    for path in (whole, part):
        with rot180.open(path) as atlas:
            table = atlas.table(name)
            count = atlas.rows(f"SELECT COUNT(*) FROM {name}")
        assert isinstance(table, pyarrow.Table)
        assert [(table.num_rows,)] == count
        assert "picture" not in table.column_names
        kinds = {str(one.type) for one in table.schema}
        assert kinds <= {"int64", "double", "string"}


def test_tables_say_what_the_objects_say(whole: Path) -> None:
    with rot180.open(whole) as atlas:
        features = atlas.table("feature").to_pylist()
        for row, feature in zip(features, atlas.features(), strict=True):
            assert (row["layer"], row["channel"]) == (feature.layer, feature.channel)
            assert row["max"] == feature.max
        examples = atlas.table("example").to_pylist()
        mine = [one for one in examples if (one["layer"], one["channel"]) == ("two", 3)]
        mine.sort(key=lambda one: one["rank"])
        assert [one["image"] for one in mine] == [one.image for one in atlas["two"][3].examples]


def test_tables_there_are_not(whole: Path) -> None:
    with rot180.open(whole) as atlas:
        with pytest.raises(Rot180Error, match=r"no table 'exampel'\. There are: example"):
            atlas.table("exampel")
        with pytest.raises(Rot180Error, match="'arrow' or 'pandas', not 'polars'"):
            atlas.table("example", "polars")


def test_tables_as_pandas(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with rot180.open(whole) as atlas:
        try:
            import pandas  # noqa: F401
        except ImportError:
            with pytest.raises(Rot180Error, match="pandas is not installed: 'pip install pandas'"):
                atlas.table("feature", "pandas")
            return
        for name in TABLES:
            assert len(atlas.table(name, "pandas")) == atlas.table(name).num_rows
        monkeypatch.setitem(sys.modules, "pandas", None)


@pytest.mark.parametrize("share", ["0", "1", "15", "100", "one page", "half", "all but a page"])
def test_a_file_that_was_cut(copy: Path, share: str) -> None:
    data = copy.read_bytes()
    kept = {"one page": 4096, "half": len(data) // 2, "all but a page": len(data) - 4096}
    copy.write_bytes(data[: kept[share] if share in kept else int(share)])
    refused(copy)


def test_a_file_cut_anywhere(whole: Path, tmp_path: Path) -> None:
    data, rng, path = whole.read_bytes(), random.Random(3), tmp_path / "cut"
    for _ in range(30):
        path.write_bytes(data[: rng.randrange(len(data))])
        refused(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whole", "part"])
def test_flipped_bytes_give_numbers_or_sentences(
    whole: Path, part: Path, kind: str, tmp_path: Path
) -> None:
    data = (whole if kind == "whole" else part).read_bytes()
    rng, path, refusals = random.Random(len(kind)), tmp_path / "flipped", 0
    for number in range(100):
        changed = bytearray(data)
        # A third of them among the first page's, where most depends on each.
        places = 4096 if number % 3 == 0 else len(data)
        for _ in range(rng.choice((1, 1, 3, 20))):
            changed[rng.randrange(places)] ^= rng.randrange(1, 256)
        path.write_bytes(changed)
        try:
            read_everything(path)
        except Rot180Error:
            refusals += 1
        for one in tmp_path.iterdir():  # SQLite's own, beside what claims to be of another mode
            one.unlink()
    assert 10 < refusals < 100


def test_files_that_are_no_atlas(tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    with pytest.raises(Rot180Error, match="There is no atlas at"):
        rot180.open(path)
    with pytest.raises(Rot180Error, match="There is no atlas at"):
        rot180.open(tmp_path)
    path.write_bytes(b"")
    refused(path, "not an atlas")
    path.write_bytes(random.Random(0).randbytes(10000))
    refused(path, "is not an atlas")
    path.write_bytes(b"SQLite format 3\0" + random.Random(0).randbytes(10000))
    refused(path)
    path.unlink()
    change(path, "CREATE TABLE metadata (key, value)")
    refused(path, "is a database, but not an atlas")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (f"PRAGMA user_version = {VERSION + 1}", "made by a newer version of rot180"),
        (f"PRAGMA user_version = {VERSION - 1}", "made by an older version"),
        ("PRAGMA user_version = 1", "made by an older version"),
        ("PRAGMA user_version = 0", "made by an older version"),
        ("PRAGMA user_version = -1", "made by an older version"),
        ("PRAGMA application_id = 1", "is a database, but not an atlas"),
        (
            "CREATE TRIGGER t AFTER INSERT ON metadata BEGIN DELETE FROM layer; END",
            "has other tables than an atlas",
        ),
        ("CREATE VIEW v AS SELECT * FROM layer", "has other tables than an atlas"),
        ("CREATE TABLE another (x)", "has other tables than an atlas"),
        ("CREATE INDEX i ON feature (max)", "has other tables than an atlas"),
        ("ALTER TABLE feature ADD COLUMN x", "has other tables than an atlas"),
        ("DROP TABLE skipped", "has other tables than an atlas"),
        ("DROP VIEW histograms", "has other tables than an atlas"),
        ("ANALYZE", "has other tables than an atlas"),
    ],
)
def test_other_tables(copy: Path, statement: str, words: str) -> None:
    with closing(sqlite3.connect(copy)) as file:
        file.execute(statement)
        file.commit()
    with pytest.raises(Rot180Error, match=words):
        rot180.open(copy)


def test_a_view_in_the_place_of_a_table(copy: Path) -> None:
    change(
        copy,
        "DROP TABLE skipped",
        "CREATE VIEW skipped AS WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n FROM t) "
        "SELECT n AS image, '' AS name, '' AS reason FROM t",
    )
    refused(copy, "has other tables than an atlas")


@pytest.mark.slow
def test_a_read_only_directory(whole: Path, somebody: Path) -> None:
    path = Path(shutil.copy(whole, somebody / "a.atlas"))
    path.chmod(0o444)
    somebody.chmod(0o555)
    rot180.scan(small_network(), small_data(9), somebody.parent / "warm", **normalisation())
    (somebody.parent / "warm").unlink()
    become_nobody()
    read_everything(path)
    with pytest.raises(Rot180Error, match=r"Cannot write .*: Permission denied"):
        scanned(somebody / "b.atlas")
    with pytest.raises(Rot180Error, match="holds another scan"):
        scanned(path, examples=4)
    scanned(path)  # nothing is to be done


def test_a_file_that_may_not_be_read(whole: Path, somebody: Path) -> None:
    path = Path(shutil.copy(whole, somebody / "a.atlas"))
    path.chmod(stat.S_IWUSR)
    if os.geteuid() != 0:
        path.chmod(0)
    become_nobody()
    with pytest.raises(Rot180Error, match="cannot be read: check its permissions"):
        rot180.open(path)


def test_samples_are_the_same_images_for_all_layers(whole: Path) -> None:
    with rot180.open(whole) as atlas:
        numbers = [atlas.sample(name)[0] for name in atlas]
        assert numbers[0] == numbers[1] == numbers[2]
        assert np.isfinite(atlas.sample("two")[1]).all()
