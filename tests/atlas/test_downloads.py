"""Opening an atlas downloads nothing, whatever it names."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch.hub

import rot180
from rot180.atlas.model import load_scanned_model
from rot180.errors import Rot180Error
from rot180.web.collection import AtlasCollection
from tests.atlas.scans import change
from tests.web.atlases import loader


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What was asked of other machines; no weights are cached here."""
    found: list[Any] = []

    def urlopen(*given: Any, **options: Any) -> None:
        found.append(given)
        raise OSError("there is no connection")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(torch.hub, "urlopen", urlopen)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return found


NAMED = [
    "torchvision:resnet18:DEFAULT",
    pytest.param("timm:resnet18:pretrained", marks=pytest.mark.slow),
]


def named(path: Path, model: str) -> Path:
    change(path, ("UPDATE metadata SET value = ? WHERE key = 'model'", (json.dumps(model),)))
    return path


@pytest.mark.parametrize("model", NAMED)
def test_an_atlas_that_names_published_weights_downloads_none(
    copy: Path, model: str, asked: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    if model.startswith("timm:"):
        pytest.importorskip("timm")
    collection = AtlasCollection([rot180.open(named(copy, model))], [loader])
    live = collection["copy"].model
    live.load()
    assert live.state == "absent"
    assert live.reason.endswith(f"say it yourself: --model {model}.")
    assert asked == []
    assert "Downloading" not in capfd.readouterr().err


def test_whoever_names_the_weights_wants_them(copy: Path, asked: list[Any]) -> None:
    model = "torchvision:resnet18:DEFAULT"
    with (
        rot180.open(named(copy, model)) as atlas,
        pytest.raises(Rot180Error, match="no connection"),
    ):
        load_scanned_model(atlas, model, device="cpu")
    assert len(asked) == 1


@pytest.mark.slow
def test_weights_that_are_here_already_are_used(
    copy: Path, asked: list[Any], tmp_path: Path
) -> None:
    from torchvision import models

    weights = models.ResNet18_Weights.DEFAULT
    place = tmp_path / "torch" / "hub" / "checkpoints" / Path(weights.url).name
    place.parent.mkdir(parents=True)
    torch.save(models.resnet18().state_dict(), place)
    with rot180.open(named(copy, "torchvision:resnet18:DEFAULT")) as atlas:
        assert (
            load_scanned_model(atlas, size=32, device="cpu").name == "torchvision:resnet18:DEFAULT"
        )
    assert asked == []


@pytest.mark.parametrize("model", ["a\nb", "x\x00", "1" * 400, "/" + "a" * 300 + ".safetensors"])
def test_names_that_no_model_has(copy: Path, model: str) -> None:
    with (
        rot180.open(named(copy, model)) as atlas,
        pytest.raises(Rot180Error, match="names a model that cannot be") as caught,
    ):
        load_scanned_model(atlas, device="cpu")
    assert "\n" not in str(caught.value)
