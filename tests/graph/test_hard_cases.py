"""What could go wrong without a word: shared memory, empty reaches, swapped axes, later changes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rot180
from rot180 import Rot180Error
from tests.graph.test_capture import Written
from tests.models import image, relative_error, seeded
from tests.reference import Reference

METHODS = ("deconvnet", "gradient", "guided")


def capture(forward, size: tuple[int, int] = (8, 8)):
    model = seeded(Written, forward)
    return model, rot180.capture(model, image(1, 3, *size))


def check(model: nn.Module, net: rot180.Network, name: str, size: tuple[int, int] = (8, 8)) -> None:
    """Compare units all over the maps of a layer, cold and opened, with the reference."""
    layer, x = net.layers[name], image(1, 3, *size, seed=5)
    reference, opened = Reference(model, x), rot180.open_image(net, x[0])
    step = net.steps[layer.output_step].name
    places = [(y, x_) for y in range(layer.height) for x_ in range(layer.width)]
    for place in places[:: max(1, len(places) // 6)]:
        for method in METHODS:
            value, wanted = reference.project(x, step, (0, 1, *place), method)
            for source in (x[0], opened):
                p = rot180.project(net, source, name, 1, place, method)
                assert p.activation == pytest.approx(float(value), rel=1e-10, abs=1e-12)
                assert relative_error(p.full(), wanted[0]) < 1e-12 or not wanted.any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "forward",
    [
        lambda s, x: s.b(F.group_norm(s.a(x), 2)),
        lambda s, x: s.b(F.layer_norm(s.a(x), (4, 8, 8))),
        lambda s, x: s.b(F.pixel_shuffle(torch.cat([s.a(x)] * 4, 1), 2)),
    ],
)
def test_a_layer_above_a_step_on_whole_maps(forward) -> None:
    check(*capture(forward), "b")


@pytest.mark.slow
def test_the_order_of_projections_from_an_opened_image_does_not_matter() -> None:
    _, net = capture(lambda s, x: s.c(F.leaky_relu(s.b(F.leaky_relu(s.a(x), 0.1)), 0.2)))
    x = image(3, 8, 8)
    fresh = {
        (name, method): rot180.project(net, rot180.open_image(net, x), name, 1, (4, 4), method)
        for name in ("a", "b", "c")
        for method in METHODS
    }
    opened = rot180.open_image(net, x)
    for _ in range(2):
        for (name, method), wanted in reversed(fresh.items()):
            for channel in range(4):
                rot180.project(net, opened, name, channel, (3, 5), method)
            found = rot180.project(net, opened, name, 1, (4, 4), method)
            assert found.activation == wanted.activation
            assert torch.equal(found.pixels, wanted.pixels)


def test_the_activation_of_a_negative_unit_does_not_depend_on_the_method() -> None:
    _, net = capture(lambda s, x: s.b(F.leaky_relu(s.a(x), 0.1)))
    x = image(3, 8, 8)
    maps = rot180.feature_maps(net, x, "a")[0]
    channel, *place = (maps < 0).nonzero()[0].tolist()
    for method in METHODS:
        p = rot180.project(net, x, "a", channel, tuple(place), method)
        assert p.activation == pytest.approx(float(maps[channel, *place]))


@pytest.mark.slow
def test_what_changes_nothing_does_not_hand_on_memory_that_is_then_written_to() -> None:
    def same(s, x):
        y = s.a(x)
        return s.b(F.silu(y) + F.relu(F.interpolate(y, size=y.shape[2:])))

    check(*capture(same), "b")
    _, net = capture(lambda s, x: s.a(F.relu(F.avg_pool2d(x, 1))))
    x = image(3, 8, 8)
    before = x.clone()
    rot180.project(net, rot180.open_image(net, x), "a", method="deconvnet")
    rot180.project(net, x, "a", 0, (3, 3), method="deconvnet")
    assert torch.equal(x, before)


def changes(model: nn.Module) -> None:
    """Change every weight in the ways that training and loading do."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    model(image(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    for one in model.parameters():
        one.data.mul_(2)
    model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()}, assign=True)


@pytest.mark.slow
def test_a_network_is_the_model_as_it_was() -> None:
    model, net = capture(lambda s, x: s.c(F.relu(s.b(F.relu(s.a(x)) + s.gain))))
    x = image(3, 8, 8)
    opened = rot180.open_image(net, x)
    before = [rot180.project(net, x, name, 1, (4, 4), method="deconvnet") for name in "abc"]
    changes(model)
    for source in (x, opened):
        for name, wanted in zip("abc", before, strict=True):
            found = rot180.project(net, source, name, 1, (4, 4), method="deconvnet")
            assert relative_error(found.full(), wanted.full()) < 1e-13


def test_an_opened_image_is_the_image_as_it_was() -> None:
    _, net = capture(lambda s, x: s.b(F.relu(s.a(x))))
    x = image(1, 3, 8, 8).contiguous(memory_format=torch.channels_last)[0]
    wanted = rot180.project(net, x, "b", 1, (4, 4), method="deconvnet")
    opened = rot180.open_image(net, x)
    x.zero_()
    found = rot180.project(net, opened, "b", 1, (4, 4), method="deconvnet")
    assert relative_error(found.pixels, wanted.pixels) < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize(
    "forward",
    [
        lambda s, x: s.a(x[:, [-1, -2, -3]]),
        lambda s, x: s.a(F.interpolate(x, size=(5, 5), mode="bilinear", antialias=True)),
        lambda s, x: s.a(F.interpolate(x, size=(5, 5), mode="bicubic", antialias=True)),
        lambda s, x: s.a(F.adaptive_max_pool2d(x, 5)),
        lambda s, x: s.a(F.pad(x, (0, 0, 0, 0), value=1.0)),
        lambda s, x: s.a(x.view(-1, 3, 8, 8)),
        lambda s, x: s.a(x.view(x.size(0), 3, 8, 8)),
    ],
)
def test_an_example_of_one_value_is_checked_as_any_other(forward) -> None:
    model = seeded(Written, forward)
    net = rot180.capture(model, torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    x = image(2, 3, 8, 8, seed=8)
    assert relative_error(rot180.model_outputs(net, x)[0], model(x)) < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize(
    "rectify",
    [
        lambda x: x * F.relu6(x + 3) / 6,
        lambda x: x * torch.sigmoid(1.702 * x),
        lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x**3))),
        lambda x: x * torch.tanh(F.softplus(x)),
        lambda x: -((-x).clamp(max=0)),
        lambda x: x.clamp(min=1e-6),
        lambda x: x * (x > 0),
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: (x + x.abs()) / 2,
    ],
)
def test_a_rectifier_that_is_written_out_is_recognised(rectify) -> None:
    _, net = capture(lambda s, x: s.b(rectify(s.a(x))))
    assert sum(rot180.report(net).rectifiers.values()) == 1
    assert net.layers["a"].rectified or rot180.report(net).operators.get("negative")
    for method in METHODS:
        rot180.project(net, image(3, 8, 8), "b", 0, (4, 4), method)


@pytest.mark.slow
def test_silu_and_hardswish_that_are_written_out_are_known() -> None:
    _, net = capture(
        lambda s, x: s.c((lambda y: y * F.hardsigmoid(y))(s.b(s.a(x) * torch.sigmoid(s.a(x)))))
    )
    assert rot180.report(net).rectifiers == {"Hardswish": 1}
    _, net = capture(lambda s, x: s.b((lambda y: y * torch.sigmoid(y))(s.a(x))))
    assert rot180.report(net).rectifiers == {"SiLU": 1}


@pytest.mark.slow
def test_units_that_see_nothing_but_padding() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(3, 4, 1, stride=2), nn.Conv2d(4, 3, 1)).double()
    net = rot180.capture(model, image(1, 3, 4, 4))
    opened = rot180.open_image(net, image(3, 4, 4))
    for place in ((3, 3), (2, 2), (0, 3)):
        cold = rot180.project(net, image(3, 4, 4), "1", 1, place, method="deconvnet")
        open_ = rot180.project(net, opened, "1", 1, place, method="deconvnet")
        assert cold.activation == pytest.approx(open_.activation)
        assert relative_error(cold.full(), open_.full()) < 1e-12 or not open_.full().any()
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1, stride=2, padding=1)
    ).double()
    net = rot180.capture(model, image(1, 3, 8, 8))
    p = rot180.project(net, image(3, 8, 8), "2", 1, (0, 0), method="deconvnet")
    assert not p.full().any()
    assert p.activation == pytest.approx(float(model(image(1, 3, 8, 8))[0, 1, 0, 0].detach()))


@pytest.mark.slow
def test_branches_side_by_side() -> None:
    check(*capture(lambda s, x: s.b(torch.cat([s.a(x), F.relu(s.c(F.relu(s.a(x))))], 3))), "b")


class _Swapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.l, self.norm = nn.Conv2d(3, 4, 3), nn.Linear(4, 4), nn.BatchNorm2d(6)
        self.c = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        y = self.l(self.a(x).permute(0, 3, 2, 1)).permute(0, 3, 2, 1)
        return self.c(self.norm(y.permute(0, 2, 1, 3)).permute(0, 2, 1, 3))


@pytest.mark.slow
def test_rows_and_columns_that_change_places() -> None:
    model = seeded(_Swapped)
    net = rot180.capture(model, image(1, 3, 8, 8))
    assert list(net.layers) == ["a", "c"]  # the linear layer's maps are not of rows and columns
    check(model, net, "c")


@pytest.mark.slow
def test_the_indices_of_a_pooling_serve_an_unpooling() -> None:
    def unpooled(s, x):
        y, where = F.max_pool2d(s.a(x), 2, return_indices=True)
        return s.b(F.max_unpool2d(y, where, 2))

    check(*capture(unpooled), "b")


@pytest.mark.parametrize("changed", [{"layer": None}, {"method": 3}, {"unpool": ["switches"]}])
def test_arguments_of_another_kind(changed: dict) -> None:
    _, net = capture(lambda s, x: s.b(s.a(x)))
    given = {"image": image(3, 8, 8), "layer": "b", "channel": 0, **changed}
    with pytest.raises(Rot180Error):
        rot180.project(net, **given)
    with pytest.raises(Rot180Error, match="capture returned"):
        rot180.project(nn.ReLU(), **given)
