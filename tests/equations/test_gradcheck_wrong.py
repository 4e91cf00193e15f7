"""Finite differences find errors: in wrong layers, in a wrong cost, in a layer of one's own."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings

from rot180 import Rot180Error
from rot180.equations import (
    AveragePool,
    Convolution,
    Dense,
    Flatten,
    MaxPool,
    Network,
    Quadratic,
    ReLU,
    Tanh,
    rot180,
)
from rot180.equations.gradcheck import (
    GradientCheck,
    check_layer,
    check_network,
)
from tests.equations.cases import Array, normal
from tests.equations.compared import assert_right, dense, drawn_anew, errors, seeds, shapes

# Wrong layers.


class Unturned(Convolution):
    """Forgets to rotate the kernel in the backward pass."""

    def backward(self, delta: Array) -> Array:
        return self._im2col.error(delta, rot180(self._kernel()))


class UnturnedGradient(Convolution):
    """Forgets to rotate the gradient of its kernel."""

    def gradient(self, delta: Array) -> dict[str, Array]:
        gradients = super().gradient(delta)
        return {"w": rot180(gradients["w"]), "b": gradients["b"]}


class Open(ReLU):
    """Passes the error where it is negative, not where the input was positive."""

    def backward(self, delta: Array) -> Array:
        return delta * (delta > 0)


class Forgetful(Dense):
    """Leaves the first image out of its gradient."""

    def gradient(self, delta: Array) -> dict[str, Array]:
        return {"w": delta[1:].T @ self._a[1:], "b": delta.sum(0)}


class LastMaximum(MaxPool):
    """Sends all errors to the last entry of a window."""

    def backward(self, delta: Array) -> Array:
        places = self.size[0] * self.size[1]
        return self._spread((k == places - 1 for k in range(places)), delta)


class Unshared(AveragePool):
    """Gives each entry the whole error."""

    def backward(self, delta: Array) -> Array:
        return super().backward(delta * self.size[0] * self.size[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "shape", "wrong"),
    [
        (lambda: Unturned(2, 3, (3, 2)), (2, 2, 5, 6), "input"),
        (lambda: Unturned(2, 3, (3, 2), operation="convolution"), (2, 2, 5, 6), "input"),
        (lambda: UnturnedGradient(2, 3, (1, 2), (1, 2)), (2, 2, 5, 6), "w"),
        (Open, (3, 2, 3, 4), "input"),
        (lambda: Forgetful(4, 3), (3, 4), "w"),
        (lambda: LastMaximum(2), (2, 2, 5, 6), "input"),
        (lambda: Unshared((1, 2)), (2, 2, 5, 6), "input"),
    ],
)
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_wrong_layer_is_found_and_only_its_wrong_array(make, shape, wrong, seed) -> None:
    by_name = errors(check_layer(drawn_anew(make(), seed), normal(*shape, seed=seed + 9), seed))
    assert by_name.pop(wrong) > 1e-2
    assert all(error < 1e-7 for error in by_name.values())


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_wrong_layer_is_found_in_a_network_in_all_gradients_below_it(seed: int) -> None:
    network = Network(
        {
            "conv1": Convolution(1, 3, 3),
            "tanh": Tanh(),
            "conv2": Unturned(3, 4, (2, 3)),
            "flatten": Flatten(),
            "head": Dense(24, 3),
        },
        Quadratic(),
    )
    for layer in network.layers.values():
        drawn_anew(layer, seed)
    labels = normal(2, 3, seed=seed + 5)
    by_name = errors(check_network(network, normal(2, 1, 6, 6, seed=seed), labels, seed))
    assert min(by_name["conv1.w"], by_name["conv1.b"]) > 1e-2
    assert all(by_name[name] < 1e-7 for name in ("conv2.w", "conv2.b", "head.w", "head.b"))


class WrongCost(Quadratic):
    def error(self, output: Array, y: Array) -> Array:
        return 2 * (output - y)


def test_a_wrong_cost_is_found() -> None:
    network = Network([dense(4, 3, 1)], WrongCost())
    by_name = errors(check_network(network, normal(2, 4), normal(2, 3)))
    assert by_name == pytest.approx({"dense1.w": 1, "dense1.b": 1})


# A learner's own layers.


class Softplus:
    """log(1 + exp(a)), a class that knows nothing of this package."""

    slope_at = 1.0

    def forward(self, a: Array) -> Array:
        self.a = a
        return np.logaddexp(0, a)

    def backward(self, delta: Array) -> Array:
        return delta / (1 + np.exp(-self.slope_at * self.a))


class Scale:
    """A layer with weights of its own."""

    def __init__(self) -> None:
        self.weights = {"s": normal(1, 4)}

    def forward(self, a: Array) -> Array:
        self.a = a
        return self.weights["s"] * a

    def backward(self, delta: Array) -> Array:
        return self.weights["s"] * delta

    def gradient(self, delta: Array) -> dict[str, Array]:
        return {"s": (delta * self.a).sum(0, keepdims=True)}


@settings(max_examples=15, deadline=None)
@given(shape=shapes, seed=seeds)
def test_a_class_with_forward_and_backward_is_enough(shape: tuple[int, ...], seed: int) -> None:
    x = normal(*shape, seed=seed)
    x += np.copysign(0.1, x)
    kept = x.copy()
    right, wrong = Softplus(), Softplus()
    wrong.slope_at = 2.0
    assert_right(check_layer(right, x, seed), "input")
    assert errors(check_layer(wrong, x, seed))["input"] > 1e-2
    assert np.array_equal(x, kept)


def test_weights_of_ones_own_are_checked_under_their_own_names() -> None:
    layer = Scale()
    kept = layer.weights["s"].copy()
    assert_right(check_layer(layer, normal(5, 4)), "input", "s")
    assert np.array_equal(layer.weights["s"], kept)


def test_a_gradient_that_is_missing_or_of_another_shape_is_refused() -> None:
    layer = Scale()
    layer.gradient = lambda delta: {}  # type: ignore[method-assign]
    with pytest.raises(Rot180Error, match=r"gradient of 's' is missing; it has to be \(1, 4\)"):
        check_layer(layer, normal(5, 4))
    layer.gradient = lambda delta: {"s": delta}  # type: ignore[method-assign]
    with pytest.raises(Rot180Error, match=r"gradient of 's' is \(5, 4\); it has to be \(1, 4\)"):
        check_layer(layer, normal(5, 4))
    layer.backward = lambda delta: delta[0]  # type: ignore[method-assign]
    with pytest.raises(Rot180Error, match=r"gradient of 'input' is \(4,\); it .* \(5, 4\)"):
        check_layer(layer, normal(5, 4))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: check_layer(ReLU(), np.zeros((2, 3), np.float32)), "input"),
        (lambda: check_layer(ReLU(), np.zeros((2, 3), int)), "input"),
        (lambda: check_layer(Dense(3, 4, dtype=np.float32), np.zeros((2, 3))), "w"),
        (lambda: check_network(Network([Dense(3, 4)]), np.zeros((2, 3), "f4"), [0, 1]), "images"),
        (
            lambda: check_network(Network([Dense(3, 4, dtype="f4")]), np.zeros((2, 3)), [0, 1]),
            "dense1.w",
        ),
    ],
)
def test_other_numbers_than_doubles_are_refused(call: Callable[[], object], name: str) -> None:
    words = rf"Finite differences need float64, .* '{name}' is (float32|int64)\."
    with pytest.raises(Rot180Error, match=words):
        call()


def test_a_check_reads_as_a_sentence() -> None:
    (check,) = check_layer(Tanh(), normal(2, 3))
    assert str(check) == f"input: relative error {check.error:.1e} in 6 entries"
    assert str(GradientCheck("w", 2.5e-9, 4, 2)) == (
        "w: relative error 2.5e-09 in 4 entries, 2 left out at kinks"
    )
