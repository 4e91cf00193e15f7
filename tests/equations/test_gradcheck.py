"""Finite differences confirm every layer and cost, and count their kinks; adjoint maps."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

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
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
    rot180,
)
from rot180.equations.gradcheck import (
    STEP,
    adjoint_error,
    central_differences,
    check_layer,
    check_network,
)
from tests.equations.cases import Array, Case, Windows, cases, normal, windows
from tests.equations.compared import assert_right, dense, drawn_anew, errors, seeds, shapes

operations = st.sampled_from(["correlation", "convolution"])


def convolution(case: Case, operation: str, bias: bool = True) -> Convolution:
    layer = Convolution(
        case.groups * case.channels,
        case.groups * case.features,
        case.kernel,
        case.stride,
        case.pad_width,
        case.groups,
        operation,
    )
    layer.weights["w"][...] = case.w
    layer.weights["b"][...] = bias * case.b
    return layer


# Right layers.


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(case=cases(), operation=operations)
def test_a_convolution(case: Case, operation: str) -> None:
    checks = check_layer(convolution(case, operation), case.a, case.seed, entries=20)
    assert_right(checks, "input", "w", "b")


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 4), inputs=st.integers(2, 6), outputs=st.integers(2, 6), seed=seeds)
def test_a_dense_layer(n: int, inputs: int, outputs: int, seed: int) -> None:
    checks = check_layer(dense(inputs, outputs, seed), normal(n, inputs, seed=seed + 9), seed)
    assert_right(checks, "input", "w", "b")
    assert [check.entries for check in checks] == [n * inputs, outputs * inputs, outputs]


@pytest.mark.parametrize("layer", [Tanh, Sigmoid, Flatten, Dropout])
@settings(max_examples=15, deadline=None)
@given(shape=shapes, seed=seeds)
def test_a_layer_that_is_smooth(layer: type[Layer], shape: tuple[int, ...], seed: int) -> None:
    assert_right(check_layer(layer(), normal(*shape, seed=seed), seed), "input")


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(shape=shapes, seed=seeds)
def test_a_rectifier_away_from_its_kink(shape: tuple[int, ...], seed: int) -> None:
    x = normal(*shape, seed=seed)
    x += np.copysign(0.01, x)
    assert_right(check_layer(ReLU(), x, seed), "input")


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(drawn=windows())
def test_a_mean_of_windows(drawn: Windows) -> None:
    layer = AveragePool(drawn.size, drawn.stride, drawn.pad_width)
    assert_right(check_layer(layer, drawn.a, drawn.seed, entries=30), "input")


def unequal(drawn: Windows) -> Array:
    """Return an image without two values that are nearly equal."""
    shape = (2, 3, *drawn.image)
    ranks = np.random.default_rng(drawn.seed).permutation(int(np.prod(shape)))
    return (0.01 * ranks - 1).reshape(shape)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(drawn=windows())
def test_a_maximum_of_windows_without_ties(drawn: Windows) -> None:
    layer = MaxPool(drawn.size, drawn.stride, drawn.pad_width)
    assert_right(check_layer(layer, unequal(drawn), drawn.seed, entries=30), "input")


# Kinks.


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    sides=st.lists(st.sampled_from([-2.0, -1.1, -0.9, 0.0, 0.9, 1.1, 2.0]), min_size=1),
    seed=seeds,
)
def test_a_rectifier_is_at_its_kink_within_one_step_of_zero(sides: list[float], seed: int) -> None:
    (check,) = check_layer(ReLU(), STEP * np.array([sides]), seed)
    near = sum(abs(side) < 1 for side in sides)
    assert (check.kinks, check.entries) == (near, len(sides) - near)
    assert check.error < 1e-7 if check.entries else np.isnan(check.error)
    assert str(check).endswith(f"{near} left out at kinks" if near else "entries")


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(drawn=windows())
def test_a_maximum_is_at_its_kink_where_it_is_not_the_only_one(drawn: Windows) -> None:
    shape = (1, 2, *drawn.image)
    a = np.random.default_rng(drawn.seed).integers(0, 3, shape).astype(np.float64)
    (check,) = check_layer(MaxPool(drawn.size, drawn.stride, drawn.pad_width), a, drawn.seed)
    tied = _tied(a, drawn)
    assert (check.kinks, check.entries) == (tied.sum(), a.size - tied.sum())
    assert check.error < 1e-7 if check.entries else np.isnan(check.error)


def _tied(a: Array, drawn: Windows) -> Array:
    """Return which values share the maximum of a window with another value."""
    (top, bottom), (left, right) = drawn.pad_width
    whole = np.pad(a, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=-np.inf)
    tied = np.zeros(whole.shape, bool)
    for y in range(0, whole.shape[2] - drawn.size[0] + 1, drawn.stride[0]):
        for x in range(0, whole.shape[3] - drawn.size[1] + 1, drawn.stride[1]):
            window = (..., slice(y, y + drawn.size[0]), slice(x, x + drawn.size[1]))
            largest = whole[window] == whole[window].max((-2, -1), keepdims=True)
            tied[window] |= largest & (largest.sum((-2, -1), keepdims=True) > 1)
    return tied[:, :, top : top + a.shape[2], left : left + a.shape[3]]


@pytest.mark.slow
def test_a_kink_anywhere_in_a_network_is_left_out_and_the_rest_compared() -> None:
    network = Network(
        {
            "conv": Convolution(1, 3, 2),
            "relu": ReLU(),
            "flatten": Flatten(),
            "head": Dense(12, 2),
        }
    )
    for name, w in network.weights.items():
        w[...] = normal(*w.shape, seed=len(name))
    network.layers["conv"].weights["b"][:2] = 0  # with a black image these features are at the kink
    x = normal(3, 1, 3, 3)
    x[1] = 0
    checks = {check.name: check for check in check_network(network, x, [0, 1, 1])}
    assert {name: (check.kinks, check.entries) for name, check in checks.items()} == {
        "conv.w": (0, 12),
        "conv.b": (2, 1),
        "head.w": (0, 24),
        "head.b": (0, 2),
    }
    assert max(check.error for check in checks.values()) < 1e-7


# Networks.


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(
    operation=operations,
    activations=st.permutations([Tanh, Sigmoid, ReLU]),
    pool=st.sampled_from([MaxPool, AveragePool]),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    shape=st.tuples(st.integers(1, 3), st.just(2), st.integers(3, 6), st.integers(2, 4)),
    cost=st.sampled_from([SoftmaxCrossEntropy(), SoftmaxCrossEntropy(0.1), Quadratic()]),
    seed=seeds,
)
def test_all_gradients_of_a_network(
    operation, activations, pool, size, stride, shape, cost, seed
) -> None:
    x, rng = normal(*shape, seed=seed), np.random.default_rng(seed)
    quadratic = isinstance(cost, Quadratic)
    labels = normal(len(x), 3, seed=seed + 1) if quadratic else rng.integers(0, 3, len(x))
    layers: dict[str, Layer] = {
        "conv1": Convolution(2, 4, (3, 2), (2, 1), ((1, 0), (0, 2)), 2, operation),
        "act1": activations[0](),
        "pool": pool(size, stride, ((size[0] - 1, 0), (0, size[1] - 1))),
        "conv2": Convolution(4, 3, (2, 3), (1, 2), "full", operation=operation),
        "act2": activations[1](),
        "flatten": Flatten(),
        "dropout": Dropout(0.5),
    }
    inputs = Network(layers).scores(x).shape[1]
    layers |= {"hidden": Dense(inputs, 3), "act3": activations[2](), "head": Dense(3, 3)}
    network = Network(layers | ({"last": Sigmoid()} if quadratic else {}), cost)
    for w in network.weights.values():
        w[...] = rng.normal(0, 1.4 / np.sqrt(w[0].size), w.shape)
    costs, gradients = network.five_steps(x, labels)
    # A gradient that vanishes would be lost in the rounding of the cost.
    least = 0.003 * max(1, costs.mean())
    assume(all(np.abs(gradient).max() > least for gradient in gradients.values()))

    before = {name: w.copy() for name, w in network.weights.items()}
    checks = check_network(network, x, labels, seed)
    assert [check.name for check in checks] == list(network.weights)
    for check in checks:
        assert check.error < 1e-7, check
        assert check.entries + check.kinks == before[check.name].size
    assert sum(check.kinks for check in checks) <= 2
    assert all(np.array_equal(w, before[name]) for name, w in network.weights.items())


def test_dropout_is_off_in_a_check() -> None:
    network = Network([Dense(4, 6), Dropout(0.5), Dense(6, 2)])
    network.set_training(True)
    assert_right(
        check_network(network, normal(3, 4), [0, 1, 1]),
        *("dense1.w", "dense1.b", "dense3.w", "dense3.b"),
    )


@pytest.mark.slow
def test_entries_limits_how_many_are_compared() -> None:
    layer, x = dense(7, 3, seed=1), normal(2, 7)
    compared = [check.entries for check in check_layer(layer, x, entries=5)]
    assert compared == [5, 5, 3]
    assert [check.entries for check in check_layer(layer, x)] == [14, 21, 3]
    network = Network([Dense(7, 3)])
    assert [check.entries for check in check_network(network, x, [0, 1], entries=4)] == [4, 3]
    one_wrong = np.zeros((3, 7), bool)

    class Wrong(Dense):
        def gradient(self, delta: Array) -> dict[str, Array]:
            gradients = super().gradient(delta)
            return {"w": gradients["w"] + one_wrong, "b": gradients["b"]}

    layer = Wrong(7, 3)
    one_wrong[1, 4] = True  # is found by a seed that draws this entry, and by all entries
    seen = [errors(check_layer(layer, x, seed, entries=7))["w"] > 1e-2 for seed in range(20)]
    assert any(seen)
    assert not all(seen)
    assert errors(check_layer(layer, x))["w"] > 1e-2


def test_the_same_seed_compares_the_same_entries() -> None:
    layer, x = dense(7, 3, seed=1), normal(2, 7)
    first, again, other = (check_layer(layer, x, seed, entries=4) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_the_derivative_of_a_cube() -> None:
    x = np.array([[-2.0, 0.0], [0.5, 300.0]])
    slopes, crossed = central_differences(lambda: (x**3, []), x)
    assert slopes == pytest.approx(3 * x.reshape(-1) ** 2, rel=1e-9, abs=1e-9)
    assert not crossed.any()
    assert x.tolist() == [[-2.0, 0.0], [0.5, 300.0]]
    slopes, crossed = central_differences(lambda: (abs(x), [x > 0]), x, np.array([1, 0]))
    assert crossed.tolist() == [True, False]
    assert slopes[1] == pytest.approx(-1)


# Adjoint maps.


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(case=cases(), operation=operations)
def test_a_convolution_and_its_error_are_adjoint(case: Case, operation: str) -> None:
    layer = convolution(case, operation, bias=False)
    y = normal(*layer.forward(case.a).shape, seed=case.seed + 3)
    assert adjoint_error(layer.forward, layer.backward, case.a, y) < 1e-12


@settings(max_examples=20, deadline=None)
@given(drawn=windows())
def test_means_and_their_error_are_adjoint(drawn: Windows) -> None:
    layer = AveragePool(drawn.size, drawn.stride, drawn.pad_width)
    y = normal(*layer.forward(drawn.a).shape, seed=drawn.seed + 1)
    assert adjoint_error(layer.forward, layer.backward, drawn.a, y) < 1e-12


def placed(a: Array, drawn: Windows) -> Array:
    """Return the values in each window: (n, c, y, x, height, width)."""
    whole = np.pad(a, ((0, 0), (0, 0), *drawn.pad_width))
    every = np.lib.stride_tricks.sliding_window_view(whole, drawn.size, axis=(2, 3))
    return every[:, :, :: drawn.stride[0], :: drawn.stride[1]]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(drawn=windows())
def test_the_error_of_max_pooling_is_adjoint_to_reading_at_the_switches(drawn: Windows) -> None:
    layer = MaxPool(drawn.size, drawn.stride, drawn.pad_width)
    maxima = layer.forward(drawn.a)
    y = normal(*maxima.shape, seed=drawn.seed + 1)
    switches = layer.switches[..., None]

    def gathered(a: Array) -> Array:
        every = placed(a, drawn)
        return np.take_along_axis(every.reshape(*every.shape[:4], -1), switches, -1)[..., 0]

    assert np.array_equal(gathered(drawn.a), maxima)
    other = normal(*drawn.a.shape, seed=drawn.seed + 2)
    assert adjoint_error(gathered, layer.backward, other, y) < 1e-12


@settings(max_examples=20, deadline=None)
@given(drawn=windows())
def test_repetition_is_adjoint_to_the_sum_over_windows(drawn: Windows) -> None:
    layer = MaxPool(drawn.size, drawn.stride, drawn.pad_width)
    y = normal(*layer.forward(drawn.a).shape, seed=drawn.seed + 1)
    other = normal(*drawn.a.shape, seed=drawn.seed + 2)
    assert adjoint_error(lambda a: placed(a, drawn).sum((-2, -1)), layer.repeat, other, y) < 1e-12


@settings(max_examples=15, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 4)] * 4), outputs=st.integers(1, 6), seed=seeds)
def test_flatten_and_dense_without_biases_are_adjoint_to_their_errors(shape, outputs, seed) -> None:
    x, flatten = normal(*shape, seed=seed), Flatten()
    rows = flatten.forward(x)
    y = normal(*rows.shape, seed=seed + 1)
    assert adjoint_error(flatten.forward, flatten.backward, x, y) < 1e-12
    layer = dense(rows.shape[1], outputs, seed)
    layer.weights["b"][...] = 0
    y = normal(len(x), outputs, seed=seed + 1)
    assert adjoint_error(layer.forward, layer.backward, rows, y) < 1e-12


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_maps_that_are_not_adjoint_are_found(seed: int) -> None:
    layer = drawn_anew(Convolution(2, 3, (3, 2), padding=1), seed)
    x = normal(2, 2, 6, 7, seed=seed + 2)
    offset = layer.forward(np.zeros_like(x)).copy()
    assert adjoint_error(layer.forward, layer.backward, x, offset) > 1e-3
    layer.weights["b"][...] = 0
    z = layer.forward(x).copy()
    assert adjoint_error(layer.forward, layer.backward, x, z) < 1e-12

    def unturned(delta: Array) -> Array:
        return layer._im2col.error(delta, rot180(layer.weights["w"]))

    assert adjoint_error(layer.forward, unturned, x, z) > 1e-3
    assert adjoint_error(layer.forward, lambda delta: 1.1 * layer.backward(delta), x, z) > 1e-3
