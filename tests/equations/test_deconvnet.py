"""The projections in NumPy and in PyTorch are independent, and agree."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rot180
from rot180 import Rot180Error
from rot180.equations import (
    AveragePool,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    Network,
    Quadratic,
    ReLU,
    Tanh,
)
from rot180.equations.deconvnet import METHODS, UNPOOLINGS, backward_signals, project, seed_signal
from rot180.equations.gradcheck import central_differences
from rot180.models.two_layer import equations_network
from tests.equations.cases import Array, normal

LAYERS = {"conv1": 32, "conv2": 64}


@cache
def shipped(dtype: torch.dtype) -> tuple[Network, rot180.Network, torch.Tensor]:
    """Return the shipped network in NumPy and in PyTorch, and a photograph for both."""
    checkpoint = rot180.load("two-layer")
    model = checkpoint.model.to(dtype)
    photograph = rot180.open_dataset("photos", "test").image(1)
    x = checkpoint.prepare(photograph).to(dtype)
    return equations_network(model), rot180.capture(model, x[None]), x


def compare(
    ours: Network,
    theirs: rot180.Network,
    x: torch.Tensor,
    layer: str,
    features: Any,
    *how: Any,
) -> list[float]:
    """Return the relative error of each projection that is not zero in PyTorch."""
    expected = rot180.project(theirs, x, layer, list(features), *how).full().numpy()
    actual = [project(ours, x[None].numpy(), layer, feature, *how)[0] for feature in features]
    errors = []
    for numpy_picture, torch_picture in zip(actual, expected, strict=True):
        assert numpy_picture.shape == torch_picture.shape
        assert numpy_picture.dtype == torch_picture.dtype
        if torch_picture.any():
            errors.append(
                float(np.abs(numpy_picture - torch_picture).max() / np.abs(torch_picture).max())
            )
        else:
            assert not numpy_picture.any()
    return errors


# The shipped network.


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_every_feature_of_the_shipped_network_as_pytorch(layer: str) -> None:
    count = LAYERS[layer]
    errors = compare(*shipped(torch.float32), layer, range(count))
    assert max(errors) < 1e-5
    assert len(errors) > count / 2  # the others do not fire on this photograph


@pytest.mark.slow
@pytest.mark.parametrize("unpool", UNPOOLINGS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", LAYERS)
def test_every_feature_in_float64_by_all_methods_and_unpoolings(layer, method, unpool) -> None:
    case, count = shipped(torch.float64), LAYERS[layer]
    errors = compare(*case, layer, range(count), None, method, unpool)
    assert max(errors) < 1e-12
    assert len(errors) > count / 2


@pytest.mark.slow
@pytest.mark.parametrize("unpool", UNPOOLINGS)
@pytest.mark.parametrize("method", METHODS)
def test_the_strongest_unit_and_any_other(method: str, unpool: str) -> None:
    case = shipped(torch.float64)
    network, x = case[0], case[2][None].numpy()
    network.scores(x)
    for layer, rectified in (("conv1", "relu1"), ("conv2", "relu2")):
        some = range(0, LAYERS[layer], 9)
        assert max(compare(*case, layer, some, "peak", method, unpool)) < 1e-12
        fired = np.argwhere(network.a[rectified][0] > 0).tolist()
        silent = np.argwhere(network.a[rectified][0] == 0).tolist()
        for feature, *unit in fired[:: len(fired) // 5]:
            (error,) = compare(*case, layer, [feature], tuple(unit), method, unpool)
            assert error < 1e-12
        for feature, *unit in silent[:: len(silent) // 2]:
            assert compare(*case, layer, [feature], tuple(unit), method, unpool) == []


# Windows that overlap, padding, strides, groups.


@cache
def varied() -> tuple[Network, rot180.Network, torch.Tensor]:
    model = nn.Sequential(
        nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=(1, 2)),
        nn.ReLU(),
        nn.MaxPool2d((3, 2), (2, 1), (1, 0)),
        nn.Conv2d(4, 6, (2, 3), padding=(0, 2), groups=2),
        nn.ReLU(),
        nn.MaxPool2d((2, 3), (1, 2), (1, 1)),
        nn.Conv2d(6, 5, 3, stride=(2, 1), padding=1),
        nn.ReLU(),
    ).double()
    layers: dict[str, Layer] = {
        "0": Convolution(3, 4, (3, 2), (1, 2), (1, 2)),
        "1": ReLU(),
        "2": MaxPool((3, 2), (2, 1), (1, 0)),
        "3": Convolution(4, 6, (2, 3), 1, (0, 2), 2),
        "4": ReLU(),
        "5": MaxPool((2, 3), (1, 2), 1),
        "6": Convolution(6, 5, 3, (2, 1), 1),
        "7": ReLU(),
    }
    ours = Network(layers)
    for seed, (name, w) in enumerate(ours.weights.items()):
        w[...] = 0.5 * normal(*w.shape, seed=seed)
        kind = {"w": "weight", "b": "bias"}[name[2:]]
        model.get_parameter(f"{name[0]}.{kind}").data.copy_(torch.from_numpy(w.copy()))
    x = torch.from_numpy(normal(3, 13, 14, seed=9))
    return ours, rot180.capture(model, x[None]), x


@pytest.mark.slow
@pytest.mark.parametrize("unpool", UNPOOLINGS)
@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10, deadline=None)
@given(layer=st.sampled_from(["0", "3", "6"]), data=st.data())
def test_a_network_whose_windows_overlap_as_pytorch(method: str, unpool: str, layer, data) -> None:
    ours, theirs, x = varied()
    place = theirs.layers[layer]
    unit = (
        data.draw(st.integers(0, place.height - 1)),
        data.draw(st.integers(0, place.width - 1)),
    )
    for position in (None, "peak", unit):
        case = (ours, theirs, x, layer, range(place.channels), position)
        assert max(compare(*case, method, unpool), default=0) < 1e-12


@pytest.mark.slow
def test_each_image_of_a_batch_by_itself() -> None:
    ours, x = varied()[0], normal(3, 3, 13, 14, seed=2)
    for position in (None, "peak", (1, 2)):
        together = project(ours, x, "6", 2, position)
        for n in range(3):
            alone = project(ours, x[n : n + 1], "6", 2, position)[0]
            assert np.abs(together[n] - alone).max() <= 1e-14 * np.abs(alone).max()


def test_a_position_may_be_of_numpy_numbers() -> None:
    ours, _, x = varied()
    batch = x[None].numpy()
    feature, *position = np.argwhere(ours.scores(batch)[0] > 0)[0]
    signal = seed_signal(ours, "6", int(feature), tuple(position))[1]
    assert np.array_equal(
        signal, seed_signal(ours, "6", int(feature), tuple(map(int, position)))[1]
    )
    assert signal.any()


def test_with_a_convolution_forward_and_its_kernel_turned_it_is_the_same() -> None:
    x = normal(2, 2, 8, 9)
    pixels = []
    for operation in ("correlation", "convolution"):
        network = Network(
            {
                "conv1": Convolution(2, 3, (3, 2), operation=operation),
                "relu1": ReLU(),
                "pool1": MaxPool(2),
                "conv2": Convolution(3, 4, 2, operation=operation),
            }
        )
        for name in ("conv1.w", "conv2.w"):
            w = network.weights[name]
            w[...] = normal(*w.shape, seed=len(w))
            if operation == "convolution":
                w[...] = w[..., ::-1, ::-1].copy()
        pixels.append(project(network, x, "conv2", 1, "peak"))
    assert pixels[0].any()
    assert np.abs(pixels[0] - pixels[1]).max() < 1e-14 * np.abs(pixels[0]).max()


# The gradient.


def smooth() -> Network:
    """Make a network whose first layer passes its input on, so that its error is that of x."""
    network = Network(
        {
            "pixels": Dropout(0.5),
            "conv1": Convolution(2, 4, (3, 2), (1, 2), ((1, 0), (2, 1)), 2, "convolution"),
            "relu1": ReLU(),
            "pool1": MaxPool((3, 2), (2, 1), ((1, 0), (0, 1))),
            "conv2": Convolution(4, 6, (2, 3), padding=1),
            "tanh2": Tanh(),
            "mean2": AveragePool(2, 1),
            "conv3": Convolution(6, 3, 2),
            "relu3": ReLU(),
        },
        Quadratic(),
    )
    for seed, w in enumerate(network.weights.values()):
        w[...] = 0.5 * normal(*w.shape, seed=seed)
    return network


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(
    feature=st.integers(0, 2),
    position=st.one_of(st.none(), st.just("peak"), st.tuples(st.integers(0, 2), st.integers(0, 2))),
    seed=st.integers(0, 99),
)
def test_the_gradient_is_that_of_the_activation_and_the_error_of_the_five_steps(
    feature, position, seed
) -> None:
    network, x = smooth(), normal(2, 2, 9, 8, seed=seed)
    projection = project(network, x, "conv3", feature, position, "gradient")
    top, signal = seed_signal(network, "conv3", feature, position)
    assert top == "relu3"

    # The quadratic cost of this target has the signal as its output error.
    network.input(x)
    output = network.feed_forward()
    network.output_error(output - len(x) * signal)
    network.back_propagate()
    scale = max(np.abs(projection).max(), 1e-10)
    assert np.abs(projection - network.delta["pixels"]).max() < 1e-12 * scale

    def evaluate() -> tuple[Array, list[Array]]:
        network.input(x)
        parts = network.feed_forward() * signal
        return parts, [
            layer.kink_pattern()
            for layer in network.layers.values()
            if layer.kink_pattern() is not None
        ]

    chosen = np.random.default_rng(seed).permutation(x.size)[:40]
    slopes, crossed = central_differences(evaluate, x, chosen)
    differences = np.abs(slopes - projection.reshape(-1)[chosen])[~crossed]
    assert differences.max() < 1e-8 * max(1, scale)


@pytest.mark.slow
def test_the_gradient_of_a_unit_is_its_activation_times_the_slope() -> None:
    network, x = smooth(), normal(1, 2, 9, 8, seed=3)
    network.scores(x)
    _, feature, *unit = np.argwhere(network.a["relu3"] > 0).tolist()[0]
    activation = float(network.a["relu3"][0, feature, *unit])
    pixels = project(network, x, "conv3", feature, tuple(unit), "gradient")

    def evaluate() -> tuple[Array, list[Array]]:
        network.input(x)
        return network.feed_forward()[0, feature, *unit].copy(), []

    slopes, _ = central_differences(evaluate, x)
    expected = activation * slopes.reshape(x.shape)
    assert np.abs(expected).max() > 1e-3
    assert np.abs(pixels - expected).max() < 1e-8 * np.abs(expected).max()


# What a signal is on its way.


def test_the_signal_starts_with_the_activation_and_nothing_else() -> None:
    ours, _, x = varied()
    ours.scores(x[None].numpy())
    maps = ours.a["7"]
    for position in (None, "peak", (1, 2)):
        top, signal = seed_signal(ours, "6", 3, position)
        assert top == "7"
        kept = signal != 0
        assert np.array_equal(signal[kept], maps[kept])
        assert not signal[:, [0, 1, 2, 4]].any()
        places = {None: (maps[:, 3] > 0).sum(), "peak": 1, (1, 2): int(maps[0, 3, 1, 2] > 0)}
        assert kept.sum() == places[position]
    _, signal = seed_signal(ours, "6", 3, "peak")
    assert signal.max() == maps[0, 3].max() > 0


def test_a_layer_without_a_rectifier_starts_with_its_own_output() -> None:
    network = Network({"conv": Convolution(1, 2, 2), "pool": MaxPool(2), "relu": ReLU()})
    network.scores(-np.ones((1, 1, 4, 5)))
    top, signal = seed_signal(network, "conv", 1)
    assert top == "conv"
    assert np.array_equal(signal[:, 1], network.a["conv"][:, 1])
    assert signal.any()


@pytest.mark.parametrize("method", METHODS)
def test_from_a_rectifier_it_is_the_same_as_from_what_it_rectifies(method: str) -> None:
    network, x = smooth(), normal(2, 2, 9, 8)
    for layer, rectifier in (("conv1", "relu1"), ("conv3", "relu3")):
        projection = project(network, x, rectifier, 2, "peak", method)
        assert projection.any()
        assert np.array_equal(projection, project(network, x, layer, 2, "peak", method))


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["pool1", "tanh2", "mean2"])
def test_the_maps_of_any_layer_are_projected_to_the_pixels(layer: str) -> None:
    network, x = smooth(), normal(1, 2, 9, 8)
    pixels = project(network, x, layer, 2, None, "gradient")

    def evaluate() -> tuple[Array, list[Array]]:
        network.input(x)
        network.feed_forward()
        return network.a[layer][
            :, 2
        ] ** 2 / 2, []  # its derivative with respect to the map is the map

    slopes, _ = central_differences(evaluate, x)
    expected = slopes.reshape(x.shape)
    assert np.abs(expected).max() > 1e-3
    assert np.abs(pixels - expected).max() < 1e-8 * np.abs(expected).max()


def test_biases_do_not_enter_the_backward_pass() -> None:
    ours, _, x = varied()
    ours.scores(x[None].numpy())
    top, signal = seed_signal(ours, "6", 1)
    for method in METHODS:
        for unpool in UNPOOLINGS:
            signals = backward_signals(ours, top, signal, method, unpool)
            nothing = backward_signals(ours, top, np.zeros_like(signal), method, unpool)
            twice = backward_signals(ours, top, 2 * signal, method, unpool)
            assert list(signals) == ["7", "6", "5", "4", "3", "2", "1", "0", ""]
            assert not any(at_layer.any() for at_layer in nothing.values())
            assert all(
                np.array_equal(2 * at_layer, twice[name]) for name, at_layer in signals.items()
            )


def test_dropout_is_off_in_a_projection() -> None:
    layers: dict[str, Layer] = {"conv1": Convolution(1, 3, 2), "drop": Dropout(0.9)}
    network = Network(layers | {"conv2": Convolution(3, 2, 2)})
    plain = Network({"conv1": layers["conv1"], "conv2": network.layers["conv2"]})
    x = normal(1, 1, 6, 6)
    network.set_training(True)
    projection = project(network, x, "conv2", 1)
    assert projection.any()
    assert np.array_equal(projection, project(plain, x, "conv2", 1))


# What there is not.

X = np.zeros((1, 2, 6, 7))


@cache
def small() -> Network:
    layers = {"conv": Convolution(2, 3, 3), "relu": ReLU(), "flatten": Flatten()}
    return Network(layers | {"head": Dense(60, 4)})


def fed() -> Network:
    small().scores(X)
    return small()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: project(small(), X, "conv9", 0), "no layer 'conv9'. There are: conv, relu"),
        (lambda: project(small(), X, "", 0), "no layer ''. There are: conv, relu, flatten, head"),
        (lambda: project(small(), X, "conv", 3), r"no feature 3 in 'conv', .* \(1, 3, 4, 5\)"),
        (lambda: project(small(), X, "conv", -1), "no feature -1 in 'conv'"),
        (lambda: project(small(), X, "head", 0), r"no feature 0 in 'head', .* \(1, 4\)"),
        (lambda: project(small(), X, "conv", 0, (4, 0)), r"no position \(4, 0\) .* are 4x5"),
        (lambda: project(small(), X, "conv", 0, (0, 5)), r"no position \(0, 5\) .* are 4x5"),
        (lambda: project(small(), X, "conv", 0, (0, -1)), r"no position \(0, -1\) in 'conv'"),
        (lambda: project(small(), X, "conv", 0, "best"), "no position best .* 'peak', or"),
        (
            lambda: seed_signal(fed(), "conv", 0, (0.5, 1)),
            "position has to be a whole number, not 0.5",
        ),
        (lambda: seed_signal(fed(), "conv", 0, (1, 2, 3)), r"no position \(1, 2, 3\) in 'conv'"),
        (
            lambda: project(small(), X, "conv", 0, None, "deconv"),
            "no method 'deconv'. There are: deconvnet, g",
        ),
        (
            lambda: project(small(), X, "conv", 0, None, "guided", "switch"),
            "no unpooling 'switch'. There are: switches, repeat",
        ),
        (lambda: project(small(), X[:, :1], "conv", 0), r"take 2 channels; .* have 1"),
    ],
)
def test_an_unknown_name_is_refused_with_the_names_that_exist(
    call: Callable[[], object], words: str
) -> None:
    with pytest.raises(Rot180Error, match=words):
        call()
