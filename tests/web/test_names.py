"""What the explorer calls things and finds by name, and the command that shows a scan."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

import rot180
from rot180.cli import app
from rot180.datasets import open_dataset
from rot180.errors import Rot180Error
from rot180.web.app import application
from rot180.web.collection import AtlasCollection
from rot180.web.server import serve_in_thread
from rot180.web.urls import ServerUrls
from rot180.web.views.search import SearchView, search_view
from tests.atlas.scans import change, scanned
from tests.atlas.test_names import CODE, KEYS, WORDS, folders, made
from tests.datasets.dataset_files import put
from tests.web.atlases import ask


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas over class folders with a table of names, which are those of the outputs, too."""
    root = tmp_path_factory.mktemp("named")
    made(folders(root / "data", KEYS[:3]), root / "named.atlas").close()
    return root / "named.atlas"


@pytest.fixture(scope="module")
def served(named: Path) -> Iterator[str]:
    with serve_in_thread(application(AtlasCollection([rot180.open(named)]))) as address:
        yield address


def found(path: Path, words: str) -> SearchView:
    with rot180.open(path) as atlas:
        served = AtlasCollection([atlas])[path.stem]
        return search_view(ServerUrls(), served, words)


@pytest.mark.slow
def test_a_class_is_found_as_output_as_best_class_and_by_its_images(named: Path) -> None:
    view = found(named, "TENCH")
    assert [one.title for one in view.outputs] == ["head · tench (0)"]
    assert view.features
    assert all(one.words.startswith("tench, selectivity") for one in view.features)
    assert view.images
    assert {one.class_name for one in view.images} == {"tench"}
    assert (view.more, view.only) == (False, None)


@pytest.mark.slow
def test_an_output_without_images_is_found_alone(named: Path) -> None:
    view = found(named, "crane")
    assert view.only == "/atlas/named/features/head/4"


@pytest.mark.slow
def test_images_are_found_by_the_names_of_files_and_folders(named: Path) -> None:
    by_folder = found(named, KEYS[1])
    assert by_folder.images
    assert {one.class_name for one in by_folder.images} == {"shark"}
    assert {one.name.split("/")[0] for one in by_folder.images} == {KEYS[1]}
    name = by_folder.images[0].name
    alone = found(named, name)
    assert [one.name for one in alone.images] == [name]
    assert alone.only == f"/atlas/named/images/{by_folder.images[0].image}"
    for nothing in ("%", "_", "\\", "n0000000_/0", "", " "):
        assert found(named, nothing).images == []


def test_what_is_more_than_is_listed_is_said(tmp_path: Path) -> None:
    path = scanned(tmp_path / "a.atlas", examples=9)
    outputs = {"layer": "one", "names": ["same"] * 6}
    change(
        path,
        ("INSERT INTO metadata VALUES ('outputs', ?)", [json.dumps(outputs)]),
        "UPDATE image SET name = 'same'",
        "DELETE FROM image WHERE number >= 40",
        *(f"INSERT INTO image VALUES ({n}, 'same', NULL, NULL)" for n in range(100, 160)),
    )
    view = found(path, "same")
    assert len(view.outputs) == 6
    assert len(view.images) == 60
    assert view.more
    change(path, "DELETE FROM image WHERE number >= 100")
    assert not found(path, "same").more


@pytest.mark.slow
def test_pages_and_json_call_scores_by_their_classes(served: str) -> None:
    page = ask(served, "/atlas/named/features/head/0").body.decode()
    assert "<h1>head · tench (0)</h1>" in page
    assert "shark (1) →" in page
    assert "feature 0" not in page
    told = ask(served, "/atlas/named/features/head/0.json").json
    assert (told["title"], told["name"]) == ("head · tench (0)", "tench")
    layer = ask(served, "/atlas/named/layers/head").body.decode()
    assert all(f"<span>{word} ({n})" in layer for n, word in enumerate(WORDS))
    assert ask(served, "/atlas/named/layers/head.json").json["names"] == WORDS
    assert "<h1>one, feature 3</h1>" in ask(served, "/atlas/named/features/one/3").body.decode()
    network = ask(served, "/atlas/named").body.decode()
    assert re.search(r"head · \w+ \(\d+\): receptive field of a strong unit", network)
    searched = ask(served, f"/atlas/named/search?q={quote('tench')}").body.decode()
    assert "<h2>Class scores</h2>" in searched
    assert "<h2>Images</h2>" in searched


@contextmanager
def shown(command: str, folder: Path) -> Iterator[Iterator[str]]:
    """Give a shell a command of rot180, as it stands, in a folder; give the lines that it prints.

    The program of this name opens no browser and takes any port.
    """
    own = f'{shlex.quote(sys.executable)} -m rot180 "$@" --no-open --port 0'
    program = put(folder / "bin" / "rot180", f"#!/bin/sh\nexec {own}\n".encode())
    program.chmod(0o755)
    path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    process = subprocess.Popen(
        command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=folder, start_new_session=True,
        env={
            **os.environ, "PATH": path, "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(rot180.__file__).parents[1]), *sys.path]),
        },
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield iter(process.stdout)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def state_of(lines: Iterator[str], atlas: str) -> dict[str, object]:
    """Return the state of an atlas' network, as soon as it is known."""
    line = next(one for one in lines if one.startswith("Open http://"))
    address = line.split()[1]
    for _ in range(600):
        told = ask(address, f"/atlas/{atlas}/status.json").json
        if told["state"] in ("ready", "absent"):
            return dict(told)
        time.sleep(0.1)
    raise AssertionError("The network was not loaded.")


@pytest.mark.slow
@pytest.mark.parametrize("images", ["lossless", "none"])
def test_the_last_line_of_a_scan_is_a_command_that_serves_it(tmp_path: Path, images: str) -> None:
    work = tmp_path / "a folder"
    folders(work / "my data")
    put(work / "the nets" / "nets.py", CODE.encode())
    scan = [
        "scan",
        "the nets/nets.py:net",
        "my data",
        "--out",
        "it's.atlas",
        "--size",
        "12",
        "--no-methods",
    ]
    scan += ["--mean", "0.1,0.2,0.3", "--std", "0.5,0.6,0.7", "--batch", "8", "--images", images]
    here = Path.cwd()
    os.chdir(work)
    try:
        result = CliRunner().invoke(app, scan)
    finally:
        os.chdir(here)
    assert result.exit_code == 0, result.output
    with shown(result.output.splitlines()[-1], work) as lines:
        assert state_of(lines, "it-s") == {"state": "ready", "reason": "", "notices": []}


@pytest.mark.slow
def test_what_is_given_for_one_atlas_leaves_the_others_alone(
    tmp_path: Path, late_path: Path
) -> None:
    data, code = folders(tmp_path / "data"), put(tmp_path / "nets.py", CODE.encode())
    scan = [
        "scan",
        f"{code}:net",
        data,
        "--out",
        tmp_path / "a.atlas",
        "--size",
        12,
        "--batch",
        8,
        "--no-methods",
    ]
    scan += ["--mean", "0.1,0.2,0.3", "--std", "0.5,0.6,0.7"]
    assert CliRunner().invoke(app, [str(one) for one in scan]).exit_code == 0
    (tmp_path / "gone.atlas").write_bytes(late_path.read_bytes())
    change(
        tmp_path / "gone.atlas",
        "UPDATE metadata SET value = '\"x.safetensors\"' WHERE key = 'model'",
    )
    serve = ["rot180", "serve", str(late_path), "a.atlas", "gone.atlas", "--model", f"{code}:net"]
    serve += ["--mean", "0.1,0.2,0.3", "--size", "12", "--data", str(data)]
    with shown(shlex.join(serve), tmp_path) as lines:
        line = next(one for one in lines if one.startswith("Open http://"))
        address = line.split()[1]
        told = next(lines)
        assert told.startswith("gone: there is no network to project with. gone.atlas is a scan of")
        assert "x.safetensors, which is neither beside it nor here: say where it is" in told
        states = {one: ask(address, f"/atlas/{one}/status.json").json for one in ("late", "a")}
        assert {one: state["state"] for one, state in states.items()} == {
            "late": "ready",
            "a": "ready",
        }


def test_a_page_without_pictures_does_not_say_where_the_atlas_lies(tmp_path: Path) -> None:
    path = scanned(tmp_path / "a.atlas", images="none")
    with rot180.open(path) as atlas:
        said = AtlasCollection([atlas])["a"].pictures_missing
    assert said.startswith("a.atlas holds no pictures")
    assert str(tmp_path) not in said


def test_what_is_true_of_no_atlas_is_refused(late_path: Path, tmp_path: Path) -> None:
    for option, value in (("--mean", "0.1,0.2,0.3"), ("--std", "1,1,1"), ("--size", "64")):
        done = CliRunner().invoke(app, ["serve", "--no-open", str(late_path), option, value])
        assert done.exit_code == 1
        words = " ".join(done.output.split())
        assert "is not how the images of" in words
        assert f"late.atlas says {option} " in words
    other = open_dataset(str(folders(tmp_path / "data")), "all")
    with rot180.open(late_path) as atlas, pytest.raises(Rot180Error, match="other images than"):
        AtlasCollection([atlas], (), other)
