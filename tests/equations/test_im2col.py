"""The fast convolution equals the definitions, whatever its workspace was used for before."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rot180.equations import channels_last
from rot180.equations.convolution import (
    bias_gradient,
    correlation,
    correlation_error,
    correlation_gradient,
)
from rot180.equations.fast.im2col import Im2Col
from tests.equations.cases import (
    Array,
    Case,
    cases,
    normal,
    rounding,
)

kernels = st.tuples(st.integers(1, 5), st.integers(1, 5))


def ordered(x: Array, last: bool, dtype: type = np.float64) -> Array:
    """Return x with the channels last in memory, or in the order of its axes."""
    x = x.astype(dtype)
    return channels_last(x) if last else np.ascontiguousarray(x)


def forward(a: Array, w: Array, b: Array, **options: Any) -> Array:
    """Return z with a bias, by its definition."""
    return correlation(a, w, **options) + b[:, None, None]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@settings(max_examples=60, deadline=None)
@given(case=cases(), last=st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_im2col_equals_the_definitions(dtype, bound: float, case: Case, last) -> None:
    a, w, b, options = case.a, case.w, case.b, case.options
    delta = normal(*correlation(a, w, **options).shape, seed=case.seed + 3)
    im2col = Im2Col(case.stride, case.pad_width, case.groups)
    kernels = ordered(w, last[1], dtype)
    errors = ordered(delta, last[2], dtype)
    z = im2col.forward(ordered(a, last[0], dtype), kernels, b.astype(dtype))
    of_a, of_w = im2col.error(errors, kernels), im2col.gradient(errors, kernels)
    of_b = im2col.bias_gradient(errors)
    assert {array.dtype for array in (z, of_a, of_w, of_b)} == {np.dtype(dtype)}
    assert rounding(z, forward, a, w, b, **options) < bound
    assert rounding(of_a, correlation_error, delta, w, input_size=case.size, **options) < bound
    assert (
        rounding(of_w, correlation_gradient, a, delta, kernel_size=case.kernel, **options) < bound
    )
    assert rounding(of_b, bias_gradient, delta) < bound


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(
    case=cases(),
    again=st.lists(
        st.tuples(
            st.integers(1, 4),
            st.tuples(st.integers(0, 4), st.integers(0, 4)),
            st.sampled_from([np.float64, np.float32]),
        ),
        min_size=2,
        max_size=5,
    ),
)
def test_workspaces_leak_nothing_into_other_batches(case: Case, again) -> None:
    im2col, options = Im2Col(case.stride, case.pad_width, case.groups), case.options
    for seed, (n, larger, dtype) in enumerate(again):
        size = (case.size[0] + larger[0], case.size[1] + larger[1])
        a = normal(n, case.groups * case.channels, *size, seed=seed)
        w, b = normal(*case.w.shape, seed=seed + 10), normal(len(case.b), seed=seed + 20)
        delta = normal(*correlation(a, w, **options).shape, seed=seed + 30)
        kernels, errors = w.astype(dtype), delta.astype(dtype)
        z = im2col.forward(a.astype(dtype), kernels, b.astype(dtype))
        bound = 1e-12 if dtype is np.float64 else 1e-5
        assert rounding(z, forward, a, w, b, **options) < bound
        for _ in range(2):  # in either order, and more than once
            of_a, of_w = im2col.error(errors, kernels), im2col.gradient(errors, kernels)
            assert rounding(of_a, correlation_error, delta, w, input_size=size, **options) < bound
            assert (
                rounding(of_w, correlation_gradient, a, delta, kernel_size=case.kernel, **options)
                < bound
            )
            assert rounding(im2col.bias_gradient(errors), bias_gradient, delta) < bound


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(case=cases(), sizes=st.lists(kernels, min_size=1, max_size=3))
def test_workspaces_leak_nothing_into_kernels_of_another_size(case: Case, sizes) -> None:
    im2col, options = Im2Col(case.stride, case.pad_width, case.groups), case.options
    for seed, kernel in enumerate([*sizes, case.kernel, *sizes]):
        # A smaller kernel gets a larger image, so that the error with its zeros has one size.
        size = (case.size[0] + 9 - kernel[0], case.size[1] + 9 - kernel[1])
        w = normal(*case.w.shape[:2], *kernel, seed=seed)
        a = normal(*case.a.shape[:2], *size, seed=seed + 10)
        z = im2col.forward(a, w, case.b)
        assert rounding(z, forward, a, w, case.b, **options) < 1e-12
        delta = normal(*z.shape, seed=seed + 20)
        of_a, of_w = im2col.error(delta, w), im2col.gradient(delta, w)
        assert rounding(of_a, correlation_error, delta, w, input_size=size, **options) < 1e-12
        assert rounding(of_w, correlation_gradient, a, delta, kernel_size=kernel, **options) < 1e-12


def test_images_of_many_sizes_take_no_more_memory_than_one_size() -> None:
    im2col, w, b = Im2Col((1, 1), ((1, 1), (1, 1)), 1), normal(3, 2, 3, 3), normal(3)
    kept = []
    for size in range(20, 4, -1):
        z = im2col.forward(normal(2, 2, size, size + 1), w, b)
        im2col.error(z, w)
        im2col.gradient(z, w)
        kept.append(im2col._workspace.nbytes)
    assert max(kept) == kept[0]


@pytest.mark.parametrize("counts", [(13, 7), (3, 1)])
@pytest.mark.parametrize(("channels", "groups", "stride"), [(8, 1, (1, 1)), (24, 3, (2, 1))])
def test_patches_that_do_not_fit_into_the_cache_at_once(counts, channels, groups, stride) -> None:
    size = (16, 17) if counts[0] > 3 else (41, 37)  # many images, or large ones
    w, b = normal(6, channels // groups, 5, 5), normal(6, seed=1)
    options = {"stride": stride, "padding": ((2, 1), (0, 3)), "groups": groups}
    im2col = Im2Col(stride, ((2, 1), (0, 3)), groups)
    for n in counts:
        a = normal(n, channels, *size, seed=n)
        z = im2col.forward(a, w, b)
        assert rounding(z, forward, a, w, b, **options) < 1e-12
        delta = normal(*z.shape, seed=n + 1)
        of_a, of_w = im2col.error(delta, w), im2col.gradient(delta, w)
        assert rounding(of_a, correlation_error, delta, w, input_size=size, **options) < 1e-12
        assert rounding(of_w, correlation_gradient, a, delta, kernel_size=(5, 5), **options) < 1e-12


def test_nothing_that_is_given_is_changed() -> None:
    a, w, b = normal(2, 4, 6, 7), normal(6, 2, 3, 2, seed=1), normal(6, seed=2)
    stride, padding, groups = (2, 1), ((1, 0), (2, 3)), 2
    delta = normal(*correlation(a, w, stride, padding, groups).shape, seed=3)
    before = [array.copy() for array in (a, w, b, delta)]
    im2col = Im2Col(stride, padding, groups)
    im2col.forward(a, w, b)
    for call in (im2col.error, im2col.gradient):
        call(delta, w)
    correlation_error(delta, w, (6, 7), stride, padding, groups)
    correlation_gradient(a, delta, (3, 2), stride, padding, groups)
    assert all(np.array_equal(*two) for two in zip(before, (a, w, b, delta), strict=True))


def test_channels_last_changes_the_memory_and_not_the_values() -> None:
    a = normal(2, 3, 4, 5)
    assert np.array_equal(channels_last(a), a)
    assert channels_last(a).transpose(0, 2, 3, 1).flags.c_contiguous
