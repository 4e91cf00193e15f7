"""Muon: gradient descent with orthogonalised momentum."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Gradient descent whose step is the nearest (semi-)orthogonal matrix to the momentum.

    A kernel (features, channels, height, width) is treated as a matrix with one row per feature.
    All singular values of a step are about one. So rare directions of the gradient are learned as
    fast as frequent ones, and the size of a step depends on ``lr`` alone.

    PyTorch has an optimizer of the same name from version 2.9 on, which is not used here: rot180
    supports older versions, and PyTorch's optimizer takes matrices instead of kernels and
    orthogonalises in bfloat16, so that the engine in NumPy could not take the same steps.

    Args:
        parameters: kernels to optimise.
        lr: learning rate.
        momentum: share of the average of the gradients that each step keeps.

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
                lookahead = kernel.grad.lerp(average, momentum).flatten(1)
                scale = max(1.0, lookahead.shape[0] / lookahead.shape[1]) ** 0.5
                direction = orthogonalise(lookahead).view(kernel.shape)
                kernel.add_(direction, alpha=-group["lr"] * scale)


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
