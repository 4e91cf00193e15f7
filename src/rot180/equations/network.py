"""The algorithm: input, feed-forward, output error, back-propagate, gradient; and training by it.

For images of 28x28 pixels and ten classes:

    network = Network({
        "conv1": Convolution(1, 8, 5), "relu1": ReLU(), "pool1": MaxPool(2),
        "flatten": Flatten(), "head": Dense(8 * 12 * 12, 10),
    })
    network.fit(images, labels, epochs=3)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rot180.equations.convolution import Array
from rot180.equations.costs import Cost, SoftmaxCrossEntropy
from rot180.equations.geometry import count_of, seed_of
from rot180.equations.layers import Dropout, Layer
from rot180.equations.optimizers import SGD, Optimizer
from rot180.equations.team import Team, hits
from rot180.errors import Rot180Error, suggest

Arrays = dict[str, Array]
"""Weights or gradients by name: "conv1.w", "conv1.b", …"""


class _Weights(Arrays):
    """The very arrays of a network's layers: what is assigned is copied into them."""

    def __setitem__(self, name: str, values: Array) -> None:
        self[name][...] = values


class Network:
    """Layers one after the other, and a cost.

    After :meth:`feed_forward`, ``a[name]`` is each layer's output; after :meth:`back_propagate`,
    ``delta[name]`` is dC/d(that output). Both lie in buffers that the next batch writes over.

    Args:
        layers: by name, from the first to the last; without names they are called "dense1",
            "convolution2", …
        cost: softmax and cross-entropy if not given.

    Example:
        >>> import numpy as np
        >>> from rot180.equations import Convolution, Dense, Flatten, Network, ReLU
        >>> network = Network([Convolution(1, 4, 3), ReLU(), Flatten(), Dense(4 * 4 * 4, 2)])
        >>> images = np.random.default_rng(0).normal(size=(100, 1, 6, 6))
        >>> labels = (images.mean((1, 2, 3)) > 0).astype(int)
        >>> history = network.fit(images, labels, epochs=10)
        >>> network.accuracy(images, labels) > 0.9
        True
    """

    def __init__(
        self, layers: Mapping[str, Layer] | Sequence[Layer], cost: Cost | None = None
    ) -> None:
        if not isinstance(layers, Mapping):
            layers = {f"{type(one).__name__.lower()}{k}": one for k, one in enumerate(layers, 1)}
        self.layers = _checked(layers)
        self.cost = cost if cost is not None else SoftmaxCrossEntropy()
        if not isinstance(self.cost, Cost):
            raise Rot180Error(f"The cost is an object like Quadratic(), not {self.cost!r}.")
        for place, one in enumerate(self.layers.values()):
            one.draw(place)
        self.x: Array = np.zeros(0)
        self.a: Arrays = {}
        self.delta: Arrays = {}

    @property
    def weights(self) -> Arrays:
        """All weights and biases by name; changing them changes the network."""
        return _Weights(
            {
                f"{name}.{kind}": one
                for name, layer in self.layers.items()
                for kind, one in layer.weights.items()
            }
        )

    def load(self, weights: Mapping[str, Any]) -> None:
        """Copy weights into the network.

        Raises:
            Rot180Error: names or shapes are not those of this network.
        """
        own = self.weights
        for name in [*own, *weights]:
            shapes = [np.shape(x[name]) if name in x else "missing" for x in (own, weights)]
            if shapes[0] != shapes[1]:
                raise Rot180Error(
                    f"The weights '{name}' are {shapes[1]}; in this network they are {shapes[0]}. "
                    f"It has {suggest(own, name)}."
                )
        for name, one in weights.items():
            own[name][...] = one

    # The five steps.

    def input(self, x: Array) -> None:
        """Step 1, input: a batch of images (n, c, h, w), or of rows (n, inputs).

        Raises:
            Rot180Error: it is no array of numbers, or an empty one.
        """
        x = np.asarray(x)
        if x.dtype.kind not in "iuf" or x.ndim < 2 or not x.size:
            raise Rot180Error(
                f"The input has to be numbers (images, …), one image at least; this one is of "
                f"shape {x.shape} and type {x.dtype}."
            )
        self.x, self.a, self.delta = Layer.floating(x), {}, {}

    def feed_forward(self) -> Array:
        """Step 2, feed-forward: each layer makes its output of the one below.

        Raises:
            Rot180Error: a layer cannot take what comes from below; the message names it.
        """
        a = self.x
        with np.errstate(invalid="ignore", over="ignore"):  # step 3 says where it began
            for name, layer in self.layers.items():
                try:
                    a = self.a[name] = layer.forward(a)
                except Rot180Error as error:
                    raise Rot180Error(f"Layer '{name}': {error}") from error
        return a

    def output_error(self, labels: Any, images: int | None = None) -> Array:
        """Step 3, output error: dC/d(output), where the cost is the mean over images.

        Args:
            labels: one class number an image, or what the output should be.
            images: how many the mean is over; those of this batch if not given.

        Returns:
            (n,) the cost of each image.

        Raises:
            Rot180Error: labels that do not fit, or a cost that is not finite.
        """
        last = self._last(self.a, "feed_forward")
        y = self.cost.target(labels, self.a[last])
        with np.errstate(invalid="ignore", over="ignore"):
            costs = self.cost.of(self.a[last], y)
        if not np.isfinite(costs).all():
            raise Rot180Error(self._not_finite())
        self.delta[last] = self.cost.error(self.a[last], y) / (images or len(y))
        return costs

    def back_propagate(self) -> None:
        """Step 4, back-propagate: each layer hands the error of its output to the one below.

        The first layer does not: nobody needs the error of the image itself.
        """
        self._last(self.delta, "output_error")
        names = list(self.layers)
        for below, name in zip(reversed(names[:-1]), reversed(names[1:]), strict=True):
            self.delta[below] = self.layers[name].backward(self.delta[name])

    def gradient(self) -> Arrays:
        """Step 5, gradient: dC/dw and dC/db of each layer, of its input and its error."""
        return {
            f"{name}.{kind}": one
            for name, layer in self.layers.items()
            for kind, one in layer.gradient(self.delta[name]).items()
        }

    def five_steps(self, x: Array, labels: Any, images: int | None = None) -> tuple[Array, Arrays]:
        """Return the cost of each image (n,) and the gradients of the mean cost by name.

        The gradients lie in buffers that the next batch writes over.
        """
        self.input(x)
        self.feed_forward()
        costs = self.output_error(labels, images)
        self.back_propagate()
        return costs, self.gradient()

    # What the steps are for.

    def scores(self, x: Array, part: int = 64) -> Array:
        """Return the output for images of any number, ``part`` at a time; nothing is dropped."""
        self.training(False)
        self.input(x)
        part, outputs = count_of(part, "images in a part"), []
        for one in parts(len(x), part):
            self.input(x[one])
            outputs.append(self.feed_forward().copy())
        return np.concatenate(outputs)

    def accuracy(self, x: Array, labels: Any) -> float:
        """Return the share of images whose class has the largest score.

        Raises:
            Rot180Error: labels that do not fit.
        """
        scores = self.scores(x)
        return hits(scores, self.cost.check(labels, scores.shape)) / len(scores)

    def fit(
        self,
        x: Array,
        labels: Array,
        *,
        epochs: int = 1,
        batch: int = 32,
        optimizer: Optimizer | None = None,
        seed: int = 0,
        threads: int = 1,
        told: Callable[[int, float, float], None] | None = None,
    ) -> list[dict[str, float]]:
        """Train on images in random order, and return what was reached in each epoch.

        Args:
            x: (images, …).
            labels: one class number an image, or what the output should be.
            epochs: how often to go through the images.
            batch: images in a step; the last batch of an epoch may be smaller.
            optimizer: momentum with rate 0.01 if not given.
            seed: of the order.
            threads: that share a batch, see :class:`rot180.equations.team.Team`.
            told: called after each epoch with its number, mean cost and accuracy.

        Returns:
            For each epoch "epoch", "cost" (the mean) and "accuracy" (the share of right classes;
            not a number where the output is not (images, classes)).

        Raises:
            Rot180Error: labels that do not fit, or a cost that is no longer finite.
        """
        epochs, batch = count_of(epochs, "epochs"), count_of(batch, "images in a batch")
        self.input(x)
        x = self.x
        above = self.scores(x[:1]).shape[1:]
        labels = self.cost.check(labels, (len(x), *above))
        bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(1))
        if len(bad):
            raise Rot180Error(f"Image {bad[0]} holds values that are not finite ({len(bad)} do).")
        optimizer = optimizer if optimizer is not None else SGD(0.01, momentum=0.9)
        if not isinstance(optimizer, Optimizer):
            raise Rot180Error(f"The optimizer is an object like Adam(), not {optimizer!r}.")
        rng, history = np.random.default_rng(seed_of(seed)), []
        with Team(self, threads=threads, seed=seed) as team:
            for epoch in range(1, epochs + 1):
                cost, right, order = 0.0, 0.0, rng.permutation(len(x))
                for one in parts(len(x), batch):
                    found = team.five_steps(x[order[one]], labels[order[one]])
                    optimizer.step(self.weights, found.gradients)
                    cost, right = cost + found.cost * found.images, right + found.right
                history.append({"epoch": epoch, "cost": cost / len(x), "accuracy": right / len(x)})
                if told is not None:
                    told(epoch, cost / len(x), right / len(x))
        return history

    def training(self, wanted: bool) -> None:
        """Say whether dropout drops."""
        for layer in self.layers.values():
            if isinstance(layer, Dropout):
                layer.training = wanted

    def twin(self) -> "Network":
        """Return a network with the same weights, the very same arrays, and its own buffers."""
        return Network({name: one.twin() for name, one in self.layers.items()}, self.cost)

    def _last(self, found: Arrays, step: str) -> str:
        """Return the name of the last layer, once the step before has been taken."""
        last = next(reversed(self.layers))
        if last not in found:
            raise Rot180Error(f"The five steps go one after the other: call {step} first.")
        return last

    def _not_finite(self) -> str:
        """Say which values are the first that are not finite, from the images upwards."""
        suspects = [("the images", self.x)]
        for name, layer in self.layers.items():
            suspects += [(f"the weights '{name}.{kind}'", w) for kind, w in layer.weights.items()]
            suspects.append((f"the output of '{name}'", self.a[name]))
        for what, one in suspects:
            bad = np.argwhere(~np.isfinite(one))
            if len(bad):
                where = ", ".join(map(str, bad[0]))
                training = "If this came while training, lower the learning rate."
                return (
                    f"The cost is not finite. The first values that are not: {what}, entry "
                    f"[{where}] = {one[tuple(bad[0])]} ({len(bad)} of {one.size}). "
                    + ("Look at the data." if one is self.x else training)
                )
        return "The cost is not finite although all outputs are: they are too large for it."


def _checked(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return the layers, if each is one, and stands in one place only.

    Raises:
        Rot180Error: otherwise; a layer in two places would forget the first on its second pass.
    """
    if not layers:
        raise Rot180Error("A network needs one layer at least.")
    seen: dict[int, str] = {}
    for name, one in layers.items():
        if not isinstance(one, Layer):
            raise Rot180Error(f"Layer '{name}' is an object like ReLU(), not {one!r}.")
        if id(one) in seen:
            raise Rot180Error(
                f"'{seen[id(one)]}' and '{name}' are the same layer object: make two of them."
            )
        seen[id(one)] = name
    return dict(layers)


def parts(count: int, size: int) -> Iterator[slice]:
    """Cut ``count`` things into parts of ``size``; the last one may be smaller."""
    return (slice(first, min(first + size, count)) for first in range(0, count, size))
