"""Pages of the site as programs: their code cells, run one after the other."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
_CELL = re.compile(
    r"^```\{code-cell\}[^\n]*\n((?::[a-z-]+:[^\n]*\n)*)(.*?)^```$", re.DOTALL | re.MULTILINE
)


def cells(page: str) -> list[str]:
    """Return the code of a page, given without ending, cell by cell."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return [code for _, code in _CELL.findall(text)]


def run(page: str) -> dict[str, Any]:
    """Run a page, and return all names that its cells have left; what they print is under "out"."""
    names: dict[str, Any] = {}
    printed = StringIO()
    with redirect_stdout(printed):
        for number, code in enumerate(cells(page), 1):
            exec(compile(code, f"{page}, cell {number}", "exec"), names)
    return {**names, "out": printed.getvalue()}
