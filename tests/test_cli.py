"""The command line: what it prints and leaves behind, and that errors are sentences."""

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from typer.testing import CliRunner

import rot180
from rot180.atlas.model import load_scanned_model
from rot180.cli import app, train
from rot180.models import published
from tests import zoo
from tests.models.test_published import NAME as EFFICIENTNET
from tests.models.test_published import small


def run(*words: object) -> tuple[int, str]:
    """Run a command and return its exit status and all that it printed."""
    result = CliRunner().invoke(app, [str(one) for one in words])
    return result.exit_code, result.output


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every command in an empty directory, since some write where they are."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with bright and dark noise, one file of them broken."""
    root = tmp_path_factory.mktemp("data") / "pictures"
    rng = np.random.default_rng(0)
    for name, low in (("bright", 128), ("dark", 0)):
        (root / name).mkdir(parents=True)
        for number in range(150):
            pixels = rng.integers(low, low + 128, (16, 18, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    (root / "dark" / "broken.png").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "net.safetensors"
    options = ("--epochs", 2, "--batch", 32, "--size", "16x16", "--out", path)
    status, printed = run("train", "--data", folder, *options, "--device", "cpu")
    assert status == 0, printed
    assert "Left out 1 broken images" in printed
    assert "broken.png" in printed
    assert "held-out" in printed
    return path


def test_train_leaves_a_checkpoint_and_its_curve(trained: Path) -> None:
    names = {one.name for one in trained.parent.iterdir()}
    curve = {"net-learning-curve.png", "net-learning-curve.json"}
    assert names == {"net.safetensors", *curve}
    found = rot180.load(trained)
    assert found.classes == ("bright", "dark")
    assert found.size == (16, 16)
    assert found.history[-1]["held_out"] > 0.9


INTERRUPTIBLE: dict[str, Any] = {
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "text": True,
    # What runs in the background may ignore interrupts, and hands that down.
    "preexec_fn": partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
}


@pytest.mark.slow
def test_an_interrupted_training_keeps_the_best_and_goes_on(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    options = ["--data", folder, "--epochs", 5000, "--batch", 32, "--size", "16x16", "--out", path]
    command = [sys.executable, "-u", "-m", "rot180", "train", *map(str, options)]
    with subprocess.Popen(command, **INTERRUPTIBLE) as running:
        lines = iter(running.stdout)
        while "epoch   2" not in next(lines):
            pass
        running.send_signal(signal.SIGINT)
        printed = "".join(lines)
    assert running.returncode == 1
    assert f"error: Interrupted: {path} holds the best epoch so far" in printed
    done = len(rot180.load(path).history)
    assert 1 <= done < 5000
    with subprocess.Popen([*command, "--resume"], **INTERRUPTIBLE) as running:
        lines = iter(running.stdout)
        while "epoch " not in (line := next(lines)):
            assert "error" not in line
        running.send_signal(signal.SIGINT)
        running.communicate()
    assert int(line.split()[1]) >= 3  # it did not start again


@pytest.mark.slow
def test_figures_of_it(trained: Path, folder: Path, tmp_path: Path) -> None:
    status, printed = run(
        *("figures", "--model", trained, "--data", folder, "--out", tmp_path),
        *("--class", "dark", "--format", "png,pdf"),
    )
    assert status == 0, printed
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.pdf"))) == 8
    assert json.loads((tmp_path / "1-image.json").read_text())["class"] == "dark"


@pytest.mark.slow
def test_project_an_image_file(trained: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.png"
    status, printed = run(
        *("project", "conv2", 5, "--picture", folder / "dark" / "3.png", "--model", trained),
        *("--position", "peak", "--method", "guided", "--unpool", "repeat", "--out", out),
    )
    assert status == 0, printed
    assert "method guided, unpooling by repeat" in printed
    assert "3.png" in printed
    assert Image.open(out).size[0] > 600
    assert out.with_suffix(".json").exists()


@pytest.mark.slow
def test_the_demo(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(published.PUBLISHED, EFFICIENTNET, small)
    status, printed = run("demo", "--data", folder, "--out", tmp_path / "demo", "--epochs", 1)
    assert status == 0, printed
    assert "Done in" in printed
    assert "too few to measure the network" in printed
    first, second = (tmp_path / "demo" / f"{one}.atlas" for one in ("two-layer", EFFICIENTNET))
    assert f"rot180 serve {first} {second}\n" in printed
    with rot180.open(second) as atlas:
        assert atlas.complete
        assert atlas.images > 100
        assert load_scanned_model(atlas).name == EFFICIENTNET
    assert len(list((tmp_path / "demo").glob("[1-8]-*.png"))) == 8
    assert list((tmp_path / "demo").glob("9-patches-*.png"))
    with rot180.open(tmp_path / "demo" / "two-layer.atlas") as atlas:
        assert atlas.complete
    assert (tmp_path / "demo" / "two-layer.safetensors").exists()


@pytest.mark.parametrize("told", [False, True], ids=["packages are missing", "it is told to"])
def test_the_demo_ends_after_the_first_network_where(
    told: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_train", lambda *given: rot180.load("two-layer"))
    monkeypatch.setattr(train, "draw", lambda *given: None)
    monkeypatch.setattr(train, "_atlas", lambda *given: tmp_path / "two-layer.atlas")
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    words = ("demo", "--data", folder, "--out", tmp_path)
    status, printed = run(*words, *(("--no-imagenet",) if told else ()))
    assert status == 0, printed
    said = "The demo ends here: efficientnet-lite0 needs two small packages"
    assert (said in printed) != told
    assert f"rot180 serve {tmp_path / 'two-layer.atlas'}\n" in printed
    assert not (tmp_path / "efficientnet-lite0.atlas").exists()


@pytest.mark.slow
def test_the_shipped_network_needs_nothing_else(tmp_path: Path) -> None:
    status, printed = run("project", "conv1", 0, "--out", tmp_path / "x.png")
    assert status == 0, printed
    assert "two-layer network trained on cifar10" in printed


NETS = """
from torch import nn
def plain():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2),
    )
def broken(): return 1 / 0
"""


@pytest.mark.slow
def test_project_a_feature_of_any_model(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    names: dict[str, Any] = {}
    exec(NETS, names)
    model = names["plain"]().eval()
    state = {f"module.{name}": x for name, x in model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    status, printed = run(
        *("project", "2", 3, "--picture", tmp_path / "x.png", "--position", "peak"),
        *("--model", f"{tmp_path / 'nets.py'}:plain", "--weights", tmp_path / "w.pth"),
        *("--size", "20x20", "--mean", "0.1,0.2,0.3", "--std", "0.5,0.6,0.7"),
        *("--output-classes", tmp_path / "names.txt", "--out", tmp_path / "out.png"),
    )
    assert status == 0, printed
    assert "Assumed" not in printed
    assert "nets.py:plain; images of x.png" in printed
    about = json.loads((tmp_path / "out.json").read_text())
    middle = pixels[5:25] / 255  # the picture is wide enough: what is too high is cut off
    x = (middle - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    x = torch.from_numpy(x.transpose(2, 0, 1)).float()[None]
    with torch.no_grad():
        assert about["activation"] == pytest.approx(float(model[:4](x)[0, 3].max()), rel=1e-4)
        chances = model(x)[0].softmax(0).tolist()
    assert about["answer"][0] == ("cat" if chances[0] > chances[1] else "dog")
    assert about["answer"][1] == pytest.approx(max(chances), rel=1e-4)


@pytest.mark.slow
def test_project_a_published_network_says_what_it_assumes(tmp_path: Path) -> None:
    Image.fromarray(data.chelsea()).save(tmp_path / "cat.png")
    status, printed = run(
        *("project", "_blocks.3._depthwise_conv", 3, "--picture", tmp_path / "cat.png"),
        *("--model", f"{zoo.__file__}:efficientnet_lite0", "--size", 224, "--method", "gradient"),
        *("--std", "0.502,0.502,0.502", "--out", tmp_path / "x.png"),
    )
    assert status == 0, printed
    assert "Assumed of the images: --mean 0.485,0.456,0.406 (" in printed
    assert Image.open(tmp_path / "x.png").size[0] > 900


@pytest.mark.slow
def test_project_with_a_data_set_and_random_weights(folder: Path, tmp_path: Path) -> None:
    words = ("project", "layer1.0.conv1", 0, "--model", "torchvision:resnet18", "--size", 32)
    status, printed = run(*words, "--data", folder, "--image", 0, "--out", tmp_path / "x.png")
    assert status == 0, printed
    assert "The weights of torchvision:resnet18 are random" in printed
    assert (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--model {dir}/nets.py:plan", "has no 'plan'. It has: plain, broken"),
        ("--model {dir}/nets.py:broken", "with ZeroDivisionError (division by zero)"),
        ("--model {dir}/nets.py:plain --size 2", "takes no images of 2x2 pixels"),
        ("--model {dir}/nets.py:plain --size 8x", "A size is HEIGHTxWIDTH"),
        ("--model {dir}/nets.py:plain --size ²", "A size is HEIGHTxWIDTH"),
        ("--model {dir}/nets.py:plain --size 0x4", "cannot be 0x4 pixels"),
        ("--model {dir}/nets.py:plain --mean 1,x,1", "--mean is one number for each channel"),
        ("--model {dir}/nets.py:plain --size 9 --mean 1,1", "--mean has 2 values (1, 1): give 3"),
        ("--model {dir}/nets.py:plain --std 1,0,1", "deviation is greater than 0"),
        ("--model {dir}/nets.py:plain --weights {dir}/no.pth", "it is no such file"),
        ("--model {dir}/nets.py:plain --weights {dir}/full.pth", "full.pth is not opened"),
        (
            "--model {dir}/nets.py:plain --size 9 --output-classes {dir}/nets.py",
            "names of classes, but",
        ),
        ("--model {dir}/full.pth", "give this file with --weights"),
        ("--model torchvision:resnet", "torchvision has no model 'resnet'. It has: resnet"),
        ("--model two-layer --size 64", "holds its own size: leave out --size"),
    ],
)
def test_models_and_options_that_do_not_fit(words: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    torch.save(torch.nn.Conv2d(1, 1, 1), tmp_path / "full.pth")
    options = [one.format(dir=tmp_path) for one in words.split()]
    status, printed = run("project", "0", 0, *options)
    assert status == 1
    assert said in printed
    assert "unexpected error" not in printed


@pytest.mark.parametrize("command", [("figures",), ("trace", "z", "conv1", "0,0,0")])
@pytest.mark.parametrize("model", ["torchvision:resnet18", "nets.py:plain", "my.nets:plain"])
def test_commands_that_take_the_two_layer_network_alone(command, model: str) -> None:
    status, printed = run(*command, "--model", model)
    assert status == 1
    assert f"'rot180 {command[0]}' takes the two-layer network alone" in printed
    assert f"not {model}. 'rot180 project' takes any model." in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("figures --model missing.safetensors", "There is no checkpoint at missing.safetensors"),
        ("figures --data nothing/here", "nothing/here"),
        ("figures --data fotos", "photos"),
        ("figures --image 99999", "There is no image 99999"),
        ("figures --class dog", "There is no class 'dog'"),
        ("figures --format jpg", "There is no format 'jpg'. There are: png"),
        ("figures --method deconv", "There is no method 'deconv'. There are: deconvnet"),
        ("figures --device gpu", "The device 'gpu' cannot be used here"),
        ("figures --out {file}/below", "Cannot write"),
        ("project conv9 0", "There is no layer 'conv9'"),
        ("project conv1 32", "Layer 'conv1' has no feature 32"),
        ("project conv1 0 --position 99,0", "outside the maps"),
        ("project conv1 0 --position middle", "A position is map, peak, or Y,X"),
        ("project conv1 0 --picture none.png", "There is no file none.png"),
        ("project conv1 0 --picture {file}", "{file}"),
        ("project conv1 0 --model {file}", "cannot be read as a safetensors file"),
        ("project conv1 0 --image -1", "There is no image -1"),
        ("project conv1 0 --picture {png} --out {png}", "would overwrite the image itself"),
        ("project conv1 0 --picture {png} --image 3", "--picture is one image"),
        ("project conv1 0 --out {dir}", "There is no format"),
        ("figures --image 3 --class cat", "give one of them"),
        ("figures --device meta", "The device 'meta' cannot be used here"),
        ("demo --epochs 0", "epochs is 0"),
        ("train --hidden -1", "cannot have -1 neurons"),
        ("train --seed 99999999999999999", "seed is 99999999999999999"),
        ("train --out {dir}", "it is a directory"),
        ("train --out {file}/x.safetensors", "Cannot write"),
        ("train --tensorboard {file}", "Cannot write event files"),
        ("train --size ²x8", "A size is HEIGHTxWIDTH"),
        ("train --size 32", "A size is HEIGHTxWIDTH"),
        ("train --epochs 0", "epochs is 0"),
        ("train --resume --out {dir}/new.safetensors", "There is nothing to resume"),
        ("train --on-bad-image ignore", "ignore"),
    ],
)
def test_errors_are_sentences(words: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not what was expected")
    Image.new("RGB", (40, 30)).save(tmp_path / "x.png")
    names = {"file": "file", "dir": "", "png": "x.png"}
    places = {name: str(tmp_path / place) for name, place in names.items()}
    status, printed = run(*(one.format(**places) for one in words.split()))
    assert status == 1
    assert "error: " in printed
    assert said.format(**places) in printed
    assert "Traceback" not in printed
    assert "unexpected error" not in printed


def test_a_traceback_is_shown_on_request() -> None:
    result = CliRunner().invoke(app, ["--debug", "figures", "--format", "jpg"])
    assert isinstance(result.exception, rot180.Rot180Error)
    assert "Traceback" not in run("figures", "--format", "jpg")[1]  # it is off again


@pytest.mark.slow
def test_help_and_version_do_not_wait_for_torch() -> None:
    program = (
        "import sys\nfrom rot180.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'pyarrow', 'skimage'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    for command in ("train", "figures", "project", "demo"):
        assert command in shown
    assert rot180.__version__ in run("--version")[1]


def test_the_package_lists_what_it_offers() -> None:
    assert {"capture", "project", "load", "open_dataset"} <= set(dir(rot180))
    assert callable(rot180.capture)
    with pytest.raises(AttributeError, match="no attribute 'captur'"):
        rot180.captur  # noqa: B018


@pytest.mark.slow
def test_explain_walks_and_writes(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("x.svg", "x.tex", "x.json")]
    grid = tmp_path / "grid.txt"
    grid.write_text("1 2 3\n4,5,6\n7 8 9\n")
    options = [
        word for pair in zip(("--svg", "--latex", "--json"), paths, strict=True) for word in pair
    ]
    status, printed = run("explain", "--image", grid, "--kernel", "1 0; 0 -2", *options)
    assert status == 0, printed
    assert "z[0,0] = w[0,0]*a[0,0] + w[0,1]*a[0,1]" in printed
    assert "They are the kernel, rotated by 180 degrees." in printed
    assert "too wide" not in printed
    assert all(path.stat().st_size > 1000 for path in paths)
    case = json.loads(paths[2].read_text())["sections"][0]["blocks"][1]["figure"][0]
    assert case["values"] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--kernel", "1 2; 3"), "rows of one length"),
        (("--kernel", "1 x; 2 3"), "no number"),
        (("--kernel", "0.5 1.5.2"), "no number"),
        (("--seed", "-1"), "from 0 up"),
        (("--size", "100x100"), "too many to be explained"),
        (("--svg", "a", "--latex", "a"), "name each apart"),
        (("--image", "missing.txt"), "There is no file missing.txt"),
        (("--kernel-size", "5x5"), "5x5 does not fit into the image, which is 3x3"),
        (("--padding", "much"), "no padding 'much'"),
        (("--svg", "."), "it is a directory"),
        (("--size", "9" * 5000 + "x3"), "A size is HEIGHTxWIDTH"),
        (("--kernel-size", "99999x99999"), "does not fit into the image"),
        (("--padding", "9" * 5000), "no padding"),
        (("--padding", "999999999"), "too many to be explained"),
        (("--stride", "9" * 400), "below 2 to the power of 63"),
        (("--image", "a" * 5000), "There is no file"),
    ],
)
def test_explain_says_what_is_wrong(words: tuple[str, ...], said: str) -> None:
    status, printed = run("explain", *words)
    assert status == 1
    assert said in printed.replace("\n", " ")


@pytest.mark.slow
def test_trace_shows_the_products_of_a_trained_network() -> None:
    checkpoint = rot180.load("two-layer")
    x = checkpoint.prepare(rot180.open_dataset("photos", "test").image(1))[None].double()
    model = checkpoint.model.double()
    z = model.conv2(model.pool1(model.relu1(model.conv1(x))))[0, 40, 3, 5].item()
    status, printed = run("trace", "z", "conv2", "40,3,5", "--image", 1, "--most", 3)
    assert status == 0, printed
    head, *products, rest, total = printed.splitlines()
    assert head.startswith("conv2.z[0,40,3,5] = ")
    assert head.endswith("the sum of 801 products")
    assert float(head.split()[2].rstrip(",")) == pytest.approx(z, abs=1e-8)
    assert float(total.split()[-1].rstrip(".")) == pytest.approx(z, abs=1e-8)
    sizes = [float(line.split("=")[-1]) for line in products]
    assert len(sizes) == 3
    assert sum(sizes) + float(rest.split()[-1]) == pytest.approx(z, abs=1e-4)


@pytest.mark.slow
def test_trace_of_errors_and_projections() -> None:
    checkpoint = rot180.load("two-layer")
    image = checkpoint.prepare(rot180.open_dataset("photos", "test").image(1))
    projection = rot180.project(
        checkpoint.network(), image, "conv2", 40, position="peak", method="deconvnet"
    )
    y, x = projection.box.top + 3, projection.box.left + 3
    pixel = float(projection.full()[1, y, x])
    words = ("projection", "conv2", f"1,{y},{x}", "--feature", 40, "--position", "peak")
    status, printed = run("trace", *words, "--image", 1)
    assert status == 0, printed
    found = float(printed.split("=")[1].split(",")[0])
    assert found == pytest.approx(pixel, rel=1e-4, abs=1e-6)
    for what, layer, index in (("delta", "pool1", "3,5,5"), ("weight", "conv1", "3,1,2,2")):
        status, printed = run("trace", what, layer, index)
        assert status == 0, printed
        assert "Errors for the predicted class" in printed
    assert run("trace", "bias", "head", "3")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("z", "conv3", "1,2,3"), "no layer 'conv3'"),
        (("z", "conv1", "1,2"), "no entry [0, 1, 2]: it is of shape (1, 32, 32, 32)"),
        (("z", "conv1", "a"), "An index is whole numbers"),
        (("zed", "conv1", "1,2,3"), "There is no 'zed'"),
        (("projection", "conv1", "1,2,3"), "--feature"),
        (("z", "conv1", "1,2,3", "--feature", "1"), "--feature"),
        (("z", "conv1", "1,2,3", "--image", "100000"), "no image 100000"),
        (("projection", "conv1", "1,2,3", "--feature", "99"), "no feature 99"),
    ],
)
def test_trace_says_what_is_wrong(words: tuple[str, ...], said: str) -> None:
    status, printed = run("trace", *words)
    assert status == 1
    assert said in printed.replace("\n", " ")


@pytest.mark.slow
def test_train_by_the_equations(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    options = ("--epochs", 1, "--batch", 32, "--size", "16x16", "--out", path)
    status, printed = run("train", "--data", folder, *options, "--engine", "equations")
    assert status == 0, printed
    assert "by equations on cpu" in printed
    assert rot180.load(path).notes["engine"] == "equations"
    status, printed = run("train", "--data", folder, *options, "--engine", "numpy")
    assert status == 1
    assert "no engine 'numpy'" in printed
