"""Which method marks the pixels that a unit needs: measured, on networks where that is known."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import rot180
from rot180.cli import app
from rot180.errors import Rot180Error
from rot180.projection import automatic
from rot180.projection.faithfulness import (
    Faithfulness,
    Score,
    best_method,
    blurred,
    faithfulness,
    strong_units,
)
from tests.models import image, seeded


class Spot(nn.Module):
    """Its unit looks at one spot of the image alone; its rectifier has an upper limit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 32)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.bias.zero_()
            self.conv.weight[0, 0, 8:12, 20:24] = 1.0
            self.conv.weight[1, 0] = -1.0

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu6(self.conv(x))


@pytest.fixture
def spots() -> Tensor:
    images = torch.zeros(3, 1, 32, 32)
    images[:, :, 8:12, 20:24] = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1)
    return images


def test_the_spot_that_a_unit_needs_is_marked(spots: Tensor) -> None:
    net = rot180.capture(Spot(), spots)
    layer = net.layer("conv")
    units = strong_units(net, [layer], spots, 3)["conv"]
    assert {one.channel for one in units} == {0}  # the other feature never fires
    found = faithfulness(net, layer, spots, units)
    for name in ("gradient", "guided", "deconvnet"):
        # The unit's value is 16 to 48, and its activation 6, of which nothing would be lost.
        assert found.scores[name].left < 0.55  # the blur leaves half of so small a spot
        assert found.scores[name].kept == pytest.approx(1, abs=0.01)
    assert found.chance.left > 0.75
    assert found.beats_chance
    assert found.effective == 4


def test_a_projection_is_not_empty_where_the_rectifier_is_at_its_limit(spots: Tensor) -> None:
    net = rot180.capture(Spot(), spots)
    for method in ("gradient", "guided", "deconvnet"):
        p = rot180.project(net, spots[2], "conv", 0, (0, 0), method=method)
        assert p.activation == 6
        assert torch.equal(p.pixels, 6 * Spot().conv.weight[0])


def test_of_nearly_equal_methods_the_first_is_taken_that_depends_on_the_image() -> None:
    scores = {"deconvnet": Score(0.1, 0.9), "gradient": Score(0.5, 0.9), "guided": Score(0.08, 0.9)}
    assert best_method(scores, lambda name: True) == "deconvnet"
    assert best_method(scores, lambda name: name != "deconvnet") == "guided"
    scores["gradient"] = Score(-0.4, 1.3)  # no better than nothing left and all kept
    assert best_method(scores, lambda name: True) == "gradient"
    assert scores["gradient"].value == 1


def test_a_blur_keeps_the_mean_and_what_is_even() -> None:
    x = torch.randn(2, 3, 40, 50, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(blurred(torch.ones_like(x), 3.0), torch.ones_like(x))
    inner = torch.zeros(1, 1, 41, 41).double()
    inner[0, 0, 20, 20] = 1
    found = blurred(inner, 3.0)
    assert float(found.sum()) == pytest.approx(1, abs=1e-6)
    y = torch.arange(41) - 20.0
    assert float((found.sum(-1)[0, 0] * y**2).sum()) == pytest.approx(9, rel=0.05)
    assert blurred(x, 4.0).std() < 0.2 * x.std()


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()
    )


def test_auto_is_the_same_whatever_was_asked_before() -> None:
    model, x = seeded(plain), image(2, 3, 24, 24)
    one, two = rot180.capture(model, x), rot180.capture(model, x)
    for other in (x[1], torch.flip(x[1], [1])):
        rot180.project(one, other, "0", 1)
    found = [rot180.project(net, x[0], "2", 3, "peak") for net in (one, two)]
    assert found[0].rules == found[1].rules
    assert torch.equal(found[0].pixels, found[1].pixels)
    named = rot180.project(one, x[0], "2", 3, "peak", method=found[0].rules.method)
    assert torch.equal(named.pixels, found[0].pixels)


def test_auto_is_measured_on_the_sample_that_is_given() -> None:
    net, x = rot180.capture(seeded(plain), image(1, 3, 24, 24)), image(40, 3, 24, 24, seed=9)
    before = automatic.measure_layer(net, net.layer("2"))
    rot180.use_sample(net, x)
    assert len(automatic.sample_of(net)) == 32
    after = automatic.measure_layer(net, net.layer("2"))
    assert after is not before
    assert after.scores != before.scores
    assert automatic.measure_layer(net, net.layer("2")) is after


def test_a_named_model_is_tested_on_photographs_prepared_as_its_images_are() -> None:
    trained = rot180.load("two-layer")
    sample = automatic.sample_of(trained.network())
    values = sample.permute(0, 2, 3, 1) * torch.tensor(trained.std) + torch.tensor(trained.mean)
    assert 0 <= float(values.min()) < 0.05
    assert 0.9 < float(values.max()) <= 1.0001
    assert np.allclose(values * 255, (values * 255).round(), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_images_of_any_number_of_channels_have_a_sample(channels: int) -> None:
    net = rot180.capture(seeded(nn.Conv2d, channels, 2, 5), image(1, channels, 20, 28))
    sample = automatic.sample_of(net)
    assert sample.shape == (8, channels, 20, 28)
    assert float(sample.mean()) == pytest.approx(0, abs=1e-5)


def test_where_no_unit_fires_auto_follows_the_structure() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3))
    with torch.no_grad():
        model[3].weight.zero_()
        model[3].bias.fill_(-1.0)
    net = rot180.capture(model.double().eval(), image(1, 3, 16, 16))
    assert automatic.measure_layer(net, net.layer("3")) is None
    assert automatic.best(net, net.layer("3")) == "deconvnet"


def test_a_method_that_a_network_refuses_is_not_chosen() -> None:
    class Stopped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x)) + self.a(x).detach())

    net = rot180.capture(seeded(Stopped), image(1, 3, 16, 16))
    p = rot180.project(net, image(3, 16, 16), "b", 0)
    assert p.rules.backward == "gradient"
    with pytest.raises(Rot180Error, match="detach"):
        rot180.project(net, image(3, 16, 16), "b", 0, method="deconvnet")


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 9, 9), torch.zeros(0, 3, 24, 24), "photos"])
def test_a_sample_that_is_none_gets_a_sentence(images) -> None:
    net = rot180.capture(seeded(plain), image(1, 3, 24, 24))
    with pytest.raises(Rot180Error):
        rot180.use_sample(net, images)


def test_the_command_prints_the_table(tmp_path) -> None:
    path = tmp_path / "report.json"
    found = CliRunner().invoke(app, ["inspect", "two-layer", "--faithfulness", "--json", str(path)])
    assert found.exit_code == 0, found.output
    told = json.loads(path.read_text())["faithfulness"]
    assert list(told) == ["conv1", "conv2", "head"]
    assert told["conv2"]["measured_at"] == "conv2"
    for name, one in told.items():
        start = f"{name} {one['method']}"
        (row,) = [
            line for line in found.output.splitlines() if " ".join(line.split()).startswith(start)
        ]
        assert f"{one['scores']['chance'][0]:.2f}" in row


def saturated_network() -> rot180.Network:
    """Its first layer is at the limit of its ReLU6 everywhere, so nothing has a derivative."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Conv2d(4, 2, 3), nn.ReLU6())
    with torch.no_grad():
        model[0].bias.fill_(50)
        model[2].weight.abs_()
    return rot180.capture(model.eval(), torch.zeros(1, 3, 16, 16))


def test_auto_leaves_nothing_blank_that_another_method_can_draw() -> None:
    net = saturated_network()
    images = torch.randn(2, 3, 16, 16)
    rot180.use_sample(net, images)
    key = "faithfulness", "2"
    score, chance = Score(0.0, 0.9), Score(0.5, 0.2)
    net.measured[key] = Faithfulness(
        "2", 4, {"guided": score, "deconvnet": chance}, chance, chance, "guided", 5.0
    )
    assert not rot180.project(net, images[0], "2", 0, (3, 3), method="guided").pixels.any()
    for position in ((3, 3), "peak", None):
        p = rot180.project(net, images[0], "2", 0, position)
        assert p.rules.method == "deconvnet"
        wanted = rot180.project(net, images[0], "2", 0, position, method="deconvnet")
        assert torch.equal(p.pixels, wanted.pixels)
        assert p.pixels.any()
    opened = rot180.open_image(net, images[0])
    assert rot180.project(net, opened, "2", 1, "peak").rules.method == "deconvnet"
    units = [(n, "2", channel, (2, 5)) for n in (0, 1) for channel in (0, 1)]
    for p in rot180.project_units(net, images, units):
        assert p.rules.method == "deconvnet"
        assert p.pixels.any()
