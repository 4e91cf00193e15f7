"""The page on the atlas file names the tables and columns that there are."""

import importlib
import re
import sqlite3
from pathlib import Path

from rot180.atlas.schema import APPLICATION_ID, TABLES, VERSION
from rot180.atlas.statistics import STATISTICS

SOURCE = Path(__file__).parents[2] / "docs" / "reference" / "atlas.md"
PAGE = importlib.import_module("atlas_page").page(SOURCE.read_text(encoding="utf-8"))


def named(heading: str) -> set[str]:
    """Return what the first column of the table under a line names."""
    (table,) = re.findall(rf"\| {heading} \|.*\n\| ---.*\n((?:\|.*\n)+)", PAGE)
    first = [row.split("|")[1] for row in table.splitlines()]
    return {name for one in first for name in re.findall(r"`(\w+)`", one)}


def test_all_tables_and_views_are_on_the_page() -> None:
    with sqlite3.connect(":memory:") as made:
        made.executescript(TABLES)
        found = dict(made.execute("SELECT name, type FROM sqlite_master WHERE type != 'index'"))
    assert named("table") == {name for name, kind in found.items() if kind == "table"}
    for name, kind in found.items():
        assert kind == "table" or f"`{name}`" in PAGE


def test_all_statistics_are_on_the_page() -> None:
    assert named("column of `feature`") == {one.name for one in STATISTICS}


def test_the_marks_of_the_file_are_on_the_page() -> None:
    assert f"`application_id` is {APPLICATION_ID:#x}" in PAGE
    assert f"`user_version`, {VERSION}," in PAGE


def test_the_tables_are_on_the_page_as_they_are_made() -> None:
    assert f"```sql{TABLES.rstrip()}\n```" in PAGE
    assert "<!--" not in PAGE
