"""Costs, and the errors that start the backward pass, equal PyTorch's."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from rot180.equations import (
    Quadratic,
    SoftmaxCrossEntropy,
    softmax,
)
from tests.equations.cases import by_autograd, classes, normal, relative

seeds = st.integers(0, 99)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(2, 7)),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    scale=st.sampled_from([1.0, 1e3]),
    seed=seeds,
)
def test_softmax_and_cross_entropy_as_pytorch(shape, smoothing, scale, seed) -> None:
    n, count = shape
    z, labels = scale * normal(n, count, seed=seed), classes(count, n, seed)
    shares = softmax(normal(n, count, seed=seed + 1))
    cost = SoftmaxCrossEntropy(smoothing)
    for given_, y in ((labels, torch.from_numpy(labels)), (shares, torch.from_numpy(shares))):

        def function(z: Tensor, y: Tensor = y) -> Tensor:
            return F.cross_entropy(z, y, reduction="none", label_smoothing=smoothing)

        expected, delta, of_z = by_autograd(function, z)
        target = cost.target(given_, z)
        assert relative(cost.per_image(z, target), expected, least=1.0) < 1e-10
        assert relative(cost.error(z, target) * delta[:, None], of_z, least=1.0) < 1e-10


@settings(max_examples=10, deadline=None)
@given(shape=st.tuples(st.integers(1, 6), st.integers(1, 7)), seed=seeds)
def test_the_quadratic_cost_is_half_the_squared_distance(shape, seed) -> None:
    a, y = normal(*shape, seed=seed), normal(*shape, seed=seed + 1)
    cost = Quadratic()
    expected, delta, of_a = by_autograd(
        lambda x: 0.5 * (x - torch.from_numpy(y)).square().sum(1), a
    )
    assert relative(cost.per_image(a, cost.target(y, a)), expected) < 1e-10
    assert relative(cost.error(a, y) * delta[:, None], of_a) < 1e-10


def test_a_softmax_adds_to_one_and_does_not_overflow() -> None:
    z = np.array([[1e4, -1e4, 0], [710, 711, 712], [-1e300, 0, -1e300], [5, 5, 5]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        a = softmax(z)
        costs = SoftmaxCrossEntropy().per_image(z, np.eye(3)[[1, 2, 1, 0]])
    assert np.allclose(a.sum(1), 1, rtol=1e-14)
    assert np.allclose(a[[0, 2, 3]], [[1, 0, 0], [0, 1, 0], [1 / 3] * 3], rtol=1e-14)
    assert np.allclose(costs[[0, 2, 3]], [2e4, 0, np.log(3)], rtol=1e-14)


def test_class_numbers_are_the_same_as_one_hot_rows() -> None:
    z, labels = normal(5, 4), np.array([3, 0, 1, 1, 2], np.uint8)
    for cost in (Quadratic(), SoftmaxCrossEntropy(), SoftmaxCrossEntropy(0.2)):
        target = cost.target(labels, z)
        assert np.array_equal(target, cost.target(np.eye(4)[labels], z))
        assert np.allclose(target.sum(1), 1, rtol=1e-14)
        assert np.array_equal(target, cost.target([3, 0, 1, 1, 2], z))
