"""Is a gradient right? Finite differences for any layer or network, adjoint identities for maps.

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
"""Half the distance of two points, 6e-6: the errors of rounding and of the third derivative are
then equally small (about 1e-11)."""


@runtime_checkable
class Checkable(Protocol):
    """What :func:`rot180.equations.check_layer` asks of a layer.

    If it has ``weights``, ``gradient`` or ``kink_pattern``, they are used, too.
    """

    def forward(self, a: Array) -> Array:
        """Return the output."""

    def backward(self, delta: Array) -> Array:
        """Return dC/d(input), given dC/d(output)."""


@dataclass(frozen=True)
class Check:
    """Back-propagation beside finite differences.

    Attributes:
        what: "input", or the name of weights.
        error: largest difference over the largest finite difference; 0 if both are zero
            throughout, and not a number if every entry lies at a kink.
        entries: numbers that were compared.
        kinks: numbers that were left out, because a unit crosses a kink between the two points (a
            rectifier turns on, a maximum moves), where there is no derivative to compare with.
    """

    what: str
    error: float
    entries: int
    kinks: int

    def __str__(self) -> str:
        left = f", {self.kinks} left out at kinks" if self.kinks else ""
        return f"{self.what}: relative error {self.error:.1e} in {self.entries} entries{left}"


def check_layer(
    layer: Checkable, x: Array, seed: int = 0, entries: int | None = None
) -> list[Check]:
    """Compare a layer's ``backward`` and ``gradient`` with central differences.

    The cost is a random weighted sum of the outputs.

    Args:
        layer: of this package, or your own. If it has ``weights`` (arrays by name), ``gradient``
            has to return theirs; ``kink_pattern`` may return an array that changes at a kink.
        x: the input, float64.
        seed: of the weighted sum, and of the entries.
        entries: compare at most so many of each array, drawn at random; all if not given.

    Raises:
        Rot180Error: something is not in float64, or has another shape than its gradient.

    Example:
        >>> import numpy as np
        >>> from rot180.equations import Dense, check_layer
        >>> checks = check_layer(Dense(3, 2), np.ones((4, 3)))
        >>> [(one.what, one.entries, one.error < 1e-9) for one in checks]
        [('input', 12, True), ('w', 6, True), ('b', 2, True)]
    """
    x = np.array(x)
    weights: Mapping[str, Array] = getattr(layer, "weights", {})
    _only_doubles({"input": x, **weights})
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal(np.shape(layer.forward(x)))

    def evaluate() -> tuple[Array, list[Array]]:
        out = np.array(layer.forward(x)) * factors
        return out, _branches([layer])

    found = {"input": np.array(layer.backward(factors))}
    if weights:
        gradients = layer.gradient(factors)  # type: ignore[attr-defined]
        found |= {name: np.array(one) for name, one in gradients.items()}
    return _compared({"input": x, **weights}, found, evaluate, rng, entries)


def check_network(
    network: Network, x: Array, labels: Any, seed: int = 0, entries: int | None = None
) -> list[Check]:
    """Compare all gradients of a network with central differences of its cost.

    A difference is exact to about 1e-11 of the cost. Gradients that are all smaller than that, as
    where a softmax is quite sure, cannot be told from rounding.

    Args:
        network: with weights in float64.
        x: images, float64.
        labels: as for :meth:`rot180.equations.Network.output_error`.
        seed, entries: as for :func:`check_layer`.

    Raises:
        Rot180Error: something is not in float64.
    """
    _only_doubles({"images": x, **network.weights})
    network.set_training(False)

    def evaluate() -> tuple[Array, list[Array]]:
        network.input(x)
        network.feed_forward()
        costs = network.output_error(labels)
        return costs / len(costs), _branches(list(network.layers.values()))

    found = {name: np.array(one) for name, one in network.five_steps(x, labels)[1].items()}
    return _compared(network.weights, found, evaluate, np.random.default_rng(seed), entries)


def adjoint_error(
    forward: Callable[[Array], Array], backward: Callable[[Array], Array], x: Array, y: Array
) -> float:
    """Return how far two linear maps are from being each other's adjoint: 0 if they are.

    For any x and y, the product of forward(x) with y equals that of x with backward(y). So it is
    for a convolution and its error, whose matrices are each other's transposed.

    Returns:
        The difference of the two products over the product of the lengths of forward(x) and y.

    Example:
        >>> import numpy as np
        >>> from rot180.equations import adjoint_error
        >>> w, (x, y) = np.arange(6.0).reshape(2, 3), (np.ones(3), np.ones(2))
        >>> adjoint_error(lambda a: w @ a, lambda delta: w.T @ delta, x, y) < 1e-12
        True
    """
    image = forward(x).copy()
    left, right = float(np.vdot(image, y)), float(np.vdot(x, backward(y)))
    scale = float(np.linalg.norm(image) * np.linalg.norm(y))
    return abs(left - right) / max(scale, float(np.finfo(np.float64).tiny))


def central_differences(
    evaluate: Callable[[], tuple[Array, list[Array]]],
    x: Array,
    chosen: Array | None = None,
    step: float = STEP,
) -> tuple[Array, Array]:
    """Return the derivatives of a cost by the entries of x: (C(x + h) - C(x - h)) / 2h.

    Args:
        evaluate: returns the parts that the cost is the sum of, and arrays that change where it
            has a kink. It sees x, which is changed in place and put back.
        x: float64.
        chosen: flat numbers of the entries; all if not given.
        step: h, for entries up to 1; in proportion for larger ones. ``STEP`` is about 6e-6.

    Returns:
        The derivatives, and whether a kink lay between the two points, one for each entry.
    """
    numbers = np.arange(x.size) if chosen is None else chosen
    slopes, crossed = np.zeros(len(numbers)), np.zeros(len(numbers), bool)
    for k, number in enumerate(numbers):
        place = np.unravel_index(number, x.shape)
        kept = float(x[place])
        ends = []
        for sign in (1, -1):
            x[place] = kept + sign * step * max(1.0, abs(kept))
            ends.append((float(x[place]), *evaluate()))
        x[place] = kept
        (high, above, up), (low, below, down) = ends
        slopes[k] = (above - below).sum() / (high - low)
        crossed[k] = any(not np.array_equal(a, b) for a, b in zip(up, down, strict=True))
    return slopes, crossed


def _compared(
    values: Mapping[str, Array],
    found: Mapping[str, Array],
    evaluate: Callable[[], tuple[Array, list[Array]]],
    rng: np.random.Generator,
    entries: int | None,
) -> list[Check]:
    checks = []
    for name, x in values.items():
        if name not in found or found[name].shape != x.shape:
            shape = found[name].shape if name in found else "missing"
            raise Rot180Error(f"The gradient of '{name}' is {shape}; it has to be {x.shape}.")
        many = entries is not None and x.size > entries
        chosen = rng.choice(x.size, entries, replace=False) if many else np.arange(x.size)
        slopes, crossed = central_differences(evaluate, x, chosen)
        ours = found[name].reshape(-1)[chosen]
        wrong = np.abs(ours - slopes)[~crossed].max(initial=0)
        largest = np.abs(slopes)[~crossed].max(initial=0)
        error = float(wrong / largest) if largest else float(wrong)
        if crossed.all():
            error = float("nan")  # nothing was left to compare
        checks.append(Check(name, error, int((~crossed).sum()), int(crossed.sum())))
    return checks


def _branches(layers: list[Any]) -> list[Array]:
    """Return, of each layer with kinks, which side it is on."""
    found = (layer.kink_pattern() for layer in layers if hasattr(layer, "kink_pattern"))
    return [np.array(one) for one in found if one is not None]


def _only_doubles(arrays: Mapping[str, Array]) -> None:
    for name, one in arrays.items():
        if one.dtype != np.float64:
            raise Rot180Error(
                f"Finite differences need float64, or rounding hides what they measure; '{name}' "
                f"is {one.dtype}."
            )
