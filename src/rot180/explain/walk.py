"""The explanation itself: one convolution, forward and back, each number with where it came from.

Everything shown is computed by ``rot180.equations`` and measured as it is shown; nothing is drawn
from memory.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from rot180.equations.convolution import (
    Array,
    convolution_error,
    convolution_gradient,
    correlation_error,
    correlation_gradient,
    dilated,
    padded,
    rot180,
)
from rot180.equations.equivalence import CUT, Connections, connections
from rot180.equations.geometry import margins
from rot180.equations.links import Factor
from rot180.equations.trace import Sum, Trace
from rot180.equations.verify import central_differences
from rot180.explain.blocks import Block, Cell, Equation, Figure, Grid, Section, Words, grid, number
from rot180.explain.case import Case, fed_forward, network_of

_MOST = 400
"""Connections between all inputs and outputs that are still shown as a matrix."""


def walk(case: Case) -> list[Section]:
    """Explain a case, from the perceptron to the finite differences."""
    return _Walk(case).sections()


class _Walk:
    """A case with all its numbers, and the sections that show them."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.trace = Trace(network_of(case), case.image[None, None], case.target[None, None])
        self.network = network_of(case)
        _, found = self.network.five_steps(case.image[None, None], case.target[None, None])
        self.gradient = found["conv.w"][0, 0].copy()
        self.bias_gradient = float(found["conv.b"][0])
        self.z = self.network.a["conv"][0, 0].copy()
        self.delta = self.network.delta["conv"][0, 0].copy()
        convolution = self.network.layers["conv"]
        self.error = convolution.backward(self.network.delta["conv"])[0, 0].copy()
        self.wires: Connections = connections(
            (1, *case.image.shape),
            (1, 1, *case.kernel.shape),
            case.stride,
            case.padding,
            operation=case.operation,
        )
        self.matrix = self.wires.matrix(case.kernel)
        self.numbers = np.arange(case.kernel.size).reshape(case.kernel.shape)
        self.borders = margins(case.padding, case.kernel.shape, case.stride, case.rotated)

    def sections(self) -> list[Section]:
        """Return all steps."""
        return [
            self._the_case(),
            self._perceptron(),
            self._counted(),
            self._full(),
            self._weights(),
            self._differences(),
            self._never_lost(),
        ]

    def _the_case(self) -> Section:
        one = self.case
        slides = "rotated by 180 degrees" if one.rotated else "as it is"
        formula = "w * a + b" if one.rotated else "corr(w, a) + b"
        activation = "" if one.activation == "none" else f" Then the activation `a' = {_f(one)}`."
        output = "z" if one.activation == "none" else "a'"
        extras = [f"stride {_two(one.stride)}"] if one.stride != (1, 1) else []
        if self.borders != ((0, 0), (0, 0)):
            extras.append(f"a border of zeros, {_border(self.borders)}")
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
                Figure([grid("a", one.image), self._kernel("w"), grid("z", self.z)]),
                Words(error),
                Figure([grid("y", one.target), grid("delta", self.delta)]),
            ],
        )

    def _perceptron(self) -> Section:
        outputs, inputs = self.wires.weight.shape
        kept = int((self.wires.weight != CUT).sum())
        weights = self.case.kernel.size
        first = Words(
            f"A layer of perceptrons connects each of the {inputs} inputs with each of the "
            f"{outputs} outputs: {inputs * outputs} connections, each with a weight of its own. "
            f"Cut all but the {kept} that lie in a window, and let all windows share the same "
            f"{weights} weights. What is left is the {self.case.operation}."
        )
        blocks: list[Block] = [first]
        if inputs * outputs <= _MOST:
            blocks += [
                Words("One row an output, one column an input; a dot where the connection is cut:"),
                Figure([self._connections()]),
            ]
        else:
            blocks.append(
                Words(f"(With {inputs * outputs} connections the matrix is too large to be shown.)")
            )
        most = int((self.wires.weight != CUT).sum(1).argmax())
        place = tuple(int(i) for i in np.unravel_index(most, self.z.shape))
        product = self.matrix @ self.case.image.reshape(-1) + self.case.bias
        blocks += [
            Words("A row times the image, plus the bias, is what the kernel gives at a position:"),
            Equation(self._named(self.trace.z("conv", (0, 0, *place)))),
            Words(
                "All rows times the image give all of `z`; the largest difference from sliding the "
                f"kernel is {_tiny(product - self.z.reshape(-1))}."
            ),
        ]
        return Section("A perceptron, its connections cut and its weights shared", blocks)

    def _counted(self) -> Section:
        """Read down the column of the input that has the most connections."""
        used = (self.wires.weight != CUT).sum(0)
        chosen = int(used.argmax())
        place = self._input(chosen)
        column = self.wires.weight[:, chosen].reshape(self.delta.shape)
        met = Grid(
            f"the weights that take a{_at(place)}",
            [
                [Cell("·") if weight == CUT else self._symbol(int(weight)) for weight in row]
                for row in column
            ],
        )
        value = float(self.error[place])
        terms = tuple(
            (
                replace(self._factor("w", self._weight(int(weight))), value=self._value(weight)),
                replace(self._factor("delta", at), value=float(self.delta[at])),
            )
            for at, weight in np.ndenumerate(column)
            if weight != CUT
        )
        found = Sum("dC/da", place, value, terms)
        rows, columns = np.nonzero(column != CUT)
        seen = column[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        words = (
            f"By how much does the cost grow with `a{_at(place)}`? It goes into {used[chosen]} "
            "outputs, each time through another weight, and the error of each output comes back "
            "through that same weight. Read the matrix down the column of this input:"
        )
        return Section(
            "The error of an input, counted connection by connection",
            [
                Words(words),
                Equation(found),
                Words("Now lay these weights where the outputs lie, and the kernel beside them:"),
                Figure([self._symbols("delta"), met, self._symbols("w")]),
                Words(self._why(seen)),
            ],
        )

    def _why(self, seen: Array) -> str:
        """Say what the weights that meet the outputs are, having looked."""
        turned = np.array_equal(seen, rot180(self.numbers))
        same = np.array_equal(seen, self.numbers)
        if self.case.rotated:
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

    def _full(self) -> Section:
        one = self.case
        kh, kw = one.kernel.shape
        spread = dilated(self.delta, one.stride)
        wide = padded(spread[None, None], ((kh - 1, kh - 1), (kw - 1, kw - 1)))[0, 0]
        back = one.kernel if one.rotated else rot180(one.kernel)
        numbers = self.numbers if one.rotated else rot180(self.numbers)
        name = "w" if one.rotated else "rot180(w)"
        transposed = (self.matrix.T @ self.delta.reshape(-1)).reshape(self.error.shape)
        between = (
            f" Between neighbours go the zeros of the positions that the stride of "
            f"{_two(one.stride)} has left out."
            if one.stride != (1, 1)
            else ""
        )
        cut = (
            " The border that was put around the image is cut off again."
            if self.borders != ((0, 0), (0, 0))
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
                        grid("dC/da", self.error),
                    ]
                ),
                Words(
                    "The perceptron says the same: its matrix transposed, times `delta`. The "
                    f"largest difference is {_tiny(transposed - self.error)}. Where `a` is the "
                    "output of another layer, `dC/da` times the slope `f'(z)` there is the error "
                    "of that layer, and the same step begins again below."
                ),
            ],
        )

    def _weights(self) -> Section:
        uses = self.wires.uses[0, 0]
        place = (0, 0)
        found = self._named(self.trace.weight_gradient("conv", (0, 0, *place)))
        bias = self._named(self.trace.bias_gradient("conv", (0,)))
        dense = np.outer(self.delta.reshape(-1), self.case.image.reshape(-1))
        shared = self.wires.shared_gradient(dense)[0, 0]
        formula = "delta * rot180(a)" if self.case.rotated else "corr(delta, a)"
        return Section(
            "The weights: a sum over all connections that share one",
            [
                Words(
                    f"`w{_at(place)}` is used by {uses[place]} connections. For each of them the "
                    "perceptron has the error above times the input below; a shared weight takes "
                    "the sum:"
                ),
                Equation(found),
                Words(
                    "The next weight meets the image one step further on. So all gradients "
                    f"together come from sliding `delta` over the image: `dC/dw = {formula}`."
                ),
                Figure([grid("dC/dw", self.gradient, self.numbers)]),
                Words(
                    "The largest difference from adding up the perceptron's gradients, connection "
                    f"by connection, is {_tiny(shared - self.gradient)}. The bias is added at "
                    "every position, so it takes the sum of all errors:"
                ),
                Equation(bias),
            ],
        )

    def _differences(self) -> Section:
        one = self.case
        image, kernel, bias = one.image.copy(), one.kernel.copy(), np.array([one.bias])

        def evaluate() -> tuple[Array, list[Array]]:
            changed = replace(one, image=image, kernel=kernel, bias=float(bias[0]))
            network, output = fed_forward(changed)
            cost = network.cost.of(output, one.target[None, None])
            sides = [layer.branch() for layer in network.layers.values()]
            return cost, [side for side in sides if side is not None]

        names: list[str] = []
        ours: list[float] = []
        slopes: list[float] = []
        crossed: list[bool] = []
        for name, values, found in (
            ("w", kernel, self.gradient),
            ("b", bias, np.array([self.bias_gradient])),
            ("a", image, self.error),
        ):
            differences, at_kink = central_differences(evaluate, values)
            places = np.ndindex(values.shape)
            names += [f"dC/d{name}{'' if name == 'b' else _at(at)}" for at in places]
            ours += found.reshape(-1).tolist()
            slopes += differences.tolist()
            crossed += at_kink.tolist()
        off = np.abs(np.subtract(ours, slopes)) / max(np.abs(slopes).max(), 1e-300)
        kinks = sum(crossed)
        worst = off[~np.array(crossed)].max(initial=0)
        rows = [
            [
                Cell(name),
                Cell(number(one), one),
                Cell(f"{slope:.8g}", slope),
                Cell("at a kink") if kink else Cell(_tiny(error), float(error)),
            ]
            for name, one, slope, error, kink in zip(names, ours, slopes, off, crossed, strict=True)
        ]
        heads = ["", "back-propagation", "finite difference", "difference, relative"]
        left = (
            f" {kinks} entries lie at a kink, where the two sides have different slopes and there "
            "is nothing to compare with."
            if kinks
            else ""
        )
        return Section(
            "Beside finite differences",
            [
                Words(
                    "Change one number a little in both directions, go forward again, and see by "
                    "how much the cost has changed: `(C(w + h) - C(w - h)) / 2h`, with h = 6e-6. "
                    "This knows nothing of back-propagation."
                ),
                Figure([Grid("", rows, column_names=heads)]),
                Words(
                    f"The largest difference, over the largest of these numbers, is {_tiny(worst)}."
                    f"{left}"
                ),
            ],
        )

    def _never_lost(self) -> Section:
        """Try every combination on this case, and say which ones are right."""
        image, delta = self.case.image[None, None], self.delta[None, None]
        kernel = self.case.kernel[None, None]
        stride, size, k = self.case.stride, self.case.image.shape, self.case.kernel.shape
        rows = []
        for operation, error, gradient, forward in (
            ("corr(w, a)", correlation_error, correlation_gradient, "as it is"),
            ("w * a", convolution_error, convolution_gradient, "rotated"),
        ):
            rotated = operation == "w * a"
            borders = margins(self.case.padding, k, stride, rotated)
            wires = connections(
                (1, *size),
                (1, 1, *k),
                stride,
                borders,
                operation="convolution" if rotated else "correlation",
            )
            right = (wires.matrix(kernel).T @ delta.reshape(-1)).reshape(size)
            with_it = error(delta, kernel, size, stride, borders)[0, 0]
            without = error(delta, rot180(kernel), size, stride, borders)[0, 0]
            dense = np.outer(delta.reshape(-1), image.reshape(-1))
            weights = gradient(image, delta, k, stride, borders)
            off = np.abs(weights - wires.shared_gradient(dense)).max()
            cells = (
                operation,
                forward,
                "as it is" if rotated else "rotated",
                _tiny(with_it - right),
                _tiny(without - right),
                _tiny(off),
            )
            rows.append([Cell(text) for text in cells])
        heads = ["layer", "w forward", "w back", "dC/da off by", "the other way", "dC/dw off by"]
        symmetric = np.array_equal(self.case.kernel, rot180(self.case.kernel))
        note = (
            " (This kernel is the same when it is rotated, so here one cannot tell.)"
            if symmetric
            else ""
        )
        return Section(
            "The rotation is never lost",
            [
                Words(
                    "A layer may correlate, as PyTorch's do, or convolve, as the equations are "
                    "usually written. Here are both, with the same image, kernel and `delta`: how "
                    "far what comes back is from what the perceptron's matrix says, and how far "
                    "it would be if the kernel slid back the other way round."
                ),
                Figure([Grid("", rows, column_names=heads)]),
                Words(
                    "Exactly one of the two directions carries the rotation. A network that learns "
                    "its kernels does as well with either, it learns them turned; but the way back "
                    f"has to be the opposite of the way forward.{note}"
                ),
            ],
        )

    def _kernel(self, name: str) -> Grid:
        return grid(name, self.case.kernel, self.numbers)

    def _symbols(self, name: str) -> Grid:
        """Return a grid of symbols: w[0,0], w[0,1], …"""
        shape = self.case.kernel.shape if name == "w" else self.delta.shape
        rows = [
            [
                self._symbol(r * shape[1] + c) if name == "w" else Cell(f"{name}{_at((r, c))}")
                for c in range(shape[1])
            ]
            for r in range(shape[0])
        ]
        return Grid("the kernel" if name == "w" else "the outputs", rows)

    def _connections(self) -> Grid:
        rows = [
            [Cell("·") if weight == CUT else self._symbol(int(weight)) for weight in row]
            for row in self.wires.weight
        ]
        return Grid(
            "",
            rows,
            [f"z{_at(at)}" for at in np.ndindex(self.z.shape)],
            [f"a{_at(at)}" for at in np.ndindex(self.case.image.shape)],
        )

    def _symbol(self, weight: int) -> Cell:
        return Cell(f"w{_at(self._weight(weight))}", self._value(weight), weight)

    def _weight(self, number: int) -> tuple[int, int]:
        row, column = divmod(number, self.case.kernel.shape[1])
        return row, column

    def _input(self, number: int) -> tuple[int, int]:
        row, column = divmod(number, self.case.image.shape[1])
        return row, column

    def _value(self, weight: Any) -> float:
        return float(self.case.kernel.reshape(-1)[weight])

    def _factor(self, name: str, index: tuple[int, ...]) -> Factor:
        return Factor(name, tuple(int(i) for i in index), 0.0)

    def _named(self, found: Sum) -> Sum:
        """Return a sum with the short names of this case: one image, one channel, one layer."""
        names = {
            "x": "a",
            "conv.w": "w",
            "conv.b": "b",
            "conv.z": "z",
            "conv.delta": "delta",
            "dC/dconv.w": "dC/dw",
            "dC/dconv.b": "dC/db",
        }
        terms = tuple(
            tuple(replace(f, name=names[f.name], index=f.index[2:]) for f in term)
            for term in found.terms
        )
        return Sum(names[found.name], found.index[2:], found.value, terms)


def _at(index: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, index))}]"


def _two(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} down and {pair[1]} to the right"


def _border(borders: Any) -> str:
    (top, bottom), (left, right) = borders
    if top == bottom == left == right:
        return f"{top} wide"
    return f"{top} above, {bottom} below, {left} to the left and {right} to the right"


def _f(case: Case) -> str:
    return {"relu": "max(z, 0)", "sigmoid": "1 / (1 + exp(-z))", "tanh": "tanh(z)"}[case.activation]


def _tiny(values: Any) -> str:
    largest = float(np.abs(values).max(initial=0))
    return number(largest) if largest == 0 or largest > 1e-3 else f"{largest:.0e}"
