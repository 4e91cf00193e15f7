"""Layers with weights, layers that pass on: each goes forward, and carries the error back.

A layer knows three things. ``forward(a)`` returns what it makes of the activations below it.
``backward(delta)``, given dC/d(output), returns dC/d(input). ``gradient(delta)`` returns dC/dw and
dC/db, if it has weights. All keep what they need from the last forward pass.

What is returned lies in buffers that the next pass writes over: copy what is to be kept.
"""

import copy
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from rot180.equations.convolution import Array, check_error, rot180
from rot180.equations.geometry import (
    OPERATIONS,
    Padding,
    check_groups,
    count_of,
    margins,
    pair,
    seed_of,
)
from rot180.equations.patches import Buffers, Patches, channels_last
from rot180.errors import Rot180Error


class Layer(ABC):
    """What all layers have in common."""

    weights: dict[str, Array]
    """"w" and "b" of a layer that has weights; empty for the others."""

    def __init__(self) -> None:
        self.weights = {}
        self._buffers = Buffers()

    @abstractmethod
    def forward(self, a: Array) -> Array:
        """Return the layer's output."""

    @abstractmethod
    def backward(self, delta: Array) -> Array:
        """Return dC/d(input), given dC/d(output)."""

    def gradient(self, delta: Array) -> dict[str, Array]:
        """Return dC/dw and dC/db, given dC/d(output)."""
        return {}

    def branch(self) -> Array | None:
        """Return which side of each kink the last forward pass was on; None without kinks."""
        return None

    def twin(self) -> "Layer":
        """Return a copy that uses the very same weights, with its own buffers and memory."""
        return copy.deepcopy(self, {id(one): one for one in self.weights.values()})

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {one.shape}" for name, one in self.weights.items())
        return f"{type(self).__name__}({shapes})"

    @staticmethod
    def floating(a: Array) -> Array:
        """Return whole numbers as float64, all else as it is."""
        return a if a.dtype.kind == "f" else a.astype(np.float64)


class Dense(Layer):
    """A layer of perceptrons: z = w a + b, every neuron connected with every input.

    Args:
        inputs, outputs: numbers of neurons below and here.
        rng: draws the first weights, normal with deviation sqrt(2 / inputs) (He et al., 2015).
        dtype: of the weights.
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
        inputs, outputs = count_of(inputs, "inputs"), count_of(outputs, "outputs")
        self.weights = {
            "w": _drawn((outputs, inputs), inputs, rng, dtype),
            "b": np.zeros(outputs, dtype),
        }

    def forward(self, a: Array) -> Array:
        """Return z (n, outputs) of a (n, inputs)."""
        w = self.weights["w"]
        if a.ndim != 2 or a.shape[1] != w.shape[1]:
            raise Rot180Error(
                f"The dense layer takes (images, {w.shape[1]}) values; these are of shape "
                f"{a.shape}. Put a Flatten before it if they are images."
            )
        self._a = a
        shape = (len(a), len(w))
        z = np.matmul(a, w.T, out=self._buffers.get("z", shape, np.result_type(a, w)))
        z += self.weights["b"]
        return z

    def backward(self, delta: Array) -> Array:
        """Return dC/da = transposed w times delta: each input gets the errors that it caused."""
        w = self.weights["w"]
        check_error(delta, (len(self._a), len(w)))
        shape = (len(delta), w.shape[1])
        out = self._buffers.get("error", shape, np.result_type(delta, w))
        return np.matmul(delta, w, out=out)

    def gradient(self, delta: Array) -> dict[str, Array]:
        """Return dC/dw[k,j], the sum over images of delta[k] a[j], and dC/db, that of delta."""
        shape = self.weights["w"].shape
        check_error(delta, (len(self._a), shape[0]))
        out = self._buffers.get("gradient", shape, np.result_type(delta, self._a))
        return {"w": np.matmul(delta.T, self._a, out=out), "b": delta.sum(0)}


class Convolution(Layer):
    """z = corr(w, a) + b, or z = w * a + b: a perceptron, its connections cut, its weights shared.

    Args:
        channels, features: of the activations below and here.
        size: of the kernels, one number or (height, width).
        stride, padding, groups: see :func:`rot180.equations.convolution.correlation`.
        operation: "correlation" (as PyTorch, and the faster one) or "convolution".
        rng, dtype: as for :class:`Dense`.
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
        if operation not in OPERATIONS:
            raise Rot180Error(
                f"There is no operation '{operation}'. There are: {', '.join(OPERATIONS)}."
            )
        channels, features = count_of(channels, "channels"), count_of(features, "features")
        groups = count_of(groups, "groups")
        check_groups(channels, features, groups)
        kernel = pair(size, "size of the kernels")
        self.stride, self.groups = pair(stride, "stride"), groups
        self.rotated = operation == "convolution"
        self.borders = margins(padding, kernel, self.stride, self.rotated)
        shape = (features, channels // groups, *kernel)
        drawn = _drawn(shape, int(np.prod(shape[1:])), rng, dtype)
        self.weights = {"w": channels_last(drawn), "b": np.zeros(features, dtype)}
        self._patches = Patches(self.stride, self.borders, groups)

    def forward(self, a: Array) -> Array:
        """Return z (n, f, y, x) of a (n, c, h, w)."""
        return self._patches.forward(a, self._kernel(), self.weights["b"])

    def backward(self, delta: Array) -> Array:
        """Return dC/da: delta, dilated by the stride, in full, with the kernel turned over."""
        return self._patches.error(delta, self._kernel())

    def gradient(self, delta: Array) -> dict[str, Array]:
        """Return dC/dw, activations and errors correlated, and dC/db, the sum of the errors."""
        found = self._patches.gradient(delta, self.weights["w"])
        bias = self._patches.bias_gradient(delta)
        return {"w": rot180(found) if self.rotated else found, "b": bias}

    def _kernel(self) -> Array:
        """Return the kernel as a correlation takes it."""
        return rot180(self.weights["w"]) if self.rotated else self.weights["w"]


class Flatten(Layer):
    """(n, c, h, w) to (n, c h w)."""

    def __init__(self) -> None:
        super().__init__()
        self._below: tuple[int, ...] = (0,)
        self._above: tuple[int, ...] = (0,)

    def forward(self, a: Array) -> Array:
        """Return one row an image."""
        if a.ndim < 2 or not a.size:
            raise Rot180Error(
                f"Flatten takes (images, …), one image at least; these are of shape {a.shape}."
            )
        rows = a.reshape(len(a), -1)
        self._below, self._above = a.shape, rows.shape
        return rows

    def backward(self, delta: Array) -> Array:
        """Return the error in the shape of the images."""
        check_error(delta, self._above)
        if len(self._below) != 4:
            return delta.reshape(self._below)
        out = self._buffers.images("error", self._below, delta.dtype)
        out[...] = delta.reshape(self._below)
        return out


class Dropout(Layer):
    """While training, set a share of the values to zero and scale the rest to the same mean.

    Source: Srivastava et al., JMLR 15, 2014; scaled while training instead of later.

    Args:
        share: of the values that are dropped, from 0 to below 1.
        seed: of the draws.
    """

    def __init__(self, share: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise Rot180Error(f"The share that is dropped lies between 0 and 1, not {share}.")
        self.share, self.training = share, False
        self._shape: tuple[int, ...] = (0,)
        self._rng = np.random.default_rng(seed_of(seed))

    def forward(self, a: Array) -> Array:
        """Return a with values dropped, or a itself when not training."""
        self._shape = a.shape
        if not self.training:
            self._factors: Any = 1.0
            return a
        kept = np.asarray(self._rng.random(a.shape, np.float32) >= self.share)
        self._factors = kept.astype(a.dtype) / a.dtype.type(1 - self.share)
        dropped: Array = a * self._factors
        return dropped

    def backward(self, delta: Array) -> Array:
        """Return the error, dropped where the values were."""
        check_error(delta, self._shape)
        carried: Array = delta * self._factors
        return carried

    def draw_from(self, rng: np.random.Generator) -> None:
        """Take the random numbers from here."""
        self._rng = rng


def _drawn(
    shape: tuple[int, ...], inputs: int, rng: np.random.Generator | None, dtype: Any
) -> Array:
    """Draw normal weights of deviation sqrt(2 / inputs), which keeps the variance through ReLU."""
    if np.dtype(dtype).kind != "f":
        raise Rot180Error(f"Weights are float32 or float64, not {np.dtype(dtype)}.")
    rng = rng if rng is not None else np.random.default_rng(0)
    drawn: Array = rng.standard_normal(shape) * np.sqrt(2 / inputs)
    return drawn.astype(dtype)
