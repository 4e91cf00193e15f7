"""The page about the atlas' file: its statistics and its tables, as the library defines them."""

from typing import TYPE_CHECKING

from rot180.atlas.schema import TABLES
from rot180.atlas.statistics import STATISTICS

if TYPE_CHECKING:  # the tests ask for the page, and need no Sphinx
    from sphinx.application import Sphinx

PAGE = "reference/atlas"


def page(source: str) -> str:
    """Return the text of the page, with the statistics and the tables in it."""
    rows = "\n".join(f"| `{one.name}` | {one.formula} |" for one in STATISTICS)
    marks = {
        "<!-- statistics -->": f"| column of `feature` | formula |\n| --- | --- |\n{rows}\n",
        "<!-- tables -->": f"```sql{TABLES.rstrip()}\n```\n",
    }
    for mark, text in marks.items():
        source = source.replace(mark, text)
    return source


def _fill(app: "Sphinx", docname: str, source: list[str]) -> None:
    if docname == PAGE:
        source[0] = page(source[0])


def setup(app: "Sphinx") -> dict[str, bool]:
    """Fill the page when it is read."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
