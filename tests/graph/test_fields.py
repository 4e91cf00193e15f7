"""The receptive fields of all positions at once are those that one unit after the other has."""

from collections.abc import Iterator

import jaxtyping
import numpy as np
import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rot180
from rot180.graph.boxes import Window
from rot180.graph.fields import receptive_fields
from rot180.graph.geometry import Step
from rot180.graph.network import Layer, Network
from rot180.graph.operators.arithmetic import Sum
from rot180.graph.operators.base import MAPS, Operator
from rot180.graph.operators.calls import Derived
from rot180.graph.operators.convolution import Convolution, TransposedConvolution
from rot180.graph.operators.layout import Concatenation
from rot180.graph.operators.pooling import MaxPool, Separable
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


@st.composite
def graphs(draw) -> Network:
    """Draw a network of steps that look, along the rows, wherever they like; each is a layer."""
    steps: list[Step] = []
    heights = [draw(st.integers(1, 12))]

    def append(operator: Operator, sources: tuple[int, ...], height: int) -> None:
        steps.append(Step(f"s{len(steps)}", operator, sources, (1, height, 2), MAPS))
        heights.append(height)

    for _ in range(draw(st.integers(2, 8))):
        source = draw(st.integers(-1, len(steps) - 1))
        size, kind = heights[source + 1], draw(st.sampled_from(KINDS))
        kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        stride, extent = draw(st.integers(1, 4)), dilation * (kernel - 1) + 1
        weight = torch.ones(1, 1, kernel, 1)
        given = (stride, 1), (draw(st.integers(0, 4)), 0)
        out = (size + 2 * given[1][0] - extent) // stride + 1
        spread = (size - 1) * stride - 2 * given[1][0] + extent
        if kind == "convolution" and out > 0:
            append(Convolution(weight, None, *given, (dilation, 1), 1), (source,), out)
        elif kind == "pooling" and out > 0:
            append(MaxPool(Window((kernel, 1), *given, (dilation, 1))), (source,), out)
        elif kind == "transposed" and 0 < spread < 30:
            one = TransposedConvolution(weight, None, *given, 1, (dilation, 1))
            append(one, (source,), spread)
        elif kind == "matrix":
            rows = draw(st.lists(st.integers(0, 2**size - 1), min_size=1, max_size=12))
            matrix = torch.tensor([[row >> y & 1 for y in range(size)] for row in rows])
            append(Separable("any", matrix.double(), None), (source,), len(rows))
        elif kind == "two" and len(steps) > 1:
            other = draw(st.integers(-1, len(steps) - 1))
            both = size, heights[other + 1]
            if min(both) == 1 or both[0] == both[1]:
                shapes = tuple((1, one, 2) for one in both)
                append(Sum(None, shapes, MAPS, (1.0, 1.0)), (source, other), max(both))
            elif sum(both) < 30:
                append(Concatenation(-2, both), (source, other), sum(both))
        elif kind == "whole":
            append(Derived(torch.sort, "sort"), (source,), size)
    layers = {
        step.name: Layer(step.name, "", 1, step.shape[1], 2, (1, 1), (1, 1), "", place, place)
        for place, step in enumerate(steps)
    }
    shape = (1, heights[0], 2)
    return Network(tuple(steps), (), layers, shape, torch.float32, torch.device("cpu"))


KINDS = ["convolution", "pooling", "transposed", "matrix", "two", "two", "whole"]


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
