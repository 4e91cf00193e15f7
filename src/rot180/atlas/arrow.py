"""The tables of an atlas for PyArrow and pandas."""

from typing import TYPE_CHECKING, Any

from rot180.errors import Rot180Error, suggest

if TYPE_CHECKING:
    from rot180.atlas.atlas import Atlas

TABLES = (
    "layer",
    "feature",
    "example",
    "histogram",
    "class_response",
    "correlation",
    "class",
    "skipped",
)
"""The tables that :meth:`rot180.Atlas.table` returns; and ``image``, without its pictures."""

_ARROW = {"INTEGER": "int64", "REAL": "float64", "TEXT": "string"}
_VIEWS = {
    "example": "examples",
    "histogram": "histograms",
    "class_response": "class_responses",
    "correlation": "correlations",
}


def read_table(atlas: "Atlas", name: str, kind: str) -> Any:
    """Return a table of an atlas; see :meth:`rot180.Atlas.table`."""
    if name not in (*TABLES, "image"):
        raise Rot180Error(
            f"There is no table '{name}'. There are: {suggest((*TABLES, 'image'), name)}."
        )
    if kind not in ("arrow", "pandas"):
        raise Rot180Error(f"A table is 'arrow' or 'pandas', not '{kind}'.")
    import pyarrow

    source = _VIEWS.get(name, name)
    kinds = {one: kind for _, one, kind, *_ in atlas.rows(f"PRAGMA table_info({source})")}
    kinds.pop("picture", None)
    quoted = ", ".join(f'"{one}"' for one in kinds)
    found = atlas.rows(f"SELECT {quoted} FROM {source}")
    values = list(zip(*found, strict=True)) or [()] * len(kinds)
    try:
        table = pyarrow.table(
            {
                one: pyarrow.array(of, _ARROW[kinds[one]])
                for one, of in zip(kinds, values, strict=True)
            }
        )
    except (pyarrow.ArrowException, OverflowError, UnicodeError) as error:
        raise atlas.damaged(name) from error
    if kind == "arrow":
        return table
    try:
        return table.to_pandas()
    except ImportError as error:
        raise Rot180Error("pandas is not installed: 'pip install pandas'.") from error
