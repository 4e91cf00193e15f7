"""Checks gradients: finite differences for layers and networks, adjoint identities for linear maps.

For a layer of your own:

    class Mine(Layer): ...  # with forward and backward, and gradient if it has weights

    for check in check_layer(Mine(), x):  # x in float64
        print(check)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rot180.equations.convolution import Array
from rot180.equations.network import Network
from rot180.errors import Rot180Error

STEP = float(np.cbrt(np.finfo(np.float64).eps))
"""Half the distance of two points, 6e-6, at which the errors of rounding and of the third
derivative are equally small: about 1e-11."""


@runtime_checkable
class Checkable(Protocol):
    """The methods that :func:`rot180.equations.check_layer` needs of a layer.

    It also uses ``weights``, ``gradient`` and ``kink_pattern`` if they exist.
    """

    def forward(self, a: Array) -> Array:
        """Return the output."""

    def backward(self, delta: Array) -> Array:
        """Return dC/d(input), given dC/d(output)."""


@dataclass(frozen=True)
class GradientCheck:
    """The comparison of a gradient with finite differences.

    Attributes:
        name: "input", or the name of the weights.
        error: largest difference, divided by the largest finite difference; 0 if all are zero, and
            not a number if every entry lies at a kink.
        entries: number of entries that were compared.
        kinks: number of entries that were left out, because a kink lies between the two points (a
            rectifier turns on, a maximum moves) and there is no derivative to compare with.
    """

    name: str
    error: float
    entries: int
    kinks: int

    def __str__(self) -> str:
        left_out = f", {self.kinks} left out at kinks" if self.kinks else ""
        return f"{self.name}: relative error {self.error:.1e} in {self.entries} entries{left_out}"


def check_layer(
    layer: Checkable, x: Array, seed: int = 0, entries: int | None = None
) -> list[GradientCheck]:
    """Compare a layer's ``backward`` and ``gradient`` with central differences.

    The cost is a random weighted sum of the outputs.

    Args:
        layer: a layer of this package, or your own. If it has ``weights`` (arrays by name),
            ``gradient`` has to return theirs; ``kink_pattern`` may return an array that changes at
            a kink.
        x: input, float64.
        seed: seed of the weighted sum and of the choice of entries.
        entries: largest number of entries of each array that are compared, drawn at random; all
            if not given.

    Raises:
        Rot180Error: an array is not float64, or a gradient does not have the shape of its array.

    Example:
        >>> import numpy as np
        >>> from rot180.equations import Dense, check_layer
        >>> checks = check_layer(Dense(3, 2), np.ones((4, 3)))
        >>> [(check.name, check.entries, check.error < 1e-9) for check in checks]
        [('input', 12, True), ('w', 6, True), ('b', 2, True)]
    """
    x = np.array(x)
    weights: Mapping[str, Array] = getattr(layer, "weights", {})
    _check_float64({"input": x, **weights})
    rng = np.random.default_rng(seed)
    coefficients = rng.standard_normal(np.shape(layer.forward(x)))

    def evaluate() -> tuple[Array, list[Array]]:
        out = np.array(layer.forward(x)) * coefficients
        return out, _kink_patterns([layer])

    gradients = {"input": np.array(layer.backward(coefficients))}
    if weights:
        by_name = layer.gradient(coefficients)  # type: ignore[attr-defined]
        gradients |= {name: np.array(gradient) for name, gradient in by_name.items()}
    return _compare({"input": x, **weights}, gradients, evaluate, rng, entries)


def check_network(
    network: Network, x: Array, labels: Any, seed: int = 0, entries: int | None = None
) -> list[GradientCheck]:
    """Compare all gradients of a network with central differences of its cost.

    A difference is exact to about 1e-11 of the cost. If all gradients are smaller than that, for
    example because a softmax has almost no doubt, the differences are rounding.

    Args:
        network: network with weights in float64.
        x: images, float64.
        labels: labels, see :meth:`rot180.equations.Network.output_error`.
        seed, entries: see :func:`check_layer`.

    Raises:
        Rot180Error: an array is not float64.
    """
    _check_float64({"images": x, **network.weights})
    network.set_training(False)

    def evaluate() -> tuple[Array, list[Array]]:
        network.input(x)
        network.feed_forward()
        costs = network.output_error(labels)
        return costs / len(costs), _kink_patterns(list(network.layers.values()))

    _, by_name = network.five_steps(x, labels)
    gradients = {name: np.array(gradient) for name, gradient in by_name.items()}
    return _compare(network.weights, gradients, evaluate, np.random.default_rng(seed), entries)


def adjoint_error(
    forward: Callable[[Array], Array], backward: Callable[[Array], Array], x: Array, y: Array
) -> float:
    """Return by how much two linear maps fail to be adjoint: 0 if they are.

    They are adjoint if, for all x and y, the inner product of forward(x) and y equals that of x and
    backward(y). A convolution and its error are adjoint, for their matrices are transposes.

    Returns:
        The difference of the two inner products, divided by the norms of forward(x) and y.

    Example:
        >>> import numpy as np
        >>> from rot180.equations import adjoint_error
        >>> w, (x, y) = np.arange(6.0).reshape(2, 3), (np.ones(3), np.ones(2))
        >>> adjoint_error(lambda a: w @ a, lambda delta: w.T @ delta, x, y) < 1e-12
        True
    """
    output = forward(x).copy()
    left, right = float(np.vdot(output, y)), float(np.vdot(x, backward(y)))
    scale = float(np.linalg.norm(output) * np.linalg.norm(y))
    return abs(left - right) / max(scale, float(np.finfo(np.float64).tiny))


def central_differences(
    evaluate: Callable[[], tuple[Array, list[Array]]],
    x: Array,
    chosen: Array | None = None,
    step: float = STEP,
) -> tuple[Array, Array]:
    """Return the derivatives of a cost with respect to x: (C(x + h) - C(x - h)) / 2h.

    Args:
        evaluate: function that returns the summands of the cost, and arrays that change where the
            cost has a kink. It reads x, which is changed in place and then restored.
        x: point, float64.
        chosen: flat indices of the entries; all if not given.
        step: h for entries up to 1, and in proportion for larger ones. ``STEP`` is about 6e-6.

    Returns:
        The derivatives, and whether a kink lies between the two points, one each per entry.
    """
    numbers = np.arange(x.size) if chosen is None else chosen
    slopes, crossed = np.zeros(len(numbers)), np.zeros(len(numbers), bool)
    for k, number in enumerate(numbers):
        index = np.unravel_index(number, x.shape)
        value = float(x[index])
        points = []
        for sign in (1, -1):
            x[index] = value + sign * step * max(1.0, abs(value))
            points.append((float(x[index]), *evaluate()))
        x[index] = value
        (high, above, up), (low, below, down) = points
        slopes[k] = (above - below).sum() / (high - low)
        crossed[k] = any(not np.array_equal(a, b) for a, b in zip(up, down, strict=True))
    return slopes, crossed


def _compare(
    values: Mapping[str, Array],
    gradients: Mapping[str, Array],
    evaluate: Callable[[], tuple[Array, list[Array]]],
    rng: np.random.Generator,
    entries: int | None,
) -> list[GradientCheck]:
    checks = []
    for name, x in values.items():
        if name not in gradients or gradients[name].shape != x.shape:
            shape = gradients[name].shape if name in gradients else "missing"
            raise Rot180Error(f"The gradient of '{name}' is {shape}; it has to be {x.shape}.")
        chosen = np.arange(x.size)
        if entries is not None and x.size > entries:
            chosen = rng.choice(x.size, entries, replace=False)
        slopes, crossed = central_differences(evaluate, x, chosen)
        gradient = gradients[name].reshape(-1)[chosen]
        difference = np.abs(gradient - slopes)[~crossed].max(initial=0)
        largest = np.abs(slopes)[~crossed].max(initial=0)
        error = float(difference / largest) if largest else float(difference)
        if crossed.all():
            error = float("nan")  # there is nothing left to compare
        checks.append(GradientCheck(name, error, int((~crossed).sum()), int(crossed.sum())))
    return checks


def _kink_patterns(layers: list[Any]) -> list[Array]:
    """Return, for each layer with kinks, the side of each kink that it is on."""
    patterns = (layer.kink_pattern() for layer in layers if hasattr(layer, "kink_pattern"))
    return [np.array(pattern) for pattern in patterns if pattern is not None]


def _check_float64(arrays: Mapping[str, Array]) -> None:
    for name, array in arrays.items():
        if array.dtype != np.float64:
            raise Rot180Error(
                f"Finite differences need float64, or rounding hides what they measure; '{name}' "
                f"is {array.dtype}."
            )
