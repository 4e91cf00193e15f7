"""Lays out an explanation, or blocks of one, as a vector drawing."""

from textwrap import wrap
from xml.sax.saxutils import escape

from rot180.equations.wiring import Factor
from rot180.explain.blocks import (
    COLOURS,
    Block,
    Cell,
    Equation,
    Figure,
    Grid,
    Paragraph,
    Section,
    wrap_terms,
)
from rot180.explain.svg import Drawing

_MARGIN = 24
_LETTER = 8.6
"""Width of a letter of the monospaced font in pixels, rounded up."""
_LINE = 22
_MARK, _NO_BREAK = "\x01", "\u00a0"
_CELL = 30


def as_svg(sections: list[Section], title: str) -> str:
    """Return an explanation as the text of an SVG file."""
    page = _Page(_MARGIN, 880)
    page.text(_MARGIN, title, "title", 34)
    for number, section in enumerate(sections, 1):
        page.down(14)
        page.text(_MARGIN, f"{number}. {section.title}", "title", 30)
        for block in section.blocks:
            page.block(block)
    return str(page.finished(title))


def draw_blocks(*blocks: Block, title: str) -> Drawing:
    """Return blocks as a drawing, which a notebook displays.

    Args:
        blocks: paragraphs, sums and grids, see :mod:`rot180.explain.blocks`.
        title: description of the drawing for screen readers.
    """
    page = _Page(2, 0)
    for block in blocks:
        page.block(block)
    return page.finished(title)


class _Page:
    """A drawing that grows downwards; ``y`` is the top of the next block."""

    def __init__(self, margin: float, width: float) -> None:
        self.drawing = Drawing(0, 0, "")
        self.margin, self.y, self.width = margin, margin, width

    def finished(self, title: str) -> Drawing:
        """Return the drawing, as large as its contents."""
        self.drawing.title = title
        self.drawing.width = self.width + self.margin
        self.drawing.height = self.y + self.margin
        return self.drawing

    def down(self, pixels: float) -> None:
        self.y += pixels

    def text(self, x: float, words: str, kind: str, height: float) -> None:
        """Write a line of text and move down by its height."""
        self.put(x, self.y + height * 0.65, words, kind)
        self.down(height)

    def put(self, x: float, y: float, words: str, kind: str, anchor: str = "start") -> None:
        self.drawing.put(x, y, escape(words), kind, anchor)

    def block(self, block: Block) -> None:
        match block:
            case Paragraph():
                self._paragraph(block)
            case Equation():
                self._equation(block)
            case Figure(parts):
                self._figure(parts)
        self.down(10)

    def _paragraph(self, paragraph: Paragraph) -> None:
        marked = "".join(
            # A formula is not broken across lines, and its marks survive the wrapping.
            f"{_MARK}{piece.replace(' ', _NO_BREAK)}{_MARK}" if is_formula else piece
            for piece, is_formula in paragraph.pieces
        )
        for line in wrap(marked, 104, break_on_hyphens=False):
            spans = "".join(
                f'<tspan class="formula">{escape(piece)}</tspan>' if number % 2 else escape(piece)
                for number, piece in enumerate(line.split(_MARK))
            )
            y = self.y + _LINE * 0.65
            self.drawing.put(self.margin, y, spans)
            self.width = max(self.width, self.margin + 7.4 * len(line))
            self.down(_LINE)

    def _equation(self, equation: Equation) -> None:
        """Write the symbols and the numbers of a sum below each other, in columns."""
        traced = equation.sum
        head = Factor(traced.name, traced.index, 0).symbol
        left = self.margin + 20 + _LETTER * (len(head) + 1)
        self.put(self.margin + 20, self.y + _LINE * 0.65, head, "mono")
        for row, products in enumerate(wrap_terms(traced)):
            for form in (0, 1):  # symbols, then numbers
                x = left
                self.put(x, self.y + _LINE * 0.65, "=" if row == 0 else "+", "mono")
                x += 2 * _LETTER
                for number, product in enumerate(products):
                    self.put(x, self.y + _LINE * 0.65, product[form], "mono")
                    x += _LETTER * (max(map(len, product)) + 1)
                    if number < len(products) - 1:
                        self.put(x - _LETTER / 2, self.y + _LINE * 0.65, "+", "mono")
                        x += 1.5 * _LETTER
                self.width = max(self.width, x + self.margin)
                self.down(_LINE)
        self.text(left, f"= {traced.value:.6g}", "mono", _LINE)

    def _figure(self, parts: list[Grid | str]) -> None:
        x, tallest = self.margin + 20.0, 0.0
        middle = self.y + 22 + _CELL * max(len(g.rows) for g in parts if isinstance(g, Grid)) / 2
        for part in parts:
            if isinstance(part, str):
                self.put(x, middle + 5, part, "name")
                x += len(part) * _LETTER + 18
            else:
                width, height = self._grid(x, part)
                x += width + 26
                tallest = max(tallest, height)
        self.width = max(self.width, x)
        self.down(tallest)

    def _grid(self, left: float, grid: Grid) -> tuple[float, float]:
        """Draw a grid with its names and return its (width, height) in pixels."""
        table = bool(grid.column_names) and not grid.row_names
        longest = max(len(cell.text) for row in grid.rows for cell in row)
        if table:
            widths = [
                _LETTER * max(len(name), *(len(row[k].text) for row in grid.rows)) + 16
                for k, name in enumerate(grid.column_names)
            ]
        else:
            widths = [max(_CELL, _LETTER * longest + 10)] * len(grid.rows[0])
        x0 = left + (_LETTER * max(map(len, grid.row_names)) + 10 if grid.row_names else 0)
        top = self.y + (22 if grid.name or grid.column_names else 0)
        if grid.name:
            self.put(x0, self.y + 14, grid.name, "name")
        edges = [x0]
        for width in widths:
            edges.append(edges[-1] + width)
        for k, name in enumerate(grid.column_names):
            x, anchor = (
                (edges[k + 1] - 8, "end") if table else ((edges[k] + edges[k + 1]) / 2, "middle")
            )
            self.put(x, self.y + 14, name, "name", anchor)
        height = _LINE if table else _CELL
        for number, row in enumerate(grid.rows):
            y = top + number * height
            if grid.row_names:
                self.put(x0 - 8, y + height * 0.65, grid.row_names[number], "name", "end")
            for k, cell in enumerate(row):
                if table:
                    self.put(edges[k + 1] - 8, y + height * 0.65, cell.text, "mono", "end")
                else:
                    self._square(edges[k], y, widths[k], cell)
        name_width = len(grid.name) * 7.2
        return max(edges[-1] - left, name_width), top - self.y + height * len(grid.rows) + 6

    def _square(self, x: float, y: float, width: float, cell: Cell) -> None:
        if cell.text != "·":
            colour = "none" if cell.weight is None else f"#{COLOURS[cell.weight % len(COLOURS)]}"
            self.drawing.box(x, y, width, _CELL, colour)
        self.put(x + width / 2, y + _CELL * 0.65, cell.text, "mono", "middle")
