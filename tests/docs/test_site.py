"""The site builds without a warning, its links lead somewhere, and it loads only its own files.

Its pages run in ``test_pages.py`` and ``test_article.py``, in one process; here it is built without
running them, which tests all but their results. ``make docs`` does both.
"""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from tests.docs.pages import DOCS, PAGES

ROOT = DOCS.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "html"
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-b", "html"]
    still = ["-D", "nb_execution_mode=off", "-D", "suppress_warnings=mystnb.eval"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, *still, str(DOCS), str(out)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return out


class _Links(HTMLParser):
    """The links, pictures and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.anchors.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in ("img", "script", "iframe", "source") and "src" in found:
            self.loaded.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(found["href"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Links]:
    return {path: _Links(path) for path in sorted(site.rglob("*.html"))}


@pytest.mark.slow
def test_every_link_within_the_site_leads_to_a_page_and_a_place_on_it(pages) -> None:
    broken = []
    for page, found in pages.items():
        for link in found.links:
            address, anchor = urldefrag(link)
            if re.match(r"[a-z]+:", address):
                continue
            target = (page.parent / unquote(address)).resolve() if address else page
            there = pages[target].anchors if target in pages else {anchor}
            if not target.is_file() or (anchor and unquote(anchor) not in there):
                broken.append(f"{page.name}: {link}")
    assert not broken
    assert sum(len(found.links) for found in pages.values()) > 1000


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(pages) -> None:
    for page, found in pages.items():
        for source in found.loaded:
            assert not re.match(r"(https?:)?//", source), f"{page.name} loads {source}"
            if not source.startswith("data:"):
                assert (page.parent / unquote(source.split("?")[0])).is_file(), source


@pytest.mark.slow
def test_every_page_is_there(site: Path, pages) -> None:
    assert {str(path.relative_to(site).with_suffix("")) for path in pages} > set(PAGES)


@pytest.mark.parametrize(
    "path", [*ROOT.glob("*.md"), *ROOT.glob(".github/**/*.md")], ids=lambda path: path.name
)
def test_files_that_the_papers_of_the_project_name_exist(path: Path) -> None:
    for link in re.findall(r"\]\((?![a-z]+:)([^)#\s]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link
