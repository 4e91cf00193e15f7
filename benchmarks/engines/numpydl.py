"""NumpyDL (PyPI: npdl 0.4.0.1), which loops over images, features and positions in Python.

It runs under NumPy 2 as it is. What differs from the other engines:

- Its convolutions know no padding. The images come with their border of zeros, and a layer written
  here puts one around the maps before the second convolution.
- Its max pooling takes windows that lie one apart, not two (``input[h:h + 2]`` for the h-th), and
  hands back the error of another row (``pre_grad[a, b, a, w]``). So its gradients are others than
  those of the network, and are not compared. The amount of work is the same.
- That row is numbered by the image, so a batch with more images than the last map has rows, which
  are 8, ends in an IndexError. A batch of 8 is the largest it takes.
- The gradient of its dense weights is the sum over the batch, not the mean.
"""

import io

import npdl
import numpy as np

from engines import MOMENTUM, RATE, Task

MOST_IMAGES = 8


class Padding(npdl.layers.Layer):
    """A border of zeros, two wide."""

    def connect_to(self, prev_layer: npdl.layers.Layer) -> None:
        """Take the shape of the layer below."""
        *before, h, w = prev_layer.out_shape
        self.out_shape = (*before, h + 4, w + 4)

    def forward(self, input: np.ndarray, *_: object, **__: object) -> np.ndarray:
        """Put the border around."""
        return np.pad(input, ((0, 0), (0, 0), (2, 2), (2, 2)))

    def backward(self, pre_grad: np.ndarray, *_: object, **__: object) -> np.ndarray:
        """Cut the border off."""
        return pre_grad[:, :, 2:-2, 2:-2]


class Engine:
    """NumpyDL's own loop of training, for one batch."""

    def __init__(self, task: Task) -> None:
        self.x = np.pad(task.images, ((0, 0), (0, 0), (2, 2), (2, 2)))
        self.y = np.eye(10, dtype=np.float32)[task.labels]
        layers = {
            "conv1": npdl.layers.Convolution(32, (5, 5), self.x.shape, activation="relu"),
            "pool1": npdl.layers.MaxPooling((2, 2)),
            "padding": Padding(),
            "conv2": npdl.layers.Convolution(64, (5, 5), activation="relu"),
            "pool2": npdl.layers.MaxPooling((2, 2)),
            "flatten": npdl.layers.Flatten(),
            "head": npdl.layers.Softmax(10),
        }
        self.model = npdl.Model(list(layers.values()))
        self.model.compile(npdl.objectives.SCCE(), npdl.optimizers.Momentum(MOMENTUM, lr=RATE))
        for name in ("conv1", "conv2", "head"):
            w = task.weights[f"{name}.w"]
            layers[name].W = w.copy() if w.ndim == 4 else w.T.copy()
            layers[name].b = task.weights[f"{name}.b"].copy()

    def forward_backward(self) -> float:
        """Take the whole step: the library does not part the two."""
        self.model.fit(
            self.x, self.y, max_iter=1, batch_size=len(self.x), shuffle=False, file=io.StringIO()
        )
        return float("nan")

    def update(self) -> None:
        """Nothing is left to do."""

    def gradients(self) -> dict[str, np.ndarray]:
        """Return nothing; they are not those of the network."""
        return {}
