"""The lessons in a browser: what a learner does, and whether the numbers shown are right."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Route

from rot180.equations.convolution import (
    convolution,
    convolution_error,
    correlation,
    correlation_error,
    correlation_gradient,
)
from rot180.web.app import application
from rot180.web.export import bundled_scripts
from rot180.web.folder import FolderLinks, lesson_file
from rot180.web.lessons import LESSONS, PAGES, deconvnet, rendered
from rot180.web.render import static_files
from rot180.web.server import running
from tests.web.accessible import assert_accessible
from tests.web.conftest import screenshot

IMAGE = np.array([[3, 3, 4, 5], [1, 1, 5, 5], [2, 2, 5, 3], [2, 5, 2, 3]], float)
KERNEL = np.array([[4, 1], [-3, -2]], float)
TARGET = np.array([[9, 7, -2], [-2, -9, 6], [-6, -4, 14]], float)
"""The numbers that the first lesson begins with; the bias is 1."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running(application()) as found:
        yield f"{found}/learn"


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def z(image: np.ndarray = IMAGE, kernel: np.ndarray = KERNEL) -> np.ndarray:
    return correlation(image[None, None], kernel[None, None])[0, 0] + 1


def panel(page: Page) -> Locator:
    return page.locator(".lesson-panel:visible")


def cell(page: Page, name: str) -> Locator:
    """Return the first cell of this name, as z[0,1], in the step that is shown."""
    return panel(page).get_by_role("gridcell", name=f"{name} = ", exact=False).first


def shown(page: Page, title: str) -> np.ndarray:
    """Return the numbers of the grid under a title."""
    box = panel(page).locator(".lesson-grid-box").filter(has_text=title).first
    rows = box.locator("tr").all()
    return np.array(
        [[number(one) for one in row.locator("td > span").all_inner_texts()] for row in rows]
    )


def total(page: Page) -> float:
    return number(panel(page).locator(".lesson-sum-total output").first.inner_text())


def wait_for(page: Page, title: str, value: float) -> None:
    """Wait until the first number of a grid is a certain one."""
    box = panel(page).locator(".lesson-grid-box").filter(has_text=title).first
    text = f"{value:.4g}".replace("-", "−")
    box.locator("td > span").first.filter(has_text=text).wait_for()


# The walk.


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_walk_goes_step_by_step_and_each_has_an_address(
    page: Page, address: str, lesson: str
) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{address}/{lesson}")
    count = len(LESSONS[lesson].steps)
    for step in range(1, count + 1):
        current = page.locator(".lesson-steps [aria-current=step]")
        assert current.inner_text().split() == [str(step), *LESSONS[lesson].steps[step - 1].split()]
        assert ("step=" not in page.url) if step == 1 else page.url.endswith(f"step={step}")
        assert panel(page).count() == 1
        screenshot(page, f"lesson-{lesson}-{step}")
        next_ = page.get_by_role("button", name="Next")
        assert next_.is_disabled() == (step == count)
        if step < count:
            next_.click()
    page.reload()
    assert page.locator(".lesson-steps [aria-current=step]").inner_text().startswith(str(count))
    page.locator(".lesson-walk").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    assert page.url.endswith(f"step={count - 1}")
    assert f"Step {count - 1} of {count}" in page.locator("#said").inner_text()
    page.get_by_role("button", name="Back").click()
    page.locator(".lesson-steps button").nth(0).click()
    assert page.get_by_role("button", name="Back").is_disabled()


@pytest.mark.parametrize("lesson", LESSONS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out(page: Page, address: str, lesson: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(f"{address}/{lesson}")
    first, every = (1, 2) if scheme == "light" else (2, 3)  # axe takes its time
    for step in range(first, len(LESSONS[lesson].steps) + 1, every):
        page.locator(".lesson-steps button").nth(step - 1).click()
        assert_accessible(page)
        if scheme == "dark":
            screenshot(page, f"lesson-{lesson}-{step}-dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out_of_the_list(page: Page, address: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(address)
    assert_accessible(page)
    screenshot(page, f"lessons-{scheme}")


LARGE = "?size=8x8&kernel_size=5x5&padding=full"


@pytest.mark.parametrize(
    ("lesson", "state"), [("convolution", ""), ("convolution", LARGE), ("deconvnet", "")]
)
def test_a_narrow_page_does_not_scroll_sideways(
    page: Page, address: str, lesson: str, state: str
) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.set_viewport_size({"width": 360, "height": 780})
    page.goto(f"{address}/{lesson}{state}")
    for step in range(1, len(LESSONS[lesson].steps) + 1):
        page.locator(".lesson-steps button").nth(step - 1).click()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        if not state and step in (1, 2, 5, 7, 9):
            screenshot(page, f"lesson-{lesson}-{step}-narrow")


@pytest.mark.parametrize("lesson", ["", *LESSONS])
def test_the_first_view_is_small(page: Page, address: str, lesson: str) -> None:
    sizes = []
    page.on("requestfinished", lambda one: sizes.append(one.sizes()["responseBodySize"]))
    page.goto(f"{address}/{lesson}", wait_until="networkidle")
    assert len(sizes) > 3
    assert sum(sizes) < 200_000


def test_play_goes_through_the_cells_and_then_on(page: Page, address: str) -> None:
    page.clock.install()
    page.goto(f"{address}/convolution?step=3")
    page.get_by_role("button", name="Play").click()
    assert total(page) == z()[0, 0]
    page.clock.run_for(950)
    assert total(page) == z()[0, 1]
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(5000)
    assert total(page) == z()[0, 1]
    page.get_by_role("button", name="Play").click()
    page.clock.run_for(900 * 10)
    assert page.url.endswith("step=4")


# The first lesson's numbers.


def test_the_forward_sums_are_those_of_the_correlation(page: Page, address: str) -> None:
    page.goto(f"{address}/convolution?step=3")
    cell(page, "z[0,0]").focus()
    for y in range(3):
        for x in range(3):
            assert total(page) == z()[y, x]
            said = page.locator("#said").inner_text()
            assert said.startswith(f"z[{y},{x}] = 4 times {IMAGE[y, x]:g} plus ")
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowDown")
    assert page.url.endswith("step=3")  # the arrows moved inside the grid
    terms = panel(page).locator(".lesson-term").all_inner_texts()
    assert len(terms) == KERNEL.size + 1
    assert panel(page).locator("td.tinted:has(small:not(:empty))").count() == KERNEL.size


@pytest.mark.parametrize("operation", ["correlation", "convolution"])
@pytest.mark.parametrize("step", [4, 5])
def test_the_error_of_every_pixel_from_both_views(
    page: Page, address: str, operation: str, step: int
) -> None:
    forward, back = {
        "correlation": (correlation, correlation_error),
        "convolution": (convolution, convolution_error),
    }[operation]
    made = forward(IMAGE[None, None], KERNEL[None, None]) + 1
    delta = made - TARGET
    expected = back(delta, KERNEL[None, None], (4, 4))[0, 0]
    target = "&target=" + ";".join(",".join(map(str, row)) for row in TARGET)
    page.goto(f"{address}/convolution?step={step}&operation={operation}{target}")
    for y in range(4):
        for x in range(4):
            cell(page, f"∂C/∂a[{y},{x}]").hover()
            assert total(page) == expected[y, x]
            lines = panel(page).locator(".lesson-line").count()
            products = panel(page).locator(".lesson-term:not(.lesson-term-quiet)").count()
            assert lines == products == (1 + (0 < y < 3)) * (1 + (0 < x < 3))
            if step == 5:
                assert panel(page).locator("td.picked").count() == 2
                right = panel(page).locator(".lesson-pair > section").nth(1)
                slid = right.locator(".lesson-grid-inner:has(.lesson-frame:visible) td.tinted")
                values = [one.inner_text().split() for one in slid.all()]
                added = sum(number(a) * number(w.removeprefix("×")) for a, w in values)
                assert added == expected[y, x]
                assert slid.count() == KERNEL.size


def test_the_kernel_turns_before_ones_eyes(page: Page, address: str) -> None:
    page.goto(f"{address}/convolution?step=5")
    plate = panel(page).locator(".lesson-turn-plate")
    plate.locator("xpath=self::*[not(contains(@class, 'is-turned'))]").wait_for()
    turned = [number(one) for one in ["−2", "−3", "1", "4"]]
    plate.locator("td").first.filter(has_text="−2").wait_for()
    assert [number(one) for one in plate.locator("td").all_inner_texts()] == turned
    assert panel(page).get_by_role("group", name="rotated by 180 degrees").count() == 1
    page.emulate_media(reduced_motion="reduce")
    page.get_by_role("button", name="Turn it again").click()
    assert [number(one) for one in plate.locator("td").all_inner_texts()] == turned


def test_the_gradient_of_a_weight_sums_over_the_connections_that_share_it(
    page: Page, address: str
) -> None:
    page.goto(f"{address}/convolution?step=6")
    delta = (z() - TARGET)[None, None]
    expected = correlation_gradient(IMAGE[None, None], delta, (2, 2))[0, 0]
    for y, x in np.ndindex(2, 2):
        cell(page, f"∂C/∂w[{y},{x}]").focus()
        assert total(page) == expected[y, x]
        assert panel(page).locator(".lesson-line").count() == 9
        assert panel(page).locator(".lesson-term").count() == 9


def test_finite_differences_stand_beside(page: Page, address: str) -> None:
    page.goto(f"{address}/convolution?step=7")
    said = panel(page).locator(".lesson-cost output").inner_text()
    assert number(said) < 1e-6
    assert np.allclose(shown(page, "δ = ∂C/∂z, back-propagated"), z() - TARGET)
    cell(page, "∂C/∂w[1,1]").hover()
    assert "by back-propagation" in panel(page).locator(".lesson-sum-place").inner_text()
    page.goto(f"{address}/convolution?step=7&image=0,1;0,0&kernel=1&bias=0&activation=relu")
    assert panel(page).locator("td.kink").count() > 0
    assert "kink" in panel(page).inner_text()


def test_the_perceptron_is_cut_and_shared(page: Page, address: str) -> None:
    page.goto(f"{address}/convolution?step=2")
    counted = panel(page).locator(".lesson-count")
    for button, said in (
        ("Every connection", "144 connections, 144 weights"),
        ("Cut outside", "36 connections left, 36 weights"),
        ("Share the weights", "36 connections, 4 weights"),
    ):
        page.get_by_role("button", name=button).click()
        assert counted.inner_text() == said
    page.get_by_role("option", name="a[1,1] = 1, 4 connections").hover()
    assert panel(page).locator(".lesson-wire.over").count() == 4
    page.get_by_role("option", name="z[0,0] = 11").focus()
    page.keyboard.press("ArrowDown")
    assert total(page) == z()[0, 1]
    assert panel(page).locator(".lesson-neuron.reached").count() == 4
    page.keyboard.press("ArrowLeft")  # to the other column, not to another step
    assert page.locator(":focus").get_attribute("aria-label").startswith("a[0,1] = ")
    assert page.url.endswith("step=2")
    page.get_by_role("button", name="As a matrix").click()
    rows = panel(page).locator(".lesson-matrix tbody tr").all()
    cells = [[one.replace("·", "0") for one in row.locator("td").all_inner_texts()] for row in rows]
    matrix = np.array([[number(one) for one in row] for row in cells])
    assert np.array_equal(matrix @ IMAGE.reshape(-1) + 1, z().reshape(-1))


# A learner's own numbers.


def test_a_number_that_is_changed_changes_what_follows(page: Page, address: str) -> None:
    page.goto(f"{address}/convolution")
    field = page.get_by_role("textbox", name="a[1,1]")
    field.fill("7.5")
    image = IMAGE.copy()
    image[1, 1] = 7.5
    wait_for(page, "z", z(image)[0, 0])
    assert np.allclose(shown(page, "z"), z(image))
    assert np.allclose(shown(page, "δ = "), z(image) - TARGET)
    assert field.evaluate("one => one === document.activeElement")
    page.keyboard.press("Enter")  # to the row below
    page.keyboard.type("−1")
    image[2, 1] = -1
    wait_for(page, "z", z(image)[0, 0])
    page.wait_for_url("**image=3,3,4,5;1,7.5,5,5;2,-1,5,3**")
    assert np.allclose(shown(page, "z"), z(image))
    page.get_by_role("textbox", name="b[0,0]").fill("2")
    wait_for(page, "z", z(image)[0, 0] + 1)
    page.get_by_role("textbox", name="y[0,0]").fill("0")
    wait_for(page, "δ = ", z(image)[0, 0] + 1)
    before = shown(page, "δ = ")
    told = page.request.get(
        page.get_by_role("link", name="This page as JSON").evaluate("a => a.href")
    )
    assert np.array_equal(told.json()["delta"], before)
    page.reload()
    assert np.array_equal(shown(page, "δ = "), before)
    assert page.get_by_role("textbox", name="a[1,1]").input_value() == "7.5"


def test_what_is_chosen_is_worked_out_and_kept_in_the_address(page: Page, address: str) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{address}/convolution?step=8")
    chosen = panel(page).locator(".lesson-operation.chosen")
    assert chosen.get_attribute("data-operation") == "correlation"
    assert chosen.locator(".lesson-way.turned").inner_text().startswith("Back")
    panel(page).get_by_role("link", name="convolution").click()
    page.wait_for_url("**operation=convolution**")
    assert chosen.get_attribute("data-operation") == "convolution"
    assert chosen.locator(".lesson-way.turned").inner_text().startswith("Forward")
    bad = [number(one) for one in panel(page).locator(".lesson-offs .bad").all_inner_texts()]
    delta, kernel = (z() - TARGET)[None, None], KERNEL[None, None]
    wrong = convolution_error(delta, kernel, (4, 4)) - correlation_error(delta, kernel, (4, 4))
    page.get_by_role("link", name="same").first.click()
    page.wait_for_url("**padding=same**")
    page.get_by_role("link", name="tanh").click()
    page.wait_for_url("**activation=tanh**")
    assert page.get_by_role("link", name="tanh").get_attribute("aria-current") == "true"
    page.reload()
    for name in ("convolution", "same", "tanh"):
        assert page.get_by_role("link", name=name).first.get_attribute("aria-current") == "true"
    assert len(bad) == 2
    assert np.abs(wrong).max() == 30  # of the correlation's delta, which the first view shows


def test_sizes_and_new_numbers(page: Page, address: str) -> None:
    page.goto(f"{address}/convolution")
    image = page.locator("fieldset").filter(has_text="the image")
    more = image.get_by_role("button", name="One more row")
    more.click()
    page.get_by_role("textbox", name="a[4,0]").wait_for()
    assert more.evaluate("one => document.activeElement.dataset.size") == "row1"
    assert shown(page, "z").shape == (4, 3)
    assert np.allclose(shown(page, "z"), z(np.vstack([IMAGE, IMAGE[-1:]])))
    kernel = page.locator("fieldset").filter(has_text="the kernel")
    kernel.get_by_role("button", name="One less column").click()
    page.wait_for_url("**kernel=4;-3&**")
    assert shown(page, "z").shape == (4, 4)
    assert kernel.get_by_role("button", name="One less column").is_disabled()
    page.get_by_role("button", name="Draw new numbers").click()
    page.wait_for_function("() => !location.search.includes('image=3,3,4,5;1,1,5,5')")
    assert page.locator(".lesson-fields").first.locator("input").count() == 20
    page.get_by_role("link", name="Start again").click()
    assert np.array_equal(shown(page, "z"), z())


def test_what_is_no_number_is_said_and_nothing_is_lost(
    page: Page, address: str, errors: list[str]
) -> None:
    page.goto(f"{address}/convolution")
    field = page.get_by_role("textbox", name="w[0,0]")
    field.fill("4x")
    note = page.get_by_role("alert")
    note.wait_for()
    assert "'4x' for an entry of the kernel; write a number" in note.inner_text()
    assert field.input_value() == "4x"
    assert field.get_attribute("aria-invalid") == "true"
    assert page.locator("#lesson-convolution.is-stale").count() == 1
    assert np.array_equal(shown(page, "z"), z())
    screenshot(page, "lesson-convolution-wrong")
    field.fill("5")
    note.wait_for(state="hidden")
    assert shown(page, "z")[0, 0] == z()[0, 0] + IMAGE[0, 0]
    page.get_by_role("link", name="2", exact=True).click()
    page.get_by_role("link", name="same").first.click()
    note.wait_for()
    assert "'same' needs stride 1" in note.inner_text()
    page.goto(f"{address}/convolution?image=1,2;3")
    assert "rows of different lengths" in page.get_by_role("alert").inner_text()
    assert np.array_equal(shown(page, "z"), z())
    assert errors
    errors.clear()


def test_a_server_that_does_not_answer_is_said(page: Page, address: str, errors: list[str]) -> None:
    page.goto(f"{address}/convolution")
    page.route("**/convolution.json*", lambda route: route.abort())
    page.get_by_role("textbox", name="a[0,0]").fill("4")
    page.get_by_role("alert").wait_for()
    assert "does not answer" in page.get_by_role("alert").inner_text()
    assert np.array_equal(shown(page, "z"), z())
    page.unroute("**/convolution.json*")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("alert").wait_for(state="hidden")
    assert shown(page, "z")[0, 0] == z()[0, 0] + KERNEL[0, 0]
    errors.clear()


def test_an_answer_that_comes_too_late_is_not_shown(page: Page, address: str) -> None:
    page.goto(f"{address}/convolution")
    held: list[Route] = []

    def hold(route: Route) -> None:
        if "image=50" in route.request.url:
            held.append(route)
        else:
            route.continue_()

    page.route("**/convolution.json*", hold)
    field = page.get_by_role("textbox", name="a[0,0]")
    with page.expect_request("**/convolution.json?image=50*"):
        field.fill("50")
    page.locator("#lesson-convolution.is-waiting").wait_for()
    field.fill("4")
    wait_for(page, "z", z()[0, 0] + KERNEL[0, 0])
    assert page.locator("#lesson-convolution.is-waiting").count() == 0
    assert len(held) == 1


# The second lesson.


def test_the_products_behind_a_pixel_of_each_projection(page: Page, address: str) -> None:
    one = deconvnet.asked(preset="cross", feature="1")
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
    one = deconvnet.asked()
    page.goto(f"{address}/deconvnet?step=6")
    assert "all three methods still agree" in panel(page).inner_text()
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
    assert number(value) == deconvnet.asked().maps["relu2"][1][0][1]
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
        page = rendered(FolderLinks([], 1), lesson, state)
        (made / "learn" / lesson_file(lesson, state)).write_text(page, encoding="utf-8")
    return made


def test_lessons_work_from_a_folder(page: Page, folder: Path) -> None:
    page.goto((folder / "learn" / "index.html").as_uri())
    page.get_by_role("link", name="Back-propagation in a convolution").click()
    assert "rot180 serve" in page.locator("main").inner_text()
    assert page.get_by_role("textbox").count() == 0
    assert np.array_equal(shown(page, "a, the image"), IMAGE)
    page.get_by_role("link", name="convolution", exact=True).first.click()
    page.locator(".lesson-steps button").nth(2).click()
    expected = convolution(IMAGE[None, None], KERNEL[None, None])[0, 0] + 1
    cell(page, "z[1,1]").hover()
    assert total(page) == expected[1, 1]
    screenshot(page, "lesson-convolution-folder")
    page.goto((folder / "learn" / "index.html").as_uri())
    page.get_by_role("link", name="From a unit back").click()
    page.get_by_role("link", name="corner").click()
    page.get_by_role("link", name="repeat").click()
    page.locator(".lesson-steps button").nth(8).click()
    one = deconvnet.asked(preset="corner", unpool="repeat")
    panel(page).get_by_role("gridcell", name="x̂[2,2] = ").first.hover()
    value = panel(page).locator("[data-method=deconvnet] .lesson-sum-total output").inner_text()
    assert number(value) == one.ways["deconvnet"].signals["pixels"][0][2][2]
