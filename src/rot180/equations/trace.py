"""The products behind one number: any entry of z, delta, a weight gradient or a projection.

For example:

    trace = Trace(network, images, labels)
    print(trace.delta("conv1", (0, 3, 2, 1)))

Every such number is a sum of products, and here it comes taken apart into them, with the names,
indices and values of the factors. The sum of the products is the number, up to rounding.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum, prod
from typing import Any

import numpy as np

from rot180.equations.activations import ReLU
from rot180.equations.convolution import Array
from rot180.equations.deconvnet import signals, start
from rot180.equations.layers import Layer
from rot180.equations.links import (
    Factor,
    Index,
    inputs_of,
    outputs_of,
    users_of,
    windows_over,
)
from rot180.equations.network import Network
from rot180.equations.pooling import MaxPool
from rot180.errors import Rot180Error, suggest


@dataclass(frozen=True)
class Sum:
    """A number as a sum of products.

    Attributes:
        name, index: which number it is.
        value: as the network computed it.
        terms: the products, each a tuple of factors.
    """

    name: str
    index: Index
    value: float
    terms: tuple[tuple[Factor, ...], ...]

    @property
    def total(self) -> float:
        """The sum of the products, which is the value up to rounding."""
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
        """Return the sum with names: w[0,0]*a[1,2] + …"""
        return " + ".join(symbol for symbol, _ in self.products()) or "0"

    def numbers(self) -> str:
        """Return the sum with values: 0.5*(-1.2) + …"""
        return " + ".join(number for _, number in self.products()) or "0"

    def __str__(self) -> str:
        head = Factor(self.name, self.index, self.value).symbol
        margin = " " * len(head)
        return (
            f"{head} = {self.symbols()}\n{margin} = {self.numbers()}\n{margin} = {self.value:.6g}"
        )


class Trace:
    """A batch that went through the five steps, kept so that its numbers can be taken apart.

    Indices start with the number of the image: (n, f, y, x), or (n, neuron). In the sums, a factor
    is called by what it is and the layer that it belongs to: "conv2.w", "conv2.delta", "pool1.a"
    (the output of pool1), "x" (the images), "relu1.slope" (f'(z)).

    Args:
        network: float64 for sums that are exact to 1e-15.
        x: images (n, c, h, w), or rows (n, inputs).
        labels: what the cost compares with; without them there are no errors and gradients.

    Example:
        >>> import numpy as np
        >>> from rot180.equations import Convolution, Dense, Flatten, Network, Trace
        >>> layers = {"conv": Convolution(1, 1, 2), "flat": Flatten(), "head": Dense(4, 2)}
        >>> trace = Trace(Network(layers), np.ones((1, 1, 3, 3)), labels=[1])
        >>> print(trace.delta("flat", (0, 3)).symbols())
        head.w[0,3]*head.delta[0,0] + head.w[1,3]*head.delta[0,1]
    """

    def __init__(self, network: Network, x: Array, labels: Any = None) -> None:
        self.network = copy.deepcopy(network)  # with the weights of this moment
        self.network.training(False)
        self.network.input(np.array(x))
        self.network.feed_forward()
        self._names = list(network.layers)
        self.a = {name: one.copy() for name, one in self.network.a.items()}
        self._delta: dict[str, Array] = {}
        self._walked: tuple[tuple[Any, ...], str, dict[str, Array]] | None = None
        self._gradients: dict[str, Array] = {}
        if labels is not None:
            self.network.output_error(labels)
            self.network.back_propagate()
            self._delta = {name: one.copy() for name, one in self.network.delta.items()}
            found = self.network.gradient()
            self._gradients = {name: one.copy() for name, one in found.items()}
            last = self._names[-1]
            self._y = self.network.cost.target(labels, self.a[last])

    def z(self, layer: str, index: Index) -> Sum:
        """Return z of a layer with weights: its weights times the activations below, and the bias.

        Raises:
            Rot180Error: there is no such layer, or no such entry in it.
        """
        one = self._with_weights(layer)
        whole = self.a[layer]
        index = _checked(index, whole, f"{layer}.z")
        name, a = self._below(layer)
        terms = [
            (weight.of(f"{layer}.w", one.weights["w"]), Factor(name, place, float(a[place])))
            for weight, place in inputs_of(one, index, a.shape)
        ]
        bias = Factor(f"{layer}.b", index[1:2], float(one.weights["b"][index[1]]))
        return Sum(f"{layer}.z", index, float(whole[index]), (*terms, (bias,)))

    def delta(self, layer: str, index: Index) -> Sum:
        """Return delta = dC/d(output) of a layer: down from the next weights, or from the cost.

        The empty name stands for the images: dC/dx, which no weight needs. Between two layers with
        weights, each product passes what lies between them: the slope of an activation, the switch
        of a maximum.

        Raises:
            Rot180Error: there is no such layer or entry, or there were no labels.
        """
        whole = self._errors(layer)
        index = _checked(index, whole, f"{layer}.delta")
        terms = self._from_above(layer, index, self._delta, "delta", outputs_of)
        name = f"{layer}.delta" if layer else "dC/dx"
        return Sum(name, index, float(whole[index]), tuple(terms))

    def weight_gradient(self, layer: str, index: Index) -> Sum:
        """Return dC/dw[index]: over all connections that share the weight, delta times a.

        Raises:
            Rot180Error: there is no such layer or entry, or there were no labels.
        """
        one = self._with_weights(layer)
        delta = self._errors(layer)
        index = _checked(index, one.weights["w"], f"{layer}.w")
        name, a = self._below(layer)
        terms = (
            (
                Factor(f"{layer}.delta", above, float(delta[above])),
                Factor(name, place, float(a[place])),
            )
            for above, place in users_of(one, index, a.shape, delta.shape)
        )
        value = float(self._gradients[f"{layer}.w"][index])
        return Sum(f"dC/d{layer}.w", index, value, tuple(terms))

    def bias_gradient(self, layer: str, index: Index) -> Sum:
        """Return dC/db[index]: the sum of the errors where the bias was added.

        Raises:
            Rot180Error: there is no such layer or entry, or there were no labels.
        """
        one = self._with_weights(layer)
        delta = self._errors(layer)
        index = _checked(index, one.weights["b"], f"{layer}.b")
        places = np.ndindex(delta.shape[0], *delta.shape[2:])
        terms = tuple(
            (Factor(f"{layer}.delta", at, float(delta[at])),)
            for at in ((n, *index, *position) for n, *position in places)
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
        """Return an entry of a projection, of the pixels or of the signal at a layer on the way.

        Args:
            layer, feature, position, method, unpool: see
                :func:`rot180.equations.deconvnet.project`.
            index: (n, c, y, x) of the entry.
            at: name of the layer whose output the entry belongs to; empty for the pixels.

        Raises:
            Rot180Error: there is no such thing.
        """
        top, found = self._walk(layer, feature, position, method, unpool)
        if at not in found or at == top:
            passed = [name or "'' (the pixels)" for name in found if name != top]
            raise Rot180Error(
                f"The projection of '{layer}' does not pass '{at}' on its way: {', '.join(passed)}."
            )
        rule = _Rule(method, unpool, found)
        name = f"{at}.signal" if at else "projection"
        index = _checked(index, found[at], name)
        terms = self._from_above(at, index, found, "signal", rule, top)
        return Sum(name, index, float(found[at][index]), tuple(terms))

    def _walk(
        self, layer: str, feature: int, position: Any, method: str, unpool: str
    ) -> tuple[str, dict[str, Array]]:
        """Return where a projection begins and its signals; the last one is kept."""
        asked = (layer, feature, str(position), method, unpool)
        if self._walked is None or self._walked[0] != asked:
            top, signal = start(self.network, layer, feature, position)
            found = signals(self.network, top, signal, method, unpool)
            self._walked = asked, top, found
        return self._walked[1:]

    def _from_above(
        self,
        layer: str,
        index: Index,
        values: dict[str, Array],
        what: str,
        rule: "_Rule | Any",
        top: str | None = None,
    ) -> Iterator[tuple[Factor, ...]]:
        """Yield the products that make an entry of an error or signal, up to the next weights."""
        above = self._above(layer)
        if above is None:
            yield from self._from_cost(layer, index)
            return
        one = self.network.layers[above]
        for factor, place in rule(one, above, index, self._shape(layer), self.a[above].shape):
            if one.weights:
                factor = factor.of(f"{above}.w", one.weights["w"])
            own = () if factor is None else (factor,)
            if one.weights or above == top:
                end = Factor(f"{above}.{what}", place, float(values[above][place]))
                yield (*own, end)
            else:
                for rest in self._from_above(above, place, values, what, rule, top):
                    yield (*own, *rest)

    def _from_cost(self, layer: str, index: Index) -> Iterator[tuple[Factor, ...]]:
        """Yield the two products of the output error: (a - y) / n."""
        share = Factor("1/n", (), 1 / len(self._y))
        reached = self.network.cost.reached(self.a[layer])
        if reached is None:
            error = self.network.cost.error(self.a[layer], self._y)
            yield share, Factor("dC_x/da", index, float(error[index]))
        else:
            yield share, Factor("a", index, float(reached[index]))
            yield share, Factor("-y", index, -float(self._y[index]))

    def _with_weights(self, layer: str) -> Layer:
        weighted = [name for name in self._names if self.network.layers[name].weights]
        if layer not in weighted:
            raise Rot180Error(
                f"There is no layer '{layer}' with weights. There are: {suggest(weighted, layer)}."
            )
        return self.network.layers[layer]

    def _errors(self, layer: str) -> Array:
        if not self._delta:
            raise Rot180Error("There are no errors without labels: give them to Trace.")
        if layer == "" and "" not in self._delta:
            first = self._names[0]
            self._delta[""] = self.network.layers[first].backward(self._delta[first]).copy()
        if layer not in self._delta:
            raise Rot180Error(f"There is no layer '{layer}': {suggest(self._names, layer)}.")
        return self._delta[layer]

    def _below(self, layer: str) -> tuple[str, Array]:
        """Return the activations below a layer, and what they are called."""
        place = self._names.index(layer)
        if place == 0:
            return "x", self.network.x
        below = self._names[place - 1]
        return f"{below}.a", self.a[below]

    def _above(self, layer: str) -> str | None:
        place = self._names.index(layer) + 1 if layer else 0
        return self._names[place] if place < len(self._names) else None

    def _shape(self, layer: str) -> tuple[int, ...]:
        shape: tuple[int, ...] = (self.a[layer] if layer else self.network.x).shape
        return shape


@dataclass(frozen=True)
class _Rule:
    """The way back of a projection: other factors than the error's at rectifiers and maxima."""

    method: str
    unpool: str
    found: dict[str, Array]

    def __call__(
        self, layer: Layer, name: str, index: Index, below: tuple[int, ...], above: tuple[int, ...]
    ) -> Any:
        if isinstance(layer, ReLU):
            passes = 1.0
            if self.method != "deconvnet":
                passes *= float(layer.derivative()[index])
            if self.method != "gradient":
                passes *= float(self.found[name][index] > 0)
            yield Factor(f"{name}.passes", index, passes), index
        elif isinstance(layer, MaxPool) and self.unpool == "repeat":
            for place, _ in windows_over(layer, index, above):
                yield None, place
        else:
            yield from outputs_of(layer, name, index, below, above)


def _number(value: float) -> str:
    """Write a value with four digits, in brackets if it is negative."""
    return f"({value:.4g})" if value < 0 else f"{value + 0.0:.4g}"


def _checked(index: Any, whole: Array, name: str) -> Index:
    """Return an index as whole numbers.

    Raises:
        Rot180Error: there is no such entry.
    """
    index = tuple(index) if isinstance(index, tuple | list) else (index,)
    if len(index) != whole.ndim or not all(
        isinstance(one, int | np.integer) and 0 <= one < size
        for one, size in zip(index, whole.shape, strict=False)
    ):
        raise Rot180Error(f"{name} has no entry {list(index)}: it is of shape {whole.shape}.")
    return tuple(int(one) for one in index)
