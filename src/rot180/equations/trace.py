"""The products behind one number: any entry of z, delta, a weight gradient or a projection.

For example:

    trace = Trace(network, images, labels)
    print(trace.delta("conv1", (0, 3, 2, 1)))

Each of these numbers is a sum of products. A trace returns the products, with the names, indices
and values of their factors. Their sum is the number, up to rounding.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum, prod
from typing import Any

import numpy as np

from rot180.equations.activations import ReLU
from rot180.equations.convolution import Array
from rot180.equations.deconvnet import backward_signals, seed_signal
from rot180.equations.layers import Layer
from rot180.equations.network import Network
from rot180.equations.pooling import MaxPool
from rot180.equations.wiring import (
    Factor,
    Index,
    incoming,
    outgoing,
    uses_of_weight,
    windows_over,
)
from rot180.errors import Rot180Error, suggest


@dataclass(frozen=True)
class Sum:
    """A number as a sum of products.

    Attributes:
        name: name of the array that holds the number.
        index: index in that array.
        value: the number, as the network computed it.
        terms: the products, each a tuple of factors.
    """

    name: str
    index: Index
    value: float
    terms: tuple[tuple[Factor, ...], ...]

    @property
    def total(self) -> float:
        """The sum of the products; it equals the value up to rounding."""
        return fsum(prod(factor.value for factor in term) for term in self.terms)

    def products(self) -> list[tuple[str, str]]:
        """Return each product in symbols and in numbers: ("w[0,0]*a[1,2]", "0.5*(-1.2)")."""
        return [
            (
                "*".join(factor.symbol for factor in term),
                "*".join(_number(factor.value) for factor in term),
            )
            for term in self.terms
        ]

    def symbols(self) -> str:
        """Return the sum in symbols: w[0,0]*a[1,2] + …"""
        return " + ".join(symbols for symbols, _ in self.products()) or "0"

    def numbers(self) -> str:
        """Return the sum in numbers: 0.5*(-1.2) + …"""
        return " + ".join(numbers for _, numbers in self.products()) or "0"

    def __str__(self) -> str:
        head = Factor(self.name, self.index, self.value).symbol
        margin = " " * len(head)
        return (
            f"{head} = {self.symbols()}\n{margin} = {self.numbers()}\n{margin} = {self.value:.6g}"
        )


class Trace:
    """The five steps on one batch, with the products behind each number.

    Indices start with the number of the image: (n, f, y, x), or (n, neuron). Factors are named
    after their layer: "conv2.w", "conv2.delta", "pool1.a" (the output of pool1), "relu1.slope"
    (f'(z)); the images are "x".

    Args:
        network: the network, which is copied; in float64 the sums are exact to about 1e-15.
        x: (n, c, h, w), images, or (n, inputs), rows.
        labels: one class number per image, or the desired output; without labels there are no
            errors and no gradients.

    Example:
        >>> import numpy as np
        >>> from rot180.equations import Convolution, Dense, Flatten, Network, Trace
        >>> layers = {"conv": Convolution(1, 1, 2), "flat": Flatten(), "head": Dense(4, 2)}
        >>> trace = Trace(Network(layers), np.ones((1, 1, 3, 3)), labels=[1])
        >>> print(trace.delta("flat", (0, 3)).symbols())
        head.w[0,3]*head.delta[0,0] + head.w[1,3]*head.delta[0,1]
    """

    def __init__(self, network: Network, x: Array, labels: Any = None) -> None:
        self.network = copy.deepcopy(network)  # the weights may change later
        self.network.set_training(False)
        self.network.input(np.array(x))
        self.network.feed_forward()
        self._names = list(network.layers)
        self.a = {name: a.copy() for name, a in self.network.a.items()}
        self._delta: dict[str, Array] = {}
        self._projection: tuple[tuple[Any, ...], str, dict[str, Array]] | None = None
        self._gradients: dict[str, Array] = {}
        if labels is not None:
            self.network.output_error(labels)
            self.network.back_propagate()
            self._delta = {name: delta.copy() for name, delta in self.network.delta.items()}
            gradients = self.network.gradient()
            self._gradients = {name: gradient.copy() for name, gradient in gradients.items()}
            last = self._names[-1]
            self._y = self.network.cost.target(labels, self.a[last])

    def z(self, layer: str, index: Index) -> Sum:
        """Return z of a layer: its weights times the activations below, plus its bias.

        Raises:
            Rot180Error: there is no such layer with weights, or no such entry.
        """
        weighted = self._weighted_layer(layer)
        w, b = weighted.weights["w"], weighted.weights["b"]
        z = self.a[layer]
        index = _check_index(index, z, f"{layer}.z")
        name, a = self._below(layer)
        terms = [
            (weight.factor(f"{layer}.w", w), Factor(name, source, float(a[source])))
            for weight, source in incoming(weighted, index, a.shape)
        ]
        bias = Factor(f"{layer}.b", index[1:2], float(b[index[1]]))
        return Sum(f"{layer}.z", index, float(z[index]), (*terms, (bias,)))

    def delta(self, layer: str, index: Index) -> Sum:
        """Return delta = dC/d(output) of a layer, from the errors of the next layer with weights.

        After the last weights it comes from the cost. The products include what lies in between:
        the slope of an activation, the share of an average; a maximum has a product for its switch
        only. An empty name stands for the images and returns dC/dx.

        Raises:
            Rot180Error: there is no such layer or entry, or there were no labels.
        """
        delta = self._errors(layer)
        index = _check_index(index, delta, f"{layer}.delta")
        terms = self._from_above(layer, index, self._delta, "delta", outgoing)
        name = f"{layer}.delta" if layer else "dC/dx"
        return Sum(name, index, float(delta[index]), tuple(terms))

    def weight_gradient(self, layer: str, index: Index) -> Sum:
        """Return dC/dw[index]: the sum of delta times a over all connections that share the weight.

        Raises:
            Rot180Error: there is no such layer or entry, or there were no labels.
        """
        weighted = self._weighted_layer(layer)
        delta = self._errors(layer)
        index = _check_index(index, weighted.weights["w"], f"{layer}.w")
        name, a = self._below(layer)
        terms = (
            (
                Factor(f"{layer}.delta", output, float(delta[output])),
                Factor(name, source, float(a[source])),
            )
            for output, source in uses_of_weight(weighted, index, a.shape, delta.shape)
        )
        value = float(self._gradients[f"{layer}.w"][index])
        return Sum(f"dC/d{layer}.w", index, value, tuple(terms))

    def bias_gradient(self, layer: str, index: Index) -> Sum:
        """Return dC/db[index]: the sum of the errors at all outputs to which the bias was added.

        Raises:
            Rot180Error: there is no such layer or entry, or there were no labels.
        """
        weighted = self._weighted_layer(layer)
        delta = self._errors(layer)
        index = _check_index(index, weighted.weights["b"], f"{layer}.b")
        positions = np.ndindex(delta.shape[0], *delta.shape[2:])
        outputs = ((n, *index, *position) for n, *position in positions)
        terms = tuple(
            (Factor(f"{layer}.delta", output, float(delta[output])),) for output in outputs
        )
        return Sum(f"dC/d{layer}.b", index, float(self._gradients[f"{layer}.b"][index]), terms)

    def projection(
        self,
        layer: str,
        feature: int,
        index: Index,
        at: str = "",
        position: Any = None,
        method: str = "deconvnet",
        unpool: str = "switches",
    ) -> Sum:
        """Return an entry of a projection: of the pixels, or of the signal at a layer it passes.

        Args:
            layer, feature, position, method, unpool: see
                :func:`rot180.equations.deconvnet.project`.
            index: (n, c, y, x), the entry.
            at: name of the layer whose output has the entry; empty for the pixels.

        Raises:
            Rot180Error: there is no such layer, feature, position, method, unpooling or entry, or
                the projection does not pass ``at``.
        """
        top, signals = self._project(layer, feature, position, method, unpool)
        if at not in signals or at == top:
            passed = [name or "'' (the pixels)" for name in signals if name != top]
            raise Rot180Error(
                f"The projection of '{layer}' does not pass '{at}' on its way: {', '.join(passed)}."
            )
        wiring = _ProjectionWiring(method, unpool, signals)
        name = f"{at}.signal" if at else "projection"
        index = _check_index(index, signals[at], name)
        terms = self._from_above(at, index, signals, "signal", wiring, top)
        return Sum(name, index, float(signals[at][index]), tuple(terms))

    def _project(
        self, layer: str, feature: int, position: Any, method: str, unpool: str
    ) -> tuple[str, dict[str, Array]]:
        """Return the layer at which a projection starts, and its signals. The last is cached."""
        arguments = (layer, feature, str(position), method, unpool)
        if self._projection is None or self._projection[0] != arguments:
            top, signal = seed_signal(self.network, layer, feature, position)
            signals = backward_signals(self.network, top, signal, method, unpool)
            self._projection = arguments, top, signals
        return self._projection[1:]

    def _from_above(
        self,
        layer: str,
        index: Index,
        values: dict[str, Array],
        what: str,
        wiring: "_ProjectionWiring | Any",
        top: str | None = None,
    ) -> Iterator[tuple[Factor, ...]]:
        """Yield the products behind an entry of an error or signal, up to the next weights."""
        above = self._above(layer)
        if above is None:
            yield from self._from_cost(layer, index)
            return
        next_layer = self.network.layers[above]
        weights, shape = next_layer.weights, self.a[above].shape
        for slope, output in wiring(next_layer, above, index, self._shape(layer), shape):
            if weights:
                slope = slope.factor(f"{above}.w", weights["w"])
            factors = () if slope is None else (slope,)
            if weights or above == top:
                end = Factor(f"{above}.{what}", output, float(values[above][output]))
                yield (*factors, end)
            else:
                for rest in self._from_above(above, output, values, what, wiring, top):
                    yield (*factors, *rest)

    def _from_cost(self, layer: str, index: Index) -> Iterator[tuple[Factor, ...]]:
        """Yield the two products of the output error: (a - y) / n."""
        share = Factor("1/n", (), 1 / len(self._y))
        prediction = self.network.cost.prediction(self.a[layer])
        if prediction is None:
            error = self.network.cost.error(self.a[layer], self._y)
            yield share, Factor("dC_x/da", index, float(error[index]))
        else:
            yield share, Factor("a", index, float(prediction[index]))
            yield share, Factor("-y", index, -float(self._y[index]))

    def _weighted_layer(self, layer: str) -> Layer:
        weighted = [name for name in self._names if self.network.layers[name].weights]
        if layer not in weighted:
            raise Rot180Error(
                f"There is no layer '{layer}' with weights. There are: {suggest(weighted, layer)}."
            )
        return self.network.layers[layer]

    def _errors(self, layer: str) -> Array:
        if not self._delta:
            raise Rot180Error("There are no errors without labels: give labels to Trace.")
        if layer == "" and "" not in self._delta:
            first = self._names[0]
            self._delta[""] = self.network.layers[first].backward(self._delta[first]).copy()
        if layer not in self._delta:
            raise Rot180Error(f"There is no layer '{layer}': {suggest(self._names, layer)}.")
        return self._delta[layer]

    def _below(self, layer: str) -> tuple[str, Array]:
        """Return the name and the values of the activations below a layer."""
        position = self._names.index(layer)
        if position == 0:
            return "x", self.network.x
        below = self._names[position - 1]
        return f"{below}.a", self.a[below]

    def _above(self, layer: str) -> str | None:
        position = self._names.index(layer) + 1 if layer else 0
        return self._names[position] if position < len(self._names) else None

    def _shape(self, layer: str) -> tuple[int, ...]:
        shape: tuple[int, ...] = (self.a[layer] if layer else self.network.x).shape
        return shape


@dataclass(frozen=True)
class _ProjectionWiring:
    """The wiring of a projection, which differs from the error's at rectifiers and maxima."""

    method: str
    unpool: str
    signals: dict[str, Array]

    def __call__(
        self, layer: Layer, name: str, index: Index, below: tuple[int, ...], above: tuple[int, ...]
    ) -> Any:
        if isinstance(layer, ReLU):
            passes = 1.0
            if self.method != "deconvnet":
                passes *= float(layer.derivative()[index])
            if self.method != "gradient":
                passes *= float(self.signals[name][index] > 0)
            yield Factor(f"{name}.passes", index, passes), index
        elif isinstance(layer, MaxPool) and self.unpool == "repeat":
            for window, _ in windows_over(layer, index, above):
                yield None, window
        else:
            yield from outgoing(layer, name, index, below, above)


def _number(value: float) -> str:
    """Return a value as text with four digits, in brackets if it is negative."""
    return f"({value:.4g})" if value < 0 else f"{value + 0.0:.4g}"


def _check_index(index: Any, array: Array, name: str) -> Index:
    """Return an index of an array as a tuple of whole numbers.

    Raises:
        Rot180Error: there is no such entry.
    """
    index = tuple(index) if isinstance(index, tuple | list) else (index,)
    if len(index) != array.ndim or not all(
        isinstance(number, int | np.integer) and 0 <= number < size
        for number, size in zip(index, array.shape, strict=False)
    ):
        raise Rot180Error(f"{name} has no entry {list(index)}: it is of shape {array.shape}.")
    return tuple(int(number) for number in index)
