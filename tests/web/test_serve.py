"""The command ``rot180 serve``, as a person starts and ends it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rot180
from rot180.cli import app
from tests.web.atlases import ask

pytestmark = pytest.mark.slow


@contextmanager
def started(*words: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command; give its process and the address that it prints."""
    command = [sys.executable, "-m", "rot180", "serve", *map(str, words), "--no-open"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment, preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"Open (http://\S+)", line)
            if found:
                yield process, found[1]
                return
        raise AssertionError("It printed no address.")
    finally:
        process.kill()
        process.wait()


def test_it_serves_until_it_is_interrupted(early_path: Path, late_path: Path) -> None:
    with started(early_path, late_path) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert {one["atlas"] for one in ask(address, "/index.json").json} == {"early", "late"}
        # The networks are found again by the names that the atlases tell.
        answer = ask(address, "/atlas/early/features/conv2/1/projection-0-guided-switches.webp")
        assert answer.status == 200
        assert ask(address, "/atlas/early/status.json").json["state"] == "ready"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130)


def test_another_interface_needs_a_token(late_path: Path) -> None:
    with started(late_path, "--host", "0.0.0.0") as (_, address):
        place, _, token = address.partition("/?token=")
        assert len(token) >= 16
        assert ask(place, "/index.json").status == 401
        shown = {"Authorization": f"Bearer {token}"}
        assert ask(place, "/index.json", headers=shown).status == 200
        assert ask(place, "/index.json", headers={**shown, "Host": "evil.example"}).status == 421


def test_without_an_atlas_there_are_the_lessons() -> None:
    with started() as (_, address):
        assert b"rot180 scan" in ask(address, "/").body
        assert ask(address, "/learn").status == 200


def test_a_checkpoint_beside_its_atlas_is_found(early_path: Path, tmp_path: Path) -> None:
    for name in ("early.atlas", "early.safetensors"):
        (tmp_path / name).write_bytes((early_path.parent / name).read_bytes())
    with rot180.open(tmp_path / "early.atlas") as atlas:
        from rot180.atlas.model import ScannedModel, load_scanned_model

        gone = str(tmp_path / "gone" / "early.safetensors")
        atlas.metadata["model"] = gone
        found = load_scanned_model(atlas, device="cpu")
        assert found.name == str(tmp_path / "early.safetensors")
        assert ScannedModel.for_atlas(atlas, found).same_preprocessing


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.atlas"], "There is no atlas at nowhere.atlas"),
        (["--token", "short"], "8 letters or more"),
        (["--host", "203.0.113.9"], "Cannot listen at 203.0.113.9"),
        (["--model", "a", "--model", "b", "--weights", "x"], "2 models and 1 files of weights"),
        (["--data", "nothing-like-that"], "nothing-like-that"),
    ],
)
def test_what_is_wrong_is_a_sentence(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["serve", "--no-open", *words])
    assert done.exit_code == 1
    assert said in done.output.replace("\n", " ")
