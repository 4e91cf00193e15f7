"""Training a network by gradient descent on batches in random order."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rot180.equations.convolution import Array
from rot180.equations.fast.parallel import DataParallel
from rot180.equations.network import Network, batches
from rot180.equations.optimizers import SGD, Optimizer
from rot180.equations.padding import check_count, check_seed
from rot180.errors import Rot180Error


def fit(
    network: Network,
    x: Array,
    labels: Any,
    *,
    epochs: int = 1,
    batch: int = 32,
    optimizer: Optimizer | None = None,
    seed: int = 0,
    threads: int = 1,
    on_epoch: Callable[[int, float, float], None] | None = None,
) -> list[dict[str, float]]:
    """Train a network on images in random order, and return the history of its epochs.

    Args:
        network: the network; its weights change in place.
        x: (images, …).
        labels: one class number per image, or the desired output.
        epochs: number of passes over the images.
        batch: number of images in a step; the last batch of an epoch may be smaller.
        optimizer: the optimizer; momentum with rate 0.01 if not given.
        seed: seed of the order of the images, and of dropout.
        threads: number of threads that share a batch, see
            :class:`rot180.equations.DataParallel`.
        on_epoch: function that is called after each epoch with its number, mean cost and accuracy.

    Returns:
        For each epoch "epoch", "cost" (the mean) and "accuracy" (the fraction of images whose class
        has the largest output; not a number if the output is not (images, classes)).

    Raises:
        Rot180Error: the labels do not match, or a cost is not finite.

    Example:
        >>> import numpy as np
        >>> from rot180.equations import Convolution, Dense, Flatten, Network, ReLU, fit
        >>> network = Network([Convolution(1, 4, 3), ReLU(), Flatten(), Dense(4 * 4 * 4, 2)])
        >>> images = np.random.default_rng(0).normal(size=(100, 1, 6, 6))
        >>> labels = (images.mean((1, 2, 3)) > 0).astype(int)
        >>> history = fit(network, images, labels, epochs=10)
        >>> network.accuracy(images, labels) > 0.9
        True
    """
    epochs, batch = check_count(epochs, "epochs"), check_count(batch, "images in a batch")
    network.input(x)
    x = network.x
    output_shape = network.scores(x[:1]).shape[1:]
    labels = network.cost.check(labels, (len(x), *output_shape))
    bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(1))
    if len(bad):
        raise Rot180Error(f"Image {bad[0]} holds values that are not finite ({len(bad)} do).")
    optimizer = optimizer if optimizer is not None else SGD(0.01, momentum=0.9)
    if not isinstance(optimizer, Optimizer):
        raise Rot180Error(f"The optimizer is an object like Adam(), not {optimizer!r}.")
    rng, history = np.random.default_rng(check_seed(seed)), []
    with DataParallel(network, threads=threads, seed=seed) as parallel:
        for epoch in range(1, epochs + 1):
            cost, correct, order = 0.0, 0.0, rng.permutation(len(x))
            for positions in batches(len(x), batch):
                images = order[positions]
                result = parallel.five_steps(x[images], labels[images])
                optimizer.step(network.weights, result.gradients)
                cost += result.cost * result.images
                correct += result.correct
            cost, accuracy = cost / len(x), correct / len(x)
            history.append({"epoch": epoch, "cost": cost, "accuracy": accuracy})
            if on_epoch is not None:
                on_epoch(epoch, cost, accuracy)
    return history
