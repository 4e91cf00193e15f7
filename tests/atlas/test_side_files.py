"""Files beside an atlas: SQLite acts on them, so they are looked at before; a query ends."""

import errno
import os
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

import rot180
from rot180.atlas.writer import AtlasWriter
from rot180.errors import Rot180Error
from tests.atlas.scans import become_nobody, read_everything, same_rows, scanned


def left_half_written(whole: Path, path: Path) -> None:
    """Copy an atlas and its journal in the middle of a transaction that has begun to write."""
    made = path.with_name("made")
    shutil.copy(whole, made)
    with closing(sqlite3.connect(made, isolation_level=None)) as file:
        file.execute("PRAGMA cache_size = 4")
        file.execute("BEGIN")
        file.execute("UPDATE image SET picture = zeroblob(5000)")
        file.execute("UPDATE feature SET max = 0")
        file.execute("DELETE FROM histogram")
        shutil.copy(made, path)
        shutil.copy(f"{made}-journal", f"{path}-journal")
        file.execute("ROLLBACK")
    made.unlink()
    assert path.read_bytes() != whole.read_bytes()


def contents(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.rglob("*") if one.is_file()}


@pytest.mark.slow
def test_what_a_killed_writer_left_is_read_as_it_was_before(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    left_half_written(whole, path)
    before = contents(tmp_path)
    assert set(before) == {"a.atlas", "a.atlas-journal"}
    read_everything(path)
    with rot180.open(path) as atlas, rot180.open(whole) as other:
        assert atlas.rows("SELECT * FROM histogram") == other.rows("SELECT * FROM histogram")
        assert atlas.rows("SELECT * FROM image") == other.rows("SELECT * FROM image")
    assert contents(tmp_path) == before  # a reader writes nothing
    with AtlasWriter(path) as writer:  # who goes on with it takes the transaction back
        writer.progress()
    same_rows(path, whole)
    assert [one.name for one in tmp_path.iterdir()] == ["a.atlas"]


def test_no_room_to_read_what_a_killed_writer_left(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.atlas"
    left_half_written(whole, path)
    before = contents(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(Rot180Error, match=r"left in the middle.*No space left.*set TMPDIR"):
        rot180.open(path)
    assert contents(tmp_path) == before


def _names_a_victim(path: Path, victim: Path) -> None:
    """Append to a journal what makes SQLite delete a file once it has rolled the journal back."""
    name = str(victim.resolve()).encode()
    checksum = sum(byte if byte < 128 else byte - 256 for byte in name) & 0xFFFFFFFF
    (size,) = struct.unpack(">H", path.read_bytes()[16:18])
    with Path(f"{path}-journal").open("ab") as file:
        file.write(struct.pack(">I", 0x40000000 // size + 1) + name)
        file.write(struct.pack(">II", len(name), checksum) + bytes.fromhex("d9d505f920a163d7"))


def _half_written_for(whole: Path, folder: Path, victim: Path) -> Path:
    path = folder / "a.atlas"
    left_half_written(whole, path)
    journal = Path(f"{path}-journal")
    data = journal.read_bytes()
    records = struct.unpack(">I", data[8:12])[0]
    if not records:  # the number of records is written when the journal is synchronised
        (size,) = struct.unpack(">H", path.read_bytes()[16:18])
        sector = struct.unpack(">I", data[20:24])[0]
        count = (len(data) - sector) // (size + 8)
        journal.write_bytes(
            data[:8] + struct.pack(">I", count) + data[12 : sector + count * (size + 8)]
        )
    _names_a_victim(path, victim)
    return path


def test_the_journal_of_this_test_makes_sqlite_delete_a_file(whole: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = _half_written_for(whole, tmp_path, victim)
    with closing(sqlite3.connect(path)) as writing:
        writing.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    assert not victim.exists()


def _goes_on(path: Path) -> None:
    with AtlasWriter(path) as writer:
        writer.progress()


USES = {
    "open": rot180.open,
    "go on": _goes_on,
    "merge": lambda path: rot180.merge([path, path], path.with_name("merged.atlas")),
    "compare": lambda path: rot180.compare(rot180.open(path), rot180.open(path)),
    "scan": scanned,
}


@pytest.mark.parametrize("use", USES)
def test_a_journal_that_names_another_file_is_not_followed(
    use: str, whole: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = _half_written_for(whole, tmp_path, victim)
    before = contents(tmp_path)
    with pytest.raises(Rot180Error, match=r"a\.atlas-journal beside it names a file elsewhere"):
        USES[use](path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_a_link_beside_an_atlas_is_not_followed(
    use: str, end: str, whole: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(whole, tmp_path / "a.atlas"))
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious" * 1000)
    for make in (os.symlink, os.link):
        make(victim, f"{path}{end}")
        before = contents(tmp_path)
        with pytest.raises(Rot180Error, match=rf"a\.atlas{end}"):
            USES[use](path)
        assert contents(tmp_path) == before
        os.unlink(f"{path}{end}")


def test_an_atlas_with_a_write_ahead_log_is_not_opened(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(whole, tmp_path / "a.atlas"))
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA journal_mode = WAL")
    before = contents(tmp_path)
    with pytest.raises(Rot180Error, match="switched to a write-ahead log"):
        rot180.open(path)
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_a_query_ends(whole: Path) -> None:
    with rot180.open(whole) as atlas:
        endless = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n"
        )
        with pytest.raises(Rot180Error, match="takes longer than one of an atlas can"):
            atlas.rows(endless)
        assert atlas.rows("SELECT COUNT(*) FROM feature")  # and the next one starts anew
        refused = {
            "ATTACH ':memory:' AS b": "asks for what no atlas has",
            "DELETE FROM histogram": "is read-only: no query changes it",
            "SELECT zeroblob(2000000000)": r"is damaged \(a value in it is too long\)",
        }
        for query, words in refused.items():
            with pytest.raises(Rot180Error, match=words):
                atlas.rows(query)


def test_what_a_killed_writer_left_where_nobody_may_write(whole: Path, somebody: Path) -> None:
    path = somebody / "a.atlas"
    left_half_written(whole, path)
    for one in somebody.iterdir():
        one.chmod(0o444)
    somebody.chmod(0o555)
    become_nobody()
    read_everything(path)


def test_an_atlas_that_was_removed_while_it_was_written_is_not_called_intact(
    whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.atlas"
    shutil.copy(whole, path)
    with AtlasWriter(path) as writer:
        path.unlink()
        with (
            pytest.raises(Rot180Error, match="has been moved or removed") as caught,
            writer.transaction() as file,
        ):
            file.execute("DELETE FROM histogram")
        assert "intact" not in str(caught.value)
