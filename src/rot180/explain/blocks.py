"""The blocks of an explanation, in any format: paragraphs, sums, and grids of numbers."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rot180.equations.trace import Sum

COLOURS = ("E69F00", "56B4E9", "009E73", "CC79A7", "D55E00", "0072B2", "F0E442", "999999")
"""Colours of the weights, in turn: Okabe and Ito's, distinct for every kind of colour vision."""


@dataclass(frozen=True)
class Cell:
    """One entry of a grid.

    Attributes:
        text: a number, or a symbol like w[0,1].
        value: the number behind the text, if there is one.
        weight: number of the weight in this cell, or of the weight that multiplies it. It gives
            the cell its colour.
    """

    text: str
    value: float | None = None
    weight: int | None = None


@dataclass(frozen=True)
class Grid:
    """Entries in rows and columns, with a name, and with names of rows and columns if given."""

    name: str
    rows: list[list[Cell]]
    row_names: list[str] = field(default_factory=list)
    column_names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text, with formulas between backquotes: `z = w * a + b`."""

    text: str

    @property
    def pieces(self) -> list[tuple[str, bool]]:
        """The text in pieces, each with whether it is a formula."""
        pieces = enumerate(self.text.split("`"))
        return [(piece, bool(number % 2)) for number, piece in pieces if piece]


@dataclass(frozen=True)
class Figure:
    """Grids side by side, with signs such as "=" between them, to be read like an equation."""

    parts: list[Grid | str]


@dataclass(frozen=True)
class Equation:
    """A number as a sum of products."""

    sum: Sum


Block = Paragraph | Figure | Equation


@dataclass(frozen=True)
class Section:
    """One step of the explanation."""

    title: str
    blocks: list[Block]


def wrap_terms(traced: Sum) -> list[list[tuple[str, str]]]:
    """Return the products of a sum in lines of four, or in one line of five."""
    products = traced.products()
    count = 5 if len(products) == 5 else 4
    return [products[first : first + count] for first in range(0, len(products), count)]


def format_number(value: float) -> str:
    """Return a number as text with at most four digits; whole numbers have no decimal point."""
    if value == 0:
        return "0"
    return str(round(value)) if value == round(value) and abs(value) < 1e5 else f"{value:.4g}"


def grid(name: str, values: Any, weights: Any = None) -> Grid:
    """Return a grid of numbers, coloured by ``weights``: their numbers, -1 for none."""
    values = np.atleast_2d(values)
    numbers = np.full(values.shape, -1) if weights is None else np.atleast_2d(weights)

    def cell(value: float, weight: int) -> Cell:
        return Cell(format_number(value), value, weight if weight >= 0 else None)

    return Grid(
        name,
        [
            [cell(float(value), int(weight)) for value, weight in zip(row, colours, strict=True)]
            for row, colours in zip(values, numbers, strict=True)
        ],
    )


def as_json(sections: list[Section], title: str) -> str:
    """Return the explanation as JSON: titles, paragraphs, sums with their products, grids."""
    plain = [
        {"title": section.title, "blocks": [_plain_block(block) for block in section.blocks]}
        for section in sections
    ]
    return json.dumps({"title": title, "sections": plain}, indent=1) + "\n"


def _plain_block(block: Block) -> dict[str, Any]:
    match block:
        case Paragraph(text):
            return {"words": text.replace("`", "")}
        case Equation(traced):
            products = [
                [
                    {"name": factor.name, "index": list(factor.index), "value": factor.value}
                    for factor in term
                ]
                for term in traced.terms
            ]
            return {
                "name": traced.name,
                "index": list(traced.index),
                "value": traced.value,
                "products": products,
            }
        case Figure(parts):
            plain = [part if isinstance(part, str) else _plain_grid(part) for part in parts]
            return {"figure": plain}


def _plain_grid(grid: Grid) -> dict[str, Any]:
    cells = [cell for row in grid.rows for cell in row]
    plain: dict[str, Any] = {
        "name": grid.name,
        "text": [[cell.text for cell in row] for row in grid.rows],
    }
    if any(cell.value is not None for cell in cells):
        plain["values"] = [[cell.value for cell in row] for row in grid.rows]
    if any(cell.weight is not None for cell in cells):
        plain["weights"] = [[cell.weight for cell in row] for row in grid.rows]
    if grid.row_names:
        plain["row_names"] = grid.row_names
    if grid.column_names:
        plain["column_names"] = grid.column_names
    return plain
