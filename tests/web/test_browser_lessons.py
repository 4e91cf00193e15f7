"""The lessons in a browser: what a learner does, and whether the numbers shown are right."""

from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from rot180.equations.convolution import (
    convolution,
    convolution_error,
    correlation,
    correlation_error,
    correlation_gradient,
)
from rot180.web.app import application
from rot180.web.lessons import LESSONS
from rot180.web.server import serve_in_thread
from tests.web.accessible import assert_accessible
from tests.web.conftest import screenshot
from tests.web.learner import IMAGE, KERNEL, TARGET, cell, number, panel, shown, total, wait_for, z

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve_in_thread(application()) as found:
        yield f"{found}/learn"


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
    page.get_by_role("button", name="Rotate again").click()
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
    page.get_by_role("textbox", name="a[4,0]").wait_for(state="detached")
    expect(page.locator(".lesson-fields").first.locator("input").first).to_be_visible()
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
    assert "does not respond" in page.get_by_role("alert").inner_text()
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
