"""Any model by its name: found, filled, prepared for pictures; what is wrong gets a sentence."""

import os
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

import rot180
from rot180 import Rot180Error
from rot180.models.checkpoint import Checkpoint
from rot180.models.load import is_checkpoint, load_model, load_two_layer
from rot180.models.model import Model
from tests import zoo
from tests.models.test_weights import Bomb

CODE = """
import torch
from torch import nn
import beside

class Net(nn.Sequential):
    def __init__(self, channels=3, classes=4):
        super().__init__(
            nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(4, classes),
        )

def make():
    return Net().train()

def grey():
    return Net(1)

def half():
    return Net().half()

def double():
    return Net().double()

ready = Net().train()
def shared(): return ready
def needs(classes): return Net(classes=classes)
def nothing(): return {"weight": 1}
def broken():
    raise ValueError("no such width")
def leaves(): raise SystemExit(3)
def words(): return nn.Embedding(4, 4)
def empty(): return Net().to("meta")
def lazy(): return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(4))
number = beside.number
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("number = 3\n")
    path = tmp_path / "nets.py"
    path.write_text(CODE)
    return path


# Names


@pytest.mark.parametrize("name", ["make", "Net", "ready", "double", "half", "grey", "lazy"])
def test_a_model_from_a_file_is_shown_pictures(code: Path, name: str) -> None:
    found = load_model(f"{code}:{name}", size=(10, 12), device="cpu")
    assert not found.model.training
    assert found.channels == (1 if name == "grey" else 3)
    assert found.size == (10, 12)
    image = np.random.default_rng(0).integers(0, 256, (10, 12, found.channels), dtype=np.uint8)
    x = found.prepare(image)
    wanted = (image / 255 - np.array(found.mean)) / np.array(found.std)
    assert np.allclose(x.permute(1, 2, 0), wanted, atol=1e-5)
    layer = next(iter(found.network().layers))
    assert rot180.project(found.network(), x, layer, 2, method="deconvnet").full().shape == x.shape
    assert found.network() is found.network()


def test_a_model_from_a_module_of_the_present_directory(code, monkeypatch) -> None:
    monkeypatch.chdir(code.parent)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    before = list(sys.path)
    assert isinstance(load_model("nets:make", size=8, device="cpu"), Model)
    assert sys.path == before
    del sys.modules["nets"]


def test_what_is_the_users_own_is_not_changed(code, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(code.parent)
    import nets

    weights = {name: x + 1 for name, x in nets.ready.state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors")
    for name in ("ready", "shared"):
        found = load_model(f"nets:{name}", weights=tmp_path / "w.safetensors", size=8, device="cpu")
        assert torch.equal(found.model[0].weight, nets.ready[0].weight + 1)
        assert nets.ready.training
        assert not found.model.training
    del sys.modules["nets"]


def test_weights_that_are_drawn_are_the_same_each_time(code: Path) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    one, two = (load_model(f"{code}:make", size=8, device="cpu").model for _ in range(2))
    assert torch.equal(one[0].weight, two[0].weight)
    assert torch.equal(torch.rand(3), expected)  # and nobody else's random numbers change


def test_half_precision_and_doubles(code: Path) -> None:
    found = load_model(f"{code}:half", size=8, device="cpu")
    assert found.dtype == torch.float32
    assert any("weights are float16" in one for one in found.notices)
    found = load_model(f"{code}:double", size=8, device="cpu")
    assert found.prepare(np.zeros((8, 8, 3), np.uint8)).dtype == found.dtype == torch.float64
    assert not any("float32" in one for one in found.notices)


def test_a_checkpoint_is_a_named_model(tmp_path: Path) -> None:
    shipped = load_model("two-layer", device="cpu")
    assert isinstance(shipped, Checkpoint)
    assert shipped.notices == ()
    shipped.save(tmp_path / "x.safetensors")
    assert is_checkpoint(str(tmp_path / "x.safetensors"))
    assert load_two_layer("two-layer", "cpu", "this").classes == shipped.classes
    options = {"weights": "x.pt", "size": 8, "mean": [0], "std": [1], "classes": ["a"]}
    for option, value in options.items():
        with pytest.raises(Rot180Error, match=f"holds its own {option}: leave out --"):
            load_model("two-layer", device="cpu", **{option: value})
    with pytest.raises(Rot180Error, match="'rot180 trace' takes the two-layer network alone"):
        load_two_layer("torchvision:resnet18", "cpu", "'rot180 trace'")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "name of the model is empty"),
        ("resnet5", "no model 'resnet5'. With rot180 comes two-layer.*resnet50.*torchvision:NAME"),
        ("nowhere/net", "no checkpoint at nowhere/net"),
        ("net.safetensors", "no checkpoint at net.safetensors"),
        ("net.pth", "holds weights without a model.*--weights"),
        ("torchvision:resnt50", "torchvision has no model 'resnt50'. It has: resnet50"),
        ("torchvision:resnet18:DEFAUL", "no weights 'DEFAUL' of resnet18. There are: DEFAULT"),
        ("timm:test_resnt", "timm has no model 'test_resnt'. It has: test_resnet"),
        ("timm:hf-hub:x/y", "only ':pretrained' can follow, not ':x/y'"),
        ("timm:test_resnet:best", "only ':pretrained' can follow, not ':best'"),
        ("{code}:maker", r"nets.py has no 'maker'. It has: make"),
        ("{code}", r"write .*nets.py:NAME. It has: Net, make"),
        ("{code}:number", "'number' in .* is neither a function nor .* but int"),
        ("{code}:needs", "cannot be called without arguments .*'classes'"),
        ("{code}:nothing", "nets.py:nothing returns dict, not a torch.nn.Module"),
        ("{code}:broken", r"stopped at line 30 with ValueError \(no such width\)"),
        ("{code}:leaves", r"stopped at line 31 with SystemExit \(3\)"),
        ("{code}:words", "takes no images of 224x224 pixels: .*indices"),
        ("{code}:empty", "cannot be moved to cpu: Cannot copy out of meta"),
        ("{dir}/net.py:make", r"no file .*net.py.*Beside it: .*nets.py"),
        ("torchvision.modls:resnet18", r"no module torchvision.modls \(torchvision has: models"),
        ("nomodule:net", "no module nomodule. A file is named by its path"),
        ("a..b:net", "'a..b' is no name of a Python module"),
        ("needy:net", "needy cannot be imported: it needs not_there, which is not installed"),
        ("syntax:net", "syntax cannot be imported: .*SyntaxError"),
        ("{dir}/syntax.py:net", "syntax.py cannot be run: it stopped with SyntaxError .*line 1"),
        ("{dir}/quits.py:net", "quits.py cannot be run: it stopped at line 2 with SystemExit"),
    ],
)
def test_names_of_nothing(code: Path, monkeypatch, name: str, said: str) -> None:
    monkeypatch.chdir(code.parent)
    Path("needy.py").write_text("import not_there\n")
    Path("syntax.py").write_text("def (\n")
    Path("quits.py").write_text("import sys\nsys.exit('no')\n")
    with pytest.raises(Rot180Error, match=said) as caught:
        load_model(name.format(code=code, dir=code.parent), device="cpu")
    assert str(caught.value).endswith(".")


# torchvision and timm


@pytest.mark.slow
def test_a_model_of_torchvision_without_weights() -> None:
    found, again = (load_model("torchvision:efficientnet_b1", device="cpu") for _ in range(2))
    assert torch.equal(found.model.classifier[1].weight, again.model.classifier[1].weight)
    assert found.size == (240, 240)  # what its default weights take
    assert found.classes == ()
    assert "are random: they come untrained" in found.notices[0]
    assert "--size 240x240" in found.notices[1]
    assert "EfficientNet_B1_Weights.IMAGENET1K_V2" in found.notices[1]


def test_weights_of_torchvision_bring_classes_and_preprocessing(monkeypatch) -> None:
    trained = models.squeezenet1_1().state_dict()
    forced = []

    def download(url: str, **_: object) -> dict[str, torch.Tensor]:
        assert url == models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
        forced.append(os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD"))
        return trained

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    found = load_model("torchvision:squeezenet1_1:IMAGENET1K_V1", device="cpu")
    assert found.notices == ()
    assert found.size == (224, 224)
    assert found.mean == (0.485, 0.456, 0.406)
    assert found.std == (0.229, 0.224, 0.225)
    assert found.classes[:2] == ("tench", "goldfish")
    assert len(found.classes) == 1000
    assert torch.equal(found.model.state_dict()["features.0.weight"], trained["features.0.weight"])
    assert forced == ["1"]
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    with pytest.raises(Rot180Error, match="names weights, and --weights does, too"):
        load_model("torchvision:squeezenet1_1:DEFAULT", weights="x.pth", device="cpu")


def test_weights_that_cannot_be_downloaded(monkeypatch) -> None:
    def download(url: str, **_: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    with pytest.raises(Rot180Error, match=r"cannot be loaded: URLError.*no route.*with --weights"):
        load_model("torchvision:squeezenet1_1:DEFAULT", device="cpu")


def test_a_downloaded_file_executes_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    file = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save({"x": Bomb(tmp_path / "mark")}, tmp_path / "checkpoints" / file)
    with pytest.raises(Rot180Error, match="cannot be loaded: UnpicklingError"):
        load_model("torchvision:squeezenet1_1:DEFAULT", device="cpu")
    assert not (tmp_path / "mark").exists()


def test_the_file_of_torchvisions_weights(tmp_path: Path) -> None:
    trained = models.squeezenet1_1().state_dict()
    torch.save(trained, tmp_path / "w.pth")
    found = load_model("torchvision:squeezenet1_1", tmp_path / "w.pth", size=64, device="cpu")
    assert torch.equal(found.model.state_dict()["features.0.weight"], trained["features.0.weight"])
    assert found.size == (64, 64)
    (remark,) = found.notices
    assert "--size" not in remark
    assert "--mean 0.485,0.456,0.406, --std 0.229,0.224,0.225" in remark


def test_a_model_of_timm(monkeypatch) -> None:
    timm = pytest.importorskip("timm")
    found = load_model("timm:test_resnet", device="cpu")
    assert found.size == (160, 160)
    assert found.mean == found.std == (0.5, 0.5, 0.5)
    assert found.classes == ()
    assert "timm:test_resnet:pretrained" in found.notices[0]
    create, asked = timm.create_model, []

    def published(name: str, pretrained: bool) -> nn.Module:
        asked.append((name, pretrained))
        return create(name)

    monkeypatch.setattr(timm, "create_model", published)
    found = load_model("timm:test_resnet:pretrained", device="cpu")
    assert asked == [("test_resnet", True)]
    assert found.notices == ()
    assert found.classes[0].startswith("tench")
    assert len(found.classes) == 1000


def test_without_timm_there_is_a_sentence(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(Rot180Error, match=r"need the package timm .*pip install timm"):
        load_model("timm:resnet18", device="cpu")


def test_loading_warns_of_what_was_assumed(code: Path) -> None:
    with pytest.warns(UserWarning, match=r"Assumed of the images: --size 224x224, --mean 0.485"):
        rot180.load(f"{code}:make")
    with pytest.warns(UserWarning, match="Assumed of the images: --mean 0.449, --std 0.226 "):
        rot180.load(f"{code}:grey", size=8)
    told = {"size": 8, "mean": [0.5] * 3, "std": [0.25] * 3}
    assert rot180.load(f"{code}:make", **told).notices == ()


# What is said of the images


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 0}, "cannot be 0x0 pixels"),
        ({"size": (8, -1)}, "cannot be 8x-1 pixels"),
        ({"size": 5000}, "cannot be 5000x5000 pixels: .* to 4096x4096"),
        ({"size": (8, 8, 3)}, r"A size is \(height, width\)"),
        ({"size": "8x8"}, r"A size is \(height, width\).*'8x8'"),
        ({"size": 8.5}, "has to be a whole number, not 8.5"),
        ({"size": 2}, "takes no images of 2x2 pixels: .*--size"),
        ({"mean": (0.5,)}, r"images of 3 channels, and --mean has 1 values \(0.5\): give 3"),
        ({"std": (1, 1, 1, 1)}, "3 channels, and --std has 4 values"),
        ({"std": (1, 0, 1)}, "deviation is greater than 0"),
        ({"std": (1, -1, 1)}, "deviation is greater than 0"),
        ({"mean": (float("nan"),) * 3}, "one finite number for each channel"),
        ({"mean": ()}, "one finite number for each channel"),
        ({"mean": "0.5"}, "mean is one number for each channel"),
        ({"mean": 0.5}, "mean is one number for each channel"),
        ({"classes": ["a", "b"]}, "2 names of classes, but .* gives 4 scores"),
        ({"classes": "no.txt"}, "classes cannot be read from no.txt: No such file"),
        ({"classes": 3}, "Classes are names, or a file"),
        ({"device": "gpu"}, "The device 'gpu' cannot be used here"),
    ],
)
def test_values_out_of_range(code: Path, options: dict, said: str) -> None:
    with pytest.raises(Rot180Error, match=said):
        load_model(f"{code}:make", **{"size": 8, "device": "cpu", **options})


def test_classes_from_a_file(code: Path, tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("ant\nbee \n\ncat\ndög\n", encoding="utf-8-sig")
    found = load_model(f"{code}:make", size=8, classes=path, device="cpu")
    assert found.classes == ("ant", "bee", "cat", "dög")
    x = found.prepare(np.full((8, 8, 3), 200, np.uint8))
    wanted = found.model(x[None]).detach().softmax(1)[0]
    name, chance = found.top_class(x)
    assert name == found.classes[int(wanted.argmax())]
    assert chance == pytest.approx(float(wanted.max()), abs=1e-6)
    assert load_model(f"{code}:make", size=8, device="cpu").top_class(x) is None
    for content, said in ((b"\n\n", "There is no class in"), (b"\xff\xfe\xfa", "no text in UTF-8")):
        path.write_bytes(content)
        with pytest.raises(Rot180Error, match=said):
            load_model(f"{code}:make", size=8, classes=path, device="cpu")


@pytest.mark.slow
def test_a_published_network_answers_as_it_was_trained_to() -> None:
    from skimage import data

    from rot180.datasets import resize_and_crop

    options = {**zoo.EFFICIENTNET_LITE0, "device": "cpu"}
    found = load_model(f"{zoo.__file__}:efficientnet_lite0", **options)
    assert found.notices == ()
    with torch.no_grad():
        scores = found.model(found.prepare(resize_and_crop(data.chelsea(), (224, 224), 3))[None])
    assert int(scores.argmax()) in (281, 282, 285)  # tabby, tiger cat, Egyptian cat


@pytest.mark.parametrize(
    "name",
    [
        "9" * 400,
        f"{'a/' * 3000}b",
        "x" * 5000 + ".safetensors",
        "a" * 400 + ".py:f",
        "a\0b",
        "\ud800",
    ],
)
def test_a_name_that_no_file_can_have_is_said(name: str) -> None:
    with pytest.raises(Rot180Error, match=r"There is no (model|checkpoint|file)") as caught:
        load_model(name, device="cpu")
    assert len(str(caught.value)) < 1500 or name.endswith(".py:f")


def test_a_number_of_thousands_of_digits_is_no_model() -> None:
    with pytest.raises(Rot180Error, match="A model is named by text"):
        load_model(10**5000, device="cpu")
    with pytest.raises(Rot180Error, match="below 2 to the power of 63"):
        load_model("torchvision:resnet18", size=10**5000, device="cpu")
