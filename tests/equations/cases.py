"""Random convolutions and pooling windows, with the results of PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

Array = np.ndarray[Any, Any]
PadWidth = tuple[tuple[int, int], tuple[int, int]]


def normal(*shape: int, seed: int = 0) -> Array:
    """Draw normal values in float64."""
    return np.random.default_rng(seed).standard_normal(shape)


def classes(count: int, n: int, seed: int = 0) -> Array:
    """Draw class numbers."""
    return np.random.default_rng(seed).integers(0, count, n)


def relative(actual: Array, expected: Array, least: float = 0.0) -> float:
    """Return the largest difference, divided by the largest expected value or by ``least``."""
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), least, 1e-300))


def rounding(
    actual: Array, definition: Callable[..., Array], *arrays: Array, **named: Any
) -> float:
    """Return the largest difference from a definition, divided by its largest sum of |products|."""
    expected, sizes = definition(*arrays, **named), definition(*map(np.abs, arrays), **named)
    return relative(actual, expected, least=sizes.max())


def tensor(x: Array) -> Tensor:
    """Copy an array of any memory order into a tensor that requires its gradient."""
    return torch.tensor(np.ascontiguousarray(x)).requires_grad_()


def by_autograd(
    function: Callable[..., Tensor], *arrays: Array, seed: int = 99
) -> tuple[Array, ...]:
    """Return the output of a function, a random dC/d(output), and dC/d(array) of each array."""
    tensors = [tensor(x) for x in arrays]
    out = function(*tensors)
    delta = normal(*out.shape, seed=seed)
    gradients = torch.autograd.grad(out, tensors, torch.from_numpy(delta))
    return out.detach().numpy(), delta, *(gradient.numpy() for gradient in gradients)


def bordered(x: Tensor, pad_width: PadWidth, value: float = 0.0) -> Tensor:
    """Put a border around images, with a width of its own on each side."""
    (top, bottom), (left, right) = pad_width
    return F.pad(x, (left, right, top, bottom), value=value)


@dataclass(frozen=True)
class Case:
    """A convolution; ``channels`` and ``features`` count those of one group."""

    n: int
    groups: int
    channels: int
    features: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad_width: PadWidth
    seed: int

    @property
    def a(self) -> Array:
        return normal(self.n, self.groups * self.channels, *self.size, seed=self.seed)

    @property
    def w(self) -> Array:
        shape = (self.groups * self.features, self.channels, *self.kernel)
        return normal(*shape, seed=self.seed + 1)

    @property
    def b(self) -> Array:
        return normal(self.groups * self.features, seed=self.seed + 2)

    @property
    def options(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.pad_width, "groups": self.groups}

    def by_pytorch(self, operation: str = "correlation") -> tuple[Array, ...]:
        """Return z, delta, and dC/da, dC/dw, dC/db."""

        def forward(a: Tensor, w: Tensor, b: Tensor) -> Tensor:
            kernel = w.flip(-2, -1) if operation == "convolution" else w
            return F.conv2d(bordered(a, self.pad_width), kernel, b, self.stride, 0, 1, self.groups)

        return by_autograd(forward, self.a, self.w, self.b, seed=self.seed + 3)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a convolution whose kernel fits, with any padding, stride and left-over rows."""
    kernel, stride, pad_width, size = [], [], [], []
    for _ in ("rows", "columns"):
        kernel.append(draw(st.integers(1, 4)))
        stride.append(draw(st.integers(1, 3)))
        pad_width.append((draw(st.integers(0, 5)), draw(st.integers(0, 5))))
        size.append(max(1, kernel[-1] - sum(pad_width[-1])) + draw(st.integers(0, 6)))
    return Case(
        *(draw(st.integers(1, 3)) for _ in ("n", "groups", "channels", "features")),
        *map(tuple, (size, kernel, stride, pad_width)),
        seed=draw(st.integers(0, 99)),
    )


@dataclass(frozen=True)
class Windows:
    """The windows of a pooling, and an image for them."""

    image: tuple[int, int]
    size: tuple[int, int]
    stride: tuple[int, int]
    pad_width: PadWidth
    seed: int
    ties: bool

    @property
    def a(self) -> Array:
        shape = (2, 3, *self.image)
        if self.ties:
            return np.random.default_rng(self.seed).integers(0, 3, shape).astype(np.float64)
        return normal(*shape, seed=self.seed)


@st.composite
def windows(draw: st.DrawFn) -> Windows:
    """Draw windows that overlap, touch or leave gaps, with padding and left-over rows."""
    image, size, stride, pad_width = [], [], [], []
    for _ in ("rows", "columns"):
        size.append(draw(st.integers(1, 4)))
        stride.append(draw(st.one_of(st.just(size[-1]), st.integers(1, 5))))
        pad_width.append(tuple(draw(st.integers(0, size[-1] - 1)) for _ in range(2)))
        image.append(max(1, size[-1] - sum(pad_width[-1])) + draw(st.integers(0, 7)))
    return Windows(
        *map(tuple, (image, size, stride, pad_width)),
        seed=draw(st.integers(0, 99)),
        ties=draw(st.booleans()),
    )
