"""Asks axe-core what a person with a screen reader, or without a mouse, would stumble over."""

from functools import cache
from importlib.resources import files

from playwright.sync_api import Page

_RUN = """async () => (await axe.run(document, {preload: false})).violations
  .filter(v => v.impact === "serious" || v.impact === "critical")
  .map(v => `${v.id} (${v.impact}): ` + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)).join())
"""


@cache
def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


def assert_accessible(page: Page) -> None:
    """Assert that axe-core finds nothing serious or critical on a page."""
    page.evaluate(_axe())
    found = page.evaluate(_RUN)
    assert found == [], found
