"""A file is written whole or not at all."""

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rot180 import Rot180Error
from rot180.errors import suggest
from rot180.files import atomic_write, check_writable, private_folder


def test_the_old_file_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as beside:
            beside.write_text("half of the ne")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "x.txt"
    for words in ("one", "two"):
        with atomic_write(path) as beside:
            beside.write_text(words)
        assert path.read_text() == words
    assert list(path.parent.iterdir()) == [path]


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(Rot180Error, match=r"Cannot write .*x.txt: .*file"),
        atomic_write(tmp_path / "file" / "x.txt"),
    ):
        pass


_FILL = """
import resource, sys
import numpy as np
from rot180 import Rot180Error
from rot180.models.checkpoint import Checkpoint
from rot180.models.two_layer import TwoLayer
one = Checkpoint(TwoLayer().eval(), tuple("abcdefghij"), (.5,) * 3, (.2,) * 3, (32, 32))
one.save(sys.argv[1])
before = open(sys.argv[1], "rb").read()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    one.save(sys.argv[1])
except Rot180Error as error:
    assert open(sys.argv[1], "rb").read() == before
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit of file sizes")
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    run = subprocess.run(
        [sys.executable, "-c", _FILL, str(path)], capture_output=True, text=True, check=True
    )
    assert "Cannot write" in run.stdout
    assert "unchanged" in run.stdout
    assert list(tmp_path.iterdir()) == [path]


def test_names_are_listed_the_nearest_first() -> None:
    assert suggest(["alpha", "beta", "gamma"], "gama").startswith("gamma, alpha")
    assert suggest(map(str, range(30))).endswith("11, … (30 in all)")


_KILLED = """
import os, signal, sys
from rot180.files import atomic_write
with atomic_write(sys.argv[1]) as beside:
    beside.write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""

linux = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")


@linux
def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    run = subprocess.run([sys.executable, "-c", _KILLED, str(path)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    check_writable(path)
    assert not list(tmp_path.iterdir())


@linux
def test_what_a_running_process_writes_is_left_alone(tmp_path: Path) -> None:
    path, mine = tmp_path / "x.txt", tmp_path / ".x.txt-rot180-notes"
    mine.write_text("a file of the user's")
    with private_folder(path) as running:
        (running / "x.txt").write_text("half")
        code = "import sys; from rot180.files import check_writable; check_writable(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        with atomic_write(path) as beside:
            beside.write_text("another")
        assert (running / "x.txt").read_text() == "half"
    assert set(tmp_path.iterdir()) == {path, mine}


def test_a_trial_removes_no_file_of_another(tmp_path: Path) -> None:
    mine = tmp_path / ".x.txt-trial"
    mine.write_text("a file of the user's")
    check_writable(tmp_path / "x.txt")
    assert mine.read_text() == "a file of the user's"


@linux
def test_a_renaming_is_confirmed_in_its_directory(tmp_path: Path, monkeypatch) -> None:
    events, fsync, replace = [], os.fsync, Path.replace

    def synced(handle: int) -> None:
        here = os.fstat(handle)
        events.append((here.st_ino, stat.S_ISDIR(here.st_mode)))
        fsync(handle)

    def renamed(self: Path, target: Path) -> Path:
        events.append("renamed")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    path = tmp_path / "new" / "x.txt"
    with atomic_write(path) as beside:
        beside.write_text("words")
    file, middle, *directories = events
    assert (file, middle) == ((path.stat().st_ino, False), "renamed")
    assert directories == [(path.parent.stat().st_ino, True), (tmp_path.stat().st_ino, True)]


def test_a_disk_that_does_not_confirm_is_said(tmp_path: Path, monkeypatch) -> None:
    fsync = os.fsync

    def failing(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(5, "Input/output error")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", failing)
    with (
        pytest.raises(Rot180Error, match=r"x.txt is written, but the disk has not confirmed it"),
        atomic_write(tmp_path / "x.txt") as beside,
    ):
        beside.write_text("words")
    assert (tmp_path / "x.txt").read_text() == "words"


@pytest.mark.parametrize("there", [True, False])
def test_an_error_says_what_is_there_and_names_no_hidden_file(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as beside:
            if not there:
                path.unlink()
            raise OSError(28, "No space left on device", str(beside))

    with pytest.raises(Rot180Error) as caught:
        fail()
    assert "rot180-" not in str(caught.value)
    assert ("The file that was there is unchanged" in str(caught.value)) == there
    assert ("There is no file of this name now" in str(caught.value)) != there


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 300])
def test_a_name_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    for write in (check_writable, lambda path: atomic_write(path).__enter__()):
        with pytest.raises(Rot180Error, match=r"No file can have the name|Cannot write"):
            write(tmp_path / name)


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)
    with atomic_write(path) as beside:
        beside.write_text("words")
    assert list(tmp_path.iterdir()) == [path]
