"""The explanation itself: one convolution, forward and back, each number with where it came from.

Everything shown is computed by ``rot180.equations`` and measured as it is shown; nothing is drawn
from memory.
"""

from typing import Any

import numpy as np

from rot180.equations.convolution import Array, dilated, padded, rot180
from rot180.equations.equivalence import CUT
from rot180.equations.links import Factor
from rot180.equations.trace import Sum
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
    if worked.borders != ((0, 0), (0, 0)):
        extras.append(f"a border of zeros, {_border(worked.borders)}")
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
    return Section(
        "The case",
        [
            Words(words),
            Figure([grid("a", one.image), worked.kernel("w"), grid("z", worked.z)]),
            Words(error),
            Figure([grid("y", one.target), grid("delta", worked.delta)]),
        ],
    )


def _perceptron(worked: Worked) -> Section:
    outputs, inputs = worked.wires.weight.shape
    kept = int((worked.wires.weight != CUT).sum())
    weights = worked.case.kernel.size
    first = Words(
        f"A layer of perceptrons connects each of the {inputs} inputs with each of the "
        f"{outputs} outputs: {inputs * outputs} connections, each with a weight of its own. "
        f"Cut all but the {kept} that lie in a window, and let all windows share the same "
        f"{weights} weights. What is left is the {worked.case.operation}."
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
    product = worked.matrix @ worked.case.image.reshape(-1) + worked.case.bias
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
    chosen = int(used.argmax())
    row, across = divmod(chosen, worked.case.image.shape[1])
    place = (row, across)
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
    words = (
        f"By how much does the cost grow with `a{at_text(place)}`? It goes into {used[chosen]} "
        f"output{'s, each time through another weight' if used[chosen] > 1 else ''}, and the error "
        "of each output comes back through the weight by which the input went there. Read the "
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
    turned = np.array_equal(seen, rot180(worked.numbers))
    same = np.array_equal(seen, worked.numbers)
    if worked.case.rotated:
        what = (
            "They are the kernel as it is."
            if same
            else "They are entries of the kernel in its own order."
        )
        return (
            f"{what} Going forward the kernel was turned: `z[y]` takes `a[y - i]` with `w[i]`. "
            "Seen from `a[x]`, the output that takes it with `w[i]` is `z[x + i]`: what lay i "
            "steps behind on the way forward lies i steps ahead on the way back. The kernel "
            "has been turned twice."
        )
    what = (
        "They are the kernel, rotated by 180 degrees."
        if turned
        else "They are entries of the kernel in reversed order."
    )
    return (
        f"{what} It cannot be otherwise: `z[y]` takes `a[y + i]` with `w[i]`. Seen from "
        "`a[x]`, the output that takes it with `w[i]` is `z[x - i]`: what lay i steps ahead "
        "on the way forward lies i steps behind on the way back, down as well as to the right."
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
        if worked.borders != ((0, 0), (0, 0))
        else ""
    )
    words = (
        "All inputs at once: put zeros around `delta`, one row and column fewer than the "
        f"kernel has, and slide the {'kernel as it is' if one.rotated else 'rotated kernel'} "
        "over it. At the border, where an input has fewer connections, the other weights meet "
        f"a zero. In short: `dC/da = delta * {'rot180(w)' if one.rotated else 'w'}`, a full "
        f"convolution (which turns its kernel).{between}{cut}"
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
    place = (0, 0)
    found = worked.named(worked.trace.weight_gradient("conv", (0, 0, *place)))
    bias = worked.named(worked.trace.bias_gradient("conv", (0,)))
    dense = np.outer(worked.delta.reshape(-1), worked.case.image.reshape(-1))
    shared = worked.wires.shared_gradient(dense)[0, 0]
    formula = "delta * rot180(a)" if worked.case.rotated else "corr(delta, a)"
    return Section(
        "The weights: a sum over all connections that share one",
        [
            Words(
                f"`w{at_text(place)}` is used by {uses[place]} connections. For each of them the "
                "perceptron has the error above times the input below; a shared weight takes "
                "the sum:"
            ),
            Equation(found),
            Words(
                "The next weight meets the image one step further on. So all gradients "
                f"together come from sliding `delta` over the image: `dC/dw = {formula}`."
            ),
            Figure([grid("dC/dw", worked.gradient, worked.numbers)]),
            Words(
                "The largest difference from adding up the perceptron's gradients, connection "
                f"by connection, is {tiny(shared - worked.gradient)}. The bias is added at "
                "every position, so it takes the sum of all errors:"
            ),
            Equation(bias),
        ],
    )


def _two(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} down and {pair[1]} to the right"


def _border(borders: Any) -> str:
    (top, bottom), (left, right) = borders
    if top == bottom == left == right:
        return f"{top} wide"
    return f"{top} above, {bottom} below, {left} to the left and {right} to the right"


def _f(case: Case) -> str:
    return {"relu": "max(z, 0)", "sigmoid": "1 / (1 + exp(-z))", "tanh": "tanh(z)"}[case.activation]
