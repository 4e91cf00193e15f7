"""Prints an explanation in a terminal, in colour where the terminal has colours."""

import re
from dataclasses import replace
from itertools import zip_longest

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rot180.equations.trace import Sum
from rot180.equations.wiring import Factor
from rot180.explain.blocks import Block, Equation, Figure, Grid, Paragraph, Section, wrap_terms

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")
"""Colours of the weights, in turn, from the terminal's palette, which suits its background."""
_GAP = 4


def show(sections: list[Section], console: Console) -> None:
    """Print all sections."""
    for number, section in enumerate(sections, 1):
        console.print()
        console.print(Text(f"{number}. {section.title}", style="bold"))
        for block in section.blocks:
            console.print()
            console.print(Padding(_render(block, console.width - 3), (0, 0, 0, 3)))


def _render(block: Block, width: int) -> RenderableType:
    match block:
        case Paragraph():
            return Text.assemble(
                *((piece, "bold" if is_formula else "") for piece, is_formula in block.pieces)
            )
        case Equation(traced):
            return _equation(traced)
        case Figure(parts):
            return _figure(parts, width)


def _equation(traced: Sum) -> RenderableType:
    """Lay out a sum as symbols, numbers and value, with the products in columns."""
    head = Factor(traced.name, traced.index, 0).symbol
    lines = Table.grid(padding=(0, 1))
    wrapped = wrap_terms(traced)
    for row, products in enumerate(wrapped):
        last = row == len(wrapped) - 1
        for form, lead in enumerate((head if row == 0 else "", "")):
            cells = [lead, "=" if row == 0 else "+"]
            for number, product in enumerate(products):
                end = number == len(products) - 1
                cells += [product[form], "" if end and last else ("+" if not end else "")]
            lines.add_row(*cells)
    lines.add_row("", "=", f"{traced.value:.6g}")
    return lines


def _figure(parts: list[Grid | str], width: int) -> RenderableType:
    """Put the parts side by side; a part that does not fit into the width starts a new row."""
    if len(parts) == 1 and isinstance(parts[0], Grid) and parts[0].column_names:
        return _table(parts[0], width)
    rows: list[list[list[Text]]] = [[]]
    remaining = width
    for lines in map(_lines, parts):
        part_width = max(line.cell_len for line in lines) + _GAP
        if part_width > remaining + _GAP and rows[-1]:
            rows.append([])
            remaining = width
        rows[-1].append(lines)
        remaining -= part_width
    return Group(*(_beside(columns) for columns in rows))


def _beside(columns: list[list[Text]]) -> Text:
    """Join columns of lines, line by line."""
    joined = Text()
    for lines in zip_longest(*columns):
        row = Text()
        for column, line in zip(columns, lines, strict=True):
            cell = line.copy() if line is not None else Text()
            cell.pad_right(max(entry.cell_len for entry in column) - cell.cell_len + _GAP)
            row.append_text(cell)
        row.rstrip()
        joined.append_text(row).append("\n")
    joined.rstrip()
    return joined


def _lines(part: Grid | str) -> list[Text]:
    """Return the lines of a grid, or of a sign between two grids."""
    if isinstance(part, str):
        return [Text(), Text(part, style="dim")]
    width = max(len(cell.text) for row in part.rows for cell in row)
    lines = [Text(part.name, style="italic")]
    for row in part.rows:
        line = Text()
        for cell in row:
            style = _style(cell.weight)
            line.append(" " * (width - len(cell.text)))
            line.append(cell.text, style=style)
            line.append("  ")
        line.rstrip()
        lines.append(line)
    return lines


def _table(grid: Grid, width: int) -> RenderableType:
    """Return a grid with names of its rows and columns, or a note that it is too wide."""
    for candidate in (grid, _shorten_symbols(grid)):
        if not grid.row_names or _width(candidate) <= width:
            grid = candidate
            break
    else:
        return Text(
            f"({len(grid.rows)} rows and {len(grid.rows[0])} columns: too wide for {width} "
            "characters; a wider window shows them, or --svg.)"
        )
    table = Table(box=None, padding=(0, 1), pad_edge=False, show_edge=False, header_style="dim")
    if grid.row_names:
        table.add_column("")
    for name in grid.column_names:
        table.add_column(name, justify="right", no_wrap=bool(grid.row_names))
    for k, row in enumerate(grid.rows):
        cells = [Text(cell.text, style=_style(cell.weight)) for cell in row]
        head = [Text(grid.row_names[k], style="dim")] if grid.row_names else []
        table.add_row(*head, *cells)
    return table


def _width(grid: Grid) -> int:
    """Return the width in characters of a table with names of rows and columns."""
    columns = zip(*grid.rows, strict=True)
    inside = (
        max(len(name), *(len(cell.text) for cell in column)) + 2
        for name, column in zip(grid.column_names, columns, strict=True)
    )
    return sum(inside) + max(map(len, grid.row_names)) + 2


def _shorten_symbols(grid: Grid) -> Grid:
    """Return the grid with w[0,1] written as w01, if its indices have one digit."""

    def short(text: str) -> str:
        return re.sub(r"\[(\d),(\d)\]", r"\1\2", text)

    return Grid(
        grid.name,
        [[replace(cell, text=short(cell.text)) for cell in row] for row in grid.rows],
        list(map(short, grid.row_names)),
        list(map(short, grid.column_names)),
    )


def _style(weight: int | None) -> str:
    return "" if weight is None else _COLOURS[weight % len(_COLOURS)]
