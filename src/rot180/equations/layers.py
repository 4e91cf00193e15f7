"""Layers: each computes its output, the error of its input, and the gradient of its weights.

- ``forward(a)`` returns the output for the activations a of the layer below.
- ``backward(delta)`` takes dC/d(output) and returns dC/d(input).
- ``gradient(delta)`` takes dC/d(output) and returns dC/dw and dC/db, if the layer has weights.

``backward`` and ``gradient`` belong to the last forward pass. The layers of this file call the
equations as they stand; ``rot180.equations.fast.layers`` overrides them to save time, and
``rot180.equations`` offers the fast ones under the same names.
"""

import copy
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from rot180.equations.convolution import (
    Array,
    bias_gradient,
    check_error,
    convolution,
    convolution_error,
    convolution_gradient,
    correlation,
    correlation_error,
    correlation_gradient,
)
from rot180.equations.padding import (
    OPERATIONS,
    Padding,
    check_count,
    check_groups,
    check_seed,
    pair,
    resolve_padding,
)
from rot180.errors import Rot180Error, check_choice


class Layer(ABC):
    """The base class of all layers."""

    _undrawn = False
    """Whether w has no values yet: a network draws them, or the first access to the weights."""

    def __init__(self) -> None:
        self._weights: dict[str, Array] = {}

    @property
    def weights(self) -> dict[str, Array]:
        """Weights "w" and biases "b"; empty for a layer without them."""
        self.init_weights(0)
        return self._weights

    @weights.setter
    def weights(self, weights: dict[str, Array]) -> None:
        self._weights, self._undrawn = weights, False

    def init_weights(self, seed: int | np.random.Generator) -> None:
        """Draw w from a normal distribution, unless it has values already.

        The standard deviation is sqrt(2 / inputs), which preserves the variance through ReLU (He et
        al., 2015).
        """
        if self._undrawn:
            self._undrawn, w = False, self._weights["w"]
            w[...] = np.random.default_rng(seed).standard_normal(w.shape) * np.sqrt(2 / w[0].size)

    @abstractmethod
    def forward(self, a: Array) -> Array:
        """Return the output."""

    @abstractmethod
    def backward(self, delta: Array) -> Array:
        """Return dC/d(input), given dC/d(output)."""

    def gradient(self, delta: Array) -> dict[str, Array]:
        """Return dC/dw and dC/db, given dC/d(output)."""
        return {}

    def kink_pattern(self) -> Array | None:
        """Return the side of each kink on which the last forward pass was; None without kinks."""
        return None

    def replica(self) -> "Layer":
        """Return a copy that shares the weight arrays and nothing else."""
        return copy.deepcopy(self, {id(array): array for array in self.weights.values()})

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self._weights.items())
        return f"{type(self).__name__}({shapes})"

    def _allocate(self, w: Array, rng: np.random.Generator | None) -> None:
        """Take an array for w, with zeros for b; without a generator, w is drawn later."""
        if w.dtype.kind != "f":
            raise Rot180Error(f"Weights are float32 or float64, not {w.dtype}.")
        self._weights, self._undrawn = {"w": w, "b": np.zeros(len(w), w.dtype)}, True
        if rng is not None:
            self.init_weights(rng)


class Dense(Layer):
    """A layer of perceptrons: z = w a + b, every neuron connected with every input.

    Args:
        inputs, outputs: number of neurons in the layer below and in this one.
        rng: generator that draws the first weights, see
            :meth:`rot180.equations.Layer.init_weights`. Without one, the network draws them with
            the position of the layer as the seed, so its layers start differently and every time
            the same. A layer outside a network uses seed 0.
        dtype: type of the weights.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rng: np.random.Generator | None = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__()
        self._a: Array = np.zeros((0, 0))
        inputs, outputs = check_count(inputs, "inputs"), check_count(outputs, "outputs")
        self._allocate(np.empty((outputs, inputs), dtype), rng)

    def forward(self, a: Array) -> Array:
        """Return z (n, outputs) for a (n, inputs)."""
        self._remember(a)
        return a @ self.weights["w"].T + self.weights["b"]

    def backward(self, delta: Array) -> Array:
        """Return dC/da = w^T delta: each input collects the errors to which it contributed."""
        self._check_error(delta)
        return delta @ self.weights["w"]

    def gradient(self, delta: Array) -> dict[str, Array]:
        """Return dC/dw[k,j], the sum of delta[k] a[j] over images, and dC/db, the sum of delta."""
        self._check_error(delta)
        return {"w": delta.T @ self._a, "b": delta.sum(0)}

    def _remember(self, a: Array) -> None:
        """Save the input for the backward pass."""
        inputs = self.weights["w"].shape[1]
        if a.ndim != 2 or a.shape[1] != inputs:
            raise Rot180Error(
                f"The dense layer takes (images, {inputs}) values; these are of shape {a.shape}. "
                "Put a Flatten before it if they are images."
            )
        self._a = a

    def _check_error(self, delta: Array) -> None:
        check_error(delta, (len(self._a), len(self.weights["w"])))


class Convolution(Layer):
    """z = corr(w, a) + b, or z = w * a + b: a perceptron with cut connections and shared weights.

    Args:
        channels, features: number of feature maps in the layer below and in this one.
        size: size of the kernels, one number or (height, width).
        stride, padding, groups: see :func:`rot180.equations.convolution.correlation`.
        operation: "correlation" (the one of PyTorch, and the faster one) or "convolution".
        rng, dtype: see :class:`Dense`.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Padding = "valid",
        groups: int = 1,
        operation: str = "correlation",
        rng: np.random.Generator | None = None,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__()
        check_choice(operation, "operation", OPERATIONS)
        channels, features = check_count(channels, "channels"), check_count(features, "features")
        groups = check_count(groups, "groups")
        check_groups(channels, features, groups)
        kernel_size = pair(size, "size of the kernels")
        self.stride, self.groups = pair(stride, "stride"), groups
        self.rotated = operation == "convolution"
        self.pad_width = resolve_padding(padding, kernel_size, self.stride, self.rotated)
        self._a: Array = np.zeros(0)
        self._output_shape: tuple[int, ...] = (0,)
        self._allocate(np.empty((features, channels // groups, *kernel_size), dtype), rng)

    def forward(self, a: Array) -> Array:
        """Return z (n, f, y, x) for a (n, c, h, w)."""
        operation = convolution if self.rotated else correlation
        z = operation(a, self.weights["w"], self.stride, self.pad_width, self.groups)
        self._a, self._output_shape = a, z.shape
        return z + self.weights["b"][:, None, None]

    def backward(self, delta: Array) -> Array:
        """Return dC/da: the full convolution, with the kernel rotated if it was not in forward."""
        check_error(delta, self._output_shape)
        error = convolution_error if self.rotated else correlation_error
        w, size = self.weights["w"], (self._a.shape[2], self._a.shape[3])
        return error(delta, w, size, self.stride, self.pad_width, self.groups)

    def gradient(self, delta: Array) -> dict[str, Array]:
        """Return dC/dw, the activations correlated with the errors, and dC/db."""
        check_error(delta, self._output_shape)
        gradient = convolution_gradient if self.rotated else correlation_gradient
        size = (self.weights["w"].shape[2], self.weights["w"].shape[3])
        w = gradient(self._a, delta, size, self.stride, self.pad_width, self.groups)
        return {"w": w, "b": bias_gradient(delta)}


class Flatten(Layer):
    """Turns images (n, c, h, w) into rows (n, c h w)."""

    def __init__(self) -> None:
        super().__init__()
        self._input_shape: tuple[int, ...] = (0,)
        self._output_shape: tuple[int, ...] = (0,)

    def forward(self, a: Array) -> Array:
        """Return one row per image."""
        if a.ndim < 2 or not a.size:
            raise Rot180Error(
                f"Flatten takes (images, …), one image at least; these are of shape {a.shape}."
            )
        rows = a.reshape(len(a), -1)
        self._input_shape, self._output_shape = a.shape, rows.shape
        return rows

    def backward(self, delta: Array) -> Array:
        """Return the error in the shape of the images."""
        check_error(delta, self._output_shape)
        return delta.reshape(self._input_shape)


class Dropout(Layer):
    """Sets a fraction of the values to zero in training, and scales the others to the same mean.

    Source: Srivastava et al., JMLR 15, 2014; scaled in training instead of in use.

    Args:
        rate: fraction of values that are dropped, from 0 to below 1.
        seed: seed of the random numbers.
    """

    def __init__(self, rate: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise Rot180Error(f"The dropout rate lies between 0 and 1, not at {rate}.")
        self.rate, self.training = rate, False
        self._shape: tuple[int, ...] = (0,)
        self._rng = np.random.default_rng(check_seed(seed))

    def forward(self, a: Array) -> Array:
        """Return a with values dropped, or a itself when not in training."""
        self._shape = a.shape
        if not self.training:
            self._factors: Any = 1.0
            return a
        kept = np.asarray(self._rng.random(a.shape, np.float32) >= self.rate)
        self._factors = kept.astype(a.dtype) / a.dtype.type(1 - self.rate)
        dropped: Array = a * self._factors
        return dropped

    def backward(self, delta: Array) -> Array:
        """Return the error, with zeros where the values were dropped."""
        check_error(delta, self._shape)
        error: Array = delta * self._factors
        return error

    def set_rng(self, rng: np.random.Generator) -> None:
        """Draw from this generator from now on."""
        self._rng = rng


def as_floats(a: Array) -> Array:
    """Return whole numbers as float64, and floating-point numbers as they are."""
    return a if a.dtype.kind == "f" else a.astype(np.float64)
