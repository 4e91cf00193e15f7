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
from rot180.errors import Rot180Error, check_choice


class Layer(ABC):
    """What all layers have in common."""

    _waits = False
    """Whether the first weights are still to be drawn: by a network, or when they are asked for."""

    def __init__(self) -> None:
        self._weights: dict[str, Array] = {}
        self._buffers = Buffers()

    @property
    def weights(self) -> dict[str, Array]:
        """Weights and biases, "w" and "b"; empty for a layer that has none."""
        self.draw(0)
        return self._weights

    @weights.setter
    def weights(self, weights: dict[str, Array]) -> None:
        self._weights, self._waits = weights, False

    def draw(self, seed: int | np.random.Generator) -> None:
        """Draw the first weights w, normal with deviation sqrt(2 / inputs), if they wait for it.

        With this deviation the variance is kept through ReLU (He et al., 2015).
        """
        if self._waits:
            self._waits, w = False, self._weights["w"]
            w[...] = np.random.default_rng(seed).standard_normal(w.shape) * np.sqrt(2 / w[0].size)

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
        shapes = ", ".join(f"{name} {one.shape}" for name, one in self._weights.items())
        return f"{type(self).__name__}({shapes})"

    def _start(self, w: Array, rng: np.random.Generator | None) -> None:
        """Take an array for the weights w, to be drawn now or, without a generator, later."""
        if w.dtype.kind != "f":
            raise Rot180Error(f"Weights are float32 or float64, not {w.dtype}.")
        self._weights, self._waits = {"w": w, "b": np.zeros(len(w), w.dtype)}, True
        if rng is not None:
            self.draw(rng)

    @staticmethod
    def floating(a: Array) -> Array:
        """Return whole numbers as float64, all else as it is."""
        return a if a.dtype.kind == "f" else a.astype(np.float64)


class Dense(Layer):
    """A layer of perceptrons: z = w a + b, every neuron connected with every input.

    Args:
        inputs, outputs: numbers of neurons below and here.
        rng: draws the first weights, see :meth:`Layer.draw`. Without it the network does, from the
            layer's place as the seed: no two of its layers start alike, and it always starts the
            same. A layer that is in no network draws from 0.
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
        self._start(np.empty((outputs, inputs), dtype), rng)

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
        check_choice(operation, "operation", OPERATIONS)
        channels, features = count_of(channels, "channels"), count_of(features, "features")
        groups = count_of(groups, "groups")
        check_groups(channels, features, groups)
        kernel = pair(size, "size of the kernels")
        self.stride, self.groups = pair(stride, "stride"), groups
        self.rotated = operation == "convolution"
        self.borders = margins(padding, kernel, self.stride, self.rotated)
        w = np.empty((features, channels // groups, *kernel), dtype)
        self._start(channels_last(w), rng)
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
