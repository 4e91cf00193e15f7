"""An explanation as a LaTeX document that compiles by itself."""

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
    Section,
    Words,
    in_lines,
)

_ESCAPES = {c: f"\\{c}" for c in "#$%&_{}"} | {
    "^": r"\^{}",
    "~": r"\~{}",
    "\\": r"\textbackslash{}",
}


def document(sections: list[Section], title: str) -> str:
    """Return the document."""
    colours = "\n".join(
        f"\\definecolor{{weight{k}}}{{HTML}}{{{colour}}}" for k, colour in enumerate(COLOURS)
    )
    body = "\n\n".join(
        f"\\section{{{_escaped(one.title)}}}\n\n" + "\n\n".join(map(_written, one.blocks))
        for one in sections
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
        f"\\title{{{_escaped(title)}}}\\date{{}}\n"
        "\\begin{document}\n\\maketitle\n\n"
        f"{body}\n\n\\end{{document}}\n"
    )


def _written(block: Block) -> str:
    match block:
        case Words():
            return "".join(
                f"${formula(one)}$" if is_formula else _escaped(one)
                for one, is_formula in block.pieces
            )
        case Equation(found):
            return _equation(found)
        case Figure(parts):
            shown = "\n\\quad\n".join(
                f"\\text{{{_escaped(one)}}}" if isinstance(one, str) else _grid(one)
                for one in parts
            )
            wide = sum(max(map(len, one.rows)) for one in parts if isinstance(one, Grid))
            if wide > 14:  # shrunk to the width of the page
                shown = f"\\resizebox{{\\linewidth}}{{!}}{{$\\displaystyle\n{shown}\n$}}"
            return f"\\[\n{shown}\n\\]"


def _equation(found: Sum) -> str:
    lines = []
    for place in (0, 1):
        for row, products in enumerate(in_lines(found)):
            terms = " + ".join(formula(one[place]) for one in products)
            lines.append(f"&{'=' if row == 0 else '+'} {terms}")
    lines.append(f"&= {found.value:.6g}")
    lines[0] = f"{formula(Factor(found.name, found.index, 0).symbol)} {lines[0]}"
    return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"


def _grid(one: Grid) -> str:
    if one.column_names:
        heads = ([""] if one.row_names else []) + [_head(name) for name in one.column_names]
        rows = [" & ".join(heads) + r" \\ \hline"]
        for k, row in enumerate(one.rows):
            names = [f"{formula(one.row_names[k])}"] if one.row_names else []
            rows.append(" & ".join([*names, *map(_cell, row)]) + r" \\")
        lines = "\n".join(rows)
        columns = "r" * len(heads)
        return f"\\begin{{array}}{{{columns}}}\n{lines}\n\\end{{array}}"
    rows = [" & ".join(map(_cell, row)) for row in one.rows]
    matrix = "\\begin{bmatrix}\n" + " \\\\\n".join(rows) + "\n\\end{bmatrix}"
    return (
        f"\\overset{{\\displaystyle {_head(one.name)}\\strut}}{{{matrix}}}" if one.name else matrix
    )


def _head(name: str) -> str:
    """Return a name as a formula where it is one, else as words."""
    is_formula = re.fullmatch(
        r"[a-z]{1,2}'?|delta|z|rot180\(w\)|dC/d\w|\w\[[\d,]+\]|corr\(.*", name
    )
    if is_formula:
        return formula(name)
    return f"\\text{{{_escaped(name)}}}" if name else ""


def _cell(cell: Cell) -> str:
    text = cell.text.strip()
    if text == "·":
        return r"\cdot"
    is_formula = re.search(r"[\[(*/]", text) or re.fullmatch(r"-?[\d.e+-]+", text)
    shown = formula(text) if is_formula else f"\\text{{{_escaped(text)}}}"
    if cell.weight is None:
        return shown
    return f"\\cellcolor{{weight{cell.weight % len(COLOURS)}!35}}{shown}"


def formula(text: str) -> str:
    """Return what stands in backquotes as LaTeX: w[0,1]*a[1,2], dC/dw, delta * rot180(w), …"""
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


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
