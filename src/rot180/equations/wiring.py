"""The wiring of layers: the inputs of each output, and the outputs of each input.

It follows the definition of each kind of layer, and does not use the code of the layers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np

from rot180.equations.activations import Activation
from rot180.equations.convolution import Array
from rot180.equations.layers import Convolution, Dense, Dropout, Flatten, Layer
from rot180.equations.pooling import AveragePool, MaxPool
from rot180.errors import Rot180Error

Index = tuple[int, ...]


@dataclass(frozen=True)
class Factor:
    """One number in a product.

    Attributes:
        name: name of its array, for example "conv2.w".
        index: index in that array.
        value: the number.
    """

    name: str
    index: Index
    value: float

    @property
    def symbol(self) -> str:
        """The name with its index, as in w[0,1]."""
        return f"{self.name}[{','.join(map(str, self.index))}]" if self.index else self.name


@dataclass(frozen=True)
class WeightIndex:
    """The index of a weight in its layer."""

    index: Index

    def factor(self, name: str, w: Array) -> Factor:
        """Return the weight as a factor, given the array that it is in."""
        return Factor(name, self.index, float(w[self.index]))


@singledispatch
def incoming(layer: Layer, index: Index, below: tuple[int, ...]) -> Any:
    """Yield, for an output, each weight and the index of the input that it multiplies."""
    raise Rot180Error(f"{layer!r} has no weighted sums to trace.")


@incoming.register
def _(layer: Dense, index: Index, below: tuple[int, ...]) -> Any:
    n, k = index
    for j in range(below[1]):
        yield WeightIndex((k, j)), (n, j)


@incoming.register
def _(layer: Convolution, index: Index, below: tuple[int, ...]) -> Any:
    n, f, *position = index
    features, group_channels, *_ = layer.weights["w"].shape
    first = f // (features // layer.groups) * group_channels
    for c in range(group_channels):
        for (i, v), (j, u) in _window(layer, position, below):
            yield WeightIndex((f, c, i, j)), (n, first + c, v, u)


def _window(layer: Convolution, position: Any, below: tuple[int, ...]) -> Any:
    """Return pairs ((i, v), (j, u)): row i of the kernel meets row v, column j meets column u."""
    axes = []
    for axis in (0, 1):
        k = layer.weights["w"].shape[2 + axis]
        origin = position[axis] * layer.stride[axis] - layer.pad_width[axis][0]
        axes.append(
            [
                (k - 1 - offset if layer.rotated else offset, origin + offset)
                for offset in range(k)
                if 0 <= origin + offset < below[2 + axis]
            ]
        )
    return ((row, column) for row in axes[0] for column in axes[1])


@singledispatch
def outgoing(
    layer: Layer, name: str, index: Index, below: tuple[int, ...], above: tuple[int, ...]
) -> Any:
    """Yield, for an input, d(output)/d(input) and the index of each output that depends on it."""
    raise Rot180Error(f"The errors that come from {layer!r} cannot be traced.")


@outgoing.register
def _(layer: Dense, name: str, index: Index, below: Any, above: tuple[int, ...]) -> Any:
    n, j = index
    for k in range(above[1]):
        yield WeightIndex((k, j)), (n, k)


@outgoing.register
def _(layer: Convolution, name: str, index: Index, below: Any, above: tuple[int, ...]) -> Any:
    n, channel, *position = index
    features, group_channels, *size = layer.weights["w"].shape
    group, c = divmod(channel, group_channels)
    axes = []
    for axis in (0, 1):
        pairs = []
        for offset in range(size[axis]):
            start = position[axis] + layer.pad_width[axis][0] - offset
            row, rest = divmod(start, layer.stride[axis])
            if rest == 0 and 0 <= row < above[2 + axis]:
                pairs.append((size[axis] - 1 - offset if layer.rotated else offset, row))
        axes.append(pairs)
    group_features = features // layer.groups
    for f in range(group * group_features, (group + 1) * group_features):
        for i, y in axes[0]:
            for j, x in axes[1]:
                yield WeightIndex((f, c, i, j)), (n, f, y, x)


@outgoing.register
def _(layer: Activation, name: str, index: Index, below: Any, above: Any) -> Any:
    yield Factor(f"{name}.slope", index, float(layer.derivative()[index])), index


@outgoing.register
def _(layer: MaxPool, name: str, index: Index, below: Any, above: tuple[int, ...]) -> Any:
    switches = layer.switches
    for window, number in windows_over(layer, index, above):
        if switches[window] == number:
            yield None, window


@outgoing.register
def _(layer: AveragePool, name: str, index: Index, below: Any, above: tuple[int, ...]) -> Any:
    size = layer.size[0] * layer.size[1]
    for window, _ in windows_over(layer, index, above):
        yield Factor(f"1/{size}", (), 1 / size), window


@outgoing.register
def _(layer: Flatten, name: str, index: Index, below: tuple[int, ...], above: Any) -> Any:
    yield None, (index[0], int(np.ravel_multi_index(index[1:], below[1:])))


@outgoing.register
def _(layer: Dropout, name: str, index: Index, below: Any, above: Any) -> Any:
    yield None, index  # a trace does not train, so nothing is dropped


def windows_over(layer: MaxPool | AveragePool, index: Index, above: tuple[int, ...]) -> Any:
    """Yield the index of each window that covers an entry, and the entry's number in the window."""
    n, c, v, u = index
    for y in range(above[2]):
        for x in range(above[3]):
            i = v + layer.pad_width[0][0] - y * layer.stride[0]
            j = u + layer.pad_width[1][0] - x * layer.stride[1]
            if 0 <= i < layer.size[0] and 0 <= j < layer.size[1]:
                yield (n, c, y, x), i * layer.size[1] + j


def uses_of_weight(
    layer: Layer, index: Index, below: tuple[int, ...], above: tuple[int, ...]
) -> Iterator[tuple[Index, Index]]:
    """Yield the indices of the output and the input of each connection that uses a weight."""
    if isinstance(layer, Dense):
        k, j = index
        yield from (((n, k), (n, j)) for n in range(above[0]))
        return
    f = index[0]
    for n, *position in np.ndindex(above[0], *above[2:]):
        for weight, source in incoming(layer, (n, f, *position), below):
            if weight.index == index:
                yield (n, f, *position), source
