"""What an explanation is made of, whatever it is written as: words, sums, and grids of numbers."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rot180.equations.trace import Sum

COLOURS = ("E69F00", "56B4E9", "009E73", "CC79A7", "D55E00", "0072B2", "F0E442", "999999")
"""Of the weights, in turn, red, green and blue (Okabe & Ito: told apart with any colour vision)."""


@dataclass(frozen=True)
class Cell:
    """One entry of a grid.

    Attributes:
        text: what is written there, as a number or as a symbol like w[0,1].
        value: the number behind it, where there is one.
        weight: number of the weight that it is or is taken with, which gives it its colour.
    """

    text: str
    value: float | None = None
    weight: int | None = None


@dataclass(frozen=True)
class Grid:
    """Entries in rows and columns, with a name, and names of the rows and columns if given."""

    name: str
    rows: list[list[Cell]]
    row_names: list[str] = field(default_factory=list)
    column_names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Words:
    """A paragraph; formulas in it stand between backquotes, as in `z = w * a + b`."""

    text: str

    @property
    def pieces(self) -> list[tuple[str, bool]]:
        """The text in pieces, each with whether it is a formula."""
        return [(one, bool(k % 2)) for k, one in enumerate(self.text.split("`")) if one]


@dataclass(frozen=True)
class Figure:
    """Grids side by side, with signs between them such as "=": read like an equation."""

    parts: list[Grid | str]


@dataclass(frozen=True)
class Equation:
    """A number as a sum of products."""

    sum: Sum


Block = Words | Figure | Equation


@dataclass(frozen=True)
class Section:
    """A step of the explanation."""

    title: str
    blocks: list[Block]


def in_lines(found: Sum) -> list[list[tuple[str, str]]]:
    """Cut the products of a sum into lines: four each, or five where these are all."""
    products = found.products()
    count = 5 if len(products) == 5 else 4
    return [products[first : first + count] for first in range(0, len(products), count)]


def number(value: float) -> str:
    """Write a number with at most four digits; whole ones without a point."""
    if value == 0:
        return "0"
    return str(round(value)) if value == round(value) and abs(value) < 1e5 else f"{value:.4g}"


def grid(name: str, values: Any, weights: Any = None) -> Grid:
    """Return a grid of numbers; ``weights`` (same shape, -1 for none) gives their colours."""
    values = np.atleast_2d(values)
    chosen = np.full(values.shape, -1) if weights is None else np.atleast_2d(weights)
    return Grid(
        name,
        [
            [
                Cell(number(float(value)), float(value), int(weight) if weight >= 0 else None)
                for value, weight in zip(row, colours, strict=True)
            ]
            for row, colours in zip(values, chosen, strict=True)
        ],
    )


def as_json(sections: list[Section], title: str) -> str:
    """Return the explanation as JSON: titles, words, sums with their products, grids."""
    plain = [
        {"title": one.title, "blocks": [_plain_block(block) for block in one.blocks]}
        for one in sections
    ]
    return json.dumps({"title": title, "sections": plain}, indent=1) + "\n"


def _plain_block(block: Block) -> dict[str, Any]:
    match block:
        case Words(text):
            return {"words": text.replace("`", "")}
        case Equation(found):
            products = [
                [{"name": f.name, "index": list(f.index), "value": f.value} for f in term]
                for term in found.terms
            ]
            return {
                "name": found.name,
                "index": list(found.index),
                "value": found.value,
                "products": products,
            }
        case Figure(parts):
            return {"figure": [one if isinstance(one, str) else _plain_grid(one) for one in parts]}


def _plain_grid(one: Grid) -> dict[str, Any]:
    found: dict[str, Any] = {"name": one.name, "text": [[c.text for c in row] for row in one.rows]}
    if any(cell.value is not None for row in one.rows for cell in row):
        found["values"] = [[cell.value for cell in row] for row in one.rows]
    if any(cell.weight is not None for row in one.rows for cell in row):
        found["weights"] = [[cell.weight for cell in row] for row in one.rows]
    if one.row_names:
        found["row_names"] = one.row_names
    if one.column_names:
        found["column_names"] = one.column_names
    return found
