"""Optimizers: gradient descent with momentum, Adam, and Muon."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from rot180.equations.convolution import Array
from rot180.errors import Rot180Error


class Optimizer(ABC):
    """Updates weights in place, given their gradients under the same names.

    Attributes:
        rate: learning rate; it may be changed between steps.
        state: arrays that last from step to step, by name: "conv1.w/velocity".
    """

    def __init__(self, rate: float) -> None:
        if not 0 <= rate < float("inf"):
            raise Rot180Error(f"The learning rate has to be a number from 0 up, not {rate}.")
        self.rate = rate
        self.state: dict[str, Array] = {}

    @abstractmethod
    def step(self, weights: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """Take one step."""

    def _memory(self, name: str, what: str, like: Array) -> Array:
        """Return an array that lasts from step to step; it starts with zeros."""
        key = f"{name}/{what}"
        if key not in self.state:
            self.state[key] = np.zeros_like(like)
        return self.state[key]


class SGD(Optimizer):
    """Gradient descent, w -= rate dC/dw; with momentum, along a decaying sum of gradients.

    Args:
        rate: learning rate.
        momentum: factor of the velocity v: v = momentum v + dC/dw, w -= rate v.
        nesterov: whether to step along dC/dw + momentum v instead of v (Sutskever et al., ICML
            2013); this needs a momentum.
        weight_decay: factor with which w is added to dC/dw; biases do not decay.
    """

    def __init__(
        self,
        rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(rate)
        _check_shares(momentum=momentum, weight_decay=weight_decay)
        if nesterov and not momentum:
            raise Rot180Error(
                "With nesterov a step looks ahead along the momentum, which is 0 here: give one, "
                "for example 0.9, or leave nesterov out."
            )
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay

    def step(self, weights: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """Take one step."""
        for name, gradient in gradients.items():
            w = weights[name]
            if self.weight_decay and w.ndim > 1:
                gradient = gradient + self.weight_decay * w
            if self.momentum:
                velocity = self._memory(name, "velocity", w)
                velocity *= self.momentum
                velocity += gradient
                gradient = gradient + self.momentum * velocity if self.nesterov else velocity
            w -= self.rate * gradient


class Adam(Optimizer):
    """Takes steps of similar size for all weights: the mean gradient over its root mean square.

    Source: Kingma & Ba, ICLR 2015, algorithm 1.

    Args:
        rate: approximate size of a step.
        beta1, beta2: decay of the running means of the gradients and of their squares.
        epsilon: number added to the root, against division by zero.
    """

    def __init__(
        self, rate: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        super().__init__(rate)
        _check_shares(beta1=beta1, beta2=beta2)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def step(self, weights: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """Take one step."""
        for name, gradient in gradients.items():
            mean = self._memory(name, "mean", weights[name])
            square = self._memory(name, "square", weights[name])
            steps = self._memory(name, "steps", np.zeros(1))
            steps += 1
            mean += (1 - self.beta1) * (gradient - mean)
            square += (1 - self.beta2) * (gradient**2 - square)
            # Both means started at zero: divide by the weight of the gradients in them.
            unbiased = mean / (1 - self.beta1 ** steps[0])
            root = np.sqrt(square / (1 - self.beta2 ** steps[0]))
            weights[name][...] -= self.rate * unbiased / (root + self.epsilon)


class Muon(Optimizer):
    """Momentum with an orthogonalised step: all singular values of the step are about 1.

    Kernels (f, c, kh, kw) count as matrices with one row per feature. Rare directions of the
    gradient are learned as fast as frequent ones.

    Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024.

    Args:
        rate: size of a step.
        momentum: decay of the running mean of the gradients.
    """

    def __init__(self, rate: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(rate)
        _check_shares(momentum=momentum)
        self.momentum = momentum

    def step(self, weights: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """Take one step."""
        for name, gradient in gradients.items():
            w = weights[name]
            mean = self._memory(name, "mean", w)
            mean += (1 - self.momentum) * (gradient - mean)
            ahead = gradient + self.momentum * (mean - gradient)
            rows = ahead.reshape(len(w), -1)
            scale = max(1.0, rows.shape[0] / rows.shape[1]) ** 0.5
            w -= self.rate * scale * orthogonalised(rows).reshape(w.shape)


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise Rot180Error(f"{name} lies from 0 to below 1, not at {share}.")


def orthogonalised(matrix: Array) -> Array:
    """Return the matrix with all singular values close to 1 (between 0.7 and 1.2).

    Five Newton-Schulz steps apply the odd polynomial p x + q x^3 + r x^5, which is steep at 0, to
    the singular values. Source: see :class:`Muon`.
    """
    p, q, r = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = p * x + (q * square + r * square @ square) @ x
    result: Array = x.T if tall else x
    return result
