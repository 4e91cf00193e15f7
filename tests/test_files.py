"""A file is written whole or not at all."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rot180 import Rot180Error
from rot180.errors import listed
from rot180.files import written_whole


def test_the_old_file_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail() -> None:
        with written_whole(path) as beside:
            beside.write_text("half of the ne")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "x.txt"
    for words in ("one", "two"):
        with written_whole(path) as beside:
            beside.write_text(words)
        assert path.read_text() == words
    assert list(path.parent.iterdir()) == [path]


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(Rot180Error, match=r"Cannot write .*x.txt: .*file"),
        written_whole(tmp_path / "file" / "x.txt"),
    ):
        pass


_FILL = """
import resource, sys
import numpy as np
from rot180 import Rot180Error
from rot180.networks.checkpoint import Checkpoint
from rot180.networks.two_layer import TwoLayer
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
    assert listed(["alpha", "beta", "gamma"], "gama").startswith("gamma, alpha")
    assert listed(map(str, range(30))).endswith("11, … (30 in all)")
