"""Weights from files: found wherever training scripts keep them; nothing in them is executed."""

import os
import pickle
import types
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rot180 import Rot180Error
from rot180.models.weights import load_weights, read_weights, safe_unpickling


def small(classes: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, classes),
        ).eval()


class Bomb:
    """When unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("waived", [False, True])
@pytest.mark.parametrize("how", ["pickle", "zip", "legacy", "nested"])
def test_a_file_of_weights_executes_nothing(tmp_path, monkeypatch, how: str, waived: bool) -> None:
    if waived:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    mark, path = tmp_path / "mark", tmp_path / "w.pth"
    match how:
        case "pickle":
            path.write_bytes(pickle.dumps({"0.weight": Bomb(mark)}))
        case "zip":
            torch.save({"0.weight": Bomb(mark)}, path)
        case "legacy":
            torch.save({"0.weight": Bomb(mark)}, path, _use_new_zipfile_serialization=False)
        case "nested":
            torch.save({"state_dict": small().state_dict(), "extra": Bomb(mark)}, path)
    with pytest.raises(Rot180Error, match=r"w.pth is not opened.*could run any code"):
        load_weights(small(), path, "the model")
    assert not mark.exists()
    assert os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD") == ("1" if waived else None)
    if how != "pickle":  # the test itself: opened by a careless reader, the file does execute
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_reading_tensors_alone_ends_with_its_block(monkeypatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    with pytest.raises(KeyError), safe_unpickling():
        raise KeyError
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "0"


def _saved(path: Path, how: str) -> None:
    torch.save(small().state_dict(), path)
    whole = path.read_bytes()
    match how:
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "damaged":
            path.write_bytes(whole[:300] + bytes(200) + whole[500:])
        case "truncated, old format":
            torch.save(small().state_dict(), path, _use_new_zipfile_serialization=False)
            path.write_bytes(path.read_bytes()[:-40])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("no weights at all\n" * 9)
        case "a whole model":
            torch.save(small(), path)
        case "TorchScript":
            torch.jit.trace(small(), torch.zeros(1, 3, 8, 8)).save(str(path))
        case "a tensor":
            torch.save(torch.zeros(3), path)
        case "no weights":
            torch.save({"epoch": 3, "state_dict": {"lr": 0.1}}, path)
        case "directory":
            path.unlink()
            path.mkdir()
        case "missing":
            path.unlink()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", "cannot be read as weights: it is damaged, cut short"),
        ("damaged", "it is damaged|It is damaged"),
        ("truncated, old format", "cannot be read as weights: it is damaged, cut short"),
        ("empty", "cannot be read as weights: it is damaged, cut short"),
        ("text", "w.bin (cannot be read as weights|is not opened)"),
        ("a whole model", "is not opened. It asks for torch.nn.modules.*state_dict"),
        ("TorchScript", "a TorchScript archive, not a file of weights"),
        ("a tensor", "holds one Tensor, and no weights by name"),
        ("no weights", "holds a mapping of 'epoch', 'state_dict', and no weights by name"),
        ("directory", "it is a directory"),
        ("missing", "it is no such file"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_files_that_hold_no_weights(tmp_path: Path, how: str, said: str) -> None:
    path = tmp_path / "w.bin"
    _saved(path, how)
    with pytest.raises(Rot180Error, match=said) as caught:
        load_weights(small(), path, "the model")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_safetensors_and_other_endings(tmp_path: Path) -> None:
    wanted = small().state_dict()
    save_file(wanted, tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors")
    assert found.keys() == wanted.keys()
    (tmp_path / "w.safetensors").write_bytes(b"cut")
    with pytest.raises(Rot180Error, match="cannot be read as a safetensors file"):
        read_weights(tmp_path / "w.safetensors")
    (tmp_path / "w.h5").write_bytes(b"")
    with pytest.raises(Rot180Error, match=r"no file of weights by its ending: .*\.pth"):
        read_weights(tmp_path / "w.h5")


@pytest.mark.parametrize("place", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_weights_as_training_scripts_keep_them(tmp_path: Path, place, prefix: str) -> None:
    wanted = small().state_dict()
    held = {prefix + name: x for name, x in wanted.items()}
    torch.save({"epoch": 3, place: held} if place else held, tmp_path / "w.pt")
    model = small()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    load_weights(model, tmp_path / "w.pt", "the model")
    assert all(torch.equal(x, wanted[name]) for name, x in model.state_dict().items())


def test_a_prefix_that_is_the_models_own_stays(tmp_path: Path) -> None:
    outer = nn.ModuleDict({"model": small()})
    torch.save(outer.state_dict(), tmp_path / "w.pt")
    load_weights(outer, tmp_path / "w.pt", "the model")
    torch.save({f"module.{name}": x for name, x in outer.state_dict().items()}, tmp_path / "w.pt")
    load_weights(outer, tmp_path / "w.pt", "the model")


def test_what_a_file_may_lack_or_name_otherwise(tmp_path: Path) -> None:
    held = small().state_dict()
    del held["1.num_batches_tracked"]
    held["first.weight"] = held.pop("0.weight") + 1
    torch.save(held, tmp_path / "w.pt")
    model = small()
    with pytest.raises(Rot180Error, match=r"missing: 0.weight \(4, 3, 3, 3\); unexpected: first"):
        load_weights(model, tmp_path / "w.pt", "the model")

    def rename(module: nn.Module, held: dict, *_: object) -> None:
        held["0.weight"] = held.pop("first.weight")

    model.register_load_state_dict_pre_hook(rename)
    load_weights(model, tmp_path / "w.pt", "the model")
    assert torch.equal(model[0].weight, held["first.weight"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"5.weight": None}, r"missing: 5.weight \(4, 4\)\. Give"),
        ({"6.weight": torch.zeros(2)}, r"unexpected: 6.weight \(2,\)\. Give"),
        (
            {"5.weight": torch.zeros(9, 4), "5.bias": torch.zeros(9)},
            r"of another shape: 5.weight \(9, 4\) instead of \(4, 4\), 5.bias \(9,\) instead of",
        ),
        (
            {f"more.{k}": torch.zeros(1) for k in range(7)},
            r"more.0 \(1,\), more.1 \(1,\), more.2 \(1,\), … \(7 in all\)",
        ),
        ({"0.bias": torch.full((4,), torch.inf)}, "'0.bias' .* infinite or NaN"),
    ],
)
def test_weights_of_another_model(tmp_path: Path, change: dict, said: str) -> None:
    held = {**small().state_dict(), **change}
    torch.save({name: x for name, x in held.items() if x is not None}, tmp_path / "w.pt")
    with pytest.raises(Rot180Error, match=said):
        load_weights(small(), tmp_path / "w.pt", "the model")


def test_a_model_that_refuses_to_be_filled(tmp_path: Path) -> None:
    model = small()
    model.load_state_dict = types.MethodType(lambda *_, **__: 1 / 0, model)  # type: ignore
    torch.save(small().state_dict(), tmp_path / "w.pt")
    with pytest.raises(Rot180Error, match=r"does not take the weights .*: division by zero"):
        load_weights(model, tmp_path / "w.pt", "the model")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"0.bias": torch.ones(4, dtype=torch.complex64)}, "'0.bias' .* are complex"),
        ({"0.bias": torch.full((4,), 1e300, dtype=torch.float64)}, "infinite or NaN in float32"),
        ({"0.bias": torch.full((4,), torch.nan).to(torch.float8_e4m3fn)}, "'0.bias' .* NaN"),
        ({"1.num_batches_tracked": torch.tensor(1.5)}, "float32, and the model's are int64"),
    ],
)
def test_weights_that_would_change_on_the_way(tmp_path: Path, change: dict, said: str) -> None:
    save_file({**small().state_dict(), **change}, tmp_path / "w.safetensors")
    with pytest.raises(Rot180Error, match=said):
        load_weights(small(), tmp_path / "w.safetensors", "the model")


def test_weights_of_other_precisions_are_taken(tmp_path: Path) -> None:
    held = {
        "0.bias": torch.linspace(-1, 1, 4).to(torch.float8_e4m3fn),
        "5.bias": torch.arange(4),
        "1.num_batches_tracked": torch.tensor(7.0, dtype=torch.float16),
    }
    save_file({**small().state_dict(), **held}, tmp_path / "w.safetensors")
    model = small()
    load_weights(model, tmp_path / "w.safetensors", "the model")
    assert torch.equal(model[0].bias, held["0.bias"].float())
    assert torch.equal(model[5].bias, torch.arange(4.0))
    assert int(model[1].num_batches_tracked) == 7


def test_an_archive_that_unpacks_to_much_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("w/data/0", bytes(100 * 2**20))
    with pytest.raises(Rot180Error, match="it would unpack to 104,857,600 bytes"):
        read_weights(path)
