"""Orthogonalised momentum for kernels."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Gradient descent whose step is the nearest (semi-)orthogonal matrix to the momentum.

    A kernel (features, channels, height, width) is taken as a matrix with one row a feature. All
    singular values of a step are about one, so that rare directions of the gradient are learned as
    fast as the frequent ones, and a step's size depends on ``lr`` alone.

    Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            momentum = group["momentum"]
            for kernel in group["params"]:
                state = self.state[kernel]
                if "average" not in state:
                    state["average"] = torch.zeros_like(kernel)
                average = state["average"].lerp_(kernel.grad, 1 - momentum)
                ahead = kernel.grad.lerp(average, momentum).flatten(1)
                stretch = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
                direction = orthogonalise(ahead).view(kernel.shape)
                kernel.add_(direction, alpha=-group["lr"] * stretch)


def orthogonalise(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Bring all singular values close to 1 (between 0.7 and 1.2) by five Newton-Schulz steps.

    The odd polynomial a x + b x^3 + c x^5 acts on the singular values; its coefficients are chosen
    for a steep slope at 0. Source: as above.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = x.T if tall else x
    return result
