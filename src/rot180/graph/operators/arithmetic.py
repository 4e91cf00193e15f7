"""Sums and products of results, where one may be a constant or smaller than the other."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rot180.graph.box import Span
from rot180.graph.operators.backward_kind import BY_DERIVATIVE, LINEAR, BackwardKind
from rot180.graph.operators.operator import MAPS, Axes, Kept, Looks, Operator, Part, Rules


@dataclass(frozen=True, eq=False)
class Broadcast(Operator):
    """Base of an operation on two terms, of which one may be a constant, and either may be spread.

    Attributes:
        constant: the term that does not depend on the image; None where both do.
        shapes: of the results, for one image, without the batch axis.
        where: the axes of rows and columns of the output; None where it is no map.
    """

    constant: Tensor | float | None
    shapes: tuple[tuple[int, ...], ...]
    where: Axes | None = MAPS
    fresh = True

    def _constant_at(self, part: Part) -> Any:
        """Return the constant on the part: all of it, unless it is a map itself."""
        constant: Any = self.constant
        for axis, span in enumerate((part.out.rows, part.out.columns)):
            if self.where is not None and self._varies(axis):
                constant = constant.narrow(self.where[axis], span.start, span.size)
        return constant

    def _varies(self, axis: int) -> bool:
        """Say whether the constant is a map along this axis."""
        if not isinstance(self.constant, Tensor) or self.where is None:
            return False
        place = self.where[axis]
        return self.constant.ndim >= -place and self.constant.shape[place] > 1

    def situation(self, axis: int, span: Span) -> Hashable:
        """Return the span itself where the constant is a map."""
        return span if self._varies(axis) else None


def gathered(signal: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Add up what was spread: the signal (n, ...) at a term whose images have this shape."""
    extra = signal.ndim - 1 - len(shape)
    if extra:
        signal = signal.sum(tuple(range(1, 1 + extra)))
    spread = [
        axis + 1 for axis, size in enumerate(shape) if size == 1 and signal.shape[axis + 1] != 1
    ]
    return signal.sum(spread, keepdim=True) if spread else signal


@dataclass(frozen=True, eq=False)
class Sum(Broadcast):
    """``x + alpha y``; the signal goes to each term, and a constant takes none, like a bias."""

    factors: tuple[float, ...] = (1.0,)
    """What each result is multiplied with; the constant has its own already."""

    linear = True

    @property
    def kind(self) -> str:
        """What it is."""
        return "sum" if self.constant is None else "constant added"

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Add."""
        first = inputs[0] if self.factors[0] == 1 else inputs[0] * self.factors[0]
        if self.constant is not None:
            return first + self._constant_at(part), None
        return torch.add(first, inputs[1], alpha=self.factors[1]), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Hand the signal to each term."""
        return tuple(
            gathered(signal if factor == 1 else signal * factor, _cut_shape(shape, signal))
            for factor, shape in zip(self.factors, self.shapes, strict=True)
        )


@dataclass(frozen=True, eq=False)
class Product(Broadcast):
    """``x y``, or ``x / y``; the signal goes to each factor by the product rule.

    With a constant it is linear, and nothing has to be kept.
    """

    divides: bool = False

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """Whether the other factor is a constant."""
        return self.constant is not None

    @property
    def kind(self) -> str:
        """What it is."""
        if self.constant is not None:
            return "multiplied with a constant"
        return "quotient" if self.divides else "product"

    @property
    def backward_kind(self) -> BackwardKind:
        """By derivative, unless one factor is a constant."""
        return LINEAR if self.linear else BY_DERIVATIVE

    def looks_at(self, method: str | None) -> Looks:
        """Every method needs the other factor."""
        return Looks(inputs=self.constant is None)

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Multiply, or divide."""
        other = inputs[1] if self.constant is None else self._constant_at(part)
        return (inputs[0] / other if self.divides else inputs[0] * other), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Multiply with the other factor."""
        if self.constant is not None:
            other = self._constant_at(part)
            back = signal / other if self.divides else signal * other
            return (gathered(back, _cut_shape(self.shapes[0], back)),)
        x, y = kept.inputs
        divided = (signal / y, -signal * x / (y * y)) if self.divides else None
        parts = divided or (signal * y, signal * x)
        return tuple(
            gathered(one, _cut_shape(shape, one))
            for one, shape in zip(parts, self.shapes, strict=True)
        )


def _cut_shape(shape: tuple[int, ...], signal: Tensor) -> tuple[int, ...]:
    """Return a term's shape on the part that the signal covers: what was spread remains 1."""
    sizes = signal.shape[signal.ndim - len(shape) :]
    return tuple(1 if size == 1 else found for size, found in zip(shape, sizes, strict=True))
