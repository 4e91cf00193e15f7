"""The two-layer network as textbooks teach it in NumPy: im2col, one matrix product, col2im.

The whole batch at once, images as (n, c, h, w), new arrays in every step, and no threads but those
of NumPy's own matrix products.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import threadpool_limits

from engines import MOMENTUM, RATE, Task

Array = np.ndarray


def im2col(x: Array, size: int) -> Array:
    """Return the patches of images (n, c, h, w) as columns (c size size, n y x)."""
    windows = sliding_window_view(x, (size, size), axis=(2, 3))  # (n, c, y, x, size, size)
    return windows.transpose(1, 4, 5, 0, 2, 3).reshape(x.shape[1] * size * size, -1)


def col2im(columns: Array, shape: tuple[int, int, int, int], size: int) -> Array:
    """Add columns of patches up to images of this shape: where patches overlap, they sum."""
    n, c, h, w = shape
    y, x = h - size + 1, w - size + 1
    patches = columns.reshape(c, size, size, n, y, x).transpose(3, 0, 1, 2, 4, 5)
    images = np.zeros(shape, columns.dtype)
    for i in range(size):
        for j in range(size):
            images[:, :, i : i + y, j : j + x] += patches[:, :, i, j]
    return images


class Convolution:
    """z = corr(w, x) + b with a border of zeros, so that z is as large as x."""

    def __init__(self, w: Array, b: Array, first: bool = False) -> None:
        self.weights = {"w": w, "b": b}
        self.first = first  # nobody needs the error of the images themselves
        self.size = w.shape[-1]
        self.border = self.size // 2

    def forward(self, x: Array) -> Array:
        """Return z (n, f, h, w)."""
        n, _, h, w = x.shape
        p, kernels = self.border, self.weights["w"]
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        self.shape, self.columns = padded.shape, im2col(padded, self.size)
        z = kernels.reshape(len(kernels), -1) @ self.columns + self.weights["b"][:, None]
        return z.reshape(-1, n, h, w).transpose(1, 0, 2, 3)

    def backward(self, delta: Array) -> Array | None:
        """Keep the gradients; return dC/dx."""
        kernels = self.weights["w"]
        delta = delta.transpose(1, 0, 2, 3).reshape(len(kernels), -1)
        gradient = (delta @ self.columns.T).reshape(kernels.shape)
        self.gradients = {"w": gradient, "b": delta.sum(1)}
        if self.first:
            return None
        columns = kernels.reshape(len(kernels), -1).T @ delta
        p = self.border
        return col2im(columns, self.shape, self.size)[:, :, p:-p, p:-p]


class ReLU:
    """max(x, 0)."""

    def forward(self, x: Array) -> Array:
        """Return max(x, 0)."""
        self.on = x > 0
        return np.maximum(x, 0)

    def backward(self, delta: Array) -> Array:
        """Return delta where x was above zero."""
        return delta * self.on


class MaxPool:
    """The largest value of each window of 2x2."""

    def forward(self, x: Array) -> Array:
        """Return the maxima (n, c, h / 2, w / 2)."""
        n, c, h, w = self.shape = x.shape
        windows = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5)
        windows = windows.reshape(n, c, h // 2, w // 2, 4)
        self.switches = windows.argmax(-1)[..., None]
        return np.take_along_axis(windows, self.switches, -1)[..., 0]

    def backward(self, delta: Array) -> Array:
        """Return the error, each at its window's maximum."""
        n, c, h, w = self.shape
        windows = np.zeros((*delta.shape, 4), delta.dtype)
        np.put_along_axis(windows, self.switches, delta[..., None], -1)
        windows = windows.reshape(n, c, h // 2, w // 2, 2, 2)
        return windows.transpose(0, 1, 2, 4, 3, 5).reshape(self.shape)


class Flatten:
    """(n, c, h, w) to (n, c h w)."""

    def forward(self, x: Array) -> Array:
        """Return one row an image."""
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, delta: Array) -> Array:
        """Return the error in the shape of the images."""
        return delta.reshape(self.shape)


class Dense:
    """z = x w^T + b."""

    def __init__(self, w: Array, b: Array) -> None:
        self.weights = {"w": w, "b": b}

    def forward(self, x: Array) -> Array:
        """Return z (n, outputs)."""
        self.x = x
        return x @ self.weights["w"].T + self.weights["b"]

    def backward(self, delta: Array) -> Array:
        """Keep the gradients; return dC/dx."""
        self.gradients = {"w": delta.T @ self.x, "b": delta.sum(0)}
        return delta @ self.weights["w"]


class Engine:
    """Layers one after the other, softmax and cross-entropy, gradient descent with momentum.

    Args:
        task: what all engines are given.
        threads: of the matrix products; as the task says if not given.
    """

    def __init__(self, task: Task, threads: int | None = None) -> None:
        self.weights = own = {name: one.copy() for name, one in task.weights.items()}
        self.layers = {
            "conv1": Convolution(own["conv1.w"], own["conv1.b"], first=True),
            "relu1": ReLU(),
            "pool1": MaxPool(),
            "conv2": Convolution(own["conv2.w"], own["conv2.b"]),
            "relu2": ReLU(),
            "pool2": MaxPool(),
            "flatten": Flatten(),
            "head": Dense(own["head.w"], own["head.b"]),
        }
        self.velocity = {name: np.zeros_like(one) for name, one in own.items()}
        self.x, self.labels = task.images, task.labels
        self.threads = task.threads if threads is None else threads

    def forward_backward(self) -> float:
        """See :class:`engines.Engine`."""
        with threadpool_limits(self.threads, "blas"):
            z = self.x
            for layer in self.layers.values():
                z = layer.forward(z)
            shares = np.exp(z - z.max(1, keepdims=True))
            shares /= shares.sum(1, keepdims=True)
            chosen = np.arange(len(z)), self.labels
            loss = float(-np.log(shares[chosen]).mean())
            delta = shares
            delta[chosen] -= 1
            delta /= len(z)
            for layer in reversed(self.layers.values()):
                delta = layer.backward(delta)
        return loss

    def update(self) -> None:
        """See :class:`engines.Engine`."""
        for name, gradient in self.gradients().items():
            velocity = self.velocity[name]
            velocity *= MOMENTUM
            velocity += gradient
            self.weights[name] -= RATE * velocity

    def gradients(self) -> dict[str, Array]:
        """See :class:`engines.Engine`."""
        return {
            f"{name}.{kind}": one
            for name, layer in self.layers.items()
            if isinstance(layer, Convolution | Dense)
            for kind, one in layer.gradients.items()
        }
