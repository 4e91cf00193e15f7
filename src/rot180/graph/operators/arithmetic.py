"""Sums and products of two terms; one may be a constant, and either may be broadcast."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rot180.graph.box import Span
from rot180.graph.operators.backward_kind import BY_DERIVATIVE, LINEAR, BackwardKind
from rot180.graph.operators.operator import (
    MAPS,
    Axes,
    BackwardNeeds,
    MethodRules,
    Operator,
    Region,
    Saved,
)


@dataclass(frozen=True, eq=False)
class Broadcast(Operator):
    """Base of the operations on two terms; one may be a constant, and either may be broadcast.

    Attributes:
        constant: the term that does not depend on the image; None where both do.
        shapes: shapes of the other terms for one image, without the batch axis.
        map_axes: the output's axes of rows and columns; None where it is no map.
    """

    constant: Tensor | float | None
    shapes: tuple[tuple[int, ...], ...]
    map_axes: Axes | None = MAPS
    allocates_output = True

    def _constant_at(self, region: Region) -> Any:
        """Return the constant on the region: all of it, unless it is a map itself."""
        constant: Any = self.constant
        for axis, span in enumerate((region.out.rows, region.out.columns)):
            if self.map_axes is not None and self._varies(axis):
                constant = constant.narrow(self.map_axes[axis], span.start, span.size)
        return constant

    def _varies(self, axis: int) -> bool:
        """Say whether the constant varies along this axis."""
        if not isinstance(self.constant, Tensor) or self.map_axes is None:
            return False
        tensor_axis = self.map_axes[axis]
        return self.constant.ndim >= -tensor_axis and self.constant.shape[tensor_axis] > 1

    def alignment(self, axis: int, span: Span) -> Hashable:
        """Return the span itself where the constant varies along the axis."""
        return span if self._varies(axis) else None


def sum_to_shape(signal: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Return the signal (n, ...) at a term of this shape: the sum over what was broadcast."""
    extra = signal.ndim - 1 - len(shape)
    if extra:
        signal = signal.sum(tuple(range(1, 1 + extra)))
    broadcast = [
        axis + 1 for axis, size in enumerate(shape) if size == 1 and signal.shape[axis + 1] != 1
    ]
    return signal.sum(broadcast, keepdim=True) if broadcast else signal


@dataclass(frozen=True, eq=False)
class Sum(Broadcast):
    """``x + alpha y``: the signal goes to each term; a constant takes none, like a bias."""

    factors: tuple[float, ...] = (1.0,)
    """The factor of each term that depends on the image; the constant includes its own."""

    linear = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "sum" if self.constant is None else "constant added"

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Add the terms."""
        first = inputs[0] if self.factors[0] == 1 else inputs[0] * self.factors[0]
        if self.constant is not None:
            return first + self._constant_at(region), None
        return torch.add(first, inputs[1], alpha=self.factors[1]), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Pass the signal to each term."""
        return tuple(
            sum_to_shape(signal if factor == 1 else signal * factor, _region_shape(shape, signal))
            for factor, shape in zip(self.factors, self.shapes, strict=True)
        )


@dataclass(frozen=True, eq=False)
class Product(Broadcast):
    """``x y`` or ``x / y``: the signal goes to each factor by the product rule.

    With a constant it is linear, and nothing has to be saved.
    """

    divides: bool = False

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """Whether one factor is a constant."""
        return self.constant is not None

    @property
    def kind(self) -> str:
        """Name of the operator."""
        if self.constant is not None:
            return "multiplied with a constant"
        return "quotient" if self.divides else "product"

    @property
    def backward_kind(self) -> BackwardKind:
        """By derivative, unless one factor is a constant."""
        return LINEAR if self.linear else BY_DERIVATIVE

    def backward_needs(self, method: str | None) -> BackwardNeeds:
        """Every method needs both factors, unless one is a constant."""
        return BackwardNeeds(inputs=self.constant is None)

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Multiply or divide."""
        other = inputs[1] if self.constant is None else self._constant_at(region)
        return (inputs[0] / other if self.divides else inputs[0] * other), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Multiply by the other factor."""
        if self.constant is not None:
            other = self._constant_at(region)
            back = signal / other if self.divides else signal * other
            return (sum_to_shape(back, _region_shape(self.shapes[0], back)),)
        x, y = saved.inputs
        quotient = (signal / y, -signal * x / (y * y)) if self.divides else None
        signals = quotient or (signal * y, signal * x)
        return tuple(
            sum_to_shape(at_term, _region_shape(shape, at_term))
            for at_term, shape in zip(signals, self.shapes, strict=True)
        )


def _region_shape(shape: tuple[int, ...], signal: Tensor) -> tuple[int, ...]:
    """Return a term's shape on the region of the signal; broadcast axes keep size 1."""
    sizes = signal.shape[signal.ndim - len(shape) :]
    return tuple(1 if size == 1 else cut for size, cut in zip(shape, sizes, strict=True))
