"""A perceptron with cut connections and shared weights is a convolution.

Take a layer of perceptrons between all pixels of an image and all positions of some feature maps.
Cut every connection except those from a small window to one position, and let all positions use the
same weights: the result is a convolution. Everything that holds for perceptrons then holds for it:
z = W a, error = W^T delta, gradient = delta a^T; and since many connections use one weight, its
gradient is the sum over these connections.

This module finds the connections one by one from the sum that defines the operation, without any
convolution; the tests show that both give the same numbers.
"""

from dataclasses import dataclass

import numpy as np

from rot180.equations.convolution import Array
from rot180.equations.padding import OPERATIONS, Padding, out_size, pair, resolve_padding
from rot180.errors import Rot180Error, check_choice

CUT = -1
"""The value in :attr:`Connections.weight` where there is no connection."""


@dataclass(frozen=True)
class Connections:
    """A convolution as a perceptron.

    Attributes:
        weight: (outputs, inputs), the number of the weight that a connection uses, counted along
            the flattened kernels; ``CUT`` where there is no connection.
        kernel: (f, c / groups, kh, kw), the shape of the kernels.
        below: (c, h, w), the shape of the inputs.
        above: (f, y, x), the shape of the outputs.
    """

    weight: Array
    kernel: tuple[int, int, int, int]
    below: tuple[int, int, int]
    above: tuple[int, int, int]

    def matrix(self, w: Array) -> Array:
        """Return the weights W (outputs, inputs) of the perceptron: shared, and zero where cut.

        Args:
            w: the kernels; a single kernel may be (kh, kw).

        Raises:
            Rot180Error: the kernels have another shape.
        """
        single = self.kernel[:2] == (1, 1) and w.shape == self.kernel[2:]
        if w.shape != self.kernel and not single:
            raise Rot180Error(f"The kernels are of shape {w.shape}, not {self.kernel}.")
        return np.where(self.weight == CUT, 0, w.reshape(-1)[self.weight])

    def biases(self, b: Array) -> Array:
        """Return the biases (outputs,) of the perceptron: one per feature, at all positions."""
        return np.repeat(b, self.above[1] * self.above[2])

    def shared_gradient(self, gradient: Array) -> Array:
        """Return dC/dw of the kernels, given dC/dW (outputs, inputs) of the perceptron.

        The gradient of a weight is the sum over the connections that use it.
        """
        connected = self.weight != CUT
        count = int(np.prod(self.kernel))
        total = np.bincount(self.weight[connected], gradient[connected], minlength=count)
        return total.reshape(self.kernel)

    def shared_bias_gradient(self, gradient: Array) -> Array:
        """Return dC/db (f,), given dC/db (outputs,) of the perceptron: the sum over positions."""
        total: Array = gradient.reshape(self.above[0], -1).sum(1)
        return total

    @property
    def uses(self) -> Array:
        """Number of connections that share each weight, in the shape of the kernels."""
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
    """Return the connections that a convolution leaves of a perceptron, and their weights.

    Args:
        below: (c, h, w), the shape of the inputs.
        kernel: (f, c / groups, kh, kw), the shape of the kernels.
        stride, padding, groups: see :func:`rot180.equations.convolution.correlation`.
        operation: "correlation" or "convolution".

    Raises:
        Rot180Error: the shapes do not match.

    Example:
        >>> from rot180.equations import connections
        >>> layer = connections(below=(1, 1, 4), kernel=(1, 1, 1, 2))
        >>> layer.weight  # one row per output; -1: cut
        array([[ 0,  1, -1, -1],
               [-1,  0,  1, -1],
               [-1, -1,  0,  1]])
        >>> layer.uses
        array([[[[3, 3]]]])
    """
    c, height, width = below
    f, group_channels, kh, kw = kernel
    if group_channels * groups != c or f % groups:
        raise Rot180Error(
            f"Kernels of shape {kernel} in {groups} groups do not fit inputs of shape {below}."
        )
    check_choice(operation, "operation", OPERATIONS)
    rotated = operation == "convolution"
    down, right = pair(stride, "stride")
    pad_width = resolve_padding(padding, (kh, kw), (down, right), rotated)
    y, x = out_size((height, width), (kh, kw), (down, right), pad_width)
    number = np.arange(int(np.prod(kernel))).reshape(kernel)
    weight = np.full((f, y, x, c, height, width), CUT)
    for feature, channel, i, j in np.ndindex(kernel):
        source = feature // (f // groups) * group_channels + channel
        for row, column in np.ndindex(y, x):
            # The weight meets the input at this offset in the window.
            offset = (kh - 1 - i, kw - 1 - j) if rotated else (i, j)
            v = down * row + offset[0] - pad_width[0][0]
            u = right * column + offset[1] - pad_width[1][0]
            if 0 <= v < height and 0 <= u < width:
                weight[feature, row, column, source, v, u] = number[feature, channel, i, j]
    return Connections(weight.reshape(f * y * x, c * height * width), kernel, below, (f, y, x))
