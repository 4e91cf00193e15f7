"""The convolution, its error and its gradient equal their equations and PyTorch's results."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rot180 import Rot180Error
from rot180.equations import Convolution, MaxPool
from rot180.equations.convolution import (
    bias_gradient,
    convolution,
    convolution_error,
    convolution_gradient,
    correlation,
    correlation_error,
    correlation_gradient,
    rot180,
    swap_in_out,
)
from rot180.equations.fast.im2col import Im2Col
from rot180.equations.padding import pair, resolve_padding
from tests.equations.cases import (
    Array,
    Case,
    cases,
    normal,
    relative,
)

OPERATIONS = {
    "correlation": (correlation, correlation_error, correlation_gradient),
    "convolution": (convolution, convolution_error, convolution_gradient),
}
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
kernels = st.tuples(st.integers(1, 5), st.integers(1, 5))
seeds = st.integers(0, 99)


def as_batch(x: Array) -> Array:
    """Give a map or a kernel the axes of one image and one channel."""
    return x[None, None]


def fits(size: tuple[int, int], kernel: tuple[int, int]) -> bool:
    """Return whether there is at least one position."""
    return size[0] >= kernel[0] and size[1] >= kernel[1]


# One channel.


@settings(max_examples=60, deadline=None)
@given(size=sizes, kernel=kernels, mode=st.sampled_from(["valid", "same", "full"]), seed=seeds)
def test_one_channel_as_scipy(size, kernel, mode, seed) -> None:
    assume(fits(size, kernel))
    a, w = normal(*size, seed=seed), normal(*kernel, seed=seed + 1)
    for operation, expected in (
        (correlation, scipy.signal.correlate2d),
        (convolution, scipy.signal.convolve2d),
    ):
        z = operation(as_batch(a), as_batch(w), padding=mode)
        assert relative(z, as_batch(expected(a, w, mode))) < 1e-10


@settings(max_examples=12, deadline=None)
@given(size=sizes, kernel=kernels, seed=seeds)
def test_a_correlation_written_out(size, kernel, seed) -> None:
    assume(fits(size, kernel))
    a, w = normal(*size, seed=seed), normal(*kernel, seed=seed + 1)
    rows, columns = size[0] - kernel[0] + 1, size[1] - kernel[1] + 1
    delta = normal(rows, columns, seed=seed + 2)
    z, error, gradient = np.zeros((rows, columns)), np.zeros(size), np.zeros(kernel)
    for y, x in np.ndindex(rows, columns):
        for i, j in np.ndindex(kernel):
            z[y, x] += w[i, j] * a[y + i, x + j]
            gradient[i, j] += delta[y, x] * a[y + i, x + j]
    for y, x in np.ndindex(size):
        for i, j in np.ndindex(kernel):
            if 0 <= y - i < rows and 0 <= x - j < columns:
                error[y, x] += w[i, j] * delta[y - i, x - j]
    assert relative(correlation(as_batch(a), as_batch(w)), as_batch(z)) < 1e-10
    assert relative(correlation_error(as_batch(delta), as_batch(w), size), as_batch(error)) < 1e-10
    assert (
        relative(correlation_gradient(as_batch(a), as_batch(delta), kernel), as_batch(gradient))
        < 1e-10
    )


@settings(max_examples=12, deadline=None)
@given(size=sizes, kernel=kernels, seed=seeds)
def test_a_convolution_written_out(size, kernel, seed) -> None:
    a, w = normal(*size, seed=seed), normal(*kernel, seed=seed + 1)
    rows, columns = size[0] + kernel[0] - 1, size[1] + kernel[1] - 1
    delta = normal(rows, columns, seed=seed + 2)
    z, error, gradient = np.zeros((rows, columns)), np.zeros(size), np.zeros(kernel)
    for y, x in np.ndindex(rows, columns):
        for i, j in np.ndindex(kernel):
            if 0 <= y - i < size[0] and 0 <= x - j < size[1]:
                z[y, x] += w[i, j] * a[y - i, x - j]
                gradient[i, j] += delta[y, x] * a[y - i, x - j]
    for y, x in np.ndindex(size):
        for i, j in np.ndindex(kernel):
            error[y, x] += w[i, j] * delta[y + i, x + j]
    full = {"padding": "full"}
    assert relative(convolution(as_batch(a), as_batch(w), **full), as_batch(z)) < 1e-10
    assert (
        relative(convolution_error(as_batch(delta), as_batch(w), size, **full), as_batch(error))
        < 1e-10
    )
    assert (
        relative(
            convolution_gradient(as_batch(a), as_batch(delta), kernel, **full), as_batch(gradient)
        )
        < 1e-10
    )


@settings(max_examples=12, deadline=None)
@given(size=sizes, kernel=kernels, seed=seeds)
def test_the_error_of_a_convolution_is_delta_convolved_in_full_with_the_rotated_kernel(
    size, kernel, seed
) -> None:
    assume(fits(size, kernel))
    w = normal(*kernel, seed=seed)
    delta = normal(size[0] - kernel[0] + 1, size[1] - kernel[1] + 1, seed=seed + 1)
    error = convolution_error(as_batch(delta), as_batch(w), size)
    assert relative(error, as_batch(scipy.signal.convolve2d(delta, rot180(w), "full"))) < 1e-10
    assert (
        relative(error, convolution(as_batch(delta), as_batch(rot180(w)), padding="full")) < 1e-10
    )
    error = correlation_error(as_batch(delta), as_batch(w), size)
    assert relative(error, as_batch(scipy.signal.convolve2d(delta, w, "full"))) < 1e-10
    assert relative(error, convolution(as_batch(delta), as_batch(w), padding="full")) < 1e-10


@settings(max_examples=12, deadline=None)
@given(size=sizes, kernel=kernels, seed=seeds)
def test_the_gradient_of_a_convolution_is_delta_convolved_with_the_rotated_activations(
    size, kernel, seed
) -> None:
    assume(fits(size, kernel))
    a = normal(*size, seed=seed)
    delta = normal(size[0] - kernel[0] + 1, size[1] - kernel[1] + 1, seed=seed + 1)
    gradient = convolution_gradient(as_batch(a), as_batch(delta), kernel)
    assert relative(gradient, as_batch(scipy.signal.convolve2d(rot180(a), delta, "valid"))) < 1e-10
    assert relative(gradient, convolution(as_batch(rot180(a)), as_batch(delta))) < 1e-10
    delta = normal(size[0] + kernel[0] - 1, size[1] + kernel[1] - 1, seed=seed + 2)
    gradient = convolution_gradient(as_batch(a), as_batch(delta), kernel, padding="full")
    assert relative(gradient, as_batch(scipy.signal.convolve2d(delta, rot180(a), "valid"))) < 1e-10


# The rotation.


def test_two_rotations_are_none() -> None:
    w = normal(4, 3, 2, 5)
    assert np.array_equal(rot180(rot180(w)), w)
    assert np.array_equal(rot180(w)[1, 2], np.rot90(w[1, 2], 2))


@settings(max_examples=15, deadline=None)
@given(case=cases())
def test_the_rotation_is_never_lost(case: Case) -> None:
    a, w, size, options = case.a, case.w, case.size, case.options
    z = convolution(a, w, **options)
    assert relative(z, correlation(a, rot180(w), **options)) < 1e-10
    delta = normal(*z.shape, seed=case.seed)
    error = convolution_error(delta, w, size, **options)
    assert relative(error, correlation_error(delta, rot180(w), size, **options)) < 1e-10
    gradient = rot180(convolution_gradient(a, delta, case.kernel, **options))
    assert relative(gradient, correlation_gradient(a, delta, case.kernel, **options)) < 1e-10


def test_without_the_rotation_an_asymmetric_kernel_gives_something_else() -> None:
    a, w, delta = normal(2, 3, 7, 8), normal(4, 3, 3, 2, seed=1), normal(2, 4, 5, 7, seed=2)
    assert relative(convolution(a, w), correlation(a, w)) > 0.1
    assert relative(convolution_error(delta, w, (7, 8)), correlation_error(delta, w, (7, 8))) > 0.1
    gradients = [f(a, delta, (3, 2)) for f in (convolution_gradient, correlation_gradient)]
    assert relative(*gradients) > 0.1


@settings(max_examples=12, deadline=None)
@given(case=cases())
def test_a_kernel_that_the_rotation_leaves_alone_makes_both_operations_equal(case: Case) -> None:
    w = case.w + rot180(case.w)
    z = correlation(case.a, w, **case.options)
    assert relative(convolution(case.a, w, **case.options), z) < 1e-10
    delta = normal(*z.shape, seed=case.seed)
    errors = [
        f(delta, w, case.size, **case.options) for f in (convolution_error, correlation_error)
    ]
    assert relative(*errors) < 1e-10


# Any channels, strides and padding.


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_the_definitions_as_pytorch(operation: str, case: Case) -> None:
    forward, error, gradient = OPERATIONS[operation]
    z, delta, of_a, of_w, of_b = case.by_pytorch(operation)
    actual = forward(case.a, case.w, **case.options) + case.b[:, None, None]
    assert relative(actual, z) < 1e-10
    assert relative(error(delta, case.w, case.size, **case.options), of_a) < 1e-10
    assert relative(gradient(case.a, delta, case.kernel, **case.options), of_w) < 1e-10
    assert relative(bias_gradient(delta), of_b) < 1e-10


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(case=cases(), padding=st.sampled_from(["valid", "same", "full", 2, (1, 3)]))
def test_error_and_gradient_are_adjoint_to_the_forward_pass(operation, case, padding) -> None:
    assume(padding == "full" or fits(case.size, case.kernel))
    forward, error, gradient = OPERATIONS[operation]
    stride = (1, 1) if padding == "same" else case.stride
    options = {"stride": stride, "padding": padding, "groups": case.groups}
    z = forward(case.a, case.w, **options)
    delta = normal(*z.shape, seed=case.seed + 3)
    of_a = error(delta, case.w, case.size, **options)
    of_w = gradient(case.a, delta, case.kernel, **options)
    products = z * delta
    for there in (case.a * of_a, case.w * of_w):
        assert abs(there.sum() - products.sum()) <= 1e-12 * np.abs(products).sum()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=12, deadline=None)
@given(size=sizes, kernel=kernels, seed=seeds)
def test_same_keeps_the_size_as_pytorch_does(size, kernel, seed) -> None:
    a, w = normal(2, 3, *size, seed=seed), normal(4, 3, *kernel, seed=seed + 1)
    z = correlation(a, w, padding="same")
    assert z.shape == convolution(a, w, padding="same").shape == (2, 4, *size)
    expected = F.conv2d(torch.from_numpy(a), torch.from_numpy(w), padding="same").numpy()
    assert relative(z, expected) < 1e-10


def test_a_padding_of_one_number_two_or_four() -> None:
    a, w = normal(1, 2, 5, 6), normal(3, 2, 3, 4)
    for short, long in ((2, ((2, 2), (2, 2))), ((1, 3), ((1, 1), (3, 3))), ("valid", 0)):
        for operation in (correlation, convolution):
            assert np.array_equal(operation(a, w, padding=short), operation(a, w, padding=long))
    assert np.array_equal(correlation(a, w, padding="full"), correlation(a, w, padding=(2, 3)))


@settings(max_examples=10, deadline=None)
@given(case=cases())
def test_features_and_channels_swapped_twice_are_as_before(case: Case) -> None:
    turned = swap_in_out(case.w, case.groups)
    assert turned.shape == (case.groups * case.channels, case.features, *case.kernel)
    assert np.array_equal(swap_in_out(turned, case.groups), case.w)


# What does not fit.


def _patches(a: Array, w: Array, groups: int = 1) -> Array:
    return Im2Col((1, 1), ((1, 0), (0, 1)), groups).forward(a, w, np.zeros(len(w)))


A, W = np.zeros((2, 4, 5, 6)), np.zeros((6, 4, 3, 3))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: correlation(A, np.zeros((6, 4, 3, 7))), r"window of 3x7 .* 5x6 and 5x6"),
        (lambda: convolution(A, np.zeros((6, 4, 8, 3)), 1, 1), r"8x3 .* 5x6 and 7x8 with"),
        (lambda: _patches(A, np.zeros((6, 4, 7, 3))), r"window of 7x3 .* 5x6 and 6x7 with"),
        (
            lambda: correlation(A, np.zeros((6, 3, 3, 3))),
            r"\(6, 3, 3, 3\), take 3 .* 5, 6\), have 4",
        ),
        (lambda: _patches(A, np.zeros((6, 3, 3, 3))), r"\(6, 3, 3, 3\), take 3 .* 5, 6\), have 4"),
        (lambda: correlation(A, W, groups=2), r"take 8 channels in 2 groups; .* have 4"),
        (lambda: _patches(A, W, 2), r"take 8 channels in 2 groups; .* have 4"),
        (lambda: correlation(A, W, groups=3), "4 channels and 6 features .* into 3 groups"),
        (lambda: convolution(A, W, groups=0), "4 channels and 6 features .* into 0 groups"),
        (
            lambda: correlation_error(np.zeros((2, 6, 3, 5)), W, (5, 6)),
            r"error is of shape \(2, 6, 3, 5\), .* of shape \(2, 6, 3, 4\)",
        ),
        (
            lambda: correlation_error(np.zeros((2, 6, 3, 4)), W[:, :2], (5, 6), groups=4),
            "8 channels and 6 features .* into 4 groups",
        ),
        (
            lambda: correlation_gradient(A[:, :2], np.zeros((2, 6, 3, 4)), (3, 3), groups=3),
            "2 channels and 6 features .* into 3 groups",
        ),
        (
            lambda: convolution_gradient(A, np.zeros((2, 6, 3, 4)), (3, 3), groups=0),
            "4 channels and 6 features cannot be split into 0 groups",
        ),
        (
            lambda: correlation_gradient(A, np.zeros((2, 6, 2, 4)), (3, 3)),
            r"error is of shape \(2, 6, 2, 4\), .* of shape \(2, 6, 3, 4\)",
        ),
        (
            lambda: convolution_gradient(A, np.zeros((1, 6, 7, 8)), (3, 3), padding="full"),
            r"error is of shape \(1, 6, 7, 8\), .* of shape \(2, 6, 7, 8\)",
        ),
        (lambda: correlation_gradient(A, A, (6, 3)), "window of 6x3 does not fit .* 5x6"),
        (lambda: correlation(np.zeros(5), np.zeros(3)), r"is of shape \(5,\) and \(3,\)"),
        (lambda: convolution(np.zeros(5), np.zeros(3)), r"is of shape \(5,\) and \(3,\)"),
        (lambda: correlation_error(np.zeros(3), W, (5, 6)), r"is of shape \(3,\) and \(6, 4, 3"),
        (lambda: convolution_error(A, np.zeros(3), (5, 6)), r"\(2, 4, 5, 6\) and \(3,\)"),
        (lambda: correlation_gradient(A, A[0], (3, 3)), r"\(2, 4, 5, 6\) and \(4, 5, 6\)"),
        (lambda: convolution_gradient(A[0, 0], A, (3, 3)), r"\(5, 6\) and \(2, 4, 5, 6\)"),
        (lambda: bias_gradient(A[0]), r"is of shape \(4, 5, 6\)"),
        (lambda: correlation(A[0], W), r"of shape \(4, 5, 6\) and \(6, 4, 3, 3\)"),
        (lambda: convolution(A, W[0]), r"of shape \(2, 4, 5, 6\) and \(4, 3, 3\)"),
        (
            lambda: resolve_padding("some", (3, 3), (1, 1)),
            "no padding 'some'. There are: valid, same, f",
        ),
        (lambda: convolution(A, W, padding=-1), "padding is one whole number from 0 up, .* -1"),
        (
            lambda: resolve_padding((1, 2, 3), (3, 3), (1, 1)),
            r"padding is one .* one is \(1, 2, 3\)",
        ),
        (lambda: correlation(A, W, padding=((0, 1), (-2, 0))), r"padding is .* one is \(-2, 0\)"),
        (lambda: correlation(A, W, 0), "stride is one whole number from 1 up, .* this one is 0"),
        (lambda: convolution(A, W, (1, 0)), r"stride is one whole .* this one is \(1, 0\)"),
        (lambda: pair(1.5, "stride"), "The stride .* whole number.* 1.5"),
        (lambda: correlation(A, W, 2, "same"), r"'same' needs stride 1; the stride is \(2, 2\)"),
        (lambda: convolution(A, W, (1, 2), "same"), r"needs stride 1; the stride is \(1, 2\)"),
        (lambda: Convolution(4, 6, 3, groups=4), "4 channels and 6 features .* into 4 groups"),
        (lambda: Convolution(4, 6, 0), "size of the kernels is one whole .* this one is 0"),
        (lambda: Convolution(4, 6, 3, 0), "stride is one whole number .* this one is 0"),
        (lambda: Convolution(4, 6, 3, 2, "same"), r"'same' needs stride 1; .* \(2, 2\)"),
        (lambda: Convolution(4, 6, 3, operation="product"), "no operation 'product'. There are: c"),
        (lambda: Convolution(3, 6, 3).forward(A), r"\(6, 3, 3, 3\), take 3 channels; .* have 4"),
        (lambda: Convolution(4, 6, 9).forward(A), "window of 9x9 does not fit .* 5x6"),
        (lambda: MaxPool(2, 0), "stride is one whole number .* this one is 0"),
        (lambda: MaxPool(2, padding=2), r"\(\(2, 2\), \(2, 2\)\) is as large as .* \(2, 2\)"),
        (lambda: MaxPool((6, 2)).forward(A), "window of 6x2 does not fit .* 5x6"),
        (lambda: MaxPool(2).forward(A[0]), r"not the shape \(4, 5, 6\)"),
    ],
)
def test_what_does_not_match_is_refused_with_its_values(
    call: Callable[[], object], words: str
) -> None:
    with pytest.raises(Rot180Error, match=words):
        call()
