"""The optimizers take the steps of PyTorch's."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from rot180.equations import (
    SGD,
    Adam,
    Muon,
    Optimizer,
)
from rot180.equations.optimizers import orthogonalised
from rot180.training import muon as of_pytorch
from tests.equations.cases import normal, relative, tensor

seeds = st.integers(0, 99)


SHAPES = {"dense.w": (4, 3), "conv.w": (5, 3, 2, 2), "conv.b": (5,)}


def both(
    optimizer: Optimizer,
    of_torch: Callable[[dict[str, Tensor]], torch.optim.Optimizer],
    shapes: dict[str, tuple[int, ...]] = SHAPES,
) -> None:
    """Take five steps with both optimizers and compare the weights after each."""
    weights = {name: normal(*shape, seed=n) for n, (name, shape) in enumerate(shapes.items())}
    kept = dict(weights)
    tensors = {name: tensor(w) for name, w in weights.items()}
    other = of_torch(tensors)
    for step in range(5):
        gradients = {name: normal(*shape, seed=100 + step) for name, shape in shapes.items()}
        before = {name: gradient.copy() for name, gradient in gradients.items()}
        if step == 3:  # the rate may change between steps
            optimizer.rate *= 0.3
            for group in other.param_groups:
                group["lr"] *= 0.3
        for name, parameter in tensors.items():
            parameter.grad = torch.from_numpy(gradients[name].copy())
        optimizer.step(weights, gradients)
        other.step()
        for name, parameter in tensors.items():
            assert weights[name] is kept[name]
            assert relative(weights[name], parameter.detach().numpy()) < 1e-10
            assert np.array_equal(gradients[name], before[name])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_descent_as_pytorch_with_no_decay_of_biases(momentum, nesterov, decay) -> None:
    nesterov = nesterov and momentum > 0

    def of_torch(tensors: dict[str, Tensor]) -> torch.optim.Optimizer:
        groups = [
            {"params": [parameter], "weight_decay": decay if parameter.ndim > 1 else 0.0}
            for parameter in tensors.values()
        ]
        return torch.optim.SGD(groups, lr=0.1, momentum=momentum, nesterov=nesterov)

    both(SGD(0.1, momentum, nesterov, decay), of_torch)


@pytest.mark.parametrize("settings_", [(0.001, 0.9, 0.999, 1e-8), (0.1, 0.5, 0.7, 1e-3)])
def test_adam_as_pytorch(settings_: tuple[float, float, float, float]) -> None:
    rate, beta1, beta2, epsilon = settings_
    both(
        Adam(*settings_),
        lambda tensors: torch.optim.Adam(tensors.values(), rate, (beta1, beta2), epsilon),
    )


@pytest.mark.parametrize("momentum", [0.95, 0.5])
def test_orthogonal_steps_as_those_of_the_pytorch_engine(momentum: float) -> None:
    both(
        Muon(0.02, momentum),
        lambda tensors: of_pytorch.Muon(tensors.values(), 0.02, momentum),
        {"wide": (4, 3, 3, 2), "tall": (9, 1, 2, 2), "matrix": (5, 5)},
    )


@pytest.mark.parametrize("shape", [(32, 75), (75, 32), (5, 5), (1, 9)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = normal(*shape)
    actual = orthogonalised(matrix)
    expected = of_pytorch.orthogonalise(torch.from_numpy(matrix)).numpy()
    assert relative(actual, expected) < 1e-10
    values = np.linalg.svd(actual, compute_uv=False)
    assert values.min() > 0.5
    assert values.max() < 1.3


@pytest.mark.parametrize("make", [lambda: SGD(0.1, 0.9), Adam, Muon])
def test_the_state_holds_all_that_a_step_needs(make: Callable[[], Optimizer]) -> None:
    whole, first = make(), make()
    weights = {name: normal(*shape) for name, shape in SHAPES.items()}
    again = {name: w.copy() for name, w in weights.items()}
    gradients = [
        {name: normal(*shape, seed=step) for name, shape in SHAPES.items()} for step in range(4)
    ]
    for gradient in gradients:
        whole.step(weights, gradient)
    for gradient in gradients[:2]:
        first.step(again, gradient)
    assert all(key.rpartition("/")[0] in SHAPES for key in first.state)
    second = make()
    second.state = {key: gradient.copy() for key, gradient in first.state.items()}
    for gradient in gradients[2:]:
        second.step(again, gradient)
    assert all(np.array_equal(weights[name], w) for name, w in again.items())
