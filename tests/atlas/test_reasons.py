"""Why an atlas cannot be read or written is said without SQLite's own words."""

import os
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

import rot180
from rot180.atlas import file as atlas_file
from rot180.atlas.writer import AtlasWriter
from rot180.errors import Rot180Error
from tests.atlas.scans import read_everything
from tests.atlas.test_side_files import left_half_written

_SQLITES = re.compile(
    r"SQL|malformed|database|disk I/O|\*\*\*|[Tt]ree \d|rowid|PRAGMA|constraint|no such|readonly|"
    r"syntax|schema"
)


def damaged(whole: Path, path: Path, at: int, data: bytes) -> Path:
    content = bytearray(whole.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(content)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 16, 100, 108, 4096, 8192 + 3, 5 * 4096, 9 * 4096 + 8])
def test_a_damaged_page_is_told_without_sqlites_words(whole: Path, tmp_path: Path, at: int) -> None:
    path = damaged(whole, tmp_path / "x.atlas", at, b"\xfe\x07" * 40)
    with pytest.raises(Rot180Error) as said:
        read_everything(path)
    assert _SQLITES.search(str(said.value)) is None, said.value


def test_a_query_that_an_atlas_cannot_answer_is_told_without_sqlites_words(whole: Path) -> None:
    with rot180.open(whole) as atlas:
        for query in ("SELECT nothing FROM feature", "SELEC", "SELECT * FROM nowhere"):
            with pytest.raises(Rot180Error) as said:
                atlas.rows(query)
            assert _SQLITES.search(str(said.value)) is None, said.value


def test_a_writer_tells_damage_from_what_is_in_the_way(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.atlas"
    path.write_bytes(whole.read_bytes())
    errors = {
        sqlite3.SQLITE_CORRUPT: "it is damaged (its pages do not fit together)",
        sqlite3.SQLITE_CONSTRAINT_UNIQUE: "it is damaged (rows of it contradict each other)",
        sqlite3.SQLITE_IOERR_WRITE: "the disk failed. What was saved before is intact",
        sqlite3.SQLITE_READONLY_DIRECTORY: "it may not be written to. What was saved before",
        sqlite3.SQLITE_FULL: "the disk is full. What was saved before is intact",
    }
    with AtlasWriter(path) as writer:
        for number, words in errors.items():
            error = sqlite3.OperationalError("UNIQUE constraint failed: metadata.key")
            error.sqlite_errorcode = number
            with pytest.raises(Rot180Error) as said, writer.transaction():
                raise error
            assert words in str(said.value)
            assert _SQLITES.search(str(said.value)) is None


@pytest.mark.slow
def test_the_copy_of_a_reader_that_was_killed_is_removed_by_the_next(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, place = tmp_path / "a.atlas", tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    left_half_written(whole, path)
    child = os.fork()
    if not child:
        atlas_file._read_only = lambda path: os._exit(1) if place in path.parents else _fails()
        rot180.open(path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert len(list(place.iterdir())) == 1
    with closing(rot180.open(path)):
        assert list(place.iterdir()) == []


def _fails() -> None:
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY
    raise error
