"""A network with every kind of layer, and traces of it."""

from functools import cache

import numpy as np
from hypothesis import strategies as st

from rot180.equations import (
    AveragePool,
    Convolution,
    Cost,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    Network,
    Quadratic,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
)
from rot180.equations.trace import Trace
from tests.equations.cases import Array, normal

COSTS = {
    "softmax": SoftmaxCrossEntropy(),
    "smoothed": SoftmaxCrossEntropy(0.2),
    "quadratic": Quadratic(),
}
WEIGHTED = ["conv1", "conv2", "conv3", "dense1", "dense2"]
places = st.lists(st.integers(0, 999), min_size=5, max_size=5)


def everything(cost: Cost) -> Network:
    """Return a network with every kind of layer, overlapping windows and uneven padding."""
    network = Network(
        {
            "conv1": Convolution(2, 4, (3, 2), (1, 2), ((1, 0), (2, 1)), 2, "convolution"),
            "relu1": ReLU(),
            "pool1": MaxPool((3, 2), (2, 1), ((1, 0), (0, 1))),
            "drop1": Dropout(0.5),
            "conv2": Convolution(4, 6, (2, 3), (1, 2), ((0, 1), (2, 0)), 2),
            "tanh2": Tanh(),
            "mean2": AveragePool((2, 3), (1, 2), ((1, 0), (1, 1))),
            "conv3": Convolution(6, 4, 2, padding="full", operation="convolution"),
            "relu3": ReLU(),
            "pool3": MaxPool(2),
            "flatten": Flatten(),
            "dense1": Dense(8, 5),
            "sigmoid": Sigmoid(),
            "drop2": Dropout(0.3),
            "dense2": Dense(5, 3),
            "last": Tanh(),
        },
        cost,
    )
    rng = np.random.default_rng(7)
    for w in network.weights.values():
        w[...] = rng.normal(0, 0.6, w.shape)
    return network


IMAGES = normal(2, 2, 9, 8, seed=3)
LABELS = {"softmax": [2, 0], "smoothed": [1, 1], "quadratic": normal(2, 3, seed=4)}


@cache
def traced(cost: str) -> tuple[Trace, Network, dict[str, Array]]:
    """Return a trace, an equal network that took the five steps, and its gradients."""
    network = everything(COSTS[cost])
    trace = Trace(network, IMAGES, LABELS[cost])
    _, gradients = network.five_steps(IMAGES, LABELS[cost])
    return trace, network, gradients


@cache
def fed() -> Network:
    """Return a network after its forward pass, for projections, which overwrite the errors."""
    network = everything(SoftmaxCrossEntropy())
    network.scores(IMAGES)
    return network


def within(whole: Array, place: list[int]) -> tuple[int, ...]:
    """Return the index of an entry of an array."""
    return tuple(number % size for number, size in zip(place, whole.shape, strict=False))
