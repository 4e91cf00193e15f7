"""Pages of the site as programs: their code cells and the expressions in their text, in order."""

import re
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(
    str(path.relative_to(DOCS).with_suffix(""))
    for path in DOCS.glob("**/*.md")
    if not path.relative_to(DOCS).parts[0].startswith("_") and path.parent.name != "pictures"
)
"""All pages, without ending."""

_PIECE = re.compile(
    r"^```\{code-cell\}[^\n]*\n(?:---\n.*?^---\n)?(?::[a-z-]+:[^\n]*\n)*(?P<cell>.*?)^```$"
    r"|\{eval\}`(?P<expression>[^`]+)`",
    re.DOTALL | re.MULTILINE,
)


def pieces(page: str) -> Iterator[tuple[str, bool]]:
    """Give the code of a page piece by piece, and whether it is an expression."""
    for found in _PIECE.finditer((DOCS / f"{page}.md").read_text(encoding="utf-8")):
        cell, expression = found["cell"], found["expression"]
        yield (cell, False) if expression is None else (" ".join(expression.split()), True)


def run(page: str) -> dict[str, Any]:
    """Run a page as the site does, where it lies.

    Returns:
        All names that it has left; "out" is what it printed, "said" what stands in its sentences.
    """
    names: dict[str, Any] = {}
    printed, said = StringIO(), []
    with redirect_stdout(printed), chdir((DOCS / page).parent):
        for number, (code, is_expression) in enumerate(pieces(page), 1):
            compiled = compile(code, f"{page}, {number}", "eval" if is_expression else "exec")
            value = eval(compiled, names)
            if is_expression:
                said.append(str(value))
    return {**names, "out": printed.getvalue(), "said": said}
