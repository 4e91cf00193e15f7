"""What an atlas calls things: outputs by their classes, images within their data set."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import rot180
from rot180.atlas.model import load_scanned_model, portable_model_name
from rot180.atlas.outputs import named_outputs
from rot180.cli import app
from rot180.datasets import ArrayDataset
from rot180.errors import Rot180Error
from tests.atlas.scans import (
    change,
    normalisation,
    pictures,
    read_everything,
    refused,
    rows_of,
    scanned,
    small_network,
)
from tests.datasets.dataset_files import encoded, put

KEYS = [f"n0000000{n}" for n in range(5)]
WORDS = ["tench", "shark", "cock", "hen", "crane"]
TABLE = "".join(
    f"{n}\t{key}\t{word}\n" for n, (key, word) in enumerate(zip(KEYS, WORDS, strict=True))
)

CODE = """
import torch
from tests.atlas.scans import SmallNet

def net():
    torch.manual_seed(0)
    return SmallNet()
"""


def folders(root: Path, keys: list[str] = KEYS, table: str = TABLE) -> Path:
    """Class folders of images, and what they are called."""
    images = pictures(4 * len(keys))
    for number, image in enumerate(images):
        put(root / keys[number % len(keys)] / f"{number:02}.png", encoded(image))
    if table:
        put(root / "classes.txt", table.encode())
    return root


def made(data: Path, path: Path, **others: Any) -> rot180.atlas.atlas.Atlas:
    given = {"batch": 8, "examples": 3, **normalisation(), **others}
    return rot180.scan(small_network(), str(data), path, **given)


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_outputs_are_called_by_the_table_with_the_data(tmp_path: Path) -> None:
    data = folders(tmp_path / "data", KEYS[:3])
    with made(data, tmp_path / "a.atlas") as atlas:
        assert atlas.classes == ("tench", "shark", "cock")
        assert atlas.folders == tuple(KEYS[:3])
        assert (atlas.output_layer, atlas.outputs) == ("head", tuple(WORDS))
        feature = atlas["head"][4]
        assert (feature.name, feature.title) == ("crane", "head · crane (4)")
        assert atlas["one"][4].title == "one, feature 4"
        assert "head · crane (4)" in repr(feature)
        assert "head · crane (4)" in feature._repr_html_()
        assert "<td>crane (4)</td>" in atlas["head"]._repr_html_()
        assert atlas.picture(atlas["head"][0].examples[0].image).name.startswith("n0000000")


def test_outputs_are_called_by_the_model_before_a_table(tmp_path: Path) -> None:
    data = rot180.open_dataset(str(folders(tmp_path / "data")), "all")
    found = named_outputs(small_network(), ("a", "b", "c", "d", "e"), data)
    assert found is not None
    assert (found.names, found.source) == (("a", "b", "c", "d", "e"), "the model")


@pytest.mark.slow
def test_outputs_are_the_classes_of_the_data_only_if_there_are_as_many(tmp_path: Path) -> None:
    with made(folders(tmp_path / "five", table=""), tmp_path / "five.atlas") as atlas:
        assert atlas.outputs == tuple(KEYS)
        assert atlas.folders == ()
    with made(folders(tmp_path / "four", KEYS[:4], ""), tmp_path / "four.atlas") as atlas:
        assert atlas.outputs == ()
        assert atlas["head"][4].title == "head, feature 4"
    numbers = np.arange(20) % 5  # classes that have no names but "class 0"
    arrays = ArrayDataset(pictures(20), numbers)
    assert named_outputs(small_network(), (), arrays) is None


def test_another_layer_with_as_many_features_has_no_classes(tmp_path: Path) -> None:
    data = folders(tmp_path / "data", [f"k{n}" for n in range(8)], "")
    with made(data, tmp_path / "a.atlas", layers="two") as atlas:
        assert (len(atlas["two"]), len(atlas.classes)) == (8, 8)
        assert atlas.outputs == ()


@pytest.mark.slow
def test_names_that_come_later_are_taken_without_another_scan(tmp_path: Path) -> None:
    data = folders(tmp_path / "data", KEYS[:3], "")
    made(data, tmp_path / "a.atlas").close()
    before = rows_of(tmp_path / "a.atlas")
    put(data / "classes.txt", TABLE.encode())
    with made(data, tmp_path / "a.atlas", progress=pytest.fail) as atlas:
        assert atlas.classes == ("tench", "shark", "cock")
        assert atlas.title("head", 0) == "head · tench (0)"
    after = rows_of(tmp_path / "a.atlas")
    assert [table for table in before if before[table] != after[table]] == ["metadata", "class"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An atlas that names no outputs."""
    return scanned(tmp_path_factory.mktemp("plain") / "a.atlas").read_bytes()


@pytest.mark.parametrize(
    "outputs",
    [
        7,
        {"layer": "nowhere", "names": []},
        {"layer": ["head"], "names": WORDS},
        {"layer": "head", "names": WORDS[:4]},
        {"layer": "head", "names": [1, 2, 3, 4, 5]},
        {"layer": "head"},
    ],
)
def test_outputs_that_cannot_be_are_damage(tmp_path: Path, plain: bytes, outputs: Any) -> None:
    path = put(tmp_path / "a.atlas", plain)
    change(path, ("INSERT INTO metadata VALUES ('outputs', ?)", [json.dumps(outputs)]))
    refused(path, "its metadata.outputs holds")


@pytest.mark.parametrize("given", [7, ["a"], [1, 2, 3, 4]])
def test_folders_that_cannot_be_are_damage(tmp_path: Path, plain: bytes, given: Any) -> None:
    path = put(tmp_path / "a.atlas", plain)
    change(path, ("INSERT INTO metadata VALUES ('folders', ?)", [json.dumps(given)]))
    refused(path, "its metadata.folders holds")


@pytest.mark.slow
def test_names_of_outputs_do_nothing_on_a_terminal(tmp_path: Path, plain: bytes) -> None:
    path = put(tmp_path / "a.atlas", plain)
    outputs = {"layer": "head", "names": ["a\x1b[2J", "b", "c", "d", "e"]}
    change(path, ("INSERT INTO metadata VALUES ('outputs', ?)", [json.dumps(outputs)]))
    read_everything(path)
    printed = run("features", path, "--layer", "head")
    assert "a\\x1b[2J (0)" in printed
    assert "\x1b" not in printed


@pytest.mark.slow
def test_an_atlas_names_no_directory_of_its_maker(tmp_path: Path) -> None:
    home = tmp_path / "home-of-maker"
    data = folders(home / "pictures" / "birds")
    put(data / KEYS[0] / "broken.png", b"no picture")
    code = put(home / "code" / "nets.py", CODE.encode())
    names: dict[str, Any] = {}
    exec(CODE, names)
    torch.save(names["net"]().state_dict(), home / "code" / "w.pth")
    out = tmp_path / "out"
    out.mkdir()
    printed = run(
        *("scan", f"{code}:net", data, "--out", out / "a.atlas", "--size", 12, "--batch", 8),
        *("--weights", home / "code" / "w.pth", "--mean", "0.5,0.5,0.5", "--std", "1,1,1"),
    )
    assert "home-of-maker" in printed  # the command that serves it
    content = (out / "a.atlas").read_bytes()
    assert b"home-of-maker" not in content
    assert os.fsencode(tmp_path) not in content
    with rot180.open(out / "a.atlas") as atlas:
        assert atlas.model == "nets.py:net"
        assert atlas.weights == "w.pth"
        assert atlas.data == "folder birds (all)"
        assert [name for _, name, _ in atlas.skipped] == [f"{KEYS[0]}/broken.png"]
        with pytest.raises(Rot180Error, match=r"--model PATH/nets\.py:net --weights PATH/w\.pth"):
            load_scanned_model(atlas, device="cpu")
        named = load_scanned_model(atlas, f"{code}:net", home / "code" / "w.pth", device="cpu")
        assert named.classes == tuple(WORDS)
        assert named.mean == (0.5, 0.5, 0.5)


def test_a_model_is_named_by_what_lies_beside_its_atlas(tmp_path: Path) -> None:
    inside = tmp_path / "runs" / "x.safetensors"
    assert portable_model_name(str(inside), tmp_path) == "runs/x.safetensors"
    assert portable_model_name(str(inside), tmp_path / "atlases") == "x.safetensors"
    assert portable_model_name(f"{tmp_path}/nets.py:make", tmp_path) == "nets.py:make"
    for one in ("two-layer", "torchvision:resnet18:DEFAULT", "package.module:make"):
        assert portable_model_name(one, tmp_path) == one
    assert portable_model_name("timm:hf-hub:owner/name", tmp_path) == "timm:hf-hub:owner/name"
    assert portable_model_name("timm:local-dir:/home/me/x", tmp_path) == "timm:local-dir:x"


@pytest.mark.slow
def test_a_checkpoint_below_its_atlas_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    model = rot180.load("two-layer")
    model.save(tmp_path / "runs" / "x.safetensors")
    data = ArrayDataset(np.zeros((2, 32, 32, 3), np.uint8))
    trained = rot180.load(str(tmp_path / "runs" / "x.safetensors"))
    rot180.scan(trained, data, tmp_path / "a.atlas").close()
    monkeypatch.chdir("/")
    with rot180.open(tmp_path / "a.atlas") as atlas:
        assert load_scanned_model(atlas, device="cpu").classes == model.classes
        (tmp_path / "runs" / "x.safetensors").unlink()
        with pytest.raises(Rot180Error, match=r"--model PATH/x\.safetensors"):
            load_scanned_model(atlas, device="cpu")


@pytest.mark.slow
def test_a_table_of_the_model_names_the_folders_too(tmp_path: Path) -> None:
    data = folders(tmp_path / "data", KEYS[:3], "")
    code = put(tmp_path / "nets.py", CODE.encode())
    table = put(tmp_path / "mine.tsv", TABLE.encode())
    printed = run(
        *("scan", f"{code}:net", data, "--out", tmp_path / "a.atlas", "--size", 12),
        *("--output-classes", table, "--mean", "0.5,0.5,0.5", "--std", "1,1,1"),
    )
    said = "The 5 features of head are called by the classes of the model, as head · tench (0)."
    assert said in printed
    with rot180.open(tmp_path / "a.atlas") as atlas:
        assert atlas.classes == ("tench", "shark", "cock")
    printed = run("features", tmp_path / "a.atlas", "--layer", "head")
    assert "crane (4)" in printed


@pytest.mark.slow
def test_sheets_say_the_class_of_a_score(tmp_path: Path) -> None:
    from rot180.figures.plates import patches

    with made(folders(tmp_path / "data"), tmp_path / "a.atlas") as atlas:
        (page,) = patches(atlas, "head")
        titles = {one["channel"]: one["title"] for one in page.numbers["features"]}
        assert titles
        assert all(title == f"head · {WORDS[n]} ({n})" for n, title in titles.items())


@pytest.mark.slow
def test_inspect_and_project_say_the_class_of_a_score(tmp_path: Path) -> None:
    code = put(tmp_path / "nets.py", CODE.encode())
    table = put(tmp_path / "classes.txt", TABLE.encode())
    put(tmp_path / "x.png", encoded(pictures(1)[0]))
    options = ("--output-classes", table, "--size", 12)
    printed = run("inspect", f"{code}:net", *options, "--json", tmp_path / "report.json")
    said = "features of head are scores of classes: head · tench (0), shark (1), cock (2), … crane"
    assert said in " ".join(printed.split())
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["outputs"] == {"layer": "head", "names": WORDS}
    printed = run(
        *("project", "head", 3, "--picture", tmp_path / "x.png", "--model", f"{code}:net"),
        *(*options, "--out", tmp_path / "p.png"),
    )
    assert "head · hen (3) for image 0" in printed
    assert json.loads((tmp_path / "p.json").read_text())["title"] == "head · hen (3)"
