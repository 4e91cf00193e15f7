"""A scan that is killed at any moment goes on where it was, and ends with the same atlas."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import rot180
from rot180.errors import Rot180Error
from tests.atlas.forking import (
    FINISHED,
    IMAGES,
    INTERRUPTED,
    SAID,
    arguments,
)
from tests.atlas.scans import read_everything, same_rows

pytestmark = pytest.mark.slow

SLOW = 0.003
"""Seconds that an image takes."""


class Forking:
    """The other side of ``forking.main``."""

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.atlas.forking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        assert line, "the process that forks has ended"
        return dict(json.loads(line))

    def _order(self, **words: Any) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def start(self, path: Path, **words: Any) -> int:
        return int(self._order(scan=str(path), **words)["process"])

    def command(self, path: Path, *words: object) -> int:
        """Start rot180 on a command line; what it prints goes where ``said`` reads it."""
        return int(self._order(said=str(path), cli=[str(one) for one in words])["process"])

    def wait(self, process: int) -> int:
        return int(self._order(wait=process)["status"])

    def run(self, path: Path, **words: Any) -> int:
        return self.wait(self.start(path, **words))

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(20)


def said(path: Path) -> str:
    return path.with_name(path.name + ".said").read_text()


@pytest.fixture(scope="module")
def forking() -> Iterator[Forking]:
    if not hasattr(os, "fork"):
        pytest.skip("processes cannot be forked here")
    found = Forking()
    yield found
    found.close()


@pytest.fixture(scope="module")
def whole(forking: Forking, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas of a scan that nobody disturbed, in a process that had no other before."""
    path = tmp_path_factory.mktemp("whole") / "whole.atlas"
    assert forking.run(path) == FINISHED
    return path


def where(path: Path) -> str:
    """How far a scan had come, by what it left behind; the file has to be a valid one."""
    if not path.exists():
        return "before there was a file"
    journal = path.with_name(path.name + "-journal").exists()
    with rot180.open(path) as atlas:
        stage = (
            f"{sum(after - first for first, _, after in atlas.progress)} of {atlas.images} images"
        )
        ((examples, pictures),) = atlas.rows("SELECT COUNT(*), COUNT(picture) FROM image")
        if pictures:
            stage += f", {pictures} of {examples} pictures"
        if atlas.finished:
            stage += ", finished"
    return stage + (", in the middle of writing" if journal else "")


def test_a_scan_that_is_killed_at_any_moment_ends_the_same(
    forking: Forking, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(180)
    log, trial, kills = [], 0, 0
    while kills < 20:
        path = tmp_path / f"{trial}.atlas"
        while True:
            process = forking.start(path, seconds=SLOW, share=1)
            delay = rng.uniform(0, 0.9)
            time.sleep(delay)
            os.kill(process, signal.SIGKILL)
            if forking.wait(process) == FINISHED:
                break
            kills += 1
            log.append(f"scan {trial}, after {1000 * delay:4.0f} ms: {where(path)}")
            if path.exists():
                read_everything(path)
            if kills >= 20:
                assert forking.run(path) == FINISHED
                break
        same_rows(path, whole)
        trial += 1
    with capsys.disabled():
        print("", *log, sep="\n")


def test_a_scan_that_dies_inside_a_transaction_ends_the_same(
    forking: Forking, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process kills itself after so many steps of SQLite's machine."""
    rng = random.Random(7)
    path = tmp_path / "a.atlas"
    log = []
    for number in range(12):
        steps = rng.randrange(1500) if number % 3 == 2 else rng.randrange(3000, 9000)
        status = forking.run(path, dies_after=steps)
        log.append(f"after {steps:4} times 50 steps: {where(path)}")
        if path.exists():
            read_everything(path)
        if status == FINISHED:
            same_rows(path, whole)
            path = tmp_path / f"{number}.atlas"
        else:
            assert status == -signal.SIGKILL
    assert forking.run(path) == FINISHED
    same_rows(path, whole)
    with capsys.disabled():
        print("", *log, sep="\n")


def wait_for(path: Path, images: int = 0) -> None:
    """Wait until a scan has saved so many images."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if path.exists():
            with rot180.open(path) as atlas:
                if sum(after - first for first, _, after in atlas.progress) >= images:
                    return
        time.sleep(0.01)
    raise AssertionError("it does not get there")


def test_an_interrupt_saves_what_was_scanned(forking: Forking, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    done = []
    for _ in range(3):
        process = forking.start(path, seconds=SLOW, share=1e9)  # no checkpoints of its own
        wait_for(path)
        time.sleep(0.15)
        os.kill(process, signal.SIGINT)
        status = forking.wait(process)
        read_everything(path)
        with rot180.open(path) as atlas:
            done.append(sum(after - first for first, _, after in atlas.progress))
            assert not atlas.finished
        if done[-1] < IMAGES:
            assert status == INTERRUPTED
        assert done[-1] % 8 == 0
    assert done == sorted(done)
    assert done[-1] > 0
    assert forking.run(path) == FINISHED
    same_rows(path, whole)


def test_the_command_says_that_it_was_interrupted(forking: Forking, tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    words = ("scan", "two-layer", "photos", "--split", "test", "--batch", "1", "--out", path)
    process = forking.command(path, *words)
    wait_for(path)
    time.sleep(0.3)
    os.kill(process, signal.SIGINT)
    assert forking.wait(process) == 1
    with rot180.open(path) as atlas:
        done = sum(after - first for first, _, after in atlas.progress)
        assert not atlas.finished
    assert 0 < done < 1600
    sentence = f"Interrupted: {path} holds {done} of 1600 images; the same command continues"
    assert sentence in said(path).replace("\n", " ")


@pytest.mark.parametrize("later", [0.0, 0.02, 0.3])
def test_two_processes_that_scan_into_one_file(
    forking: Forking, whole: Path, tmp_path: Path, later: float
) -> None:
    path = tmp_path / "a.atlas"
    one = forking.start(path, seconds=SLOW)
    time.sleep(later)
    # The other one's sentence goes to the same place; one of them at least ends well.
    two = forking.start(path, seconds=SLOW)
    ends = [forking.wait(one), forking.wait(two)]
    assert sorted(ends) in ([FINISHED, FINISHED], [FINISHED, SAID])
    if SAID in ends:
        assert "another process" in said(path) or "another program" in said(path)
    same_rows(path, whole)


def test_reading_while_another_process_writes(
    forking: Forking, whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.atlas"
    process = forking.start(path, seconds=SLOW)
    ended: list[int] = []
    waiting = threading.Thread(target=lambda: ended.append(forking.wait(process)))
    waiting.start()
    opened = 0
    while waiting.is_alive():
        if path.exists():
            with rot180.open(path) as atlas:
                opened += 1
                assert len(atlas["one"][0].examples) <= 9
        time.sleep(0.01)
    waiting.join()
    assert ended == [FINISHED]
    assert opened > 5
    same_rows(path, whole)


def test_a_reader_that_waits_too_long(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.atlas"
    path.write_bytes(whole.read_bytes())
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0.1))
    atlas = rot180.open(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(Rot180Error, match="another process writes to it: try again"):
            rot180.open(path)
        with pytest.raises(Rot180Error, match="another process writes to it: try again"):
            repr(atlas["one"][0].examples)
    finally:
        other.close()
        atlas.close()
    read_everything(path)


@pytest.mark.parametrize("limit", ["file_size", "pages"])
def test_a_full_disk(forking: Forking, whole: Path, tmp_path: Path, limit: str) -> None:
    path = tmp_path / "a.atlas"
    reached = []
    size = whole.stat().st_size
    for share in (0.05, 0.5, 0.8, 0.9, 0.95, 0.99):
        room = int(share * size)
        status = forking.run(path, **{limit: room if limit == "file_size" else room // 4096})
        if status == FINISHED:
            break
        assert status == SAID
        sentence = said(path)
        assert sentence.startswith("Cannot write ")
        assert sentence.count("\n") == 0
        assert "the same command again" in sentence or not path.exists()
        if limit == "pages":
            assert "the disk is full" in sentence
        if path.exists():
            read_everything(path)
            with rot180.open(path) as atlas:
                reached.append(sum(after - first for first, _, after in atlas.progress))
                assert not atlas.finished
        left = {one.name for one in tmp_path.iterdir()}
        assert left <= {"a.atlas", "a.atlas.said"}
    assert reached == sorted(reached)
    assert reached
    assert forking.run(path) == FINISHED
    same_rows(path, whole)


def test_a_scan_here_is_that_of_the_other_process(whole: Path, tmp_path: Path) -> None:
    rot180.scan(path=tmp_path / "a", **arguments(0.0)).close()
    same_rows(tmp_path / "a", whole)
