"""All numbers of an example, and the grids and sums that show them."""

from dataclasses import replace
from typing import Any

import numpy as np

from rot180.equations.convolution import Array
from rot180.equations.equivalence import CUT, connections
from rot180.equations.gradcheck import central_differences
from rot180.equations.padding import resolve_padding
from rot180.equations.trace import Sum, Trace
from rot180.equations.wiring import Factor
from rot180.explain.blocks import Cell, Grid, format_number, grid
from rot180.explain.example import ConvolutionExample, build_network, run_forward


class WorkedExample:
    """An example with its forward pass, its backward pass, and the perceptron that it equals.

    Attributes:
        example: the convolution as it was given.
        trace: the same network, whose numbers it takes apart.
        z, delta: (y, x), the weighted inputs and their error.
        output: (y, x), z after the activation.
        cost: half the squared distance of the output from the target.
        error: (h, w), dC/da.
        gradient, bias_gradient: dC/dw (kh, kw) and dC/db.
        connections: the connections of a perceptron that the convolution leaves.
        matrix: (outputs, inputs), the weights of that perceptron.
        numbers: (kh, kw), the number of each weight, which gives it its colour.
        differences: dC/dw, dC/db, dC/da and dC/dz by central differences, under "w", "b", "a"
            and "z".
        kinks: whether a kink lies between the two points of each difference, under the same names.
        pad_width: rows and columns of zeros around the image.
    """

    def __init__(self, example: ConvolutionExample) -> None:
        image, target = example.image[None, None], example.target[None, None]
        self.example = example
        self.trace = Trace(build_network(example), image, target)
        network = self.trace.network  # Trace has taken the five steps
        gradients = network.gradient()
        self.gradient = gradients["conv.w"][0, 0].copy()
        self.bias_gradient = float(gradients["conv.b"][0])
        self.z = network.a["conv"][0, 0].copy()
        output = next(reversed(network.a.values()))
        self.output = output[0, 0].copy()
        self.cost = float(network.cost.per_image(output, target)[0])
        self.delta = network.delta["conv"][0, 0].copy()
        self.error = network.layers["conv"].backward(network.delta["conv"])[0, 0].copy()
        self.connections = connections(
            (1, *example.image.shape),
            (1, 1, *example.kernel.shape),
            example.stride,
            example.padding,
            operation=example.operation,
        )
        self.matrix = self.connections.matrix(example.kernel)
        self.numbers = np.arange(example.kernel.size).reshape(example.kernel.shape)
        self.differences, self.kinks = _differences(example, self.z)
        self.pad_width = resolve_padding(
            example.padding, example.kernel.shape, example.stride, example.rotated
        )

    def kernel(self) -> Grid:
        """Return the kernel in numbers."""
        return grid("w", self.example.kernel, self.numbers)

    def kernel_symbols(self) -> Grid:
        """Return the kernel in symbols: w[0,0], w[0,1], …"""
        rows = [[self.symbol(int(weight)) for weight in row] for row in self.numbers]
        return Grid("the kernel", rows)

    def output_symbols(self) -> Grid:
        """Return the errors of the outputs in symbols: delta[0,0], …"""
        rows, columns = self.delta.shape
        cells = [
            [Cell(f"delta{format_index((row, column))}") for column in range(columns)]
            for row in range(rows)
        ]
        return Grid("the outputs", cells)

    def perceptron(self) -> Grid:
        """Return the perceptron's weights in symbols: one row per output, one column per input."""
        return Grid(
            "",
            [[self.symbol(weight) for weight in row] for row in self.connections.weight.tolist()],
            [f"z{format_index(index)}" for index in np.ndindex(self.z.shape)],
            [f"a{format_index(index)}" for index in np.ndindex(self.example.image.shape)],
        )

    def symbol(self, weight: int) -> Cell:
        """Return the symbol of a weight, given by its number: w[0,1], or a dot where cut."""
        if weight == CUT:
            return Cell("·")
        factor = self.weight(weight)
        return Cell(factor.symbol, factor.value, weight)

    def weight(self, number: int) -> Factor:
        """Return the weight with this number."""
        row, column = divmod(number, self.example.kernel.shape[1])
        return Factor("w", (row, column), float(self.example.kernel[row, column]))

    def shorten(self, traced: Sum) -> Sum:
        """Return a sum with short names, for there is one image, one channel and one layer.

        The factor 1/n of the cost is left out: it is 1 for one image.
        """
        linear = self.example.activation == "none"
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
            "a": "z" if linear else "a'",  # the output, which the cost compares with y
            "-y": "-y",
        }
        terms = tuple(
            tuple(
                replace(factor, name=names[factor.name], index=factor.index[2:])
                for factor in term
                if factor.name in names
            )
            for term in traced.terms
        )
        return Sum(names[traced.name], traced.index[2:], traced.value, terms)


def _differences(
    example: ConvolutionExample, z: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the slopes of the cost by central differences, and where they cross a kink."""
    target = example.target[None, None]
    network = build_network(example)
    layers_above = [layer for name, layer in network.layers.items() if name != "conv"]
    numbers = {
        "w": example.kernel.copy(),
        "b": np.array([example.bias]),
        "a": example.image.copy(),
        "z": z.copy(),
    }

    def cost_of_z() -> tuple[Array, list[Array]]:
        output, patterns = numbers["z"][None, None], []
        for layer in layers_above:
            output = layer.forward(output)
            patterns.append(layer.kink_pattern())
        cost = network.cost.per_image(output, target)
        return cost, [pattern for pattern in patterns if pattern is not None]

    def cost_of_example() -> tuple[Array, list[Array]]:
        changed = replace(
            example, image=numbers["a"], kernel=numbers["w"], bias=float(numbers["b"][0])
        )
        changed_network, output = run_forward(changed)
        cost = changed_network.cost.per_image(output, target)
        patterns = [layer.kink_pattern() for layer in changed_network.layers.values()]
        return cost, [pattern for pattern in patterns if pattern is not None]

    slopes, kinks = {}, {}
    for name, values in numbers.items():
        evaluate = cost_of_z if name == "z" else cost_of_example
        slope, crossed = central_differences(evaluate, values)
        slopes[name], kinks[name] = slope.reshape(values.shape), crossed.reshape(values.shape)
    return slopes, kinks


def format_index(index: tuple[int, ...]) -> str:
    """Return an index as text: [0,1]."""
    return f"[{','.join(map(str, index))}]"


def format_error(differences: Any) -> str:
    """Return the largest absolute difference as text, with one digit where it is rounding."""
    largest = float(np.abs(differences).max(initial=0))
    return format_number(largest) if largest == 0 or largest > 1e-3 else f"{largest:.0e}"
