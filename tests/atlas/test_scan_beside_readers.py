"""A scan beside programs that read its file, which keeps others from writing to it."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

import rot180
from rot180.atlas import scan, writer
from rot180.atlas.scan import ScanProgress
from rot180.errors import Rot180Error
from tests.atlas.scans import same_rows, scanned


@contextmanager
def read_by_another(path: Path) -> Iterator[Callable[[], None]]:
    """Hold a file in a read transaction, as a browser of databases does."""
    with closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute("BEGIN")
        other.execute("SELECT COUNT(*) FROM feature").fetchone()
        yield other.rollback


def impatient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let writers wait that long only, and scans save after each batch."""
    monkeypatch.setattr(scan, "_SHARE", 0)
    monkeypatch.setattr(writer, "PATIENCE", seconds)
    connect = sqlite3.connect
    monkeypatch.setattr(
        writer.sqlite3, "connect", lambda *given, **named: connect(*given, timeout=0.01, **named)
    )


@pytest.mark.slow
def test_a_reader_puts_checkpoints_off_and_the_scan_goes_on(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch, 60)
    path = tmp_path / "a.atlas"
    release: list[Callable[[], None]] = []
    released = False
    with ExitStack() as stack:

        def progress(going: ScanProgress) -> None:
            nonlocal released
            if not release:
                release.append(stack.enter_context(read_by_another(path)))
            elif going.done > going.total // 2 and not released:
                assert checkpoint(path) == 0  # nothing could be written
                release[0]()
                released = True

        with pytest.warns(UserWarning, match="this checkpoint is put off"):
            scanned(path, progress=progress, checkpoint_seconds=0)
    assert released
    same_rows(path, whole)


@pytest.mark.slow
def test_the_end_of_a_scan_waits_for_a_reader(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch, 60)
    path = tmp_path / "a.atlas"
    with ExitStack() as stack:

        def progress(going: ScanProgress) -> None:
            if going.done == going.total:
                release = stack.enter_context(read_by_another(path))
                timer = threading.Timer(1.0, release)
                timer.start()
                stack.callback(timer.join)

        with pytest.warns(UserWarning, match="waiting for it, for at most 1 minutes"):
            scanned(path, progress=progress)
    same_rows(path, whole)


@pytest.mark.slow
def test_a_reader_that_never_ends_costs_no_more_than_what_was_not_saved(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch, 0.3)
    path = tmp_path / "a.atlas"
    with ExitStack() as stack:

        def progress(going: ScanProgress) -> None:
            if going.done == going.total:
                stack.enter_context(read_by_another(path))

        with (
            pytest.warns(UserWarning, match="Another program is reading"),
            pytest.raises(Rot180Error, match=r"another program reads it.*the same command"),
        ):
            scanned(path, progress=progress, checkpoint_seconds=0)
    before = checkpoint(path)
    assert before > 0
    scanned(path)
    same_rows(path, whole)


def checkpoint(path: Path) -> int:
    """Return how many images a file covers."""
    with rot180.open(path) as atlas:
        return atlas.scanned
