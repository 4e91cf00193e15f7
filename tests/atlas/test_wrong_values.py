"""Values in an atlas that cannot be: one sentence says so when they are read."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import rot180
from rot180.atlas import atlas as atlas_module
from rot180.atlas.identity import ScanIdentity
from rot180.errors import Rot180Error
from tests.atlas.scans import (
    change,
    read_everything,
    refused,
)

Copy = Callable[[str], Path]


WRONG = [
    *(
        f"UPDATE layer SET {column} = {value} WHERE name = 'two'"
        for column in ("channels", "height", "width")
        for value in ("0", "-1", "9", "1e300", "9e999", "'text'", "x'00'", str(2**62))
    ),
    "UPDATE layer SET samples = -1",
    "UPDATE layer SET samples = 'many'",
    "UPDATE layer SET field_height = 'far'",
    "UPDATE layer SET stride_y = 9e999",
    "UPDATE layer SET stride_x = 'far'",
    "UPDATE layer SET kind = x'ff'",
    "UPDATE layer SET name = x'ff' WHERE name = 'two'",
    "UPDATE layer SET name = 'three' WHERE name = 'two'",
    "UPDATE layer SET number = 'first' WHERE name = 'one'",
    "DELETE FROM layer WHERE name = 'two'",
    "DELETE FROM layer",
    "UPDATE receptive_field SET start = -1 WHERE layer = 'two'",
    "UPDATE receptive_field SET stop = 13 WHERE layer = 'two'",
    "UPDATE receptive_field SET stop = 'end' WHERE layer = 'two'",
    "UPDATE receptive_field SET start = 1.5 WHERE layer = 'two'",
    "UPDATE receptive_field SET position = 99 WHERE layer = 'two' AND position = 1",
    "DELETE FROM receptive_field WHERE axis = 1",
    *(
        f"UPDATE feature SET {column} = {value} WHERE id = 7"
        for column in ("max", "mean", "firing_images", "class_selectivity", "red")
        for value in ("'text'", "x'00'", "9e999", "-9e999")
    ),
    "UPDATE feature SET dead = 2 WHERE id = 7",
    "UPDATE feature SET dead = 'no' WHERE id = 7",
    "UPDATE feature SET best_class = 4 WHERE id = 7",
    "UPDATE feature SET best_class = -1 WHERE id = 7",
    "UPDATE feature SET best_class = 0.5 WHERE id = 7",
    *(f"UPDATE feature SET firing_images = {value} WHERE id = 7" for value in ("1e308", "-0.1")),
    "UPDATE feature SET firing_positions = 1.5 WHERE id = 7",
    "UPDATE feature SET channel = 77 WHERE id = 7",
    "UPDATE feature SET layer = 'head' WHERE id = 13",
    "UPDATE feature SET layer = x'ff' WHERE id = 7",
    "UPDATE feature SET id = -5 WHERE id = 7",
    "UPDATE feature SET id = 99 WHERE id = 7",
    "DELETE FROM feature WHERE id = 7",
    *(
        f"UPDATE example SET {change} WHERE feature = 7 AND rank = 1"
        for change in (
            "y = (y + 2) % 4",
            "x = (x + 2) % 4",
            "top = 0, bottom = 12",
            '"left" = 0, "right" = 1',
            "y = 4",
            "y = -1",
            "x = 4",
            "y = 0.5",
            "x = 'left'",
            "top = -1",
            "bottom = 13",
            '"right" = 13',
            '"left" = 9, "right" = 8',
            "top = x'00'",
            "activation = 'strong'",
            "activation = 9e999",
            "image = 'first'",
            "image = 1000",
            f"image = {2**62}",
        )
    ),
    "UPDATE histogram SET low = 'low' WHERE feature = 7",
    "UPDATE histogram SET high = -9e999 WHERE feature = 7",
    "UPDATE histogram SET high = -1 WHERE feature = 7",
    "UPDATE histogram SET low = 1e308, high = 5e-324 WHERE feature = 7",
    "UPDATE histogram SET low = 1 WHERE feature = 7",
    "UPDATE histogram SET low = NULL WHERE feature = 7",
    "UPDATE histogram SET images = -1 WHERE feature = 7",
    "UPDATE histogram SET images = 1.5 WHERE feature = 7",
    "UPDATE class_response SET class = 4 WHERE feature = 7 AND rank = 0",
    "UPDATE class_response SET class = -1 WHERE feature = 7 AND rank = 0",
    "UPDATE class_response SET class = 'north' WHERE feature = 7 AND rank = 0",
    "UPDATE class_response SET mean_peak = 'high' WHERE feature = 7",
    "UPDATE class_response SET mean_peak = 9e999 WHERE feature = 7",
    "UPDATE correlation SET other = 3 WHERE feature = 7 AND rank = 0",
    "UPDATE correlation SET other = 'two' WHERE feature = 7 AND rank = 0",
    "UPDATE correlation SET correlation = 1.5 WHERE feature = 7 AND rank = 0",
    "UPDATE correlation SET correlation = 'close' WHERE feature = 7 AND rank = 0",
    "UPDATE class SET number = 9 WHERE number = 3",
    "UPDATE class SET name = x'ff' WHERE number = 3",
    "UPDATE class SET images = -1",
    "UPDATE class SET images = 'some'",
    "DELETE FROM class",
    "UPDATE image SET name = x'00'",
    "UPDATE image SET class = 4",
    "UPDATE image SET class = 'north'",
    "UPDATE image SET picture = 'text'",
    "UPDATE image SET picture = x''",
    "UPDATE image SET picture = x'89504e47'",
    "UPDATE image SET picture = 5",
    "UPDATE image SET picture = zeroblob(70000000) WHERE number = (SELECT MIN(number) FROM image)",
    "DELETE FROM image WHERE number = (SELECT MAX(number) FROM image)",
    "INSERT INTO skipped VALUES (1, x'ff', 'why')",
    "INSERT INTO skipped VALUES (1, 'name', x'ff')",
    "UPDATE sample_image SET image = 'first' WHERE position = 0",
    "DELETE FROM sample_image WHERE position = 0",
    "INSERT INTO sample_image VALUES (99, 0)",
    "UPDATE sample SET peaks = 'peaks'",
    "UPDATE sample SET peaks = x'00'",
    "UPDATE sample SET peaks = zeroblob(60000000)",
    "UPDATE sample SET peaks = CAST(replace(hex(peaks), '00', '7C') AS BLOB)",
    "DELETE FROM sample",
    "UPDATE progress SET next = 61, stop = 61",
    "UPDATE progress SET next = -1",
    "UPDATE progress SET stop = 10",
    "UPDATE progress SET stop = 'end'",
    "INSERT INTO progress VALUES (30, 40, 35)",
    "INSERT INTO state VALUES ('x', 'float64', '[1]', x'00')",
]


@pytest.mark.parametrize("statement", WRONG)
def test_wrong_values_get_a_sentence(copy: Path, statement: str) -> None:
    with closing(sqlite3.connect(copy)) as file, file:
        file.execute("PRAGMA foreign_keys = OFF")
        assert file.execute(statement).rowcount > 0
    refused(copy)


def picture(width: int, height: int, mode: str = "RGB", kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    Image.new(mode, (width, height)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.slow
def test_pictures_of_another_size_or_kind(copy: Path) -> None:
    def put(data: bytes) -> None:
        change(copy, ("UPDATE image SET picture = ?", (data,)))

    for data in (
        picture(11, 12),
        picture(12, 13),
        picture(1, 1),
        picture(3000, 3000, "1"),
        picture(20000, 20000, "1"),  # beyond what Pillow takes for sound
        picture(12, 12)[:40],
        b"GIF89a" + bytes(100),
    ):
        put(data)
        refused(copy, "image.picture")
    for data in (picture(12, 12, "L"), picture(12, 12, kind="BMP"), picture(12, 12, "RGBA")):
        put(data)
        read_everything(copy)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_a_picture_of_another_size_is_not_decoded(
    copy: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*given: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(atlas_module, "decode", decode)
    change(copy, ("UPDATE image SET picture = ?", (picture(900, 900, "1", kind),)))
    with rot180.open(copy) as atlas, pytest.raises(Rot180Error, match=r"image\.picture"):
        atlas.picture(atlas["one"][0].examples[0].image)


ABOUT: list[tuple[str, str]] = [
    *((key, value) for key in ("index", "network", "images") for value in ("null", "[]", "5.5")),
    *((key, value) for key in ("index", "network") for value in ("{}", '"text"', "[[1]]")),
    ("index", "[" * 100_000),
    ("index", "{"),
    ("index", "NaN"),
    ("images", "-1"),
    ("images", "59"),
    ("images", '"60"'),
    ("images", "NaN"),
    ("images", "Infinity"),
    ("images", "1" * 5000),
    ("images", "1" + "0" * 400),
    ("metadata", "[" * 40 + "]" * 40),
    ("network", '{"input": [3, 12, 1' + "0" * 400 + "]}"),
    ("network", '{"input": [5, 12, 12]}'),
    ("seconds", "1" + "0" * 400),
    ("network", '{"input": [3, 12]}'),
    ("network", '{"input": [3, 12, -12]}'),
    ("network", '{"input": [3, 12, 1e400]}'),
    ("network", '{"input": [3, 12, "12"]}'),
    ("network", '{"input": {"a": 1, "b": 2, "c": 3}}'),
]


@pytest.mark.parametrize(("key", "value"), ABOUT)
def test_facts_of_the_wrong_shape(copy: Path, key: str, value: str) -> None:
    change(copy, ("INSERT OR REPLACE INTO metadata VALUES (?, ?)", (key, value)))
    refused(copy)


IDENTITY: list[tuple[str, Any]] = [
    ("network", 5),
    ("data", None),
    ("layers", "one"),
    ("layers", [1]),
    ("examples", "3"),
    ("preprocessing", []),
    ("preprocessing", [[0.5], [0.5]]),
    ("preprocessing", [0.5, 0.5, 12]),
    ("preprocessing", [["a"], [0.5], [12]]),
    ("preprocessing", [[0.5], [0.5], [float("nan")]]),
]


@pytest.mark.parametrize(("name", "value"), IDENTITY)
def test_identities_that_cannot_be(copy: Path, name: str, value: Any) -> None:
    with closing(sqlite3.connect(copy)) as file:
        ((told,),) = file.execute("SELECT value FROM metadata WHERE key = 'identity'").fetchall()
    who = json.dumps(json.loads(told) | {name: value})
    change(copy, ("UPDATE metadata SET value = ? WHERE key = 'identity'", (who,)))
    with rot180.open(copy) as atlas, pytest.raises(Rot180Error, match="damaged"):
        ScanIdentity.for_atlas(atlas)


@pytest.fixture
def loose(copy: Path) -> Copy:
    """Copies whose columns take any value: only the text of the schema forbids some."""
    with closing(sqlite3.connect(copy)) as file, file:
        found = file.execute("SELECT sql, name FROM sqlite_schema WHERE type = 'table'").fetchall()
        file.execute("PRAGMA writable_schema = ON")
        file.execute(
            "UPDATE sqlite_schema SET sql = replace(replace(sql, ' NOT NULL', ''), 'REAL', '')"
        )

    def changed(statement: str) -> Path:
        with closing(sqlite3.connect(copy)) as file, file:
            file.execute("PRAGMA foreign_keys = OFF")
            assert file.execute(statement).rowcount > 0
            file.execute("PRAGMA writable_schema = ON")
            file.executemany("UPDATE sqlite_schema SET sql = ? WHERE name = ?", found)
        return copy

    return changed


INDEX: list[Callable[[dict[str, Any]], Any]] = [
    lambda it: it.pop("layers"),
    lambda it: it["layers"].clear(),
    lambda it: it["layers"].pop(),
    lambda it: it["layers"][0].pop(),
    lambda it: it["layers"][0].__setitem__(1, float("inf")),
    lambda it: it["layers"][0].__setitem__(1, float("nan")),
    lambda it: it["layers"][0].__setitem__(1, 10**15),
    lambda it: it["layers"][0].__setitem__(2, 10**400),
    lambda it: it["layers"][0].__setitem__(4, 0),
    lambda it: it["layers"][0].__setitem__(4, -1.0),
    lambda it: it["layers"][0].__setitem__(4, float("nan")),
    lambda it: it["layers"][0].__setitem__(4, 10**400),
    lambda it: it.update(layers={"a": 1}),
    lambda it: it.update(layers=5),
    lambda it: it.update(classes=-1),
    lambda it: it.update(classes=10**15),
    lambda it: it.update(classes=None),
    lambda it: it.update(colours=2),
    lambda it: it.update(examples=0),
    lambda it: it.update(sample=-1),
]


@pytest.mark.parametrize("number", range(len(INDEX)))
def test_impossible_indices_of_features_are_refused(copy: Path, number: int) -> None:
    with closing(sqlite3.connect(copy)) as file:
        ((value,),) = file.execute("SELECT value FROM metadata WHERE key = 'index'").fetchall()
    index = json.loads(value)
    INDEX[number](index)
    change(copy, ("UPDATE metadata SET value = ? WHERE key = 'index'", (json.dumps(index),)))
    refused(copy)


LOOSE = [
    *(
        f"UPDATE {table} SET {column} = NULL WHERE {which}"
        for table, columns, which in (
            ("layer", ("kind", "channels", "field_width", "stride_y"), "name = 'two'"),
            ("receptive_field", ("start", "stop"), "layer = 'two'"),
            ("example", ("image", "activation", "y", "top"), "feature = 7"),
            ("histogram", ("images",), "feature = 7"),
            ("class_response", ("class", "mean_peak"), "feature = 7"),
            ("correlation", ("other", "correlation"), "feature = 7"),
            ("class", ("name", "images"), "number = 3"),
            ("image", ("name",), "1"),
            ("sample", ("peaks",), "layer = 'two'"),
        )
        for column in columns
    ),
    "UPDATE feature SET max = '1.0' WHERE id = 7",
]


@pytest.mark.parametrize("statement", LOOSE)
def test_values_that_the_schema_forbids(loose: Copy, statement: str) -> None:
    refused(loose(statement))


STATE = [
    "DELETE FROM state WHERE name = 'mean'",
    "UPDATE state SET type = 'object' WHERE name = 'mean'",
    "UPDATE state SET type = 'float64' WHERE name = 'mean'",
    "UPDATE state SET shape = '[' WHERE name = 'mean'",
    "UPDATE state SET shape = '5' WHERE name = 'mean'",
    "UPDATE state SET shape = '[-1]' WHERE name = 'mean'",
    "UPDATE state SET shape = '[Infinity]' WHERE name = 'mean'",
    "UPDATE state SET shape = '[1e30]' WHERE name = 'mean'",
    "UPDATE state SET shape = x'ff' WHERE name = 'mean'",
    "UPDATE state SET numbers = x'00' WHERE name = 'mean'",
    "UPDATE state SET numbers = 'text' WHERE name = 'mean'",
    "UPDATE state SET numbers = 5 WHERE name = 'mean'",
    "UPDATE state SET numbers = zeroblob(60000000) WHERE name = 'mean'",
    "UPDATE state SET name = x'ff' WHERE name = 'mean'",
    "UPDATE state SET numbers = zeroblob(length(numbers)) WHERE name = 'best_image'",
    "UPDATE state SET numbers = randomblob(length(numbers)) WHERE name = 'best_image'",
    "UPDATE state SET numbers = randomblob(length(numbers)) WHERE name = 'best_position'",
    "UPDATE state SET numbers = randomblob(length(numbers)) WHERE name = 'sample_images'",
    "UPDATE metadata SET value = replace(value, '\"examples\": 3', '\"examples\": 1000000000000') "
    "WHERE key = 'index'",
    "UPDATE metadata SET value = replace(value, '\"sample\": 20', '\"sample\": 2') "
    "WHERE key = 'index'",
]


@pytest.mark.parametrize("statement", STATE)
def test_states_that_cannot_be(part: Path, statement: str, tmp_path: Path) -> None:
    path = Path(shutil.copy(part, tmp_path / "copy"))
    with closing(sqlite3.connect(path)) as file, file:
        assert file.execute(statement).rowcount > 0
    refused(path)
