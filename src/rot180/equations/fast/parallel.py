"""A batch shared out: among parts that fit into the processor's cache, and among threads.

The gradient of a batch is the sum of the gradients of its parts. So a batch need not go through the
network at once: a part of few images takes all five steps while its arrays are still in the cache,
and several threads can take parts side by side, since NumPy lets go of Python while it computes.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rot180.equations.convolution import Array
from rot180.equations.layers import Dropout
from rot180.equations.padding import check_count, check_seed

if TYPE_CHECKING:
    from rot180.equations.network import Network


@dataclass
class BatchResult:
    """What a batch has given.

    Attributes:
        gradients: of the mean cost, by the names of the weights.
        cost: mean over the images.
        right: images whose largest output is in the place of their class; not a number where the
            output is not (images, classes).
        images: their number.
    """

    gradients: dict[str, Array]
    cost: float
    right: float
    images: int


class DataParallel:
    """Threads that share the batches of one network; use it in a ``with`` statement.

    With several threads the matrix products themselves should not use any: set
    ``OPENBLAS_NUM_THREADS=1`` (or ``MKL_NUM_THREADS``) before Python starts, or use threadpoolctl.
    The result depends on the number of threads by rounding only, and not on their order.

    Args:
        network: whose weights are read; each thread has its own buffers.
        threads: how many.
        part: images that take the five steps together.
        seed: of what dropout drops; it is drawn anew for each part of each batch.
    """

    def __init__(self, network: "Network", threads: int = 1, part: int = 16, seed: int = 0) -> None:
        threads, self.part = check_count(threads, "threads"), check_count(part, "images in a part")
        self.seed, self.steps = check_seed(seed), 0
        self._members = [network.replica() for _ in range(threads)]
        for one in self._members:
            one.training(True)
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
        """Return gradients, cost and count_correct of a batch; the gradients lie in buffers.

        Raises:
            Rot180Error: no images, or as :meth:`rot180.equations.Network.output_error`.
        """
        self._members[0].input(x)
        x = self._members[0].x
        walk: Callable[..., Any] = map if self._pool is None else self._pool.map
        found = list(walk(lambda number: self._share(number, x, labels), range(len(self._members))))
        self.steps += 1
        total = self._sums[0]
        for other in self._sums[1:]:
            for name, one in other.items():
                total[name] += one
        return BatchResult(
            total, sum(cost for cost, _ in found) / len(x), sum(right for _, right in found), len(x)
        )

    def _share(self, number: int, x: Array, labels: Array) -> tuple[float, float]:
        """Let one thread take every part whose turn it is; its gradients go into its own sums."""
        network, total = self._members[number], self._sums[number]
        for one in total.values():
            one.fill(0)
        cost, right = 0.0, 0.0
        for first in range(number * self.part, len(x), self.part * len(self._members)):
            part = slice(first, first + self.part)
            for place, layer in enumerate(network.layers.values()):
                if isinstance(layer, Dropout):
                    key = (self.seed, self.steps, first, place)
                    layer.set_rng(np.random.default_rng(key))
            costs, gradients = network.five_steps(x[part], labels[part], len(x))
            for name, one in gradients.items():
                total[name] += one
            cost += float(costs.sum())
            right += count_correct(network.a[next(reversed(network.layers))], labels[part])
        return cost, right


def count_correct(output: Array, labels: Array) -> float:
    """Return how many images have their largest output in the place of their class.

    Not a number where there are no classes: the output is not (images, classes), or has one column.
    """
    if output.ndim != 2 or output.shape[1] < 2:
        return float("nan")
    classes = labels if labels.ndim == 1 else labels.argmax(-1)
    return float((output.argmax(-1) == classes).sum())
