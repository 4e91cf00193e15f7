"""The first lesson: back-propagation through a convolution, every number with its products."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from rot180.equations.activations import Activation
from rot180.equations.convolution import (
    Array,
    convolution,
    correlation,
    dilated,
    padded,
    rot180,
)
from rot180.equations.padding import PadWidth
from rot180.equations.trace import Sum
from rot180.errors import Rot180Error
from rot180.explain.example import ConvolutionExample, make_example
from rot180.explain.proofs import try_operation
from rot180.explain.worked import WorkedExample
from rot180.web.lessons.parse import (
    format_grid,
    format_number,
    parse_grid,
    parse_number,
    parse_size,
)
from rot180.web.lessons.serialise import Rows, SumView, rows, sum_view, whole_rows

MOST_PIXELS, MOST_WEIGHTS = 8, 5
"""Rows and columns that the image and the kernel may have."""

DEFAULT_SIZE, DEFAULT_KERNEL, DEFAULT_SEED = "4x4", "2x2", "1"
PADDINGS = ("valid", "same", "full")
CHOICES = {
    "operation": ("correlation", "convolution"),
    "stride": ("1", "2", "3"),
    "padding": PADDINGS,
    "activation": ("none", "relu", "sigmoid", "tanh"),
}


@dataclass(frozen=True)
class TracedNumber(SumView):
    """A number with its products, and what finite differences say.

    Attributes:
        difference: by finite differences. Beside an entry of z stands that of its error.
        off: how far the gradient is from it.
        kink: whether a unit turns on or off between the two points, so that nothing is compared.
        window: row and column at which the sliding grid begins when it makes this number: the
            kernel over the padded image for z, the kernel over the spread error for dC/da, the
            error over the padded image for dC/dw.
    """

    difference: float
    off: float
    kink: bool
    window: list[int]


@dataclass(frozen=True)
class Perceptron:
    """The layer as a perceptron: ``weight`` has a row an output, a column an input.

    Attributes:
        weight: number of the weight that a connection uses, -1 where it is cut.
        matrix: the weights, zero where cut.
        kept, connections: how many connections are left, and were there.
        uses: how many connections share each weight, in the shape of the kernel.
    """

    weight: list[list[int]]
    matrix: Rows
    kept: int
    connections: int
    uses: list[list[int]]


@dataclass(frozen=True)
class OperationPair:
    """An operation on the same image, kernel and delta, with the orientations of its kernel.

    Attributes:
        forward, back: the kernel as it slides over the image, and over the error.
        z: the weighted inputs.
        error: dC/da of the given delta.
        off: its largest difference from the transposed perceptron's.
        otherwise: the same if the kernel slides back in the other orientation.
        gradient: dC/dw of the given delta.
    """

    operation: str
    forward: list[list[int]]
    back: list[list[int]]
    z: Rows
    error: Rows
    off: float
    otherwise: float
    gradient: Rows


@dataclass(frozen=True)
class ConvolutionView:
    """A convolution with all its numbers.

    Attributes:
        state: the query parameters of this lesson.
        operation, activation, padding, stride: the choices.
        border: zeros around the image: [[above, below], [left, right]].
        image, kernel, bias, target: what was given.
        turned: the kernel rotated by 180 degrees.
        z, output, slope, cost, delta: forward, and the error dC/dz.
        framed: the image with its zeros.
        spread: delta with the zeros of the stride between and of the full convolution around.
        dilated: delta with the zeros of the stride only.
        error, gradient, bias_gradient: dC/da, dC/dw, dC/db.
        entries: for each entry of "z", "delta", "error", "gradient", "bias" how it came about, row
            by row.
        perceptron: the same layer as a perceptron.
        both: both operations side by side.
    """

    state: dict[str, str]
    operation: str
    activation: str
    padding: str
    stride: int
    border: list[list[int]]
    image: Rows
    kernel: Rows
    bias: float
    target: Rows
    turned: Rows
    z: Rows
    output: Rows
    slope: Rows
    cost: float
    delta: Rows
    framed: Rows
    spread: Rows
    dilated: Rows
    error: Rows
    gradient: Rows
    bias_gradient: float
    entries: dict[str, list[TracedNumber]]
    perceptron: Perceptron
    both: list[OperationPair]


@lru_cache(16)  # a page and its JSON share the result
def build(
    image: str = "",
    kernel: str = "",
    bias: str = "",
    target: str = "",
    stride: str = "1",
    padding: str = "valid",
    operation: str = "correlation",
    activation: str = "none",
    size: str = "",
    kernel_size: str = "",
    seed: str = "",
) -> ConvolutionView:
    """Return the lesson for the query parameters of a URL; missing grids are random.

    Raises:
        Rot180Error: a value is invalid, or the sizes do not fit.
    """
    if padding not in PADDINGS:
        raise Rot180Error(f"There is no padding '{padding}' here: choose {', '.join(PADDINGS)}.")
    if stride not in ("1", "2", "3"):
        raise Rot180Error(f"The stride is 1, 2 or 3 here, not '{stride}'.")
    if not (seed or "1").isdecimal() or len(seed) > 9:
        raise Rot180Error(f"The seed is a whole number from 0 up, not '{seed}'.")
    pixels, weights = (MOST_PIXELS,) * 2, (MOST_WEIGHTS,) * 2
    room = (MOST_PIXELS + 2 * MOST_WEIGHTS,) * 2
    made = make_example(
        parse_grid(image, "image", pixels) if image else None,
        parse_grid(kernel, "kernel", weights) if kernel else None,
        parse_size(size or DEFAULT_SIZE, "size of the image", MOST_PIXELS),
        parse_size(kernel_size or DEFAULT_KERNEL, "size of the kernel", MOST_WEIGHTS),
        int(stride),
        padding,
        operation,
        activation,
        int(seed or DEFAULT_SEED),
        parse_grid(target, "target", room) if target else None,
        parse_number(bias, "the bias") if bias else None,
    )
    if not target:  # two digits can be read, and typed again
        made = replace(made, target=np.round(made.target, 2) + 0.0)
    return build_view(made)


def build_view(one: ConvolutionExample) -> ConvolutionView:
    """Return an example with all its numbers, as plain data."""
    worked = WorkedExample(one)
    kernel = one.kernel.shape
    wires = worked.connections
    spread = dilated(worked.delta, one.stride)
    network = worked.trace.network
    slope = np.ones_like(worked.z)
    if isinstance(activation := network.layers.get("f"), Activation):
        slope = activation.derivative()[0, 0]
    return ConvolutionView(
        state=state_of(one),
        operation=one.operation,
        activation=one.activation,
        padding=str(one.padding),
        stride=one.stride[0],
        border=[list(side) for side in worked.pad_width],
        image=rows(one.image),
        kernel=rows(one.kernel),
        bias=float(one.bias),
        target=rows(one.target),
        turned=rows(rot180(one.kernel)),
        z=rows(worked.z),
        output=rows(worked.output),
        slope=rows(slope),
        cost=worked.cost,
        delta=rows(worked.delta),
        framed=rows(_framed(one.image, worked.pad_width)),
        spread=rows(_spread(worked, spread)),
        dilated=rows(spread),
        error=rows(worked.error),
        gradient=rows(worked.gradient),
        bias_gradient=worked.bias_gradient + 0.0,
        entries={name: list(_entries(worked, name)) for name in _FROM},
        perceptron=Perceptron(
            weight=whole_rows(wires.weight),
            matrix=rows(worked.matrix),
            kept=int(wires.uses.sum()),
            connections=int(wires.weight.size),
            uses=whole_rows(wires.uses.reshape(kernel)),
        ),
        both=[_operation_pair(worked, operation) for operation in ("correlation", "convolution")],
    )


def state_of(one: ConvolutionExample) -> dict[str, str]:
    """Return the query parameters of an example."""
    return {
        "image": format_grid(rows(one.image)),
        "kernel": format_grid(rows(one.kernel)),
        "bias": format_number(float(one.bias)),
        "target": format_grid(rows(one.target)),
        "stride": str(one.stride[0]),
        "padding": str(one.padding),
        "operation": one.operation,
        "activation": one.activation,
    }


_FROM = {"z": "z", "delta": "z", "error": "a", "gradient": "w", "bias": "b"}
"""Of each kind of entry, by what the finite difference beside it is taken."""


def _entries(worked: WorkedExample, name: str) -> Iterator[TracedNumber]:
    by = _FROM[name]
    slopes, kinks = worked.differences[by], worked.kinks[by]
    for at in np.ndindex(slopes.shape):
        found, gradient, window = _found(worked, name, at)
        plain = sum_view(worked.shorten(found), worked.example.kernel.shape)
        difference = float(slopes[at])
        yield TracedNumber(
            plain.name,
            plain.index,
            plain.value,
            plain.products,
            plain.total,
            difference,
            abs(gradient - difference),
            bool(kinks[at]),
            list(window),
        )


def _found(
    worked: WorkedExample, name: str, at: tuple[int, ...]
) -> tuple[Sum, float, tuple[int, ...]]:
    """Return an entry's sum, the gradient that differences are compared with, and its window."""
    one, trace = worked.example, worked.trace
    down, right = one.stride
    start: tuple[int, ...]
    match name:
        case "z":
            start = (at[0] * down, at[1] * right)
            return trace.z("conv", (0, 0, *at)), float(worked.delta[at]), start
        case "delta":
            return trace.delta("conv", (0, 0, *at)), float(worked.delta[at]), at
        case "error":
            (top, _), (left, _) = worked.pad_width
            start = (at[0] + top, at[1] + left)
            return trace.delta("", (0, 0, *at)), float(worked.error[at]), start
        case "gradient":
            kh, kw = one.kernel.shape
            start = (kh - 1 - at[0], kw - 1 - at[1]) if one.rotated else at
            return trace.weight_gradient("conv", (0, 0, *at)), float(worked.gradient[at]), start
    return trace.bias_gradient("conv", (0,)), worked.bias_gradient, (0, 0)


def _framed(grid: Array, borders: PadWidth) -> Array:
    """Put rows and columns of zeros around a single grid."""
    found: Array = padded(grid[None, None], borders)[0, 0]
    return found


def _spread(worked: WorkedExample, spread: Array) -> Array:
    """Put around the error what the full convolution needs; zeros also where no window was.

    With these the window of the pixel (v, u) begins at row v and column u, plus the border.
    """
    around = []
    for axis in (0, 1):
        k = worked.example.kernel.shape[axis]
        whole = worked.example.image.shape[axis] + sum(worked.pad_width[axis])
        around.append((k - 1, whole - spread.shape[axis]))
    return _framed(spread, (around[0], around[1]))


def _operation_pair(worked: WorkedExample, operation: str) -> OperationPair:
    """Compute one operation forward and backward."""
    one, rotated = worked.example, operation == "convolution"
    forward = convolution if rotated else correlation
    z = forward(one.image[None, None], one.kernel[None, None], one.stride, one.padding)[0, 0]
    found, turned = try_operation(worked, operation), rot180(worked.numbers)
    return OperationPair(
        operation,
        forward=whole_rows(turned if rotated else worked.numbers),
        back=whole_rows(worked.numbers if rotated else turned),
        z=rows(z + one.bias),
        error=rows(found.error),
        off=found.error_difference,
        otherwise=found.wrong_way_difference,
        gradient=rows(found.gradient),
    )
