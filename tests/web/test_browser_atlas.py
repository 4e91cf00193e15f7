"""The pages of networks, layers and features, in a browser."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from rot180.web.collection import AtlasCollection
from rot180.web.filters import NAMED, PRESETS
from rot180.web.views.layer import layer_view
from tests.web.accessible import assert_accessible
from tests.web.conftest import screenshot

pytestmark = pytest.mark.slow


def numbers(page: Page) -> list[int]:
    """The features that are shown, in order."""
    words = page.locator("#layer-tiles li span").all_inner_texts()
    return [int(one.split()[0]) for one in words]


def state(page: Page) -> dict[str, str]:
    """What the address says."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def all_loaded(page: Page, selector: str) -> None:
    """Assert that pictures are there, and are pictures."""
    for image in page.locator(selector).all():
        image.scroll_into_view_if_needed()
        expect(image).not_to_have_class(re.compile("waiting|failed"))
        assert image.evaluate("one => one.complete && one.naturalWidth > 0")


def test_the_network(page: Page, address: str, collection: AtlasCollection) -> None:
    page.goto(address)
    expect(page).to_have_url(f"{address}/atlas/late")
    expect(page.get_by_role("heading", level=1)).to_have_text("two-layer")
    rows = page.locator("[data-row]")
    assert rows.count() == 3
    all_loaded(page, ".strip img")
    assert page.locator(".wire").count() == 3
    # The receptive field is drawn to scale: 14 of 32 pixels.
    field = rows.nth(1).locator("rect.field").bounding_box()
    image = rows.nth(1).locator("svg image").bounding_box()
    assert field["width"] == pytest.approx(image["width"] * 14 / 32, abs=3)  # and the line itself
    screenshot(page, "network")
    assert_accessible(page)
    rows.nth(1).get_by_role("link", name="conv2", exact=True).click()
    expect(page).to_have_url(f"{address}/atlas/late/layers/conv2")


def test_a_layer_is_sorted_and_chosen_without_the_server(
    page: Page, address: str, collection: AtlasCollection
) -> None:
    page.goto(f"{address}/atlas/late/layers/conv1")
    assert numbers(page) == list(range(32))
    served = collection["late"]
    for sort in (*NAMED, "-red", "firing_positions", "channel"):
        page.locator("#sort").select_option(sort)
        assert numbers(page) == layer_view(served, "conv1", sort).order, sort
    page.locator("#sort").select_option("colour")
    page.get_by_role("button", name="colour-driven", exact=True).click()
    where = PRESETS["colour-driven"]
    assert numbers(page) == layer_view(served, "conv1", "colour", where).order
    page.get_by_role("button", name="common", exact=True).click()
    both = f"{where},{PRESETS['common']}"
    assert numbers(page) == layer_view(served, "conv1", "colour", both).order
    assert state(page) == {"sort": "colour", "where": both}
    screenshot(page, "layer-chosen")
    page.reload()
    assert numbers(page) == layer_view(served, "conv1", "colour", both).order
    page.get_by_text("More filters").click()
    page.locator("[data-condition=column]").select_option("max")
    page.locator("[data-condition=value]").fill("1e9")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("No feature of this layer meets all conditions")).to_be_visible()
    page.get_by_role("button", name=re.compile("Remove: largest")).click()
    expect(page.get_by_text("No feature of this layer meets all conditions")).to_be_hidden()
    assert_accessible(page)


def test_a_layer_in_every_way(page: Page, address: str) -> None:
    page.goto(f"{address}/atlas/late/layers/conv2")
    expect(page.get_by_text("Method", exact=True)).to_be_hidden()
    first = page.locator("#layer-tiles img").first
    seen = set()
    for show in ("patches", "projections", "mean"):
        page.get_by_label(show, exact=True).check(force=True)
        for zoom in ("small", "medium", "large"):
            page.get_by_label(zoom, exact=True).check(force=True)
            expect(first).not_to_have_class(re.compile("waiting"))
            seen.add(first.get_attribute("src"))
        screenshot(page, f"layer-{show}", whole=False)
    assert len(seen) == 7  # a mean is of nine, whatever the zoom
    page.get_by_label("guided", exact=True).check(force=True)
    page.get_by_label("repeat", exact=True).check(force=True)
    assert "mean-9-guided-repeat" in first.get_attribute("src")
    assert state(page) == {
        "show": "mean", "zoom": "large", "method": "guided", "unpool": "repeat",
    }  # fmt: skip
    page.reload()
    assert "mean-9-guided-repeat" in first.get_attribute("src")
    all_loaded(page, "#layer-tiles li:nth-child(-n+8) img")


def test_a_feature_answers_live(page: Page, address: str) -> None:
    page.goto(f"{address}/atlas/late/features/conv2/40")
    all_loaded(page, ".pictures img")
    projections = page.locator("img.projection")
    assert projections.count() == 9
    before = projections.first.screenshot()
    page.get_by_label("gradient", exact=True).check(force=True)
    page.get_by_label("repeat", exact=True).check(force=True)
    expect(projections.first).to_have_attribute("src", re.compile("gradient-repeat"))
    expect(projections.first).not_to_have_class(re.compile("waiting"))
    all_loaded(page, ".pictures img")
    assert projections.first.screenshot() != before
    assert state(page) == {"method": "gradient", "unpool": "repeat"}
    expect(page.locator("#rule-words")).to_contain_text("multiplied by the rectifier's derivative")
    page.keyboard.press("m")
    page.keyboard.press("u")
    assert state(page) == {"method": "guided", "unpool": "switches"}
    page.reload()
    expect(page.get_by_label("guided", exact=True)).to_be_checked()
    for name in ("Largest activation", "Explained by colour", "Class selectivity", "Correlation"):
        page.get_by_text(name, exact=True).first.click()
    assert page.locator("details[open] math").count() >= 4
    screenshot(page, "feature")
    assert_accessible(page)


def test_the_frame_lies_on_what_the_unit_sees(
    page: Page, address: str, collection: AtlasCollection
) -> None:
    page.goto(f"{address}/atlas/late/features/conv2/40")
    for rank, one in enumerate(collection["late"].atlas["conv2"][40].examples[:3]):
        drawing = page.locator(f"#example-{rank} svg")
        frame = drawing.locator("rect.field").evaluate(
            "r => ['y', 'x', 'height', 'width'].map(n => r[n].baseVal.value)"
        )
        top, left, bottom, right = one.box
        assert frame == [top, left, bottom - top, right - left]


def test_arrows_lead_around(page: Page, address: str) -> None:
    page.goto(f"{address}/atlas/late/features/conv2/40")
    for key, place in (
        ("ArrowRight", "features/conv2/41"), ("ArrowLeft", "features/conv2/40"),
        ("ArrowUp", "layers/conv2"), ("ArrowRight", "layers/head"),
    ):  # fmt: skip
        page.keyboard.press(key)
        page.wait_for_url(f"{address}/atlas/late/{place}")
    page.keyboard.press("/")
    page.keyboard.type("conv1/7")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/atlas/late/features/conv1/7")
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("ArrowRight")  # belongs to the list now
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{address}/atlas/late/features/conv1/7")


def test_a_class_is_searched_for(page: Page, address: str) -> None:
    page.goto(f"{address}/atlas/late")
    page.locator("[data-search]").fill("astronaut")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Results for “astronaut”")
    all_loaded(page, ".tiles li:nth-child(-n+3) img")
    assert_accessible(page)
    page.locator("[data-search]").fill("nothing like it")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No results. Search for")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_pages_fit_and_can_be_read(page: Page, address: str, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    for name, path in (
        ("network", ""), ("layer", "/layers/conv2?show=mean"), ("feature", "/features/conv2/12"),
        ("images", "/images"),
    ):  # fmt: skip
        page.goto(f"{address}/atlas/late{path}")
        page.wait_for_load_state("networkidle")
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, name
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = sum(map(int, re.findall(r"\d+", background)[:3])) < 300
        assert dark == (scheme == "dark")
        if (width == 360) == dark:  # what axe looks at differs by scheme and by width
            assert_accessible(page)
        screenshot(page, f"{name}-{scheme}-{width}", whole=False)


def test_a_first_view_is_small(page: Page, address: str) -> None:
    received: dict[str, int] = {}
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    kinds: dict[str, str] = {}
    session.on("Network.responseReceived", lambda e: kinds.update({e["requestId"]: e["type"]}))
    session.on(
        "Network.loadingFinished",
        lambda e: received.update({e["requestId"]: e["encodedDataLength"]}),
    )
    page.goto(f"{address}/atlas/late/layers/conv2")
    page.wait_for_load_state("networkidle")
    size = sum(bytes_ for one, bytes_ in received.items() if kinds.get(one) != "Image")
    assert 5_000 < size < 200_000


def test_every_picture_can_be_saved(page: Page, address: str, collection: AtlasCollection) -> None:
    page.goto(f"{address}/atlas/late/features/conv2/40?method=guided")
    page.wait_for_load_state("networkidle")
    for selector, name, kind in (
        ("img.projection", "conv2-40-projection-0-guided-switches.png", "PNG"),
        (".whole-image svg", r"late-images-\d+.png", "PNG"),
        ("svg.bars", r"conv2_feature_40_Histogram.*\.svg", "SVG"),
        (".partners img", r"conv2-\d+-patches-4.png", "PNG"),
    ):
        page.locator(selector).first.hover()
        with page.expect_download() as download:
            page.keyboard.press("s")
        assert re.fullmatch(name, download.value.suggested_filename)
        content = Path(download.value.path()).read_bytes()
        assert content.startswith(b"\x89PNG" if kind == "PNG" else b"<svg")
    page.locator("h1").hover()
    page.keyboard.press("s")  # there is nothing to save
