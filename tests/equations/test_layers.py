"""The output, the error and the gradient of each layer equal PyTorch's."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor
from torch.nn import functional as F

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
    ReLU,
    Sigmoid,
    Tanh,
    channels_last,
)
from tests.equations.cases import (
    Array,
    Case,
    Windows,
    bordered,
    by_autograd,
    cases,
    normal,
    relative,
    windows,
)

seeds = st.integers(0, 99)


def agrees(layer: Layer, function: Callable[..., Tensor], a: Array, seed: int = 99) -> None:
    """Check forward, backward and gradient against a function of the input and the weights."""
    names = list(layer.weights)
    arrays = [a, *layer.weights.values()]
    z, delta, of_a, *of_weights = by_autograd(function, *arrays, seed=seed)
    for order in (np.ascontiguousarray, channels_last if a.ndim == 4 else np.asfortranarray):
        assert relative(layer.forward(order(a)), z) < 1e-10
        last = channels_last(delta) if delta.ndim == 4 else np.asfortranarray(delta)
        for errors in (delta, last):
            assert relative(layer.backward(errors), of_a) < 1e-10
            gradient = layer.gradient(errors)
            assert list(gradient) == names
            for name, expected in zip(names, of_weights, strict=True):
                assert relative(gradient[name], expected) < 1e-10


def drawn(layer: Layer, seed: int) -> Layer:
    """Give a layer other weights and biases."""
    for name, w in layer.weights.items():
        w[...] = normal(*w.shape, seed=seed + (name == "b"))
    return layer


# Layers with weights.


@settings(max_examples=15, deadline=None)
@given(n=st.lists(st.integers(1, 5), min_size=2, max_size=3), inputs=seeds, outputs=seeds)
def test_dense(n: list[int], inputs: int, outputs: int) -> None:
    layer = drawn(Dense(1 + inputs, 1 + outputs), inputs)
    for seed, images in enumerate(n):
        agrees(layer, F.linear, normal(images, 1 + inputs, seed=seed), seed)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["correlation", "convolution"])
@settings(max_examples=25, deadline=None)
@given(case=cases(), more=st.integers(1, 3))
def test_convolution(operation: str, case: Case, more: int) -> None:
    channels, features = case.groups * case.channels, case.groups * case.features
    layer = Convolution(channels, features, case.kernel, **case.options, operation=operation)
    drawn(layer, case.seed)

    def function(a: Tensor, w: Tensor, b: Tensor) -> Tensor:
        kernel = w.flip(-2, -1) if operation == "convolution" else w
        return F.conv2d(bordered(a, case.pad_width), kernel, b, case.stride, 0, 1, case.groups)

    agrees(layer, function, case.a, case.seed)
    agrees(layer, function, normal(more, *case.a.shape[1:], seed=case.seed + 5), case.seed + 6)


@settings(max_examples=10, deadline=None)
@given(size=st.tuples(st.integers(1, 6), st.integers(1, 6)), kernel=st.integers(1, 5), seed=seeds)
def test_the_kernel_of_one_operation_is_that_of_the_other_rotated(size, kernel, seed) -> None:
    a = normal(2, 3, *size, seed=seed)
    layer = drawn(Convolution(3, 4, kernel, padding="full"), seed)
    other = Convolution(3, 4, kernel, padding="full", operation="convolution")
    other.weights["w"][...] = layer.weights["w"][..., ::-1, ::-1]
    other.weights["b"][...] = layer.weights["b"]
    z = layer.forward(a)
    assert relative(other.forward(a), z) < 1e-13
    delta = normal(*z.shape, seed=seed + 1)
    assert relative(other.backward(delta), layer.backward(delta)) < 1e-13
    turned = other.gradient(delta)["w"][..., ::-1, ::-1]
    assert relative(turned, layer.gradient(delta)["w"]) < 1e-13


def test_weights_are_drawn_so_that_a_rectifier_keeps_the_variance() -> None:
    rng = np.random.default_rng(0)
    dense, conv = Dense(200, 300, rng), Convolution(8, 100, 5, groups=2, rng=rng)
    assert dense.weights["w"].std() == pytest.approx(np.sqrt(2 / 200), rel=0.02)
    assert conv.weights["w"].std() == pytest.approx(np.sqrt(2 / (4 * 25)), rel=0.02)
    assert not dense.weights["b"].any()
    assert not conv.weights["b"].any()
    again = Dense(200, 300, np.random.default_rng(0))
    assert np.array_equal(dense.weights["w"], again.weights["w"])


def test_layers_without_a_generator_start_differently_and_a_network_always_alike() -> None:
    def make_layers() -> list[Layer]:
        return [Dense(4, 4), ReLU(), Dense(4, 4), Dense(4, 4, np.random.default_rng(5))]

    layers, again = make_layers(), make_layers()
    assert repr(layers[0]) == "Dense(w (4, 4), b (4,))"  # repr draws no weights
    first, second, given_ = (
        layer.weights for layer in Network(layers).layers.values() if layer.weights
    )
    assert not np.isclose(first["w"], second["w"]).any()
    assert np.array_equal(given_["w"], Dense(4, 4, np.random.default_rng(5)).weights["w"])
    Convolution(2, 3, 2).forward(normal(1, 2, 3, 3))  # draws of other layers change nothing
    for layer, other in zip(layers, Network(again).layers.values(), strict=True):
        assert all(np.array_equal(w, other.weights[name]) for name, w in layer.weights.items())


def test_a_network_keeps_weights_that_were_read_or_given_before() -> None:
    alone = [Dense(4, 4), Convolution(2, 3, 2), Dense(2, 3)]
    for layer in alone[:2]:
        layer.weights["w"][0] = 7
    alone[2].weights = {"w": normal(3, 2, seed=5), "b": np.ones(3)}
    kept = [layer.weights["w"].copy() for layer in alone]
    for layer in alone:
        Network([ReLU(), layer]).replica()
    assert all(np.array_equal(layer.weights["w"], w) for layer, w in zip(alone, kept, strict=True))


# Activations.


ACTIVATIONS = {ReLU: torch.relu, Sigmoid: torch.sigmoid, Tanh: torch.tanh}
EXTREME = np.array([[-1e300, -1e4, -750.0, -40.0, -1e-300, 0.0, 1e-300, 40.0, 750.0, 1e4, 1e300]])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@settings(max_examples=10, deadline=None)
@given(shape=st.sampled_from([(3, 4), (2, 3, 4, 5), (1, 1, 1, 1), (6, 1)]), seed=seeds)
def test_activations(activation: type[Layer], shape: tuple[int, ...], seed: int) -> None:
    layer = activation()
    for another in (0, 100):
        agrees(layer, ACTIVATIONS[activation], normal(*shape, seed=seed + another), seed)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_extreme_values_do_not_overflow(activation: type[Layer], dtype: type) -> None:
    z = np.clip(EXTREME, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)
    layer = activation()
    expected, delta, of_z = by_autograd(ACTIVATIONS[activation], z.astype(np.float64))
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        a = layer.forward(z)
        error = layer.backward(delta.astype(dtype))
    bound = 1e-10 if dtype is np.float64 else 1e-6
    assert np.allclose(a, expected, bound, bound)
    assert np.allclose(error, of_z, bound, bound)


def test_a_rectifier_at_zero_passes_nothing_back() -> None:
    layer = ReLU()
    z = np.array([[-1.0, -0.0, 0.0, 5e-324, 1.0]])
    assert np.array_equal(layer.forward(z), [[0, 0, 0, 5e-324, 1]])
    assert np.array_equal(layer.backward(np.ones_like(z)), [[0, 0, 0, 1, 1]])
    agrees(layer, torch.relu, z)


# Pooling.


def pooled(
    pool: Callable[..., Tensor], w: Windows, value: float, **named: Any
) -> Callable[..., Any]:
    """Return PyTorch's pooling of the same windows, with a border of ``value``."""
    return lambda a: pool(bordered(a, w.pad_width, value), w.size, w.stride, **named)


@pytest.mark.slow
@settings(max_examples=75, deadline=None)
@given(drawn=windows())
def test_max_pooling_and_its_ties(drawn: Windows) -> None:
    layer = MaxPool(drawn.size, drawn.stride, drawn.pad_width)
    agrees(layer, pooled(F.max_pool2d, drawn, -np.inf), drawn.a, drawn.seed)
    agrees(layer, pooled(F.max_pool2d, drawn, -np.inf), -drawn.a[:1], drawn.seed)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(drawn=windows())
def test_switches_are_the_positions_of_the_maxima(drawn: Windows) -> None:
    layer = MaxPool(drawn.size, drawn.stride, drawn.pad_width)
    maxima = layer.forward(drawn.a).copy()
    of_pytorch = pooled(F.max_pool2d, drawn, -np.inf, return_indices=True)
    _, places = of_pytorch(torch.from_numpy(drawn.a))
    i, j = np.divmod(layer.switches, drawn.size[1])
    y, x = np.indices(maxima.shape[2:])
    rows, columns = y * drawn.stride[0] + i, x * drawn.stride[1] + j
    width = drawn.image[1] + sum(drawn.pad_width[1])
    assert np.array_equal(rows * width + columns, places.numpy())
    inside = drawn.a[
        np.arange(2)[:, None, None, None],
        np.arange(3)[:, None, None],
        rows - drawn.pad_width[0][0],
        columns - drawn.pad_width[1][0],
    ]
    assert np.array_equal(inside, maxima)


def test_of_equal_values_the_first_row_by_row_wins() -> None:
    layer = MaxPool(2)
    a = np.array([[7.0, 7, 0, 1, 0, 0], [7, 7, 1, 1, 0, 0]])[None, None]
    layer.forward(a)
    assert np.array_equal(layer.switches, [[[[0, 1, 0]]]])
    error = layer.backward(np.array([[[[3.0, 5, 8]]]]))
    assert np.array_equal(error[0, 0], [[3, 0, 0, 5, 8, 0], [0, 0, 0, 0, 0, 0]])


def test_a_border_never_wins() -> None:
    layer = MaxPool(3, 1, 1)
    a = -1 - np.abs(normal(2, 3, 4, 5))
    assert (layer.forward(a) < 0).all()
    assert layer.backward(np.ones((2, 3, 4, 5))).sum() == 2 * 3 * 4 * 5


def summed(a: Array, w: Windows) -> Array:
    """Return the sum of each window, with zeros as the border."""
    whole = np.pad(a, ((0, 0), (0, 0), *w.pad_width))
    views = sliding_window_view(whole, w.size, (2, 3))
    return views[:, :, :: w.stride[0], :: w.stride[1]].sum((-2, -1))


@settings(max_examples=50, deadline=None)
@given(drawn=windows())
def test_repetition_is_the_adjoint_of_the_sum_over_windows(drawn: Windows) -> None:
    layer = MaxPool(drawn.size, drawn.stride, drawn.pad_width)
    layer.forward(drawn.a)
    for seed in (1, 2):
        x = normal(*drawn.a.shape, seed=seed)
        there = summed(x, drawn)
        signal = normal(*there.shape, seed=seed + 1)
        there *= signal
        back = x * layer.repeat(signal)
        assert abs(there.sum() - back.sum()) <= 1e-13 * np.abs(there).sum() + 1e-13


@settings(max_examples=15, deadline=None)
@given(k=st.integers(1, 4), size=st.tuples(st.integers(4, 9), st.integers(4, 9)), seed=seeds)
def test_repetition_fills_windows_that_do_not_overlap_exactly(k, size, seed) -> None:
    layer = MaxPool(k)
    maxima = layer.forward(normal(2, 3, *size, seed=seed))
    filled = layer.repeat(maxima)
    rows, columns = k * (size[0] // k), k * (size[1] // k)
    blocks = maxima.repeat(k, -2).repeat(k, -1)
    assert np.array_equal(filled[..., :rows, :columns], blocks)
    assert not filled[..., rows:, :].any()
    assert not filled[..., columns:].any()


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(drawn=windows())
def test_average_pooling_counts_the_zeros_of_the_border(drawn: Windows) -> None:
    layer = AveragePool(drawn.size, drawn.stride, drawn.pad_width)
    agrees(layer, pooled(F.avg_pool2d, drawn, 0.0), drawn.a, drawn.seed)
    agrees(layer, pooled(F.avg_pool2d, drawn, 0.0), drawn.a[1:], drawn.seed)


@pytest.mark.parametrize("padding", [1, (1, 0)])
def test_average_pooling_as_pytorch_pads_it(padding) -> None:
    layer = AveragePool(3, (2, 3), padding)

    def function(a: Tensor) -> Tensor:
        return F.avg_pool2d(a, 3, (2, 3), padding, count_include_pad=True)

    agrees(layer, function, normal(2, 3, 8, 9))


def test_the_stride_of_a_pooling_is_its_size_if_not_given() -> None:
    a = normal(2, 3, 7, 6)
    for layer in (MaxPool, AveragePool):
        assert np.array_equal(layer((3, 2)).forward(a), layer((3, 2), (3, 2)).forward(a))


# Flatten and dropout.


@settings(max_examples=10, deadline=None)
@given(n=st.lists(st.integers(1, 4), min_size=2, max_size=3), seed=seeds)
def test_flatten(n: list[int], seed: int) -> None:
    layer = Flatten()
    for images in n:
        agrees(layer, lambda a: torch.flatten(a, 1), normal(images, 2, 3, 4, seed=seed), seed)
    agrees(layer, lambda a: torch.flatten(a, 1), normal(3, 5, seed=seed), seed)


def test_dropout_is_the_identity_when_not_training() -> None:
    layer, a = Dropout(0.7), normal(5, 6)
    assert not layer.training
    assert np.array_equal(layer.forward(a), a)
    assert np.array_equal(layer.backward(a), a)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(share: float) -> None:
    layer, a = Dropout(share, seed=3), 1 + np.abs(normal(300, 400))
    layer.training = True
    dropped = layer.forward(a)
    gone = dropped == 0
    assert gone.mean() == pytest.approx(share, abs=0.01)
    assert dropped.mean() == pytest.approx(a.mean(), rel=0.02)
    assert np.allclose(dropped[~gone], a[~gone] / (1 - share), rtol=1e-14)


def test_the_error_is_dropped_where_the_values_were() -> None:
    layer, a = Dropout(0.4), 1 + np.abs(normal(20, 30))
    layer.training = True
    factors = layer.forward(a) / a
    delta = normal(20, 30, seed=1)
    assert relative(layer.backward(delta), delta * factors) < 1e-14
    assert not np.array_equal(layer.forward(a) == 0, factors == 0)  # drawn anew
    layer.training = False
    layer.forward(a)
    assert np.array_equal(layer.backward(delta), delta)


def test_the_seed_or_the_generator_decides_what_is_dropped() -> None:
    a = np.ones((8, 9))
    layers = [Dropout(seed=seed) for seed in (1, 1, 2, 3)]
    for layer in layers:
        layer.training = True
    layers[3].set_rng(np.random.default_rng(1))
    first, same, other, given = (layer.forward(a) for layer in layers)
    assert np.array_equal(first, same)
    assert np.array_equal(first, given)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
def test_dropout_refuses_a_share_that_leaves_nothing(share: float) -> None:
    with pytest.raises(Rot180Error, match=f"between 0 and 1, not at {share}"):
        Dropout(share)


def test_a_dense_layer_says_what_it_takes() -> None:
    with pytest.raises(Rot180Error, match=r"takes \(images, 6\) .* shape \(2, 5\)"):
        Dense(6, 3).forward(np.zeros((2, 5)))
    with pytest.raises(Rot180Error, match=r"shape \(2, 1, 2, 3\). Put a Flatten before it"):
        Dense(6, 3).forward(np.zeros((2, 1, 2, 3)))


# All of them.


MAKERS: dict[str, Callable[[Any], Layer]] = {
    "dense": lambda dtype: Dense(6, 5, dtype=dtype),
    "correlation": lambda dtype: Convolution(4, 6, 3, 2, 1, 2, dtype=dtype),
    "convolution": lambda dtype: Convolution(4, 6, 3, operation="convolution", dtype=dtype),
    "relu": lambda _: ReLU(),
    "sigmoid": lambda _: Sigmoid(),
    "tanh": lambda _: Tanh(),
    "max": lambda _: MaxPool(3, 2, 1),
    "average": lambda _: AveragePool(3, 2, 1),
    "flatten": lambda _: Flatten(),
    "dropout": lambda _: Dropout(0.5),
}


def images_for(name: str, n: int, seed: int) -> Array:
    """Draw an input of the layer."""
    return normal(n, 6, seed=seed) if name == "dense" else normal(n, 4, 7, 8, seed=seed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MAKERS)
def test_a_layer_keeps_the_precision_that_it_is_given(name: str, dtype: type) -> None:
    layer = MAKERS[name](dtype)
    if isinstance(layer, Dropout):
        layer.training = True
    out = layer.forward(images_for(name, 3, 0).astype(dtype))
    assert out.dtype == dtype
    delta = normal(*out.shape, seed=1).astype(dtype)
    assert layer.backward(delta).dtype == dtype
    gradient = layer.gradient(delta)
    assert gradient.keys() == layer.weights.keys()
    assert all(array.dtype == dtype for array in gradient.values())
    assert all(w.dtype == dtype for w in layer.weights.values())
    if isinstance(layer, MaxPool):
        assert layer.repeat(delta).dtype == dtype


@pytest.mark.parametrize("name", MAKERS)
def test_a_replica_shares_the_weights_and_nothing_else(name: str) -> None:
    layer, here, there = MAKERS[name](np.float64), images_for(name, 3, 0), images_for(name, 3, 1)
    alone = MAKERS[name](np.float64)
    expected = alone.forward(here)
    delta = normal(*expected.shape, seed=2)
    layer.forward(there)  # so that there are results that could be shared
    layer.backward(delta)
    replica = layer.replica()
    assert type(replica) is type(layer)
    assert all(replica.weights[kind] is w for kind, w in layer.weights.items())
    out = layer.forward(here)
    replica.forward(there)
    error, gradient = layer.backward(delta), layer.gradient(delta)
    replica.backward(-delta)
    replica.gradient(-delta)
    assert relative(out, expected) < 1e-13
    assert relative(error, alone.backward(delta)) < 1e-13
    for kind, expected_gradient in alone.gradient(delta).items():
        assert relative(gradient[kind], expected_gradient) < 1e-13


@pytest.mark.parametrize("name", MAKERS)
def test_another_batch_leaves_nothing_of_the_last(name: str) -> None:
    layer = MAKERS[name](np.float64)
    for turn, n in enumerate((3, 3, 1, 4, 3)):
        fresh, a = MAKERS[name](np.float64), images_for(name, n, turn)
        if a.ndim == 4 and turn % 2:
            a = a.swapaxes(2, 3)  # as many entries in another shape
        out = layer.forward(a)
        assert relative(out, fresh.forward(a)) < 1e-13
        delta = normal(*out.shape, seed=turn + 10)
        assert relative(layer.backward(delta), fresh.backward(delta)) < 1e-13
        for kind, gradient in fresh.gradient(delta).items():
            assert relative(layer.gradient(delta)[kind], gradient) < 1e-13
