"""What ``step.py`` compares: one module an engine, all of them the same network and recipe.

conv 5x5 3->32 'same', ReLU, max pool 2, conv 5x5 32->64 'same', ReLU, max pool 2, dense 4096->10,
softmax cross-entropy, gradient descent with momentum. A module imports only what its engine needs,
so that a process that imports one of them shows what that engine takes of memory.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

RATE, MOMENTUM = 0.01, 0.9


@dataclass
class Task:
    """What every engine is given: images, their classes, weights to start with, threads."""

    images: np.ndarray
    labels: np.ndarray
    weights: dict[str, np.ndarray]
    threads: int


class Engine(Protocol):
    """One step is :meth:`forward_backward`, then :meth:`update`."""

    def forward_backward(self) -> float:
        """Compute the gradients of the mean loss; return the loss."""

    def update(self) -> None:
        """Change the weights."""

    def gradients(self) -> dict[str, np.ndarray]:
        """Return the last gradients by the names of the weights; not part of a step."""


def task(images: int, threads: int, dtype: Any = np.float32) -> Task:
    """Draw images (n, c, h, w), classes and weights, the same in every process."""
    rng = np.random.default_rng(0)
    shapes = {"conv1": (32, 3, 5, 5), "conv2": (64, 32, 5, 5), "head": (10, 4096)}
    weights = {}
    for name, shape in shapes.items():
        deviation = np.prod(shape[1:]) ** -0.5
        weights[f"{name}.w"] = (deviation * rng.standard_normal(shape)).astype(dtype)
        weights[f"{name}.b"] = (0.1 * rng.standard_normal(shape[0])).astype(dtype)
    x = rng.standard_normal((images, 3, 32, 32)).astype(dtype)
    return Task(x, rng.integers(0, 10, images), weights, threads)
