"""A browser for the tests of pages, and servers that show small atlases.

The tests use the Chromium that is installed (Debian's package ``chromium``, or what ``CHROMIUM``
names). Without one they say so and skip, except in CI, where its absence is an error.
"""

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from rot180.web.app import application
from rot180.web.collection import AtlasCollection
from rot180.web.server import serve_in_thread
from tests.web.atlases import early_one, late_one, loader, opened

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
PICTURES = Path(os.environ.get("ROT180_SCREENSHOTS", "demo/screenshots"))
"""Where the tests leave pictures of pages, to be looked at."""


@pytest.fixture(scope="session")
def late_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of the two-layer network over photographs."""
    return late_one(tmp_path_factory.mktemp("late"))


@pytest.fixture(scope="session")
def early_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """And one of it as it was before, with other weights; few tests need it."""
    return early_one(tmp_path_factory.mktemp("early"))


@pytest.fixture(scope="session")
def collection(late_path: Path) -> AtlasCollection:
    """One atlas, whose network is at hand."""
    found = AtlasCollection(opened([late_path]), [loader])
    found["late"].model.load()
    return found


@pytest.fixture(scope="session")
def address(collection: AtlasCollection) -> Iterator[str]:
    """The address of a server that shows one atlas."""
    with serve_in_thread(application(collection)) as found:
        yield found


@pytest.fixture(scope="session")
def series(early_path: Path, late_path: Path) -> Iterator[str]:
    """The address of a server that shows two atlases over the same data."""
    both = AtlasCollection(opened([early_path, late_path]), [loader])
    for served in both.values():
        served.model.load()
    with serve_in_thread(application(both)) as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        assert not os.environ.get("CI"), "Chromium is not installed."
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture
def errors() -> list[str]:
    """What the console of a page complained about; a test that expects some empties it."""
    return []


@pytest.fixture
def page(browser: Browser, errors: list[str]) -> Iterator[Page]:
    """A page that may not complain: an error in its console, or an address that fails, is one."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(15_000)
    made = context.new_page()
    watched(made, errors)
    yield made
    context.close()
    assert errors == []


def watched(page: Page, errors: list[str]) -> None:
    """Note what a page's console complains about."""

    def console(message: Any) -> None:
        if message.type in ("error", "warning"):
            errors.append(f"{message.text} ({message.location.get('url', '')})")

    page.on("console", console)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("response", lambda r: errors.append(f"{r.status} {r.url}") if r.status >= 400 else None)


def screenshot(page: Page, name: str, whole: bool = True) -> None:
    """Leave a picture of a page, to be looked at.

    The browser sometimes draws no frame for it on a busy machine. No test depends on the picture.
    """
    PICTURES.mkdir(parents=True, exist_ok=True)
    try:
        page.screenshot(path=PICTURES / f"{name}.png", full_page=whole, timeout=30_000)
    except PlaywrightTimeout:
        warnings.warn(f"The browser made no picture of {name}.", stacklevel=2)


def forgiven(page: Page, errors: list[str]) -> None:
    """Forget what a page has complained about so far, which the test expects."""
    page.wait_for_timeout(100)  # so that all of it has arrived
    errors.clear()
