"""A checkpoint is one file that holds all; a bad one gets a sentence and executes nothing."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import rot180
from rot180 import Rot180Error
from rot180.networks.checkpoint import Checkpoint
from rot180.networks.two_layer import TwoLayer


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
    from rot180.datasets import decoded, open_dataset
    from rot180.networks.training import accuracy

    shipped = rot180.load("two-layer")
    held_out = decoded(open_dataset(str(cifar10_parquet), "test"), (32, 32), 3)
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
