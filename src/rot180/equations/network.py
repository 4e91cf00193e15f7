"""The five steps of back-propagation: input, feed-forward, output error, back-propagate, gradient.

A network for images of 28x28 pixels and ten classes, and one batch:

    network = Network({
        "conv1": Convolution(1, 8, 5), "relu1": ReLU(), "pool1": MaxPool(2),
        "flatten": Flatten(), "head": Dense(8 * 12 * 12, 10),
    })
    costs, gradients = network.five_steps(images, labels)

:func:`rot180.equations.fit` trains it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rot180.equations.convolution import Array
from rot180.equations.costs import Cost, SoftmaxCrossEntropy, count_correct
from rot180.equations.layers import Dropout, Layer, as_floats
from rot180.equations.padding import check_count
from rot180.errors import Rot180Error, suggest

Arrays = dict[str, Array]
"""Weights or gradients by name: "conv1.w", "conv1.b", …"""


class _Weights(Arrays):
    """The weight arrays of a network; an assignment copies values into them."""

    def __setitem__(self, name: str, values: Array) -> None:
        self[name][...] = values


class Network:
    """A sequence of layers, and a cost.

    After :meth:`feed_forward`, ``a[name]`` is the output of each layer; after
    :meth:`back_propagate`, ``delta[name]`` is dC/d(that output). The next batch may overwrite both.

    Args:
        layers: the layers by name, from the first to the last; layers without names are called
            "dense1", "convolution2", …
        cost: the cost; softmax and cross-entropy if not given.

    Example:
        >>> import numpy as np
        >>> from rot180.equations import Convolution, Dense, Flatten, Network, ReLU
        >>> network = Network([Convolution(1, 4, 3), ReLU(), Flatten(), Dense(4 * 4 * 4, 2)])
        >>> images = np.random.default_rng(0).normal(size=(100, 1, 6, 6))
        >>> costs, gradients = network.five_steps(images, labels=np.arange(100) % 2)
        >>> costs.shape, sorted(gradients)
        ((100,), ['convolution1.b', 'convolution1.w', 'dense4.b', 'dense4.w'])
    """

    def __init__(
        self, layers: Mapping[str, Layer] | Sequence[Layer], cost: Cost | None = None
    ) -> None:
        if not isinstance(layers, Mapping):
            layers = {
                f"{type(layer).__name__.lower()}{k}": layer for k, layer in enumerate(layers, 1)
            }
        self.layers = _check_layers(layers)
        self.cost = cost if cost is not None else SoftmaxCrossEntropy()
        if not isinstance(self.cost, Cost):
            raise Rot180Error(f"The cost is an object like Quadratic(), not {self.cost!r}.")
        for position, layer in enumerate(self.layers.values()):
            layer.init_weights(position)
        self.x: Array = np.zeros(0)
        self.a: Arrays = {}
        self.delta: Arrays = {}

    @property
    def weights(self) -> Arrays:
        """All weights and biases by name; changes to them change the network."""
        return _Weights(
            {
                f"{name}.{kind}": array
                for name, layer in self.layers.items()
                for kind, array in layer.weights.items()
            }
        )

    def load(self, weights: Mapping[str, Any]) -> None:
        """Copy weights into the network.

        Raises:
            Rot180Error: a name or a shape is not that of this network.
        """
        own = self.weights
        for name in [*own, *weights]:
            shapes = [np.shape(x[name]) if name in x else "missing" for x in (own, weights)]
            if shapes[0] != shapes[1]:
                raise Rot180Error(
                    f"The weights '{name}' are {shapes[1]}; in this network they are {shapes[0]}. "
                    f"It has {suggest(own, name)}."
                )
        for name, values in weights.items():
            own[name][...] = values

    # The five steps.

    def input(self, x: Array) -> None:
        """Step 1, input: take a batch of images (n, c, h, w), or of rows (n, inputs).

        Raises:
            Rot180Error: x is not an array of numbers, or is empty.
        """
        x = np.asarray(x)
        if x.dtype.kind not in "iuf" or x.ndim < 2 or not x.size:
            raise Rot180Error(
                f"The input has to be numbers (images, …), one image at least; this one is of "
                f"shape {x.shape} and type {x.dtype}."
            )
        self.x, self.a, self.delta = as_floats(x), {}, {}

    def feed_forward(self) -> Array:
        """Step 2, feed-forward: each layer computes its output from that of the layer below.

        Raises:
            Rot180Error: a layer cannot take the output of the layer below; the message names it.
        """
        a = self.x
        with np.errstate(invalid="ignore", over="ignore"):  # step 3 reports where it started
            for name, layer in self.layers.items():
                try:
                    a = self.a[name] = layer.forward(a)
                except Rot180Error as error:
                    raise Rot180Error(f"Layer '{name}': {error}") from error
        return a

    def output_error(self, labels: Any, images: int | None = None) -> Array:
        """Step 3, output error: compute dC/d(output), where C is the mean cost of the images.

        Args:
            labels: one class number per image, or the desired output.
            images: number of images in the mean; the size of this batch if not given.

        Returns:
            (n,), the cost of each image.

        Raises:
            Rot180Error: the labels do not match, or a cost is not finite.
        """
        last = self._last_layer(self.a, "feed_forward")
        y = self.cost.target(labels, self.a[last])
        with np.errstate(invalid="ignore", over="ignore"):
            costs = self.cost.per_image(self.a[last], y)
        if not np.isfinite(costs).all():
            raise Rot180Error(self._explain_infinite_cost())
        self.delta[last] = self.cost.error(self.a[last], y) / (images or len(y))
        return costs

    def back_propagate(self) -> None:
        """Step 4, back-propagate: each layer passes the error of its output to the layer below.

        The first layer does not: no weight needs the error of the image.
        """
        self._last_layer(self.delta, "output_error")
        names = list(self.layers)
        for below, name in zip(reversed(names[:-1]), reversed(names[1:]), strict=True):
            self.delta[below] = self.layers[name].backward(self.delta[name])

    def gradient(self) -> Arrays:
        """Step 5, gradient: each layer computes dC/dw and dC/db from its input and its error."""
        return {
            f"{name}.{kind}": array
            for name, layer in self.layers.items()
            for kind, array in layer.gradient(self.delta[name]).items()
        }

    def five_steps(self, x: Array, labels: Any, images: int | None = None) -> tuple[Array, Arrays]:
        """Return the cost of each image (n,), and the gradients of the mean cost by name.

        The next batch may overwrite the gradients.
        """
        self.input(x)
        self.feed_forward()
        costs = self.output_error(labels, images)
        self.back_propagate()
        return costs, self.gradient()

    # What the steps are for.

    def scores(self, x: Array, batch: int = 64) -> Array:
        """Return the output for any number of images, without dropout.

        Args:
            x: (images, …).
            batch: number of images that go forward together.
        """
        self.set_training(False)
        self.input(x)
        batch, outputs = check_count(batch, "images in a batch"), []
        for images in batches(len(x), batch):
            self.input(x[images])
            outputs.append(self.feed_forward().copy())
        return np.concatenate(outputs)

    def accuracy(self, x: Array, labels: Any) -> float:
        """Return the fraction of images whose class has the largest score.

        Raises:
            Rot180Error: the labels do not match.
        """
        scores = self.scores(x)
        return count_correct(scores, self.cost.check(labels, scores.shape)) / len(scores)

    def set_training(self, training: bool) -> None:
        """Switch dropout on or off."""
        for layer in self.layers.values():
            if isinstance(layer, Dropout):
                layer.training = training

    def replica(self) -> "Network":
        """Return a network that shares the weight arrays and nothing else."""
        return Network({name: layer.replica() for name, layer in self.layers.items()}, self.cost)

    def _last_layer(self, arrays: Arrays, step: str) -> str:
        """Return the name of the last layer, if the step before has filled its array."""
        last = next(reversed(self.layers))
        if last not in arrays:
            raise Rot180Error(f"The five steps have an order: call {step} first.")
        return last

    def _explain_infinite_cost(self) -> str:
        """Return a sentence about the first values that are not finite, from the images upwards."""
        suspects = [("the images", self.x)]
        for name, layer in self.layers.items():
            suspects += [(f"the weights '{name}.{kind}'", w) for kind, w in layer.weights.items()]
            suspects.append((f"the output of '{name}'", self.a[name]))
        for what, values in suspects:
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                where = ", ".join(map(str, bad[0]))
                training = "If this happened in training, lower the learning rate."
                return (
                    f"The cost is not finite. The first values that are not: {what}, entry "
                    f"[{where}] = {values[tuple(bad[0])]} ({len(bad)} of {values.size}). "
                    + ("Look at the data." if values is self.x else training)
                )
        return "The cost is not finite although all outputs are: they are too large for it."


def _check_layers(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return the layers, if each is a layer and has one position.

    Raises:
        Rot180Error: otherwise. A layer remembers one forward pass, so it cannot have two positions.
    """
    if not layers:
        raise Rot180Error("A network needs one layer at least.")
    names: dict[int, str] = {}
    for name, layer in layers.items():
        if not isinstance(layer, Layer):
            raise Rot180Error(f"Layer '{name}' is an object like ReLU(), not {layer!r}.")
        if id(layer) in names:
            raise Rot180Error(
                f"'{names[id(layer)]}' and '{name}' are the same layer object: make two of them."
            )
        names[id(layer)] = name
    return dict(layers)


def batches(count: int, size: int) -> Iterator[slice]:
    """Return slices that cut ``count`` items into batches of ``size``; the last may be smaller."""
    return (slice(first, min(first + size, count)) for first in range(0, count, size))
