"""A case with all its numbers, and the grids and sums that show them."""

from dataclasses import replace
from typing import Any

import numpy as np

from rot180.equations.convolution import Array
from rot180.equations.equivalence import CUT, connections
from rot180.equations.gradcheck import central_differences
from rot180.equations.padding import resolve_padding
from rot180.equations.trace import Sum, Trace
from rot180.equations.wiring import Factor
from rot180.explain.blocks import Cell, Grid, grid, number
from rot180.explain.case import Case, fed_forward, network_of


class Worked:
    """A case, computed: forward, back, and as a perceptron.

    Attributes:
        case: what was given.
        trace: takes its numbers apart.
        z, delta: (y, x), the weighted inputs and their error.
        output, cost: (y, x), z after the activation, and half its squared distance from y.
        error: (h, w), dC/da.
        gradient, bias_gradient: dC/dw (kh, kw) and dC/db.
        wires: the connections that the convolution has left of a perceptron's.
        matrix: (outputs, inputs), the weights of that perceptron.
        numbers: (kh, kw), the number of each weight, which gives it its colour.
        differences: dC/dw, dC/db, dC/da and dC/dz by central differences, under "w", "b", "a"
            and "z".
        kinks: likewise, whether a kink lay between the two points.
        pad_width: rows and columns of zeros around the image.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.trace = Trace(network_of(case), case.image[None, None], case.target[None, None])
        network = self.trace.network  # which took the five steps
        found = network.gradient()
        self.gradient = found["conv.w"][0, 0].copy()
        self.bias_gradient = float(found["conv.b"][0])
        self.z = network.a["conv"][0, 0].copy()
        self.output = next(reversed(network.a.values()))[0, 0].copy()
        self.cost = float(
            network.cost.per_image(self.output[None, None], case.target[None, None])[0]
        )
        self.delta = network.delta["conv"][0, 0].copy()
        self.error = network.layers["conv"].backward(network.delta["conv"])[0, 0].copy()
        self.wires = connections(
            (1, *case.image.shape),
            (1, 1, *case.kernel.shape),
            case.stride,
            case.padding,
            operation=case.operation,
        )
        self.matrix = self.wires.matrix(case.kernel)
        self.numbers = np.arange(case.kernel.size).reshape(case.kernel.shape)
        self.differences, self.kinks = _differences(case, self.z)
        self.pad_width = resolve_padding(case.padding, case.kernel.shape, case.stride, case.rotated)

    def kernel(self) -> Grid:
        """Return the kernel in numbers."""
        return grid("w", self.case.kernel, self.numbers)

    def kernel_symbols(self) -> Grid:
        """Return the kernel in symbols: w[0,0], w[0,1], …"""
        rows = [[self.symbol(int(k)) for k in row] for row in self.numbers]
        return Grid("the kernel", rows)

    def output_symbols(self) -> Grid:
        """Return the errors of the outputs in symbols: delta[0,0], …"""
        rows, columns = self.delta.shape
        cells = [[Cell(f"delta{at_text((r, c))}") for c in range(columns)] for r in range(rows)]
        return Grid("the outputs", cells)

    def perceptron(self) -> Grid:
        """Return the perceptron's weights in symbols: a row an output, a column an input."""
        return Grid(
            "",
            [[self.symbol(weight) for weight in row] for row in self.wires.weight.tolist()],
            [f"z{at_text(at)}" for at in np.ndindex(self.z.shape)],
            [f"a{at_text(at)}" for at in np.ndindex(self.case.image.shape)],
        )

    def symbol(self, weight: int) -> Cell:
        """Return a weight, given by its number, as w[0,1]; a dot for a connection that is cut."""
        if weight == CUT:
            return Cell("·")
        found = self.weight(weight)
        return Cell(found.symbol, found.value, weight)

    def weight(self, number: int) -> Factor:
        """Return the weight of this number."""
        row, column = divmod(number, self.case.kernel.shape[1])
        return Factor("w", (row, column), float(self.case.kernel[row, column]))

    def named(self, found: Sum) -> Sum:
        """Return a sum with the short names of this case: one image, one channel, one layer.

        The factor 1/n of the cost is one here, and left out.
        """
        names = {
            "x": "a",
            "conv.w": "w",
            "conv.b": "b",
            "conv.z": "z",
            "conv.delta": "delta",
            "dC/dx": "dC/da",
            "dC/dconv.w": "dC/dw",
            "dC/dconv.b": "dC/db",
            "f.slope": "f'(z)",
            "a": "z" if self.case.activation == "none" else "a'",  # what the cost compares with y
            "-y": "-y",
        }
        terms = tuple(
            tuple(
                replace(f, name=names[f.name], index=f.index[2:]) for f in term if f.name in names
            )
            for term in found.terms
        )
        return Sum(names[found.name], found.index[2:], found.value, terms)


def _differences(case: Case, z: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Change each number of the case a little, and see how the cost changes."""
    above = network_of(case)  # of which the part above z is used

    def from_z() -> tuple[Array, list[Array]]:
        output, sides = numbers["z"][None, None], []
        for name, layer in above.layers.items():
            if name != "conv":
                output = layer.forward(output)
                sides.append(layer.kink_pattern())
        cost = above.cost.per_image(output, case.target[None, None])
        return cost, [side for side in sides if side is not None]

    numbers = {
        "w": case.kernel.copy(),
        "b": np.array([case.bias]),
        "a": case.image.copy(),
        "z": z.copy(),
    }

    def evaluate() -> tuple[Array, list[Array]]:
        changed = replace(
            case, image=numbers["a"], kernel=numbers["w"], bias=float(numbers["b"][0])
        )
        network, output = fed_forward(changed)
        cost = network.cost.per_image(output, case.target[None, None])
        sides = [layer.kink_pattern() for layer in network.layers.values()]
        return cost, [side for side in sides if side is not None]

    slopes, kinks = {}, {}
    for name, values in numbers.items():
        found, crossed = central_differences(from_z if name == "z" else evaluate, values)
        slopes[name], kinks[name] = found.reshape(values.shape), crossed.reshape(values.shape)
    return slopes, kinks


def at_text(index: tuple[int, ...]) -> str:
    """Write an index as [0,1]."""
    return f"[{','.join(map(str, index))}]"


def tiny(values: Any) -> str:
    """Write the largest size of some differences; those of rounding with one digit."""
    largest = float(np.abs(values).max(initial=0))
    return number(largest) if largest == 0 or largest > 1e-3 else f"{largest:.0e}"
