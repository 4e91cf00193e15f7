"""The layers of ``rot180.equations`` with the same numbers in less time.

Convolutions become matrix products, and each layer writes its results into arrays that it
allocates once. So a result is overwritten in the next pass: copy what should last.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from rot180.equations import activations, layers, pooling
from rot180.equations.convolution import Array, check_error, rot180
from rot180.equations.fast.im2col import Im2Col, channels_last
from rot180.equations.fast.workspace import Workspace


class Fast:
    """A layer with a workspace of its own."""

    @cached_property
    def _workspace(self) -> Workspace:
        return Workspace()


class Dense(Fast, layers.Dense):
    """The layer :class:`rot180.equations.layers.Dense`, in a workspace."""

    def forward(self, a: Array) -> Array:
        """Return z (n, outputs) for a (n, inputs)."""
        self._remember(a)
        w = self.weights["w"]
        out = self._workspace.get("z", (len(a), len(w)), np.result_type(a, w))
        z = np.matmul(a, w.T, out=out)
        z += self.weights["b"]
        return z

    def backward(self, delta: Array) -> Array:
        """Return dC/da."""
        self._check_error(delta)
        w = self.weights["w"]
        shape = (len(delta), w.shape[1])
        out = self._workspace.get("error", shape, np.result_type(delta, w))
        return np.matmul(delta, w, out=out)

    def gradient(self, delta: Array) -> dict[str, Array]:
        """Return dC/dw and dC/db."""
        self._check_error(delta)
        shape = self.weights["w"].shape
        out = self._workspace.get("gradient", shape, np.result_type(delta, self._a))
        return {"w": np.matmul(delta.T, self._a, out=out), "b": delta.sum(0)}


class Convolution(Fast, layers.Convolution):
    """The layer :class:`rot180.equations.layers.Convolution`, by matrix products."""

    @cached_property
    def _im2col(self) -> Im2Col:
        return Im2Col(self.stride, self.pad_width, self.groups)

    def forward(self, a: Array) -> Array:
        """Return z (n, f, y, x) for a (n, c, h, w)."""
        return self._im2col.forward(a, self._kernel(), self.weights["b"])

    def backward(self, delta: Array) -> Array:
        """Return dC/da."""
        return self._im2col.error(delta, self._kernel())

    def gradient(self, delta: Array) -> dict[str, Array]:
        """Return dC/dw and dC/db."""
        gradient = self._im2col.gradient(delta, self.weights["w"])
        bias = self._im2col.bias_gradient(delta)
        return {"w": rot180(gradient) if self.rotated else gradient, "b": bias}

    def _kernel(self) -> Array:
        """Return the kernel that a correlation slides."""
        return rot180(self.weights["w"]) if self.rotated else self.weights["w"]

    def _allocate(self, w: Array, rng: np.random.Generator | None) -> None:
        super()._allocate(channels_last(w), rng)


class Flatten(Fast, layers.Flatten):
    """The layer :class:`rot180.equations.layers.Flatten`; its error has the channels last."""

    def backward(self, delta: Array) -> Array:
        """Return the error in the shape of the images."""
        error = super().backward(delta)
        if error.ndim != 4:
            return error
        out = self._workspace.images("error", error.shape, error.dtype)
        out[...] = error
        return out


class ReLU(Fast, activations.ReLU):
    """The activation :class:`rot180.equations.activations.ReLU`, in a workspace."""

    def function(self, z: Array) -> Array:
        """Return max(z, 0)."""
        return np.maximum(z, 0, out=self._workspace.empty_like("a", z))

    def backward(self, delta: Array) -> Array:
        """Return dC/dz."""
        check_error(delta, self.a.shape)
        out = self._workspace.empty_like("error", self.a)
        return np.multiply(delta, self.derivative(), out=out)


class FastPool(Fast, pooling.Pool):
    """A pooling that goes through the entries of a window: one strided view of the map each."""

    def _framed(self, a: Array) -> Array:
        """Return the maps with their border."""
        a = self._remember(a)
        if self.pad_width == ((0, 0), (0, 0)):
            return a
        framed = self._workspace.images("framed", self._framed_shape(), a.dtype)
        framed.fill(self.pad_value)
        self._inside(framed)[...] = a
        return framed

    def _framed_shape(self) -> tuple[int, int, int, int]:
        n, c, h, w = self._input_shape
        (top, bottom), (left, right) = self.pad_width
        return n, c, h + top + bottom, w + left + right

    def _inside(self, framed: Array) -> Array:
        """Return a view of the maps without their border."""
        (top, _), (left, _) = self.pad_width
        h, w = self._input_shape[2:]
        return framed[:, :, top : top + h, left : left + w]

    def _entries(self, framed: Array) -> Iterator[Array]:
        """Yield, for each entry of a window, a view (n, c, y, x) of that entry in all windows."""
        (y, x), (down, across) = self._output_shape[2:], self.stride
        for i, j in np.ndindex(self.size):
            yield framed[:, :, i : i + down * y : down, j : j + across * x : across]

    def _spread(self, shares: Any, signal: Array) -> Array:
        """Return maps in which each entry of a window gets its share of the window's signal."""
        check_error(signal, self._output_shape)
        framed = self._workspace.images("spread", self._framed_shape(), signal.dtype)
        apart = all(step >= k for step, k in zip(self.stride, self.size, strict=True))
        covered = all(
            step == k and count * step == size
            for step, k, count, size in zip(
                self.stride, self.size, self._output_shape[2:], framed.shape[2:], strict=True
            )
        )
        if not covered:
            framed.fill(0)
        for entry, share in zip(self._entries(framed), shares, strict=True):
            if apart:
                np.multiply(signal, share, out=entry)
            else:
                entry += signal * share
        return self._inside(framed)


class MaxPool(FastPool, pooling.MaxPool):
    """The layer :class:`rot180.equations.pooling.MaxPool`, entry by entry."""

    def forward(self, a: Array) -> Array:
        """Return the maxima (n, c, y, x)."""
        self._input = self._framed(a)
        entries = self._entries(self._input)
        first = next(entries)
        self._maxima = self._workspace.images("a", first.shape, first.dtype)
        np.copyto(self._maxima, first)
        for entry in entries:
            np.maximum(self._maxima, entry, out=self._maxima)
        return self._maxima

    def backward(self, delta: Array) -> Array:
        """Return dC/d(input)."""
        check_error(delta, self._output_shape)
        return self._spread(self._winners(), delta)

    @property
    def switches(self) -> Array:
        """The position of each maximum in its window, counted row by row, (n, c, y, x)."""
        switches = np.zeros(self._output_shape, np.int64)
        for number, wins in enumerate(self._winners()):
            switches[wins] = number
        return switches

    def _winners(self) -> Iterator[Array]:
        """Yield, for each entry of a window, in which windows it is the maximum."""
        undecided = self._workspace.images("undecided", self._maxima.shape, np.bool_)
        wins = self._workspace.images("wins", self._maxima.shape, np.bool_)
        undecided.fill(True)
        for entry in self._entries(self._input):
            np.equal(entry, self._maxima, out=wins)
            wins &= undecided
            undecided ^= wins
            yield wins


class AveragePool(FastPool, pooling.AveragePool):
    """The layer :class:`rot180.equations.pooling.AveragePool`, entry by entry."""

    def forward(self, a: Array) -> Array:
        """Return the means (n, c, y, x)."""
        entries = self._entries(self._framed(a))
        means = next(entries).copy()
        for entry in entries:
            means += entry
        means /= self.size[0] * self.size[1]
        return means
