"""Costs: how wrong the output is, image by image, and the error that starts the backward pass."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from rot180.equations.convolution import Array
from rot180.errors import Rot180Error


class Cost(ABC):
    """The cost C_x of one image; the cost of a batch is the mean over its images."""

    def target(self, labels: Any, output: Array) -> Array:
        """Return the target y in the shape of the output; a class number becomes a one-hot row.

        Raises:
            Rot180Error: see :meth:`check`.
        """
        labels = self.check(labels, output.shape)
        y: Array = labels.astype(output.dtype, copy=False)
        if labels.shape == output.shape:
            return y
        y = np.zeros(output.shape, output.dtype)
        y[np.arange(len(labels)), labels] = 1
        return y

    def check(self, values: Any, shape: tuple[int, ...]) -> Array:
        """Return the labels as an array, if they match an output of this shape.

        Raises:
            Rot180Error: a label is no class, the shape is not that of the output, or a value is
                not a finite number.
        """
        labels: Array = np.asarray(values)
        if labels.dtype.kind not in "iuf":
            raise Rot180Error(f"Labels are numbers; these are {labels.dtype}.")
        if labels.ndim == 1 and labels.dtype.kind in "iu" and len(shape) == 2:
            if len(labels) != shape[0]:
                raise Rot180Error(f"There are {shape[0]} images and {len(labels)} labels.")
            wrong = np.flatnonzero((labels < 0) | (labels >= shape[1]))
            if len(wrong):
                raise Rot180Error(
                    f"Label {labels[wrong[0]]} of image {wrong[0]} is no class: there are "
                    f"{shape[1]}, numbered from 0 to {shape[1] - 1}"
                    f" ({len(wrong)} such labels in all)."
                )
        elif labels.shape != shape:
            raise Rot180Error(
                f"The network's output is of shape {shape}, but its target is of shape "
                f"{labels.shape}; give the same shape, or one class number for each image if the "
                "output is (images, classes)."
            )
        elif not np.isfinite(labels).all():
            image = np.argwhere(~np.isfinite(labels))[0][0]
            raise Rot180Error(f"The target of image {image} is not finite.")
        return labels

    def prediction(self, output: Array) -> Array | None:
        """Return a if the error is a - y; None if the error is something else."""
        return None

    @abstractmethod
    def per_image(self, output: Array, y: Array) -> Array:
        """Return the cost C_x of each image (n,)."""

    @abstractmethod
    def error(self, output: Array, y: Array) -> Array:
        """Return dC_x/d(output)."""


class Quadratic(Cost):
    """``C_x = |a - y|^2 / 2``, so that dC/da = a - y; the last activation multiplies by f'(z)."""

    def per_image(self, output: Array, y: Array) -> Array:
        """Return half the squared distance of each image."""
        half: Array = ((output - y) ** 2).reshape(len(output), -1).sum(1) / 2
        return half

    def error(self, output: Array, y: Array) -> Array:
        """Return a - y."""
        return output - y

    def prediction(self, output: Array) -> Array:
        """Return the output."""
        return output


class SoftmaxCrossEntropy(Cost):
    """The output z becomes probabilities a = exp(z) / sum exp(z), and C_x = -sum y log a.

    The derivatives of the logarithm and of the softmax combine to dC/dz = a - y, since the targets
    y of an image sum to one.

    Args:
        smoothing: fraction of the target that is spread evenly over all classes (Szegedy et al.,
            CVPR 2016).
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        if not 0 <= smoothing < 1:
            raise Rot180Error(f"The smoothing lies between 0 and 1, not at {smoothing}.")
        self.smoothing = smoothing

    def check(self, values: Any, shape: tuple[int, ...]) -> Array:
        """Return the labels; see :meth:`Cost.check`.

        Raises:
            Rot180Error: the output is not (images, classes), or the targets of an image do not sum
                to 1; see also :meth:`Cost.check`.
        """
        if len(shape) != 2:
            raise Rot180Error(
                f"Softmax needs outputs of shape (images, classes), not {shape}: put a Flatten and "
                "a Dense layer before it."
            )
        labels = super().check(values, shape)
        if labels.shape == shape:
            wrong = np.flatnonzero(np.abs(labels.sum(1) - 1) > 1e-5)
            if len(wrong):
                raise Rot180Error(
                    f"The shares of the classes have to sum to 1; those of image {wrong[0]} sum to "
                    f"{labels[wrong[0]].sum():.6g}."
                )
        return labels

    def target(self, labels: Any, output: Array) -> Array:
        """Return the smoothed target y."""
        y = super().target(labels, output)
        return y * (1 - self.smoothing) + self.smoothing / y.shape[-1] if self.smoothing else y

    def per_image(self, output: Array, y: Array) -> Array:
        """Return the cross-entropy of each image, in nats."""
        entropy: Array = -(y * _log_softmax(output)).sum(-1)
        return entropy

    def error(self, output: Array, y: Array) -> Array:
        """Return a - y."""
        return softmax(output) - y

    def prediction(self, output: Array) -> Array:
        """Return the softmax of the output."""
        return softmax(output)


def softmax(z: Array) -> Array:
    """Return exp(z) / sum exp(z) over the last axis, the classes.

    Example:
        >>> import numpy as np
        >>> from rot180.equations import softmax
        >>> softmax(np.array([0.0, 0.0, 1000.0]))
        array([0., 0., 1.])
    """
    return np.exp(_log_softmax(z))


def count_correct(output: Array, labels: Array) -> float:
    """Return how many images have their largest output at their class.

    The result is not a number where there are no classes: the output is not (images, classes), or
    has one column.
    """
    if output.ndim != 2 or output.shape[1] < 2:
        return float("nan")
    classes = labels if labels.ndim == 1 else labels.argmax(-1)
    return float((output.argmax(-1) == classes).sum())


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(-1, keepdims=True)  # the largest exponential is then one
    logarithm: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logarithm
