"""Writes an explanation as a LaTeX document that compiles on its own."""

import re

from rot180.equations.trace import Sum
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

_ESCAPES = {c: f"\\{c}" for c in "#$%&_{}"} | {
    "^": r"\^{}",
    "~": r"\~{}",
    "\\": r"\textbackslash{}",
}


def as_latex(sections: list[Section], title: str) -> str:
    """Return an explanation as the text of a LaTeX document."""
    colours = "\n".join(
        f"\\definecolor{{weight{k}}}{{HTML}}{{{colour}}}" for k, colour in enumerate(COLOURS)
    )
    body = "\n\n".join(
        f"\\section{{{_escape(section.title)}}}\n\n" + "\n\n".join(map(_block, section.blocks))
        for section in sections
    )
    return (
        "\\documentclass{article}\n"
        "\\usepackage[utf8]{inputenc}\n"
        "\\usepackage[T1]{fontenc}\n"
        "\\usepackage[margin=25mm]{geometry}\n"
        "\\usepackage{amsmath}\n"
        "\\usepackage{graphicx}\n"
        "\\usepackage[table]{xcolor}\n"
        f"{colours}\n"
        "\\setlength{\\parindent}{0pt}\\setlength{\\parskip}{6pt}\n"
        "\\setlength{\\arraycolsep}{4pt}\n"
        "\\setcounter{MaxMatrixCols}{100}\n"
        f"\\title{{{_escape(title)}}}\\date{{}}\n"
        "\\begin{document}\n\\maketitle\n\n"
        f"{body}\n\n\\end{{document}}\n"
    )


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return "".join(
                f"${formula(piece)}$" if is_formula else _escape(piece)
                for piece, is_formula in block.pieces
            )
        case Equation(traced):
            return _equation(traced)
        case Figure(parts):
            markup = "\n\\quad\n".join(
                f"\\text{{{_escape(part)}}}" if isinstance(part, str) else _grid(part)
                for part in parts
            )
            columns = sum(max(map(len, part.rows)) for part in parts if isinstance(part, Grid))
            if columns > 14:  # wider than the page
                markup = f"\\resizebox{{\\linewidth}}{{!}}{{$\\displaystyle\n{markup}\n$}}"
            return f"\\[\n{markup}\n\\]"


def _equation(traced: Sum) -> str:
    lines = []
    for form in (0, 1):  # symbols, then numbers
        for row, products in enumerate(wrap_terms(traced)):
            terms = " + ".join(formula(product[form]) for product in products)
            lines.append(f"&{'=' if row == 0 else '+'} {terms}")
    lines.append(f"&= {traced.value:.6g}")
    lines[0] = f"{formula(Factor(traced.name, traced.index, 0).symbol)} {lines[0]}"
    return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"


def _grid(grid: Grid) -> str:
    if grid.column_names:
        heads = ([""] if grid.row_names else []) + [_head(name) for name in grid.column_names]
        rows = [" & ".join(heads) + r" \\ \hline"]
        for k, row in enumerate(grid.rows):
            names = [f"{formula(grid.row_names[k])}"] if grid.row_names else []
            rows.append(" & ".join([*names, *map(_cell, row)]) + r" \\")
        lines = "\n".join(rows)
        columns = "r" * len(heads)
        return f"\\begin{{array}}{{{columns}}}\n{lines}\n\\end{{array}}"
    rows = [" & ".join(map(_cell, row)) for row in grid.rows]
    matrix = "\\begin{bmatrix}\n" + " \\\\\n".join(rows) + "\n\\end{bmatrix}"
    if not grid.name:
        return matrix
    return f"\\overset{{\\displaystyle {_head(grid.name)}\\strut}}{{{matrix}}}"


def _head(name: str) -> str:
    """Return a name as a formula if it is one, else as text."""
    is_formula = re.fullmatch(
        r"[a-z]{1,2}'?|delta|z|rot180\(w\)|dC/d\w|\w\[[\d,]+\]|corr\(.*", name
    )
    if is_formula:
        return formula(name)
    return f"\\text{{{_escape(name)}}}" if name else ""


def _cell(cell: Cell) -> str:
    text = cell.text.strip()
    if text == "·":
        return r"\cdot"
    is_formula = re.search(r"[\[(*/]", text) or re.fullmatch(r"-?[\d.e+-]+", text)
    shown = formula(text) if is_formula else f"\\text{{{_escape(text)}}}"
    if cell.weight is None:
        return shown
    return f"\\cellcolor{{weight{cell.weight % len(COLOURS)}!35}}{shown}"


def formula(text: str) -> str:
    """Return a formula of an explanation as LaTeX: w[0,1]*a[1,2], dC/dw, delta * rot180(w), …"""
    text = re.sub(r"([\w)\]])\*(?=[\w(-])", r"\1 \\cdot ", text)
    text = text.replace(" * ", r" \ast ")
    text = re.sub(r"d(C)/d(delta|\w)", r"\\partial \1/\\partial \2", text)
    text = re.sub(r"\|([^|]+)\|", r"\\lVert \1 \\rVert", text)
    text = re.sub(r"\b(delta)\b", r"\\delta", text)
    text = re.sub(r"\b(rot180|corr)\b", r"\\operatorname{\1}", text)
    text = re.sub(r"\b(exp|max|tanh)\b", r"\\\1", text)
    text = re.sub(r"(\d(?:\.\d+)?)e([+-]?)0*(\d+)", r"\1\\cdot 10^{\2\3}", text)
    text = re.sub(r"\[([^\]]*)\]", r"_{\1}", text)
    return text.replace("{+", "{")


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
