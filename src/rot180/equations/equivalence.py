"""A perceptron, its connections cut and its weights shared, is a convolution.

Take a layer of perceptrons between all pixels of an image and all positions of some feature maps.
Cut every connection but those from a small window to the position in its middle, and let all
positions use the same weights: what is left is a convolution. Everything that holds for perceptrons
then holds for it: z = W a, error = transposed W times delta, gradient = delta times a; and since a
weight is used by many connections, its gradient is the sum over these.

The connections are found here from the sum that defines the operation, one by one, without any
convolution: that both give the same numbers is what the tests show.
"""

from dataclasses import dataclass

import numpy as np

from rot180.equations.convolution import Array
from rot180.equations.geometry import OPERATIONS, Padding, margins, out_size, pair
from rot180.errors import Rot180Error, check_choice

CUT = -1
"""In place of a weight's number: there is no connection."""


@dataclass(frozen=True)
class Connections:
    """What a convolution is as a perceptron.

    Attributes:
        weight: (outputs, inputs) whole numbers: which of the kernel's weights a connection uses,
            counted along the flattened kernel; ``CUT`` where there is none.
        kernel: (f, c / groups, kh, kw), the shape of the kernels.
        below: (c, h, w), the shape of the inputs.
        above: (f, y, x), the shape of the outputs.
    """

    weight: Array
    kernel: tuple[int, int, int, int]
    below: tuple[int, int, int]
    above: tuple[int, int, int]

    def matrix(self, w: Array) -> Array:
        """Return the perceptron's weights W (outputs, inputs): shared, and zero where cut.

        Raises:
            Rot180Error: the kernels are of another shape. (One kernel may be (kh, kw).)
        """
        single = self.kernel[:2] == (1, 1) and w.shape == self.kernel[2:]
        if w.shape != self.kernel and not single:
            raise Rot180Error(f"The kernels are of shape {w.shape}, not {self.kernel}.")
        return np.where(self.weight == CUT, 0, w.reshape(-1)[self.weight])

    def biases(self, b: Array) -> Array:
        """Return the perceptron's biases (outputs,): one of a feature, at all positions."""
        return np.repeat(b, self.above[1] * self.above[2])

    def shared_gradient(self, gradient: Array) -> Array:
        """Return dC/dw of the kernels, of the perceptron's dC/dW (outputs, inputs).

        Each weight takes the sum over the connections that use it; those that are cut are left out.
        """
        whole = self.weight != CUT
        count = int(np.prod(self.kernel))
        summed = np.bincount(self.weight[whole], gradient[whole], minlength=count)
        return summed.reshape(self.kernel)

    def shared_bias_gradient(self, gradient: Array) -> Array:
        """Return dC/db (f,), of the perceptron's dC/db (outputs,): the sum over positions."""
        total: Array = gradient.reshape(self.above[0], -1).sum(1)
        return total

    @property
    def uses(self) -> Array:
        """How many connections share each weight, of the shape of the kernels."""
        used = self.weight[self.weight != CUT]
        return np.bincount(used, minlength=int(np.prod(self.kernel))).reshape(self.kernel)


def connections(
    below: tuple[int, int, int],
    kernel: tuple[int, int, int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    groups: int = 1,
    operation: str = "correlation",
) -> Connections:
    """Return the connections of a perceptron that are left in a convolution, and their weights.

    Args:
        below: (c, h, w), the shape of the inputs.
        kernel: (f, c / groups, kh, kw), the shape of the kernels.
        stride, padding, groups: see :func:`rot180.equations.convolution.correlation`.
        operation: "correlation" or "convolution".

    Raises:
        Rot180Error: the shapes do not fit each other.

    Example:
        >>> from rot180.equations import connections
        >>> found = connections(below=(1, 1, 4), kernel=(1, 1, 1, 2))
        >>> found.weight  # a row for each output; -1: cut
        array([[ 0,  1, -1, -1],
               [-1,  0,  1, -1],
               [-1, -1,  0,  1]])
        >>> found.uses
        array([[[[3, 3]]]])
    """
    c, height, width = below
    f, each, kh, kw = kernel
    if each * groups != c or f % groups:
        raise Rot180Error(
            f"Kernels of shape {kernel} in {groups} groups do not fit inputs of shape {below}."
        )
    check_choice(operation, "operation", OPERATIONS)
    rotated = operation == "convolution"
    down, right = pair(stride, "stride")
    borders = margins(padding, (kh, kw), (down, right), rotated)
    y, x = out_size((height, width), (kh, kw), (down, right), borders)
    number = np.arange(int(np.prod(kernel))).reshape(kernel)
    weight = np.full((f, y, x, c, height, width), CUT)
    for feature, channel, i, j in np.ndindex(kernel):
        source = feature // (f // groups) * each + channel
        for row, column in np.ndindex(y, x):
            # The input that this weight reaches from here; a rotated kernel reaches with its end.
            reach = (kh - 1 - i, kw - 1 - j) if rotated else (i, j)
            v = down * row + reach[0] - borders[0][0]
            u = right * column + reach[1] - borders[1][0]
            if 0 <= v < height and 0 <= u < width:
                weight[feature, row, column, source, v, u] = number[feature, channel, i, j]
    return Connections(weight.reshape(f * y * x, c * height * width), kernel, below, (f, y, x))
