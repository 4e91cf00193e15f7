"""Converts the numbers of a lesson to plain data for JSON."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from rot180.equations.trace import Sum

Rows = list[list[float]]
"""A grid of numbers, row by row."""


@dataclass(frozen=True)
class Factor:
    """A factor of a product: its name, index and value."""

    name: str
    index: list[int]
    value: float


@dataclass(frozen=True)
class Product:
    """A product of factors; ``weight`` is the number of the kernel's weight among them."""

    factors: list[Factor]
    value: float
    weight: int | None


@dataclass(frozen=True)
class SumView:
    """A number as a sum of products; ``total`` is their sum, ``value`` the computed number."""

    name: str
    index: list[int]
    value: float
    products: list[Product]
    total: float


def rows(values: Any) -> Rows:
    """Return a grid as rows of numbers; minus zero as zero."""
    found: Rows = (np.asarray(values, dtype=np.float64) + 0.0).tolist()
    return found


def whole_rows(values: Any) -> list[list[int]]:
    """Return a grid of whole numbers as rows."""
    found: list[list[int]] = np.asarray(values).tolist()
    return found


def sum_view(found: Sum, kernel: tuple[int, ...], weights: tuple[str, ...] = ("w",)) -> SumView:
    """Return a sum as plain data.

    Args:
        found: the sum.
        kernel: shape of the kernels, in which weights are numbered.
        weights: names of weights; other factors have no number.
    """
    products = []
    for term in found.terms:
        numbers = [int(np.ravel_multi_index(f.index, kernel)) for f in term if f.name in weights]
        factors = [Factor(f.name, list(f.index), f.value + 0.0) for f in term]
        value = prod(f.value for f in term) + 0.0
        products.append(Product(factors, value, numbers[0] if numbers else None))
    return SumView(found.name, list(found.index), found.value + 0.0, products, found.total + 0.0)
