"""The small convolution that is explained: given, or drawn at random from whole numbers."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from rot180 import equations
from rot180.equations.convolution import Array
from rot180.equations.equivalence import CUT, connections
from rot180.equations.padding import (
    OPERATIONS,
    Padding,
    PadWidth,
    check_seed,
    out_size,
    pair,
    resolve_padding,
)
from rot180.errors import Rot180Error, check_choice

ACTIVATIONS = {
    "none": None,
    "relu": equations.ReLU,
    "sigmoid": equations.Sigmoid,
    "tanh": equations.Tanh,
}
_MAX_CONNECTIONS = 100_000
"""Largest number of connections, inputs times outputs, that an explanation computes."""
_MAX_ENTRIES = 1000
"""Largest number of entries of one grid that an explanation shows."""


@dataclass(frozen=True)
class ConvolutionExample:
    """A convolution of one channel and one feature, and the quadratic cost of its output.

    Attributes:
        image: (h, w).
        kernel: (kh, kw).
        target: (y, x), the desired output.
        stride, padding, operation: see :class:`rot180.equations.Convolution`.
        activation: "none", "relu", "sigmoid" or "tanh".
        bias: the bias b.
    """

    image: Array
    kernel: Array
    target: Array
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "valid"
    operation: str = "correlation"
    activation: str = "none"
    bias: float = 1.0

    @property
    def rotated(self) -> bool:
        """Whether the forward pass slides the rotated kernel."""
        return self.operation == "convolution"


def make_example(
    image: Any = None,
    kernel: Any = None,
    size: tuple[int, int] = (3, 3),
    kernel_size: tuple[int, int] = (2, 2),
    stride: int | tuple[int, int] = 1,
    padding: Any = "valid",
    operation: str = "correlation",
    activation: str = "none",
    seed: int = 0,
    target: Any = None,
    bias: float | None = None,
) -> ConvolutionExample:
    """Return an example with the given numbers; the others are drawn, small and whole.

    Args:
        image: (h, w) numbers; drawn with the given ``size`` if missing.
        kernel: (kh, kw) numbers; drawn with the given ``kernel_size`` if missing, all different.
        size, kernel_size: (rows, columns).
        stride, padding, operation: see :class:`rot180.equations.Convolution`.
        activation: "none", "relu", "sigmoid" or "tanh".
        seed: seed of the random numbers.
        target: (y, x) numbers, the desired output; drawn if missing, different from every output.
        bias: the bias b; if missing, a small number, and with ReLU one with which units fire.

    Raises:
        Rot180Error: the operation or activation does not exist, the kernel is larger than the
            image, a grid is not one of finite numbers, the target has another size than the
            output, or the example is too large to be read.
    """
    check_choice(operation, "operation", OPERATIONS)
    check_choice(activation, "activation", ACTIVATIONS)
    image = None if image is None else _as_grid(image, "image")
    kernel = None if kernel is None else _as_grid(kernel, "kernel")
    size = pair(size, "size", 0) if image is None else image.shape
    kernel_size = pair(kernel_size, "size of the kernel") if kernel is None else kernel.shape
    steps = pair(stride, "stride")
    pad_width = resolve_padding(padding, kernel_size, steps, operation == "convolution")
    output_size = out_size(size, kernel_size, steps, pad_width)
    _check_amount(size, kernel_size, pad_width, output_size)
    rng = np.random.default_rng(check_seed(seed))
    small = 0.1 if activation in ("sigmoid", "tanh") else 1.0  # large sums would saturate these
    drawn_image = rng.integers(1, 6, size) * small
    count = kernel_size[0] * kernel_size[1]
    signs = rng.choice([-1, 1, 1], count)
    drawn_kernel = (signs * (1 + rng.permutation(count))).reshape(kernel_size) * small
    image = drawn_image if image is None else image
    kernel = drawn_kernel if kernel is None else kernel
    layer = connections((1, *image.shape), (1, 1, *kernel.shape), steps, pad_width)
    if not (layer.weight != CUT).any():
        raise Rot180Error("With this stride and border no window covers a pixel of the image.")
    zeros = np.zeros(output_size)
    if bias is None:
        bias = small
        if activation == "relu":  # at least half of the units should fire
            without_bias = ConvolutionExample(image, kernel, zeros, steps, padding, operation)
            _, z = run_forward(without_bias)
            bias += max(0.0, float(np.ceil(1 - np.median(z))))
    elif not np.isfinite(bias):
        raise Rot180Error(f"The bias has to be a finite number, not {bias}.")
    example = ConvolutionExample(image, kernel, zeros, steps, padding, operation, activation, bias)
    if target is not None:
        grid = _as_grid(target, "target")
        if grid.shape != output_size:
            raise Rot180Error(
                f"The target is {grid.shape[0]}x{grid.shape[1]}, but the output that it is "
                f"compared with is {output_size[0]}x{output_size[1]}."
            )
        return replace(example, target=grid)
    # The errors are small whole numbers and never zero.
    errors = rng.integers(1, 4, output_size) * rng.choice([-1, 1], output_size) * small
    _, output = run_forward(example)
    return replace(example, target=output[0, 0] - errors)


def _check_amount(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    pad_width: PadWidth,
    output_size: tuple[int, int],
) -> None:
    """Raise Rot180Error if an explanation would be too long to read, before anything is built."""
    inputs, outputs, weights = prod(size), prod(output_size), prod(kernel)
    if inputs * outputs > _MAX_CONNECTIONS:
        raise Rot180Error(
            f"{inputs} inputs and {outputs} outputs are too many to be explained; their product "
            f"can be at most {_MAX_CONNECTIONS}."
        )
    padded = prod(length + sum(border) for length, border in zip(size, pad_width, strict=True))
    if weights * outputs > _MAX_CONNECTIONS or max(padded, weights) > _MAX_ENTRIES:
        raise Rot180Error(
            f"A kernel of {weights} weights on {padded} pixels, border included, is too much to be "
            f"explained: an explanation shows at most {_MAX_ENTRIES} of each."
        )


def build_network(example: ConvolutionExample) -> equations.Network:
    """Return the network of an example: the convolution, its activation, the quadratic cost."""
    convolution = equations.Convolution(
        1, 1, example.kernel.shape, example.stride, example.padding, operation=example.operation
    )
    convolution.weights["w"][0, 0] = example.kernel
    convolution.weights["b"][0] = example.bias
    layers: dict[str, equations.Layer] = {"conv": convolution}
    activation = ACTIVATIONS[example.activation]
    if activation is not None:
        layers["f"] = activation()
    return equations.Network(layers, equations.Quadratic())


def run_forward(example: ConvolutionExample) -> tuple[equations.Network, Array]:
    """Return the network of an example and its output (1, 1, y, x)."""
    network = build_network(example)
    network.input(example.image[None, None])
    return network, network.feed_forward()


def _as_grid(values: Any, what: str) -> Array:
    try:
        grid = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Rot180Error(f"The {what} is no grid of numbers with rows of one length.") from error
    if grid.ndim != 2 or not grid.size or not np.isfinite(grid).all():
        raise Rot180Error(
            f"The {what} has to be rows of finite numbers, all of one length; this one is of shape "
            f"{grid.shape}."
        )
    return grid
