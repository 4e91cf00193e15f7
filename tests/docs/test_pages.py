"""Every page that holds code runs from its first line to its last, on the photographs."""

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, pieces, run

pytestmark = pytest.mark.slow

ELSEWHERE = "article/"
"""The pages of the article run in ``test_article.py``."""
RUN = [page for page in PAGES if not page.startswith(ELSEWHERE) and any(pieces(page))]


@pytest.mark.parametrize("page", RUN)
def test_a_page_runs(page: str, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    monkeypatch.setenv("ROT180_DOCS_DATA", "photos")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    found = run(page)
    assert not any("object at 0x" in one for one in found["said"])
    if page == "index":
        assert "built without CIFAR-10" in found["said"][-1]


def test_most_pages_run() -> None:
    assert len(RUN) > 12
