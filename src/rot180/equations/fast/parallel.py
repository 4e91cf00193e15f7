"""The five steps on parts of a batch: small enough for the processor's cache, and on threads.

The gradient of a batch is the sum of the gradients of its parts. So a batch need not go through the
network at once: a micro-batch of few images takes all five steps while its arrays are still in the
cache, and threads take micro-batches side by side, since NumPy releases Python's lock while it
computes.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from rot180.equations.convolution import Array
from rot180.equations.costs import count_correct
from rot180.equations.layers import Dropout
from rot180.equations.network import Network
from rot180.equations.padding import check_count, check_seed


@dataclass
class BatchResult:
    """The result of the five steps on a batch.

    Attributes:
        gradients: gradients of the mean cost, by the names of the weights.
        cost: mean cost of the images.
        correct: number of images whose largest output is at their class; not a number if the
            output is not (images, classes).
        images: number of images.
    """

    gradients: dict[str, Array]
    cost: float
    correct: float
    images: int


class DataParallel:
    """Threads that share the batches of one network; to be used in a ``with`` statement.

    With several threads the matrix products should not use threads of their own: set
    ``OPENBLAS_NUM_THREADS=1`` (or ``MKL_NUM_THREADS``) before Python starts, or use threadpoolctl.
    The number of threads changes the result by rounding only, and the order in which they finish
    does not change it.

    Args:
        network: the network whose weights are read; each thread has a replica of its own.
        threads: number of threads.
        micro_batch: number of images that take the five steps together.
        seed: seed of dropout, which draws anew for each micro-batch of each batch.
    """

    def __init__(
        self, network: Network, threads: int = 1, micro_batch: int = 16, seed: int = 0
    ) -> None:
        threads = check_count(threads, "threads")
        self.micro_batch = check_count(micro_batch, "images in a micro-batch")
        self.seed, self.steps = check_seed(seed), 0
        self._replicas = [network.replica() for _ in range(threads)]
        for replica in self._replicas:
            replica.set_training(True)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._sums: list[dict[str, Array]] = [
            {name: np.empty_like(w) for name, w in network.weights.items()} for _ in range(threads)
        ]

    def __enter__(self) -> "DataParallel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def five_steps(self, x: Array, labels: Array) -> BatchResult:
        """Return gradients, cost and correct images of a batch; the next batch overwrites them.

        Raises:
            Rot180Error: there are no images; see also
                :meth:`rot180.equations.Network.output_error`.
        """
        self._replicas[0].input(x)
        x = self._replicas[0].x
        apply: Callable[..., Any] = map if self._pool is None else self._pool.map
        threads = range(len(self._replicas))
        results = list(apply(lambda thread: self._share(thread, x, labels), threads))
        self.steps += 1
        total = self._sums[0]
        for sums in self._sums[1:]:
            for name, gradient in sums.items():
                total[name] += gradient
        cost = sum(cost for cost, _ in results) / len(x)
        return BatchResult(total, cost, sum(correct for _, correct in results), len(x))

    def _share(self, thread: int, x: Array, labels: Array) -> tuple[float, float]:
        """Take every n-th micro-batch, for n threads, and add up its gradients, cost and hits."""
        network, total = self._replicas[thread], self._sums[thread]
        for gradient in total.values():
            gradient.fill(0)
        cost, correct = 0.0, 0.0
        stride = self.micro_batch * len(self._replicas)
        for first in range(thread * self.micro_batch, len(x), stride):
            images = slice(first, first + self.micro_batch)
            for position, layer in enumerate(network.layers.values()):
                if isinstance(layer, Dropout):
                    key = (self.seed, self.steps, first, position)
                    layer.set_rng(np.random.default_rng(key))
            costs, gradients = network.five_steps(x[images], labels[images], len(x))
            for name, gradient in gradients.items():
                total[name] += gradient
            cost += float(costs.sum())
            correct += count_correct(network.a[next(reversed(network.layers))], labels[images])
        return cost, correct
