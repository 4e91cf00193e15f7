"""The explanation: one convolution forward and backward, each number with the products behind it.

``rot180.equations`` computes every number, and every statement is checked on the example at hand.
"""

from typing import Any

import numpy as np

from rot180.equations.convolution import Array, dilated, padded, rot180
from rot180.equations.equivalence import CUT
from rot180.equations.trace import Sum
from rot180.equations.wiring import Factor
from rot180.explain.blocks import (
    Block,
    Equation,
    Figure,
    Grid,
    Paragraph,
    Section,
    format_number,
    grid,
)
from rot180.explain.example import ConvolutionExample
from rot180.explain.proofs import finite_difference_table, rotation_proof
from rot180.explain.worked import WorkedExample, format_error, format_index

_MAX_MATRIX = 400
"""Largest number of entries, inputs times outputs, with which a matrix is shown."""


def explain(example: ConvolutionExample) -> list[Section]:
    """Return the steps of an explanation, from the perceptron to the finite differences."""
    worked = WorkedExample(example)
    return [
        _introduce(worked),
        _as_perceptron(worked),
        _count_connections(worked),
        _full_convolution(worked),
        _weight_gradients(worked),
        finite_difference_table(worked),
        rotation_proof(worked),
    ]


def _introduce(worked: WorkedExample) -> Section:
    example = worked.example
    slides = "rotated by 180 degrees" if example.rotated else "as it is"
    formula = "w * a + b" if example.rotated else "corr(w, a) + b"
    linear = example.activation == "none"
    activation = "" if linear else f" Then the activation `a' = {_activation_formula(example)}`."
    output = "z" if linear else "a'"
    extras = [f"stride {_two(example.stride)}"] if example.stride != (1, 1) else []
    if worked.pad_width != ((0, 0), (0, 0)):
        extras.append(f"a border of zeros, {_border(worked.pad_width)}")
    extra = f" ({', '.join(extras)})" if extras else ""
    forward = (
        f"An image `a`, a kernel `w` and a bias `b = {format_number(example.bias)}`. The layer "
        f"slides the kernel, {slides}, over the image{extra}, and sums the products: "
        f"`z = {formula}`, a {example.operation}.{activation} The cost is half the squared "
        f"distance of the output from the target `y`, `C = |{output} - y|^2 / 2`."
    )
    error = (
        "The error `delta = dC/dz` says by how much the cost grows when `z` grows. Here it is "
        + (f"`{output} - y`." if linear else "`(a' - y) f'(z)`.")
        + " The question is how to get from it to the image and to the kernel: by how much "
        "does the cost grow when a pixel grows, `dC/da`, and when a weight grows, `dC/dw`?"
    )
    if np.abs(worked.delta).max() < 1e-6:
        error += (
            " (Here all errors are zero, or nearly: the slope `f'(z)` is zero at every output. "
            "Smaller numbers show more.)"
        )
    return Section(
        "The example",
        [
            Paragraph(forward),
            Figure([grid("a", example.image), worked.kernel(), grid("z", worked.z)]),
            Paragraph(error),
            Figure([grid("y", example.target), grid("delta", worked.delta)]),
        ],
    )


def _as_perceptron(worked: WorkedExample) -> Section:
    connected = worked.connections.weight != CUT
    outputs, inputs = connected.shape
    left = int(connected.sum())
    blocks: list[Block] = [
        Paragraph(
            "A layer of perceptrons connects every input with every output. Here that makes "
            f"{inputs} times {outputs} = {_count(inputs * outputs, 'connection')}, each with a "
            f"weight of its own. Cut all but the {left} that lie in a window, and let all windows "
            f"share the same {_count(worked.example.kernel.size, 'weight')}. What is left is the "
            f"{worked.example.operation}."
        )
    ]
    if inputs * outputs <= _MAX_MATRIX:
        blocks += [
            Paragraph("One row per output, one column per input, a dot for each cut connection:"),
            Figure([worked.perceptron()]),
        ]
    else:
        blocks.append(
            Paragraph(f"(With {inputs * outputs} connections the matrix is too large to be shown.)")
        )
    fullest_row = int(connected.sum(1).argmax())
    index = tuple(int(i) for i in np.unravel_index(fullest_row, worked.z.shape))
    biases = worked.connections.biases(np.array([worked.example.bias]))
    product = worked.matrix @ worked.example.image.reshape(-1) + biases
    blocks += [
        Paragraph("A row times the image, plus the bias, is what the kernel gives at a position:"),
        Equation(worked.shorten(worked.trace.z("conv", (0, 0, *index)))),
        Paragraph(
            "All rows times the image give all of `z`; the largest difference from sliding the "
            f"kernel is {format_error(product - worked.z.reshape(-1))}."
        ),
    ]
    return Section("A perceptron, its connections cut and its weights shared", blocks)


def _count_connections(worked: WorkedExample) -> Section:
    """Read down the column of the input that has the most connections."""
    uses = (worked.connections.weight != CUT).sum(0)
    chosen, most = int(uses.argmax()), int(uses.max())
    index = divmod(chosen, worked.example.image.shape[1])
    pixel = f"a{format_index(index)}"
    column = worked.connections.weight[:, chosen].reshape(worked.delta.shape)
    weights = Grid(
        f"the weights that take {pixel}",
        [[worked.symbol(weight) for weight in row] for row in column.tolist()],
    )
    terms = tuple(
        (worked.weight(int(weight)), Factor("delta", output, float(worked.delta[output])))
        for output, weight in np.ndenumerate(column)
        if weight != CUT
    )
    error = Sum("dC/da", index, float(worked.error[index]), terms)
    rows, columns = np.nonzero(column != CUT)
    window = column[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    each_time = ", each time through another weight" if most > 1 else ""
    question = (
        f"By how much does the cost grow with `{pixel}`? It goes into "
        f"{_count(most, 'output')}{each_time}, and the error of each output comes back "
        "through the weight by which the input went there. Read the "
        "matrix down the column of this input:"
    )
    return Section(
        "The error of an input, counted connection by connection",
        [
            Paragraph(question),
            Equation(error),
            Paragraph("Now lay these weights where the outputs lie, and the kernel beside them:"),
            Figure([worked.output_symbols(), weights, worked.kernel_symbols()]),
            Paragraph(_why_rotated(worked, window)),
        ],
    )


def _why_rotated(worked: WorkedExample, window: Array) -> str:
    """Say how the weights in a column of the matrix are ordered, after a look at them."""
    example = worked.example
    if example.kernel.size == 1:
        return "There is one weight only, so nothing can be rotated."
    if np.array_equal(window, worked.numbers):
        observation = "They are the kernel as it is."
    elif np.array_equal(window, rot180(worked.numbers)):
        observation = "They are the kernel, rotated by 180 degrees."
    else:
        order = "its own" if example.rotated else "reversed"
        observation = f"They are entries of the kernel, in {order} order."
    stride = example.stride
    s = "" if stride == (1, 1) else str(stride[0]) if stride[0] > 1 else "s "
    shifted = worked.pad_width != ((0, 0), (0, 0)) or example.rotated
    start = "Up to a shift that is the same everywhere, " if shifted else "Always "
    sign, back = ("-", "+") if example.rotated else ("+", "-")
    output = f"z[x {back} i]" if not s else f"z[(x {back} i) / {s.strip()}]"
    forward = f"{start}`z[y]` takes `a[{s}y {sign} i]` with `w[i]`."
    backward = f"Seen from `a[x]`, the output that takes it with `w[i]` is `{output}`"
    if s:
        backward += ", where that is whole"
    if example.rotated:
        return (
            f"{observation} The forward pass has rotated the kernel. {forward} {backward}: what "
            "lies i steps behind in the forward pass lies i steps ahead in the backward pass. The "
            "kernel is rotated twice."
        )
    return (
        f"{observation} It cannot be otherwise. {forward} {backward}: what lies i steps ahead in "
        "the forward pass lies i steps behind in the backward pass, down as well as to the right."
    )


def _full_convolution(worked: WorkedExample) -> Section:
    example = worked.example
    kh, kw = example.kernel.shape
    spread = dilated(worked.delta, example.stride)
    framed = padded(spread[None, None], ((kh - 1, kh - 1), (kw - 1, kw - 1)))[0, 0]
    kernel = example.kernel if example.rotated else rot180(example.kernel)
    numbers = worked.numbers if example.rotated else rot180(worked.numbers)
    name = "w" if example.rotated else "rot180(w)"
    transposed = (worked.matrix.T @ worked.delta.reshape(-1)).reshape(worked.error.shape)
    between = (
        f" Between neighbours go the zeros of the positions that the stride of "
        f"{_two(example.stride)} has left out."
        if example.stride != (1, 1)
        else ""
    )
    cut = (
        " The border that was put around the image is cut off again."
        if worked.pad_width != ((0, 0), (0, 0))
        else ""
    )
    covered = [d - k + 1 for d, k in zip(framed.shape, (kh, kw), strict=True)]
    whole = [
        size + sum(border)
        for size, border in zip(worked.error.shape, worked.pad_width, strict=True)
    ]
    left_out = " Pixels that no window covers get zero." if covered != whole else ""
    recipe = (
        "All inputs at once: put zeros around `delta`, on each side one row or column fewer than "
        "the kernel has, and slide the "
        f"{'kernel as it is' if example.rotated else 'rotated kernel'} "
        "over it. At the border, where an input has fewer connections, the other weights meet "
        f"a zero. In short: `dC/da = delta * {'rot180(w)' if example.rotated else 'w'}`, a full "
        f"convolution (which rotates its kernel).{between}{cut}{left_out}"
    )
    return Section(
        "The same for all inputs: one full convolution",
        [
            Paragraph(recipe),
            Figure(
                [
                    grid("delta, with zeros", framed),
                    "slide",
                    grid(name, kernel, numbers),
                    "=",
                    grid("dC/da", worked.error),
                    "beside",
                    _rounded("dC/da by finite differences", worked.differences["a"]),
                ]
            ),
            Paragraph(
                "The perceptron says the same: its matrix transposed, times `delta`. The "
                f"largest difference is {format_error(transposed - worked.error)}. Where `a` is "
                "the output of another layer, `dC/da` times the slope `f'(z)` there is the error "
                "of that layer, and the same step begins again below."
            ),
        ],
    )


def _weight_gradients(worked: WorkedExample) -> Section:
    uses = worked.connections.uses[0, 0]
    index = tuple(int(i) for i in np.unravel_index(int(uses.argmax()), uses.shape))
    weight = worked.shorten(worked.trace.weight_gradient("conv", (0, 0, *index)))
    bias = worked.shorten(worked.trace.bias_gradient("conv", (0,)))
    dense = np.outer(worked.delta.reshape(-1), worked.example.image.reshape(-1))
    shared = worked.connections.shared_gradient(dense)[0, 0]
    shared_bias = worked.connections.shared_bias_gradient(worked.delta)[0]
    formula = "delta * rot180(a)" if worked.example.rotated else "corr(delta, a)"
    zeros = [
        *(["`delta` with the zeros between"] if worked.example.stride != (1, 1) else []),
        *(["`a` with its border"] if worked.pad_width != ((0, 0), (0, 0)) else []),
    ]
    with_zeros = f", {' and '.join(zeros)}" if zeros else ""
    bias_slope = format_number(round(float(worked.differences["b"][0]), 6))
    return Section(
        "The weights: a sum over all connections that share one",
        [
            Paragraph(
                f"`w{format_index(index)}` is used by {_count(int(uses[index]), 'connection')}. "
                "For each of them the perceptron has the error above times the input below; a "
                "shared weight takes the sum:"
            ),
            Equation(weight),
            Paragraph(
                "Each weight meets the image at a shift of its own. So all gradients together come "
                f"from sliding `delta` over the image: `dC/dw = {formula}`{with_zeros}."
            ),
            Figure(
                [
                    grid("dC/dw", worked.gradient, worked.numbers),
                    "beside",
                    _rounded("dC/dw by finite differences", worked.differences["w"]),
                ]
            ),
            Paragraph(
                "The largest difference from adding up the perceptron's gradients, connection "
                f"by connection, is {format_error(shared - worked.gradient)}. The bias is added "
                "at every position, so it takes the sum of all errors "
                f"({bias_slope} by finite differences, "
                f"and {format_number(float(shared_bias))} as the sum of the perceptron's):"
            ),
            Equation(bias),
        ],
    )


def _rounded(name: str, values: Array) -> Grid:
    """Return finite differences as a grid, without the digits that are rounding."""
    return grid(name, np.round(values, 6) + 0.0)


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _two(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} down and {pair[1]} to the right"


def _border(pad_width: Any) -> str:
    (top, bottom), (left, right) = pad_width
    if top == bottom == left == right:
        return f"{top} wide"
    return f"{top} above, {bottom} below, {left} to the left and {right} to the right"


def _activation_formula(example: ConvolutionExample) -> str:
    formulas = {"relu": "max(z, 0)", "sigmoid": "1 / (1 + exp(-z))", "tanh": "tanh(z)"}
    return formulas[example.activation]
