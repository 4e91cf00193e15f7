"""The explanation itself: one convolution, forward and back, each number with where it came from.

Everything shown is computed by ``rot180.equations`` and measured as it is shown; nothing is drawn
from memory.
"""

from typing import Any

import numpy as np

from rot180.equations.convolution import Array, dilated, padded, rot180
from rot180.equations.equivalence import CUT
from rot180.equations.trace import Sum
from rot180.equations.wiring import Factor
from rot180.explain.blocks import Block, Equation, Figure, Grid, Section, Words, grid, number
from rot180.explain.case import Case
from rot180.explain.checks import beside_differences, never_lost
from rot180.explain.worked import Worked, at_text, tiny

_MOST = 400
"""Connections between all inputs and outputs that are still shown as a matrix."""


def walk(case: Case) -> list[Section]:
    """Explain a case, from the perceptron to the finite differences."""
    worked = Worked(case)
    steps = (_the_case, _perceptron, _counted, _full, _weights, beside_differences, never_lost)
    return [step(worked) for step in steps]


def _the_case(worked: Worked) -> Section:
    one = worked.case
    slides = "rotated by 180 degrees" if one.rotated else "as it is"
    formula = "w * a + b" if one.rotated else "corr(w, a) + b"
    activation = "" if one.activation == "none" else f" Then the activation `a' = {_f(one)}`."
    output = "z" if one.activation == "none" else "a'"
    extras = [f"stride {_two(one.stride)}"] if one.stride != (1, 1) else []
    if worked.pad_width != ((0, 0), (0, 0)):
        extras.append(f"a border of zeros, {_border(worked.pad_width)}")
    extra = f" ({', '.join(extras)})" if extras else ""
    words = (
        f"An image `a`, a kernel `w` and a bias `b = {number(one.bias)}`. The layer slides the "
        f"kernel, {slides}, over the image{extra}, and sums the products: `z = {formula}`, a "
        f"{one.operation}.{activation} The cost is half the squared distance from what the "
        f"output should be, `C = |{output} - y|^2 / 2`."
    )
    error = (
        "The error `delta = dC/dz` says by how much the cost grows when `z` grows. Here it is "
        + (f"`{output} - y`." if one.activation == "none" else "`(a' - y) f'(z)`.")
        + " The question is how to get from it to the image and to the kernel: by how much "
        "does the cost grow when a pixel grows, `dC/da`, and when a weight grows, `dC/dw`?"
    )
    if np.abs(worked.delta).max() < 1e-6:
        error += (
            " (Here all errors are zero, or nearly: the slope `f'(z)` is zero at every output. "
            "Smaller numbers show more.)"
        )
    return Section(
        "The case",
        [
            Words(words),
            Figure([grid("a", one.image), worked.kernel(), grid("z", worked.z)]),
            Words(error),
            Figure([grid("y", one.target), grid("delta", worked.delta)]),
        ],
    )


def _perceptron(worked: Worked) -> Section:
    outputs, inputs = worked.wires.weight.shape
    kept = int((worked.wires.weight != CUT).sum())
    weights = worked.case.kernel.size
    first = Words(
        "A layer of perceptrons connects every input with every output. Here that makes "
        f"{inputs} times {outputs} = {_many(inputs * outputs, 'connection')}, each with a weight "
        f"of its own. Cut all but the {kept} that lie in a window, and let all windows share the "
        f"same {_many(weights, 'weight')}. What is left is the {worked.case.operation}."
    )
    blocks: list[Block] = [first]
    if inputs * outputs <= _MOST:
        blocks += [
            Words("One row an output, one column an input; a dot where the connection is cut:"),
            Figure([worked.perceptron()]),
        ]
    else:
        blocks.append(
            Words(f"(With {inputs * outputs} connections the matrix is too large to be shown.)")
        )
    most = int((worked.wires.weight != CUT).sum(1).argmax())
    place = tuple(int(i) for i in np.unravel_index(most, worked.z.shape))
    biases = worked.wires.biases(np.array([worked.case.bias]))
    product = worked.matrix @ worked.case.image.reshape(-1) + biases
    blocks += [
        Words("A row times the image, plus the bias, is what the kernel gives at a position:"),
        Equation(worked.named(worked.trace.z("conv", (0, 0, *place)))),
        Words(
            "All rows times the image give all of `z`; the largest difference from sliding the "
            f"kernel is {tiny(product - worked.z.reshape(-1))}."
        ),
    ]
    return Section("A perceptron, its connections cut and its weights shared", blocks)


def _counted(worked: Worked) -> Section:
    """Read down the column of the input that has the most connections."""
    used = (worked.wires.weight != CUT).sum(0)
    chosen, most = int(used.argmax()), int(used.max())
    place = divmod(chosen, worked.case.image.shape[1])
    column = worked.wires.weight[:, chosen].reshape(worked.delta.shape)
    met = Grid(
        f"the weights that take a{at_text(place)}",
        [[worked.symbol(weight) for weight in row] for row in column.tolist()],
    )
    terms = tuple(
        (worked.weight(int(weight)), Factor("delta", at, float(worked.delta[at])))
        for at, weight in np.ndenumerate(column)
        if weight != CUT
    )
    found = Sum("dC/da", place, float(worked.error[place]), terms)
    rows, columns = np.nonzero(column != CUT)
    seen = column[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    through = ", each time through another weight" if most > 1 else ""
    words = (
        f"By how much does the cost grow with `a{at_text(place)}`? It goes into "
        f"{_many(most, 'output')}{through}, and the error of each output comes back "
        "through the weight by which the input went there. Read the "
        "matrix down the column of this input:"
    )
    return Section(
        "The error of an input, counted connection by connection",
        [
            Words(words),
            Equation(found),
            Words("Now lay these weights where the outputs lie, and the kernel beside them:"),
            Figure([worked.output_symbols(), met, worked.kernel_symbols()]),
            Words(_why(worked, seen)),
        ],
    )


def _why(worked: Worked, seen: Array) -> str:
    """Say what the weights that meet the outputs are, having looked."""
    one = worked.case
    if one.kernel.size == 1:
        return "There is one weight only, so nothing can be turned."
    if np.array_equal(seen, worked.numbers):
        what = "They are the kernel as it is."
    elif np.array_equal(seen, rot180(worked.numbers)):
        what = "They are the kernel, rotated by 180 degrees."
    else:
        order = "its own" if one.rotated else "reversed"
        what = f"They are entries of the kernel, in {order} order."
    s = "" if one.stride == (1, 1) else str(one.stride[0]) if one.stride[0] > 1 else "s "
    shifted = worked.pad_width != ((0, 0), (0, 0)) or one.rotated
    start = "Up to a shift that is the same everywhere, " if shifted else "Always "
    sign, back = ("-", "+") if one.rotated else ("+", "-")
    output = f"z[x {back} i]" if not s else f"z[(x {back} i) / {s.strip()}]"
    forward = f"{start}`z[y]` takes `a[{s}y {sign} i]` with `w[i]`."
    seen_back = f"Seen from `a[x]`, the output that takes it with `w[i]` is `{output}`"
    if s:
        seen_back += ", where that is whole"
    if one.rotated:
        return (
            f"{what} Going forward the kernel was turned. {forward} {seen_back}: what lay i steps "
            "behind on the way forward lies i steps ahead on the way back. The kernel has been "
            "turned twice."
        )
    return (
        f"{what} It cannot be otherwise. {forward} {seen_back}: what lay i steps ahead on the way "
        "forward lies i steps behind on the way back, down as well as to the right."
    )


def _full(worked: Worked) -> Section:
    one = worked.case
    kh, kw = one.kernel.shape
    spread = dilated(worked.delta, one.stride)
    wide = padded(spread[None, None], ((kh - 1, kh - 1), (kw - 1, kw - 1)))[0, 0]
    back = one.kernel if one.rotated else rot180(one.kernel)
    numbers = worked.numbers if one.rotated else rot180(worked.numbers)
    name = "w" if one.rotated else "rot180(w)"
    transposed = (worked.matrix.T @ worked.delta.reshape(-1)).reshape(worked.error.shape)
    between = (
        f" Between neighbours go the zeros of the positions that the stride of "
        f"{_two(one.stride)} has left out."
        if one.stride != (1, 1)
        else ""
    )
    cut = (
        " The border that was put around the image is cut off again."
        if worked.pad_width != ((0, 0), (0, 0))
        else ""
    )
    reach = [d - k + 1 for d, k in zip(wide.shape, (kh, kw), strict=True)]
    whole = [
        size + sum(border)
        for size, border in zip(worked.error.shape, worked.pad_width, strict=True)
    ]
    left = " Pixels that no window reaches get zero." if reach != whole else ""
    words = (
        "All inputs at once: put zeros around `delta`, on each side one row or column fewer than "
        f"the kernel has, and slide the {'kernel as it is' if one.rotated else 'rotated kernel'} "
        "over it. At the border, where an input has fewer connections, the other weights meet "
        f"a zero. In short: `dC/da = delta * {'rot180(w)' if one.rotated else 'w'}`, a full "
        f"convolution (which turns its kernel).{between}{cut}{left}"
    )
    return Section(
        "The same for all inputs: one full convolution",
        [
            Words(words),
            Figure(
                [
                    grid("delta, with zeros", wide),
                    "slide",
                    grid(name, back, numbers),
                    "=",
                    grid("dC/da", worked.error),
                    "beside",
                    _rounded("dC/da by finite differences", worked.differences["a"]),
                ]
            ),
            Words(
                "The perceptron says the same: its matrix transposed, times `delta`. The "
                f"largest difference is {tiny(transposed - worked.error)}. Where `a` is the "
                "output of another layer, `dC/da` times the slope `f'(z)` there is the error "
                "of that layer, and the same step begins again below."
            ),
        ],
    )


def _weights(worked: Worked) -> Section:
    uses = worked.wires.uses[0, 0]
    place = tuple(int(i) for i in np.unravel_index(int(uses.argmax()), uses.shape))
    found = worked.named(worked.trace.weight_gradient("conv", (0, 0, *place)))
    bias = worked.named(worked.trace.bias_gradient("conv", (0,)))
    dense = np.outer(worked.delta.reshape(-1), worked.case.image.reshape(-1))
    shared = worked.wires.shared_gradient(dense)[0, 0]
    shared_bias = worked.wires.shared_bias_gradient(worked.delta)[0]
    formula = "delta * rot180(a)" if worked.case.rotated else "corr(delta, a)"
    zeros = [
        *(["`delta` with the zeros between"] if worked.case.stride != (1, 1) else []),
        *(["`a` with its border"] if worked.pad_width != ((0, 0), (0, 0)) else []),
    ]
    taken = f", {' and '.join(zeros)}" if zeros else ""
    return Section(
        "The weights: a sum over all connections that share one",
        [
            Words(
                f"`w{at_text(place)}` is used by {_many(int(uses[place]), 'connection')}. For each "
                "of them the perceptron has the error above times the input below; a shared weight "
                "takes the sum:"
            ),
            Equation(found),
            Words(
                "Each weight meets the image at a shift of its own. So all gradients together come "
                f"from sliding `delta` over the image: `dC/dw = {formula}`{taken}."
            ),
            Figure(
                [
                    grid("dC/dw", worked.gradient, worked.numbers),
                    "beside",
                    _rounded("dC/dw by finite differences", worked.differences["w"]),
                ]
            ),
            Words(
                "The largest difference from adding up the perceptron's gradients, connection "
                f"by connection, is {tiny(shared - worked.gradient)}. The bias is added at "
                "every position, so it takes the sum of all errors "
                f"({number(round(float(worked.differences['b'][0]), 6))} by finite differences, "
                f"and {number(float(shared_bias))} as the sum of the perceptron's):"
            ),
            Equation(bias),
        ],
    )


def _rounded(name: str, values: Array) -> Grid:
    """Return finite differences as a grid, without the digits that are rounding."""
    return grid(name, np.round(values, 6) + 0.0)


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _two(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} down and {pair[1]} to the right"


def _border(pad_width: Any) -> str:
    (top, bottom), (left, right) = pad_width
    if top == bottom == left == right:
        return f"{top} wide"
    return f"{top} above, {bottom} below, {left} to the left and {right} to the right"


def _f(case: Case) -> str:
    return {"relu": "max(z, 0)", "sigmoid": "1 / (1 + exp(-z))", "tanh": "tanh(z)"}[case.activation]
