"""The fast layers equal the plain ones that they override, and the plain ones own their results."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from rot180.equations import Layer, Network, activations, check_layer, fit, layers, pooling
from rot180.equations.fast import layers as fast
from tests.equations.cases import Array, Case, Windows, cases, normal, relative, windows

OPERATIONS = ["correlation", "convolution"]


def steps(layer: Layer, a: Array, seed: int) -> dict[str, Array]:
    """Return copies of the output, the error and the gradients of a layer."""
    out = layer.forward(a).copy()
    delta = normal(*out.shape, seed=seed)
    error = layer.backward(delta).copy()
    gradients = {name: gradient.copy() for name, gradient in layer.gradient(delta).items()}
    return {"output": out, "error": error, **gradients}


def assert_equal(plain: Layer, quick: Layer, batches: list[Array]) -> None:
    """Assert that two layers with the same weights take the same steps, batch after batch."""
    for name, w in plain.weights.items():
        w[...] = normal(*w.shape, seed=w.size)
        quick.weights[name][...] = w
    for seed, a in enumerate(batches):
        expected, actual = steps(plain, a, seed), steps(quick, a, seed)
        assert actual.keys() == expected.keys()
        for name, array in expected.items():
            assert relative(actual[name], array, least=1.0) < 1e-12, name


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_a_fast_convolution_equals_the_plain_one(operation: str, case: Case) -> None:
    channels, features = case.groups * case.channels, case.groups * case.features
    plain, quick = (
        kind(channels, features, case.kernel, case.stride, case.pad_width, case.groups, operation)
        for kind in (layers.Convolution, fast.Convolution)
    )
    assert_equal(plain, quick, [case.a, case.a[:, :, ::-1], case.a[:1]])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(case=windows())
def test_a_fast_pooling_equals_the_plain_one(case: Windows) -> None:
    for plain_kind, quick_kind in (
        (pooling.MaxPool, fast.MaxPool),
        (pooling.AveragePool, fast.AveragePool),
    ):
        plain, quick = (
            kind(case.size, case.stride, case.pad_width) for kind in (plain_kind, quick_kind)
        )
        assert_equal(plain, quick, [case.a, -case.a, case.a[:1]])
        if isinstance(plain, pooling.MaxPool) and isinstance(quick, fast.MaxPool):
            assert np.array_equal(plain.switches, quick.switches)
            signal = normal(*plain.switches.shape)
            assert relative(quick.repeat(signal), plain.repeat(signal), least=1.0) < 1e-12


PAIRS: dict[str, tuple[Callable[[], Layer], Callable[[], Layer]]] = {
    "dense": (lambda: layers.Dense(12, 5), lambda: fast.Dense(12, 5)),
    "convolution": (
        lambda: layers.Convolution(4, 6, (3, 2), (2, 1), ((1, 0), (2, 1)), 2, "convolution"),
        lambda: fast.Convolution(4, 6, (3, 2), (2, 1), ((1, 0), (2, 1)), 2, "convolution"),
    ),
    "correlation": (
        lambda: layers.Convolution(4, 6, 3, padding="same"),
        lambda: fast.Convolution(4, 6, 3, padding="same"),
    ),
    "max": (lambda: pooling.MaxPool(3, 2, 1), lambda: fast.MaxPool(3, 2, 1)),
    "average": (lambda: pooling.AveragePool(3, 2, 1), lambda: fast.AveragePool(3, 2, 1)),
    "flatten": (layers.Flatten, fast.Flatten),
    "relu": (activations.ReLU, fast.ReLU),
}


def images_for(name: str, n: int, seed: int) -> Array:
    return normal(n, 12, seed=seed) if name == "dense" else normal(n, 4, 7, 8, seed=seed)


@pytest.mark.parametrize("name", PAIRS)
def test_a_fast_layer_is_a_plain_one_and_equals_it(name: str) -> None:
    plain, quick = (make() for make in PAIRS[name])
    assert isinstance(quick, type(plain))
    assert type(quick).__name__ == type(plain).__name__
    assert_equal(plain, quick, [images_for(name, n, n) for n in (3, 3, 1, 4)])


@pytest.mark.parametrize("name", PAIRS)
def test_a_plain_layer_owns_its_results(name: str) -> None:
    layer = PAIRS[name][0]()
    first = layer.forward(images_for(name, 3, 0))
    delta = normal(*first.shape)
    error, gradients = layer.backward(delta), layer.gradient(delta)
    before = [array.copy() for array in (first, error, *gradients.values())]
    steps(layer, images_for(name, 3, 1), 1)
    after = (first, error, *gradients.values())
    assert all(np.array_equal(*both) for both in zip(before, after, strict=True))


@pytest.mark.parametrize("name", PAIRS)
def test_a_plain_layer_has_the_gradients_of_finite_differences(name: str) -> None:
    layer = PAIRS[name][0]()
    for check in check_layer(layer, images_for(name, 2, 0), entries=40):
        assert check.error < 1e-7, check
        assert check.entries


@pytest.mark.parametrize("name", PAIRS)
def test_plain_and_fast_layers_refuse_errors_of_another_shape(name: str) -> None:
    for make in PAIRS[name]:
        layer: Any = make()
        out = layer.forward(images_for(name, 2, 0))
        with pytest.raises(layers.Rot180Error, match=r"error is of shape \(3, .* of shape \(2, "):
            layer.backward(np.zeros((3, *out.shape[1:])))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_of_plain_layers_learns_as_one_of_fast_layers(threads: int) -> None:
    trained = []
    for kind in (layers, fast):
        network = Network(
            {
                "conv": kind.Convolution(1, 3, 3),
                "relu": activations.ReLU() if kind is layers else fast.ReLU(),
                "pool": pooling.MaxPool(2) if kind is layers else fast.MaxPool(2),
                "flatten": kind.Flatten(),
                "head": kind.Dense(12, 2),
            }
        )
        x = normal(40, 1, 6, 6)
        fit(network, x, (x.mean((1, 2, 3)) > 0).astype(int), epochs=2, threads=threads)
        trained.append(network.weights)
    for name, w in trained[0].items():
        assert relative(trained[1][name], w) < 1e-10
