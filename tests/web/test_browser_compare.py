"""Atlases side by side, and a feature through a series, in a browser."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.web.accessible import assert_accessible
from tests.web.conftest import screenshot

pytestmark = pytest.mark.slow


def test_the_atlases_are_listed(page: Page, series: str) -> None:
    page.goto(series)
    for name in ("early", "late"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    assert_accessible(page)
    screenshot(page, "home")


def test_two_atlases_side_by_side(page: Page, series: str) -> None:
    page.goto(f"{series}/compare")
    expect(page.get_by_text("are each other's best match")).to_be_visible()
    assert page.locator(".pair").count() == 64
    page.locator("#layer").select_option("conv1")
    page.wait_for_url(re.compile("layer=conv1"))
    page.locator("#other").select_option("conv1")
    page.wait_for_url(re.compile("other=conv1"))
    assert page.locator(".pair").count() == 32
    page.wait_for_load_state("networkidle")
    screenshot(page, "compare", whole=False)
    assert_accessible(page)
    page.locator("#first").select_option("late")
    page.wait_for_url(re.compile("first=late"))


def test_the_slider_through_time(page: Page, series: str) -> None:
    page.goto(f"{series}/series?layer=conv1&channel=5")
    patches = page.locator("#step-patches")
    expect(page.locator("#step-name")).to_have_text("late")
    expect(patches).to_have_attribute("src", re.compile("/atlas/late/features/conv1/5/patches-9"))
    page.locator("#time").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#step-name")).to_have_text("early")
    expect(patches).to_have_attribute("src", re.compile("/atlas/early/features/conv1/5/patches-9"))
    assert "at=0" in page.url
    page.wait_for_load_state("networkidle")
    page.reload()
    expect(page.locator("#step-name")).to_have_text("early")
    page.get_by_label("likeness").check(force=True)
    page.wait_for_url(re.compile("follow=likeness"))
    page.wait_for_load_state("networkidle")
    screenshot(page, "series")
    assert_accessible(page)


def test_all_addresses_are_listed(page: Page, series: str) -> None:
    page.goto(f"{series}/api")
    expect(page.get_by_text("GET /atlas/{atlas}.json", exact=True)).to_be_visible()
    assert_accessible(page)
