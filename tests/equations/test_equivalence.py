"""A perceptron whose connections are cut and whose weights are shared is a convolution."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rot180 import Rot180Error
from rot180.equations import Convolution, Dense
from rot180.equations.convolution import convolution, correlation
from rot180.equations.equivalence import CUT, Connections, connections
from tests.equations.cases import Array, Case, cases, normal, relative

OPERATIONS = {"correlation": correlation, "convolution": convolution}


def wired(case: Case, operation: str) -> Connections:
    channels = case.groups * case.channels
    return connections((channels, *case.size), case.w.shape, **case.options, operation=operation)


def layer(case: Case, operation: str) -> Convolution:
    """Return the convolution as a layer, with the weights of the case."""
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
    layer.weights["b"][...] = case.b
    return layer


def perceptron(connected: Connections, w: Array, b: Array) -> Dense:
    """Return the layer of perceptrons with these connections."""
    outputs, inputs = connected.weight.shape
    layer = Dense(inputs, outputs)
    layer.weights = {"w": connected.matrix(w), "b": connected.biases(b)}
    return layer


def rows(a: Array) -> Array:
    """Return each image as one row."""
    return a.reshape(len(a), -1)


def whole(x: Array) -> Array:
    """Round to whole numbers, whose sums of products are exact in any order."""
    return np.rint(3 * x)


# The same numbers.


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=50, deadline=None)
@given(case=cases())
def test_output_error_and_shared_gradient_are_those_of_the_convolution(
    operation: str, case: Case
) -> None:
    connected, theirs = wired(case, operation), layer(case, operation)
    for w in theirs.weights.values():
        w[...] = whole(w)
    ours = perceptron(connected, *theirs.weights.values())
    a = whole(case.a)
    z = theirs.forward(a)
    assert z.shape[1:] == connected.above
    assert np.array_equal(ours.forward(rows(a)), rows(z))
    delta = whole(normal(*z.shape, seed=case.seed + 3))
    assert np.array_equal(ours.backward(rows(delta)), rows(theirs.backward(delta)))
    actual, expected = ours.gradient(rows(delta)), theirs.gradient(delta)
    assert np.array_equal(connected.shared_gradient(actual["w"]), expected["w"])
    assert np.array_equal(connected.shared_bias_gradient(actual["b"]), expected["b"])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_output_error_and_gradient_agree_up_to_rounding_for_any_values(operation: str) -> None:
    case = Case(3, 2, 3, 2, (9, 8), (3, 4), (1, 2), ((2, 0), (1, 3)), seed=1)
    connected, theirs = wired(case, operation), layer(case, operation)
    ours = perceptron(connected, case.w, case.b)
    z = theirs.forward(case.a)
    assert relative(ours.forward(rows(case.a)), rows(z)) < 1e-13
    delta = normal(*z.shape, seed=2)
    assert relative(ours.backward(rows(delta)), rows(theirs.backward(delta))) < 1e-13
    actual, expected = ours.gradient(rows(delta)), theirs.gradient(delta)
    assert relative(connected.shared_gradient(actual["w"]), expected["w"]) < 1e-13
    assert relative(connected.shared_bias_gradient(actual["b"]), expected["b"]) < 1e-13


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(1, 3),
    features=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_transposed_weights_times_delta_are_the_full_convolution_with_the_rotated_kernel(
    size, kernel, channels, features, seed
) -> None:
    assume(size[0] >= kernel[0] and size[1] >= kernel[1])
    w = whole(normal(features, channels, *kernel, seed=seed))
    for operation, turned in (("convolution", w[..., ::-1, ::-1]), ("correlation", w)):
        connected = connections((channels, *size), w.shape, operation=operation)
        delta = whole(normal(*connected.above, seed=seed + 1))
        expected = [
            sum(scipy.signal.convolve2d(delta[f], turned[f, c], "full") for f in range(features))
            for c in range(channels)
        ]
        actual = connected.matrix(w).T @ delta.reshape(-1)
        assert np.array_equal(actual.reshape(channels, *size), expected)


# The connections.


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_a_single_white_pixel_finds_its_connections_and_their_weights(
    operation: str, case: Case
) -> None:
    connected = wired(case, operation)
    inputs = connected.weight.shape[1]
    assume(inputs <= 150)
    pixels = np.eye(inputs).reshape(inputs, *connected.below)
    numbered = 1.0 + np.arange(case.w.size).reshape(case.w.shape)
    z = OPERATIONS[operation](pixels, numbered, **case.options)
    assert np.array_equal(rows(z).T, np.where(connected.weight == CUT, 0, connected.weight + 1))


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=15, deadline=None)
@given(case=cases())
def test_cut_connections_are_zero_and_the_others_have_one_of_the_weights(
    operation: str, case: Case
) -> None:
    connected = wired(case, operation)
    matrix = connected.matrix(case.w)
    cut = connected.weight == CUT
    assert not matrix[cut].any()
    assert np.array_equal(matrix[~cut], case.w.reshape(-1)[connected.weight[~cut]])
    assert set(connected.weight.reshape(-1).tolist()) <= {CUT, *range(case.w.size)}
    # No position uses a weight twice.
    for row in connected.weight:
        kept = row[row != CUT]
        assert len(set(kept.tolist())) == len(kept)
    assert np.array_equal(
        connected.biases(case.b).reshape(connected.above),
        np.broadcast_to(case.b[:, None, None], connected.above),
    )


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=15, deadline=None)
@given(case=cases())
def test_a_weight_is_shared_by_as_many_connections_as_use_it(operation: str, case: Case) -> None:
    connected = wired(case, operation)
    assert connected.uses.shape == case.w.shape
    assert connected.uses.sum() == (connected.weight != CUT).sum()
    for number, used in enumerate(connected.uses.reshape(-1)):
        assert used == (connected.weight == number).sum()
    # The gradient of a weight, where all inputs and all errors are one.
    theirs = layer(case, operation)
    z = theirs.forward(np.ones((1, *connected.below)))
    assert np.array_equal(connected.uses, np.rint(theirs.gradient(np.ones_like(z))["w"]))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_without_a_border_each_position_uses_each_weight(operation: str) -> None:
    for stride in (1, 2, (2, 3)):
        connected = connections((4, 8, 9), (6, 2, 3, 2), stride, "valid", 2, operation)
        assert (connected.uses == connected.above[1] * connected.above[2]).all()
    border = connections((1, 3, 3), (1, 1, 3, 3), padding="same", operation=operation)
    assert border.uses[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


def test_a_small_matrix_as_it_is_drawn_on_paper() -> None:
    forward = connections((1, 1, 4), (1, 1, 1, 3))
    assert forward.weight.tolist() == [[0, 1, 2, CUT], [CUT, 0, 1, 2]]
    turned = connections((1, 1, 4), (1, 1, 1, 3), operation="convolution")
    assert turned.weight.tolist() == [[2, 1, 0, CUT], [CUT, 2, 1, 0]]
    w = np.array([5.0, 0.0, 7.0]).reshape(1, 1, 1, 3)
    assert turned.matrix(w).tolist() == [[7, 0, 5, 0], [0, 7, 0, 5]]
    strided = connections((1, 1, 4), (1, 1, 1, 2), (1, 2), ((0, 0), (1, 1)))
    assert strided.weight.tolist() == [
        [1, CUT, CUT, CUT],
        [CUT, 0, 1, CUT],
        [CUT, CUT, CUT, 0],
    ]


# Learning.


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=15, deadline=None)
@given(case=cases())
def test_gradient_descent_on_shared_connections_stays_a_convolution(
    operation: str, case: Case
) -> None:
    connected, a, rate = wired(case, operation), case.a, 1e-3
    ours, theirs = perceptron(connected, case.w, case.b), layer(case, operation)
    y = normal(case.n, *connected.above, seed=case.seed + 5)
    for _ in range(4):
        delta = theirs.forward(a) - y
        for name, gradient in theirs.gradient(delta).items():
            theirs.weights[name] -= rate * gradient
        gradients = ours.gradient(ours.forward(rows(a)) - rows(y))
        ours.weights["w"] -= rate * connected.matrix(connected.shared_gradient(gradients["w"]))
        ours.weights["b"] -= rate * connected.biases(connected.shared_bias_gradient(gradients["b"]))
    w, b = theirs.weights["w"], theirs.weights["b"]
    assert relative(ours.weights["w"], connected.matrix(w)) < 1e-12
    assert relative(ours.weights["b"], connected.biases(b)) < 1e-12
    for number in range(w.size):  # equal to the last bit: still one weight
        assert len(set(ours.weights["w"][connected.weight == number].tolist())) <= 1
    assert not ours.weights["w"][connected.weight == CUT].any()


def test_gradient_descent_on_free_connections_does_not_stay_one() -> None:
    connected = connections((2, 5, 5), (3, 2, 3, 3))
    ours = perceptron(connected, normal(3, 2, 3, 3), normal(3))
    a, delta = normal(4, 2, 5, 5, seed=1), normal(4, 3, 3, 3, seed=2)
    ours.forward(rows(a))
    gradient = ours.gradient(rows(delta))["w"]
    assert np.abs(gradient[connected.weight == CUT]).min() > 0
    assert all(np.ptp(gradient[connected.weight == number]) > 0 for number in range(54))


# What does not fit.


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: connections((2, 5, 5), (3, 1, 3, 3)),
            r"\(3, 1, 3, 3\) in 1 groups do not fit inputs of shape \(2, 5, 5\)",
        ),
        (lambda: connections((4, 5, 5), (3, 2, 3, 3), groups=2), r"\(3, 2, 3, 3\) in 2 groups"),
        (lambda: connections((4, 5, 5), (4, 4, 3, 3), groups=0), r"\(4, 4, 3, 3\) in 0 groups"),
        (
            lambda: connections((1, 3, 5), (1, 1, 2, 2), operation="product"),
            r"no operation 'product'\. There are: correlation, convolution\.",
        ),
        (
            lambda: connections((1, 3, 5), (1, 1, 2, 2)).matrix(np.ones((1, 1, 3, 3))),
            r"kernels are of shape \(1, 1, 3, 3\), not \(1, 1, 2, 2\)",
        ),
        (lambda: connections((1, 3, 5), (1, 1, 4, 2)), "window of 4x2 does not fit .* 3x5"),
        (
            lambda: connections((1, 3, 5), (1, 1, 6, 2), padding=1),
            "window of 6x2 does not fit .* 3x5 and 5x7 with its padding",
        ),
        (lambda: connections((1, 5, 5), (1, 1, 3, 3), 0), "stride is one whole number from 1 up"),
        (lambda: connections((1, 5, 5), (1, 1, 3, 3), 2, "same"), "'same' needs stride 1"),
    ],
)
def test_what_does_not_match_is_refused_with_its_values(
    call: Callable[[], object], words: str
) -> None:
    with pytest.raises(Rot180Error, match=words):
        call()
