"""Every number is the sum of the products of its trace, and each factor is what its name says."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rot180 import Rot180Error
from rot180.equations import (
    Convolution,
    Cost,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    Network,
    Quadratic,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
    softmax,
)
from rot180.equations.deconvnet import METHODS, UNPOOLINGS, backward_signals, project, seed_signal
from rot180.equations.trace import Sum, Trace
from tests.equations.cases import Array, normal
from tests.equations.traced import (
    COSTS,
    IMAGES,
    LABELS,
    WEIGHTED,
    everything,
    fed,
    places,
    traced,
    within,
)

SLOPES = {
    ReLU: lambda z: np.where(z > 0, 1.0, 0.0),
    Tanh: lambda z: 1 / np.cosh(z) ** 2,
    Sigmoid: lambda z: 1 / (2 + 2 * np.cosh(z)),
}


def below(network: Network, name: str) -> Array:
    names = list(network.layers)
    return network.a[names[names.index(name) - 1]] if name != names[0] else network.x


def entry(network: Network, name: str, index: tuple[int, ...], signals: dict[str, Array]) -> float:
    """Return the number with this name and index, from a network that took the five steps."""
    output = network.a[next(reversed(network.layers))]
    if name.startswith("1/"):
        return 1 / (len(output) if name == "1/n" else int(name[2:]))
    if name in ("a", "-y"):
        quadratic = isinstance(network.cost, Quadratic)
        labels = LABELS[next(kind for kind, cost in COSTS.items() if cost is network.cost)]
        if name == "a":
            return (output if quadratic else softmax(output))[index]
        if quadratic:
            return -labels[index]
        image, k = index
        share = network.cost.smoothing
        return -((1 - share) * (k == labels[image]) + share / output.shape[1])
    if name == "x":
        return network.x[index]
    layer, _, kind = name.rpartition(".")
    match kind:
        case "a":
            return network.a[layer][index]
        case "delta":
            return network.delta[layer][index]
        case "slope":
            return SLOPES[type(network.layers[layer])](below(network, layer))[index]
        case "signal":
            return signals[layer][index]
    return network.weights[name][index]


def check(
    taken: Sum, whole: Array, network: Network, signals: dict[str, Array] | None = None
) -> None:
    """Assert that a sum equals its entry of an array, and each factor the number that it names."""
    assert taken.value == pytest.approx(whole[taken.index], rel=1e-13)
    assert abs(taken.total - whole[taken.index]) <= 1e-13 * np.abs(whole).max()
    for factor in (factor for term in taken.terms for factor in term):
        if not factor.name.endswith(".passes"):
            expected = entry(network, factor.name, factor.index, signals or {})
            assert factor.value == pytest.approx(expected, rel=1e-12, abs=1e-15), factor


# The five steps.


@pytest.mark.slow
@pytest.mark.parametrize("cost", COSTS)
@settings(max_examples=60, deadline=None)
@given(layer=st.sampled_from(WEIGHTED), place=places)
def test_a_weighted_input_is_weights_times_activations_and_a_bias(cost, layer, place) -> None:
    trace, network, _ = traced(cost)
    index = within(network.a[layer], place)
    taken = trace.z(layer, index)
    assert (taken.name, taken.index) == (f"{layer}.z", index)
    check(taken, network.a[layer], network)
    *products, bias = taken.terms
    assert [factor.symbol for factor in bias] == [f"{layer}.b[{index[1]}]"]
    source = "x" if layer == "conv1" else f"{list(network.layers)[_place(network, layer) - 1]}.a"
    assert all([w.name, a.name] == [f"{layer}.w", source] for w, a in products)
    assert all(a.index[0] == index[0] and w.index[0] == index[1] for w, a in products)
    _all_different(products)


@pytest.mark.slow
@pytest.mark.parametrize("cost", COSTS)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), place=places)
def test_an_error_comes_from_the_next_weights_or_the_cost(cost, data, place) -> None:
    trace, network, _ = traced(cost)
    layer = data.draw(st.sampled_from(list(network.layers)))
    index = within(network.delta[layer], place)
    taken = trace.delta(layer, index)
    assert (taken.name, taken.index) == (f"{layer}.delta", index)
    check(taken, network.delta[layer], network)
    above = [name for name in WEIGHTED if _place(network, name) > _place(network, layer)]
    for *_, last in taken.terms:
        assert last.name in ([f"{above[0]}.delta"] if above else ["a", "-y"])
        assert last.index[0] == index[0]


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(place=places)
def test_the_error_of_the_images_comes_from_the_first_layer(place) -> None:
    trace, network, _ = traced("quadratic")
    index, x = within(IMAGES, place), IMAGES.copy()
    costs = []
    for step in (1e-5, -1e-5):
        x[index] = IMAGES[index] + step
        costs.append(network.cost.per_image(network.scores(x), LABELS["quadratic"]).mean())
    network.five_steps(IMAGES, LABELS["quadratic"])  # as the other tests need it
    taken = trace.delta("", index)
    assert (taken.name, taken.index) == ("dC/dx", index)
    assert taken.value == pytest.approx((costs[0] - costs[1]) / 2e-5, rel=1e-5, abs=1e-8)
    assert taken.total == pytest.approx(taken.value, rel=1e-12, abs=1e-14)
    assert {last.name for *_, last in taken.terms} <= {"conv1.delta"}


@pytest.mark.slow
@pytest.mark.parametrize("cost", COSTS)
@settings(max_examples=35, deadline=None)
@given(layer=st.sampled_from(WEIGHTED), place=places)
def test_gradients_sum_over_all_connections_that_share_the_weight(cost, layer, place) -> None:
    trace, network, gradients = traced(cost)
    w, b = gradients[f"{layer}.w"], gradients[f"{layer}.b"]
    index = within(w, place)
    taken = trace.weight_gradient(layer, index)
    assert (taken.name, taken.index) == (f"dC/d{layer}.w", index)
    check(taken, w, network)
    assert all(delta.name == f"{layer}.delta" for delta, _ in taken.terms)
    assert all(delta.index[1] == index[0] for delta, _ in taken.terms)
    _all_different(taken.terms)
    taken = trace.bias_gradient(layer, index[:1])
    assert (taken.name, taken.index) == (f"dC/d{layer}.b", index[:1])
    check(taken, b, network)
    assert {delta.name for (delta,) in taken.terms} == {f"{layer}.delta"}
    assert len(taken.terms) == network.delta[layer][:, 0].size
    _all_different(taken.terms)


def _place(network: Network, name: str) -> int:
    return list(network.layers).index(name)


def _all_different(terms: Any) -> None:
    symbols = [tuple(factor.symbol for factor in term) for term in terms]
    assert len(set(symbols)) == len(symbols)


def test_a_trace_keeps_its_batch_whatever_the_network_does_next() -> None:
    network = everything(SoftmaxCrossEntropy())
    network.set_training(True)
    x = IMAGES.copy()
    trace = Trace(network, x, [2, 0])
    assert all(layer.training for layer in network.layers.values() if isinstance(layer, Dropout))
    before = [str(number) for number in _some(trace)]
    x[...] = 0
    network.set_training(False)
    _, gradients = network.five_steps(5 * IMAGES, [1, 1])
    for name, w in network.weights.items():
        w -= gradients[name]
    assert [str(number) for number in _some(trace)] == before


def _some(trace: Trace) -> list[Sum]:
    return [
        trace.z("conv1", (1, 2, 3, 1)),
        trace.z("conv2", (1, 2, 3, 1)),
        trace.delta("conv1", (0, 1, 4, 2)),
        trace.weight_gradient("conv1", (1, 0, 0, 1)),
        trace.weight_gradient("conv3", (1, 2, 0, 1)),
        trace.bias_gradient("dense1", (3,)),
        trace.projection("conv3", 2, (0, 1, 4, 3)),
    ]


class Distance(Cost):
    """The sum of |a - y|, whose error is not a - y."""

    def per_image(self, output: Array, y: Array) -> Array:
        return np.abs(output - y).sum(1)

    def error(self, output: Array, y: Array) -> Array:
        return np.sign(output - y)


def test_the_error_of_a_cost_of_ones_own_is_one_factor() -> None:
    network = Network({"head": Dense(3, 2), "tanh": Tanh()}, Distance())
    trace = Trace(network, normal(4, 3), np.ones((4, 2)))
    taken = trace.delta("tanh", (2, 1))
    assert taken.symbols() == "1/n*dC_x/da[2,1]"
    assert taken.total == taken.value == -0.25
    taken = trace.delta("head", (2, 1))
    assert taken.symbols() == "tanh.slope[2,1]*1/n*dC_x/da[2,1]"
    assert taken.total == pytest.approx(taken.value, rel=1e-13)


def test_labels_change_no_sum_that_does_not_need_them() -> None:
    with_labels, network, _ = traced("softmax")
    without = Trace(network, IMAGES)
    assert without.z("conv2", (1, 2, 3, 1)) == with_labels.z("conv2", (1, 2, 3, 1))
    asked: Any = ("conv3", 2, (0, 1, 4, 3))
    assert without.projection(*asked) == with_labels.projection(*asked)


# How many products.


@pytest.mark.parametrize("operation", ["correlation", "convolution"])
def test_the_number_of_products(operation: str) -> None:
    network = Network(
        {
            "conv1": Convolution(4, 6, (3, 2), padding=((1, 1), (1, 0)), groups=2),
            "conv2": Convolution(6, 5, (2, 3), operation=operation),
            "pool": MaxPool(2),
            "flatten": Flatten(),
            "head": Dense(45, 3),
        }
    )
    for w in network.weights.values():
        w[...] = normal(*w.shape, seed=w.size)
    trace = Trace(network, normal(3, 4, 7, 8), [0, 1, 2])
    assert trace.a["conv2"].shape == (3, 5, 6, 6)

    def z(layer: str, *index: int) -> int:
        return len(trace.z(layer, index).terms)

    def delta(layer: str, *index: int) -> int:
        return len(trace.delta(layer, index).terms)

    assert z("conv1", 0, 5, 3, 3) == 2 * 3 * 2 + 1  # channels of the group, window, bias
    assert z("conv1", 0, 0, 0, 3) == 2 * 2 * 2 + 1  # one row lies on the border
    assert z("conv1", 2, 1, 6, 0) == 2 * 2 * 1 + 1  # and one column
    assert z("conv2", 1, 4, 0, 0) == 6 * 2 * 3 + 1
    assert z("head", 1, 2) == 45 + 1
    assert delta("conv1", 0, 0, 3, 3) == 5 * 2 * 3  # features, window
    assert delta("conv1", 2, 5, 0, 3) == 5 * 1 * 3  # the first row is reached by one row of w
    assert delta("conv1", 2, 5, 6, 7) == 5 * 1 * 1
    switch = np.argmax([trace.a["conv2"][1, 4, 2 + i, 4 + j] for i, j in np.ndindex(2, 2)])
    for number, (i, j) in enumerate(np.ndindex(2, 2)):
        assert delta("conv2", 1, 4, 2 + i, 4 + j) == (3 if number == switch else 0)
    assert delta("head", 0, 1) == 2
    assert len(trace.weight_gradient("conv2", (4, 5, 1, 2)).terms) == 3 * 6 * 6
    assert len(trace.weight_gradient("conv1", (5, 1, 1, 1)).terms) == 3 * 7 * 8
    assert len(trace.weight_gradient("conv1", (5, 1, 0, 0)).terms) == 3 * 6 * 7
    assert len(trace.weight_gradient("head", (2, 44)).terms) == 3
    assert len(trace.bias_gradient("conv2", (4,)).terms) == 3 * 6 * 6
    assert len(trace.bias_gradient("head", (2,)).terms) == 3


# Projections.


@pytest.mark.slow
@pytest.mark.parametrize("unpool", UNPOOLINGS)
@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=35, deadline=None)
@given(data=st.data(), place=places)
def test_a_projection_at_the_pixels_and_at_every_layer_on_the_way(
    method: str, unpool: str, data, place
) -> None:
    (trace, *_), network = traced("softmax"), fed()
    layer = data.draw(st.sampled_from([*WEIGHTED[:3], "relu1", "pool1", "mean2"]))
    feature = place.pop() % network.a[layer].shape[1]
    unit = (place[0] % network.a[layer].shape[2], place[1] % network.a[layer].shape[3])
    position = data.draw(st.sampled_from([None, "peak", unit]))
    top, signal = seed_signal(network, layer, feature, position)
    signals = backward_signals(network, top, signal, method, unpool)
    names = ["", *network.layers]
    passed = names[: names.index(top)]
    at = data.draw(st.sampled_from(passed))
    index = within(signals[at], place)
    taken = trace.projection(layer, feature, index, at, position, method, unpool)
    assert (taken.name, taken.index) == (f"{at}.signal" if at else "projection", index)
    check(taken, signals[at], network, signals)
    if at == "":
        pixels = project(network, IMAGES, layer, feature, position, method, unpool)
        assert taken.value == pixels[index]
    for factor in (factor for term in taken.terms for factor in term):
        if factor.name.endswith(".passes"):
            name = factor.name.removesuffix(".passes")
            fired = bool(network.a[name][factor.index] > 0)
            positive = bool(signals[name][factor.index] > 0)
            expected = {"deconvnet": positive, "gradient": fired, "guided": fired and positive}
            assert factor.value == expected[method]
    after = [name for name in (*WEIGHTED, top) if names.index(name) > names.index(at)]
    nearest = min(after, key=names.index)
    assert {term[-1].name for term in taken.terms} <= {f"{nearest}.signal"}


def test_a_projection_passes_every_layer_below_its_top() -> None:
    trace, network, _ = traced("softmax")
    names = list(network.layers)
    for layer, top in (("conv1", "relu1"), ("conv2", "conv2"), ("conv3", "relu3")):
        for at in ["", *names[: names.index(top)]]:
            assert trace.projection(layer, 1, (1, 1, 2, 0), at).index == (1, 1, 2, 0)
        for at in names[names.index(top) :]:
            with pytest.raises(Rot180Error, match=f"'{layer}' does not pass '{at}' on its way"):
                trace.projection(layer, 1, (1, 1, 2, 0), at)
