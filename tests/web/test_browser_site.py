"""The site around the atlases, in a browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from rot180.web.app import application
from rot180.web.server import serve_in_thread
from tests.web.accessible import assert_accessible

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve_in_thread(application()) as found:
        yield found


def test_the_keys_are_listed(page: Page, address: str) -> None:
    page.goto(f"{address}/learn")
    page.keyboard.press("?")
    assert page.get_by_role("heading", name="Keyboard shortcuts").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("heading", name="Keyboard shortcuts").is_visible()
    assert_accessible(page)
