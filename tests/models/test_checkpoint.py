"""A checkpoint is one file that holds all; a bad one gets a sentence and executes nothing."""

import json
import pickle
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import rot180
from rot180 import Rot180Error
from rot180.models.checkpoint import Checkpoint
from rot180.models.two_layer import TwoLayer


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(1)
    return Checkpoint(
        TwoLayer(3, 1, (8, 12), hidden=7).eval(),
        ("a", "b", "ç"),
        (0.5,),
        (0.25,),
        (8, 12),
        {"name": "made up", "fingerprint": "0"},
        {"epochs": 1},
        [{"epoch": 1, "loss": 0.1}],
        {"made": "by a test"},
    )


def test_what_was_saved_is_loaded(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.safetensors"
    checkpoint.save(path)
    found = rot180.load(path)
    for name in ("classes", "mean", "std", "size", "data", "recipe", "history", "notes"):
        assert getattr(found, name) == getattr(checkpoint, name)
    x = torch.randn(2, 1, 8, 12)
    assert torch.allclose(found.model(x), checkpoint.model(x), atol=1e-6)
    assert not found.model.training
    assert [one.name for one in path.parent.iterdir()] == ["x.safetensors"]


def test_any_safetensors_reader_can_read_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", "np") as opened:
        assert opened.get_tensor("conv1.weight").shape == (32, 1, 5, 5)
        about = json.loads(opened.metadata()["rot180"])
    assert about["architecture"] == "two-layer"
    assert about["hidden"] == 7


def test_images_are_normalised_as_in_training(checkpoint: Checkpoint) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 1), dtype=np.uint8)
    wanted = (images.astype(np.float64) / 255 - 0.5) / 0.25
    assert np.allclose(checkpoint.prepare(images).permute(0, 2, 3, 1), wanted, atol=1e-6)
    assert torch.equal(checkpoint.prepare(images[0]), checkpoint.prepare(images)[0])
    for wrong in (images[:, :7], images.astype(np.float32), images.repeat(3, -1)):
        with pytest.raises(Rot180Error, match=r"takes 8-bit images of .*\(8, 12, 1\)"):
            checkpoint.prepare(wrong)


def test_the_shipped_network_names_what_it_sees() -> None:
    shipped = rot180.load("two-layer")
    assert shipped.classes[:3] == ("airplane", "automobile", "bird")
    assert shipped.size == (32, 32)
    assert shipped.history
    assert shipped.recipe["epochs"] <= 12
    assert {"name", "fingerprint"} <= set(shipped.data)


@pytest.mark.slow
def test_the_shipped_network_reaches_its_accuracy_on_cifar10(cifar10_parquet: Path) -> None:
    from rot180.datasets import decode_all, open_dataset
    from rot180.training.loop import accuracy

    shipped = rot180.load("two-layer")
    held_out = decode_all(open_dataset(str(cifar10_parquet), "test"), (32, 32), 3)
    assert accuracy(shipped, held_out) == pytest.approx(
        max(one["held_out"] for one in shipped.history), abs=5e-4
    )


def _damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    match how:
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("not tensors at all\n" * 20)
        case "pickle":
            path.write_bytes(pickle.dumps(_Bomb()))
        case "huge header":
            path.write_bytes((2**62).to_bytes(8, "little") + whole[8:])


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a file of a user's was executed",))


@pytest.mark.parametrize("how", ["truncated", "empty", "text", "pickle", "huge header"])
def test_a_file_that_is_no_safetensors_file(checkpoint, tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path)
    _damage(path, how)
    with pytest.raises(Rot180Error, match="cannot be read as a safetensors file"):
        rot180.load(path)


def _rewritten(path: Path, about: dict | None = None, **tensors: torch.Tensor | None) -> None:
    with safe_open(path, "pt") as opened:
        metadata = json.loads(opened.metadata()["rot180"])
        held = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    held |= {name.replace("__", "."): one for name, one in tensors.items()}
    kept = {name: one for name, one in held.items() if one is not None}
    save_file(kept, path, {"rot180": json.dumps({**metadata, **(about or {})})})


@pytest.mark.parametrize(
    ("about", "tensors", "words"),
    [
        ({"architecture": "resnet50"}, {}, "not a checkpoint of the two-layer network.*resnet50"),
        ({"format": "other"}, {}, "not a checkpoint of the two-layer network"),
        ({"classes": None}, {}, "metadata of .* are damaged"),
        ({"size": []}, {}, "metadata of .* are damaged"),
        ({"mean": ["x"]}, {}, "metadata of .* are damaged"),
        ({"size": [2, 2]}, {}, "2x2; the network needs 5x5"),
        (
            {},
            {"conv1__weight": torch.zeros(32, 3, 5, 5)},
            r"'conv1.weight' should be \(32, 1, 5, 5",
        ),
        ({}, {"conv1__weight": None}, "'conv1.weight' .* is absent"),
        ({}, {"extra": torch.zeros(1)}, "'extra' should be absent"),
        ({}, {"conv1__bias": torch.full((32,), float("nan"))}, "'conv1.bias' .* NaN"),
    ],
)
def test_a_file_that_holds_something_else(checkpoint, tmp_path, about, tensors, words) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path)
    _rewritten(path, about, **tensors)
    with pytest.raises(Rot180Error, match=words):
        rot180.load(path)


def test_safetensors_of_others_and_missing_files(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(Rot180Error, match="no rot180 architecture"):
        rot180.load(tmp_path / "a.safetensors")
    with pytest.raises(Rot180Error, match=r"no model .two-layr.. With rot180 comes two-layer"):
        rot180.load("two-layr")


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"size": [1e400, 8]}, "A side of an image's size has to be a whole number, not inf"),
        ({"size": [2**70, 8]}, "whole number below 2 to the power of 63"),
        ({"size": [8, [12]]}, "image's size has to be a whole number"),
        ({"size": 8}, "'size' has to be a list, not 8"),
        ({"hidden": float("inf")}, "hidden neurons has to be a whole number, not inf"),
        ({"hidden": 10**400}, "whole number below 2 to the power of 63"),
        ({"std": []}, "std is one finite number for each channel"),
        ({"std": [1e-320]}, "out of proportion"),
        ({"std": [0.2, 0.2]}, "as many means as deviations"),
        ({"mean": [float("nan")]}, "mean is one finite number for each channel"),
        ({"mean": [10**400]}, "mean is one number for each channel"),
        ({"mean": [1e38]}, "out of proportion"),
        ({"classes": ["a", 2, "c"]}, "Names of classes are text"),
        ({"classes": "abc"}, "'classes' has to be a list"),
        ({"history": [{"loss": float("nan")}]}, "finite numbers by name"),
        ({"history": [{"loss": 10**400}]}, "finite numbers by name"),
        ({"history": {}}, "finite numbers by name"),
        ({"data": {"name": []}}, "fingerprint of the data are text"),
        ({"notes": []}, "'notes' has to be a mapping"),
        ({"recipe": None}, "'recipe' has to be a mapping, not None"),
    ],
)
def test_metadata_of_no_network_are_said_in_one_sentence(checkpoint, tmp_path, about, said) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path)
    _rewritten(path, about)
    with pytest.raises(Rot180Error, match=f"metadata of .* are damaged.*{said}") as caught:
        rot180.load(path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("depth", [900, 100_000])
def test_metadata_of_any_depth_are_refused_or_kept(checkpoint, tmp_path: Path, depth: int) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path)
    with safe_open(path, "pt") as opened:
        held = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(held, path, {"rot180": "[" * depth + "]" * depth})
    with pytest.raises(Rot180Error, match=r"cannot be read as a safetensors file|are damaged"):
        rot180.load(path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (torch.complex64, "'conv1.bias' in .* are of the type complex64"),
        (torch.int32, "'conv1.bias' in .* are of the type int32"),
        (torch.float64, "'conv1.bias' in .* infinite or NaN in float32"),
    ],
)
def test_weights_of_types_that_a_network_does_not_have(checkpoint, tmp_path, kind, said) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path)
    values = torch.full((32,), 1e300, dtype=torch.float64)
    bias = values if kind == torch.float64 else torch.ones(32).to(kind)
    _rewritten(path, conv1__bias=bias)
    with pytest.raises(Rot180Error, match=said):
        rot180.load(path)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.bfloat16, torch.float64])
def test_weights_of_other_precisions_are_read_rightly(checkpoint, tmp_path: Path, kind) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path)
    bias = torch.linspace(-1, 1, 32).to(kind)
    _rewritten(path, conv1__bias=bias)
    found = rot180.load(path).model.conv1.bias
    assert found.dtype == torch.float32
    assert torch.equal(found, bias.float())
    assert found.requires_grad


def _with_header(path: Path, header: dict, data: bytes = b"") -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("kind", ["F4", "F6_E2M3", "F8_E8M0", "Q7"])
def test_numbers_that_nothing_computes_with(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.safetensors"
    one = {"dtype": kind, "shape": [8], "data_offsets": [0, {"F4": 4, "F6_E2M3": 6}.get(kind, 8)]}
    _with_header(path, {"a": one}, bytes(one["data_offsets"][1]))
    with pytest.raises(Rot180Error, match=f"type {kind}, which cannot|cannot be read as a safete"):
        rot180.load(path)


def test_names_of_classes_do_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path)
    _rewritten(
        path,
        {
            "classes": ["caf\udce9", "\x1b]0;owned\x07", "two\nlines"],
            "data": {"name": "\ud800\x1b[2J", "fingerprint": "0"},
            "notes": {"\udc80": ["\x9b"]},
        },
    )
    found = rot180.load(path)
    assert found.classes == (r"caf\xe9", r"\x1b]0;owned\x07", r"two\nlines")
    assert found.data["name"] == r"\ud800\x1b[2J"
    assert found.notes == {r"\x80": [r"\x9b"]}
    found.save(path)
    assert rot180.load(path).classes == found.classes


_MEASURED = """
import resource, sys
import rot180, rot180.models.checkpoint
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    rot180.load(sys.argv[1])
except rot180.Rot180Error as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory otherwise")
@pytest.mark.parametrize(
    ("about", "said"),
    [
        (
            {"classes": [f"class{k}" for k in range(200_000)], "hidden": 0, "size": [32, 32]},
            "'head.weight'",
        ),
        ({"hidden": 2**20, "size": [4096, 4096]}, "'hidden.0.weight'"),
    ],
)
def test_a_checkpoint_that_promises_much_costs_little(checkpoint, tmp_path, about, said) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path)
    _rewritten(path, about)
    run = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(path)], capture_output=True, text=True, check=True
    )
    kilobytes, _, words = run.stdout.partition(" ")
    assert said in words
    assert int(kilobytes) < 200_000


def test_a_header_of_a_hundred_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 90_000_000))
        file.truncate(90_000_008)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Rot180Error, match="its header would have 90000000 bytes"):
        rot180.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("text", ["[" + "[]," * 200_000 + "[]]", "[" + "1," * 3_000_000 + "1]"])
def test_metadata_that_are_larger_than_any_are_not_taken_apart(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.safetensors"
    _with_header(path, {"__metadata__": {"rot180": text}})
    with pytest.raises(Rot180Error, match="larger than those of any network"):
        rot180.load(path)


def test_more_tensors_than_any_network_has_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    _with_header(path, {f"a{k}": empty for k in range(30_000)})
    with pytest.raises(Rot180Error, match="holds 30000 tensors; at most 20000"):
        rot180.load(path)
