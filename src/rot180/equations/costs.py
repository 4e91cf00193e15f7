"""Costs: how wrong the output is, image by image, and the error with which the way back begins."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from rot180.equations.convolution import Array
from rot180.errors import Rot180Error


class Cost(ABC):
    """A cost of one image, C_x; that of a batch is the mean over its images."""

    def target(self, labels: Any, output: Array) -> Array:
        """Return y (n, classes): of class numbers, one in the place of the class; else as given.

        Raises:
            Rot180Error: numbers that are no class, or a shape other than the output's.
        """
        labels = np.asarray(labels)
        if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer):
            classes = output.shape[-1]
            wrong = np.flatnonzero((labels < 0) | (labels >= classes))
            if len(wrong):
                raise Rot180Error(
                    f"Label {labels[wrong[0]]} of image {wrong[0]} is no class: there are "
                    f"{classes}, numbered from 0 to {classes - 1}"
                    f" ({len(wrong)} such labels in all)."
                )
            if len(labels) != len(output):
                raise Rot180Error(f"There are {len(output)} images and {len(labels)} labels.")
            y: Array = np.zeros(output.shape, output.dtype)
            y[np.arange(len(labels)), labels] = 1
            return y
        if labels.shape != output.shape:
            raise Rot180Error(
                f"The network's output is of shape {output.shape}, what it should be of shape "
                f"{labels.shape}; give the same shape, or one class number an image."
            )
        y = labels.astype(output.dtype, copy=False)
        return y

    @abstractmethod
    def of(self, output: Array, y: Array) -> Array:
        """Return C_x of each image (n,)."""

    @abstractmethod
    def error(self, output: Array, y: Array) -> Array:
        """Return dC_x/d(output)."""


class Quadratic(Cost):
    """C_x = |a - y|^2 / 2, so that dC/da = a - y; the last activation then multiplies f'(z)."""

    def of(self, output: Array, y: Array) -> Array:
        """Return half the squared distance of each image."""
        half: Array = ((output - y) ** 2).reshape(len(output), -1).sum(1) / 2
        return half

    def error(self, output: Array, y: Array) -> Array:
        """Return a - y."""
        return output - y


class SoftmaxCrossEntropy(Cost):
    """The output z becomes shares a = exp(z) / sum exp(z), and C_x = -sum y log a.

    The two derivatives, of the logarithm and of the softmax, cancel to dC/dz = a - y.

    Args:
        smoothing: share of the target that is spread evenly over all classes (Szegedy et al.,
            CVPR 2016).
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        if not 0 <= smoothing < 1:
            raise Rot180Error(f"The smoothing lies between 0 and 1, not at {smoothing}.")
        self.smoothing = smoothing

    def target(self, labels: Any, output: Array) -> Array:
        """Return y, smoothed."""
        y = super().target(labels, output)
        return y * (1 - self.smoothing) + self.smoothing / y.shape[-1] if self.smoothing else y

    def of(self, output: Array, y: Array) -> Array:
        """Return the cross-entropy of each image, in nats."""
        entropy: Array = -(y * _log_softmax(output)).sum(-1)
        return entropy

    def error(self, output: Array, y: Array) -> Array:
        """Return a - y."""
        return softmax(output) - y


def softmax(z: Array) -> Array:
    """Return exp(z) / sum exp(z) over the last axis, the classes."""
    return np.exp(_log_softmax(z))


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(-1, keepdims=True)  # the largest exponential is then one
    logarithm: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logarithm
