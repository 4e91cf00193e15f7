"""The receptive fields of all positions at once are those that one unit after the other has."""

from collections.abc import Iterator

import jaxtyping
import numpy as np
import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings

import rot180
from rot180.graph.network import Network
from rot180.graph.receptive_field import receptive_fields
from tests.graph.regions import graphs
from tests.models import image, seeded
from tests.projection.styles import RECTIFIERS, SIZE, STYLES, Modules, Several
from tests.zoo import EFFICIENTNET_LITE0, efficientnet_lite0

CLASSIFIERS = {
    "resnet18": 64,
    "squeezenet1_1": 96,
    "googlenet": 96,
    "mobilenet_v3_small": 96,
    "shufflenet_v2_x0_5": 64,
}


@pytest.fixture
def numbers_only() -> Iterator[None]:
    """Leave types to the other tests, where there are thousands of units."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping, "jaxtyped", lambda **_: lambda function: function)
        jaxtyping.config.update("jaxtyping_disable", True)
        yield
    jaxtyping.config.update("jaxtyping_disable", False)


def same(net: Network, step: int = 1) -> None:
    """Compare every row and every column (or one of ``step``) of every layer."""
    found = receptive_fields(net, list(net.layers.values()))
    assert list(found) == list(net.layers)
    for name, layer in net.layers.items():
        rows, columns = found[name]
        assert (rows.shape, columns.shape) == ((layer.height, 2), (layer.width, 2))
        assert rows.dtype == columns.dtype == np.int64
        count = max(layer.height, layer.width)
        for number in {*range(0, count, step), count - 1}:
            y, x = min(number, layer.height - 1), min(number, layer.width - 1)
            top, left, bottom, right = net.receptive_field(layer, (y, x))
            assert (*rows[y], *columns[x]) == (top, bottom, left, right), (name, y, x)


@pytest.mark.slow
@pytest.mark.usefixtures("numbers_only")
@pytest.mark.parametrize(("name", "side"), CLASSIFIERS.items())
def test_of_a_network_of_torchvision(name: str, side: int) -> None:
    given = {"init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, **given).eval()
    same(rot180.capture(model, torch.zeros(1, 3, side, side)))


@pytest.mark.slow
@pytest.mark.usefixtures("numbers_only")
def test_of_a_dense_network() -> None:
    """As DenseNet-121: a layer looks at all that come before it in its block; but not as deep."""
    model = torchvision.models.DenseNet(8, (3, 4, 5, 3), 16).eval()
    same(rot180.capture(model, torch.zeros(1, 3, 64, 64)))


@pytest.mark.slow
@pytest.mark.usefixtures("numbers_only")
def test_of_efficientnet_lite0() -> None:
    same(rot180.capture(efficientnet_lite0(), torch.zeros(1, 3, *EFFICIENTNET_LITE0["size"])), 5)


@pytest.mark.slow
@pytest.mark.usefixtures("numbers_only")
def test_of_networks_of_many_styles() -> None:
    """Those that differ in their rectifiers, which look at their own place, are left out."""
    names = list(STYLES)[: len(RECTIFIERS) // 2 : -2]
    same(rot180.capture(seeded(Several, names), image(1, *SIZE)))


@pytest.mark.slow
def test_positions_between_those_that_two_branches_need_count() -> None:
    """They do not see what their neighbours see, where the first column follows the last."""

    def forward(m: Modules, x: torch.Tensor) -> torch.Tensor:
        rolled = m.point(m.a(x).roll(4, 3))
        return m.point2(rolled[..., :-3] + rolled[..., 3:])

    net = rot180.capture(seeded(Modules, forward), image(1, *SIZE))
    same(net)
    _, columns = receptive_fields(net, [net.layers["point2"]])["point2"]
    assert columns[0].tolist() == [5, 10]  # of rolled columns 0 and 3: those before the seam
    assert columns[2].tolist() == [0, 10]  # of 2 and 5, on its two sides
    assert columns[4].tolist() == [0, 5]


@pytest.mark.slow
@pytest.mark.usefixtures("numbers_only")
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(net=graphs())
def test_of_steps_in_any_order(net: Network) -> None:
    """Gaps between windows, rows in any order, and positions that see nothing, included."""
    same(net)


def test_of_some_layers_in_any_order_and_of_none() -> None:
    net = rot180.capture(seeded(Several, ["pools of one result"]), image(1, *SIZE))
    layers = list(net.layers.values())
    everything = receptive_fields(net, layers)
    assert receptive_fields(net, []) == {}
    for chosen in ([layers[1]], layers[::-1], [layers[0], layers[0]]):
        found = receptive_fields(net, chosen)
        assert list(found) == list(dict.fromkeys(layer.name for layer in chosen))
        for name, both in found.items():
            assert all(map(np.array_equal, both, everything[name]))
