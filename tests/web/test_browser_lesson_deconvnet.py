"""The second lesson in a browser, and both as pages of a folder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from rot180.equations.convolution import convolution
from rot180.web.app import application
from rot180.web.export import bundled_scripts
from rot180.web.lessons import PAGES, deconvnet, render_lesson
from rot180.web.server import serve_in_thread
from rot180.web.templates import static_files
from rot180.web.urls import StaticUrls, lesson_file
from tests.web.conftest import screenshot
from tests.web.learner import IMAGE, KERNEL, cell, number, panel, shown, total

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve_in_thread(application()) as found:
        yield f"{found}/learn"


def test_the_products_behind_a_pixel_of_each_projection(page: Page, address: str) -> None:
    one = deconvnet.build(preset="cross", feature="1")
    for step in (8, 9):
        page.goto(f"{address}/deconvnet?preset=cross&feature=1&step={step}")
        for y, x in ((0, 1), (3, 1), (4, 2)):
            panel(page).get_by_role("gridcell", name=f"x̂[{y},{x}] = ").last.hover()
            for method, way in one.ways.items():
                section = panel(page).locator(f"[data-method={method}]")
                value = section.locator(".lesson-sum-total output").inner_text()
                assert number(value) == way.signals["pixels"][0][y][x]
                terms = way.sums["pixels"][6 * y + x].products
                assert section.locator(".lesson-term").count() == len(terms)
        assert panel(page).locator("td.differs").count() >= np.sum(one.differs["pixels"])


def test_where_the_methods_part(page: Page, address: str) -> None:
    one = deconvnet.build()
    page.goto(f"{address}/deconvnet?step=6")
    assert "All three methods agree here" in panel(page).inner_text()
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Next").click()
    assert panel(page).locator("td.differs").count() == 3 * np.sum(one.differs["conv1"])
    for method, way in one.ways.items():
        section = panel(page).locator(f"[data-method={method}]")
        maps = section.locator(".lesson-maps").nth(1).locator("td > span").all_inner_texts()
        assert [number(text) for text in maps] == np.ravel(way.signals["conv1"]).tolist()
    words = {
        "deconvnet": "60 is above zero: it passes",
        "gradient": "the unit did not fire: 60 is stopped",
        "guided": "the unit did not fire: 60 is stopped",
    }
    for method, said in words.items():
        assert said in panel(page).locator(f"[data-method={method}] .lesson-detail").inner_text()


def test_another_unit_image_and_unpooling(page: Page, address: str) -> None:
    page.goto(f"{address}/deconvnet?step=3")
    panel(page).get_by_role("gridcell", name="a2[1,0,1]").click()
    page.wait_for_url("**unit=0,1**")
    value = panel(page).locator("output").inner_text()
    assert number(value) == deconvnet.build().maps["relu2"][1][0][1]
    panel(page).get_by_role("gridcell", name="a2[0,1,0]").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**unit=1,0**")
    page.get_by_role("link", name="repeat").click()
    page.wait_for_url("**unpool=repeat**")
    page.locator(".lesson-steps button").nth(5).click()
    assert "the whole window takes the value" in panel(page).inner_text()
    page.get_by_role("link", name="edge").click()
    page.wait_for_url("**preset=edge**")
    assert "unit=" not in page.url
    page.locator(".lesson-steps button").nth(0).click()
    page.get_by_role("textbox", name="x[0,0]").fill("9")
    page.wait_for_url("**image=9,0,1,6**")
    assert "preset" not in page.url
    assert panel(page).locator("td > span").first.inner_text() == "9"
    page.reload()
    assert panel(page).locator("td > span").first.inner_text() == "9"


# In a folder.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site")
    for name in ("learn", "static"):
        (made / name).mkdir()
    for name, content in static_files().items():
        (made / "static" / name).write_bytes(content)
    (made / "static" / "site.js").write_text(bundled_scripts(), encoding="utf-8")
    for lesson, state in PAGES:
        if state.get("stride") == "2" or state.get("preset") in ("edge", "cross"):
            continue  # not gone to here
        page = render_lesson(StaticUrls([], 1), lesson, state)
        (made / "learn" / lesson_file(lesson, state)).write_text(page, encoding="utf-8")
    return made


def test_lessons_work_from_a_folder(page: Page, folder: Path) -> None:
    page.goto((folder / "learn" / "index.html").as_uri())
    page.get_by_role("link", name="Back-propagation in a convolution").click()
    assert "rot180 serve" in page.locator("main").inner_text()
    assert page.get_by_role("textbox").count() == 0
    assert np.array_equal(shown(page, "a, the image"), IMAGE)
    page.get_by_role("link", name="convolution", exact=True).first.click()
    page.wait_for_url("**/convolution-convolution-*")
    page.locator(".lesson-steps button").nth(2).click()
    expected = convolution(IMAGE[None, None], KERNEL[None, None])[0, 0] + 1
    cell(page, "z[1,1]").hover()
    assert total(page) == expected[1, 1]
    screenshot(page, "lesson-convolution-folder")
    page.goto((folder / "learn" / "index.html").as_uri())
    page.get_by_role("link", name="From a unit back").click()
    page.get_by_role("link", name="corner").click()
    page.wait_for_url("**/deconvnet-0-corner-switches*")
    page.get_by_role("link", name="repeat").click()
    page.wait_for_url("**/deconvnet-0-corner-repeat*")
    page.locator(".lesson-steps button").nth(8).click()
    one = deconvnet.build(preset="corner", unpool="repeat")
    panel(page).get_by_role("gridcell", name="x̂[2,2] = ").first.hover()
    value = panel(page).locator("[data-method=deconvnet] .lesson-sum-total output").inner_text()
    assert number(value) == one.ways["deconvnet"].signals["pixels"][0][2][2]


def test_a_step_in_a_folder_is_linked_to(page: Page, folder: Path) -> None:
    page.goto(f"{(folder / 'learn' / 'deconvnet.html').as_uri()}?step=9")
    expect(page.locator(".lesson-panel:visible h2")).to_have_text("Side by side")
