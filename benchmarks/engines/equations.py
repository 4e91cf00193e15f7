"""rot180's equations, with as many threads as asked for, as in ``rot180 train``."""

import numpy as np
from threadpoolctl import ThreadpoolController

from engines import MOMENTUM, RATE, Task
from rot180 import equations


class Engine:
    """The five steps on parts of the batch, side by side, and SGD."""

    def __init__(self, task: Task) -> None:
        dtype = task.images.dtype
        self.network = equations.Network(
            {
                "conv1": equations.Convolution(3, 32, 5, padding="same", dtype=dtype),
                "relu1": equations.ReLU(),
                "pool1": equations.MaxPool(2),
                "conv2": equations.Convolution(32, 64, 5, padding="same", dtype=dtype),
                "relu2": equations.ReLU(),
                "pool2": equations.MaxPool(2),
                "flatten": equations.Flatten(),
                "head": equations.Dense(4096, 10, dtype=dtype),
            }
        )
        self.network.load(task.weights)
        self.team = equations.DataParallel(self.network, threads=task.threads)
        self.optimizer = equations.SGD(RATE, MOMENTUM)
        self.blas = ThreadpoolController()
        self.x, self.labels = equations.channels_last(task.images), task.labels

    def forward_backward(self) -> float:
        """See :class:`engines.Engine`."""
        with self.blas.limit(limits=1, user_api="blas"):  # the team has the threads
            self.found = self.team.five_steps(self.x, self.labels)
        return self.found.cost

    def update(self) -> None:
        """See :class:`engines.Engine`."""
        self.optimizer.step(self.network.weights, self.found.gradients)

    def gradients(self) -> dict[str, np.ndarray]:
        """See :class:`engines.Engine`."""
        return self.found.gradients
