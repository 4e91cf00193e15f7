"""A small convolution to be explained: given, or drawn at random from whole numbers."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from rot180 import equations
from rot180.equations.convolution import Array
from rot180.equations.equivalence import CUT, connections
from rot180.equations.geometry import OPERATIONS, Margins, Padding, margins, out_size, pair, seed_of
from rot180.errors import Rot180Error, check_choice

ACTIVATIONS = {
    "none": None,
    "relu": equations.ReLU,
    "sigmoid": equations.Sigmoid,
    "tanh": equations.Tanh,
}
_MOST = 100_000
"""Connections between all inputs and outputs that are worked out."""
_LARGEST = 1000
"""Numbers of one grid that are written out."""


@dataclass(frozen=True)
class Case:
    """A convolution of one channel and one feature, with a cost above it.

    Attributes:
        image: (h, w).
        kernel: (kh, kw).
        target: (y, x), what the output should be.
        stride, padding, operation: see :class:`rot180.equations.Convolution`.
        activation: "none", "relu", "sigmoid" or "tanh".
        bias: a number.
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
        """Whether the kernel is turned going forward."""
        return self.operation == "convolution"


def case(
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
) -> Case:
    """Return a case of the given numbers; what is missing is drawn, small whole numbers.

    Args:
        image: (h, w) numbers; drawn with the given ``size`` if missing.
        kernel: (kh, kw) numbers; drawn with the given ``kernel_size`` if missing, all different.
        size, kernel_size: (rows, columns).
        stride, padding, operation: see :class:`rot180.equations.Convolution`.
        activation: "none", "relu", "sigmoid" or "tanh".
        seed: of what is drawn.
        target: (y, x) numbers, what the output should be; drawn if missing, so that no output has
            it yet.
        bias: a number; if missing, a small one, with ReLU one that lets units fire.

    Raises:
        Rot180Error: an operation or activation that does not exist, or a kernel larger than the
            image; something that is no grid of finite numbers, or a target of another size than
            the output.
    """
    check_choice(operation, "operation", OPERATIONS)
    check_choice(activation, "activation", ACTIVATIONS)
    image = None if image is None else _numbers(image, "image")
    kernel = None if kernel is None else _numbers(kernel, "kernel")
    size = pair(size, "size", 0) if image is None else image.shape
    kernel_size = pair(kernel_size, "size of the kernel") if kernel is None else kernel.shape
    steps = pair(stride, "stride")
    borders = margins(padding, kernel_size, steps, operation == "convolution")
    above = out_size(size, kernel_size, steps, borders)
    _check_amount(size, kernel_size, borders, above)
    rng = np.random.default_rng(seed_of(seed))
    small = 0.1 if activation in ("sigmoid", "tanh") else 1.0  # large sums would saturate these
    drawn_image = rng.integers(1, 6, size) * small
    count = kernel_size[0] * kernel_size[1]
    signs = rng.choice([-1, 1, 1], count)
    drawn_kernel = (signs * (1 + rng.permutation(count))).reshape(kernel_size) * small
    image = drawn_image if image is None else image
    kernel = drawn_kernel if kernel is None else kernel
    wires = connections((1, *image.shape), (1, 1, *kernel.shape), steps, borders)
    if not (wires.weight != CUT).any():
        raise Rot180Error("With this stride and border no window covers a pixel of the image.")
    if bias is None:
        bias = small
        if activation == "relu":  # half of the units at least are to fire
            z = fed_forward(Case(image, kernel, np.zeros(above), steps, padding, operation))[1]
            bias += max(0.0, float(np.ceil(1 - np.median(z))))
    elif not np.isfinite(bias):
        raise Rot180Error(f"The bias has to be a finite number, not {bias}.")
    made = Case(image, kernel, np.zeros(above), steps, padding, operation, activation, bias)
    if target is not None:
        wanted = _numbers(target, "target")
        if wanted.shape != above:
            raise Rot180Error(
                f"The target is {wanted.shape[0]}x{wanted.shape[1]}, but the output that it is "
                f"compared with is {above[0]}x{above[1]}."
            )
        return replace(made, target=wanted)
    # Off the target by small whole numbers, none of them zero, so that units have errors.
    off = rng.integers(1, 4, above) * rng.choice([-1, 1], above) * small
    return replace(made, target=fed_forward(made)[1][0, 0] - off)


def _check_amount(
    size: tuple[int, ...], kernel: tuple[int, ...], borders: Margins, above: tuple[int, int]
) -> None:
    """Raise Rot180Error if there is more than anybody reads; nothing has been made of it yet."""
    inputs, outputs, weights = prod(size), prod(above), prod(kernel)
    if inputs * outputs > _MOST:
        raise Rot180Error(
            f"{inputs} inputs and {outputs} outputs are too many to be explained; their product is "
            f"to be at most {_MOST}."
        )
    padded = prod(one + sum(border) for one, border in zip(size, borders, strict=True))
    if weights * outputs > _MOST or max(padded, weights) > _LARGEST:
        raise Rot180Error(
            f"A kernel of {weights} weights on {padded} pixels with their border is too much to be "
            f"explained: at most {_LARGEST} of each are written out."
        )


def network_of(case: Case) -> equations.Network:
    """Return the network of a case: the convolution, its activation, the quadratic cost."""
    convolution = equations.Convolution(
        1, 1, case.kernel.shape, case.stride, case.padding, operation=case.operation
    )
    convolution.weights["w"][0, 0] = case.kernel
    convolution.weights["b"][0] = case.bias
    layers: dict[str, equations.Layer] = {"conv": convolution}
    activation = ACTIVATIONS[case.activation]
    if activation is not None:
        layers["f"] = activation()
    return equations.Network(layers, equations.Quadratic())


def fed_forward(case: Case) -> tuple[equations.Network, Array]:
    """Return the network of a case and its output (1, 1, y, x)."""
    network = network_of(case)
    network.input(case.image[None, None])
    return network, network.feed_forward()


def _numbers(values: Any, what: str) -> Array:
    try:
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Rot180Error(f"The {what} is no grid of numbers with rows of one length.") from error
    if found.ndim != 2 or not found.size or not np.isfinite(found).all():
        raise Rot180Error(
            f"The {what} has to be rows of finite numbers, all of one length; this one is of shape "
            f"{found.shape}."
        )
    return found
