"""Images, opened, and pictures that people bring, in a browser."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import rot180
from rot180.web.collection import AtlasCollection
from rot180.web.feature_pictures import overlay
from rot180.web.views.image_page import image_layer_view
from tests.web.accessible import assert_accessible
from tests.web.conftest import forgiven, screenshot

pytestmark = pytest.mark.slow


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph as a file."""
    pixels = rot180.open_dataset("photos", "test").image(77)
    path = tmp_path / "photo.png"
    Image.fromarray(np.kron(pixels, np.ones((4, 4, 1), np.uint8))).save(path)
    return path


def click_pixel(page: Page, y: int, x: int, size: int = 32) -> None:
    box = page.locator("#stage").bounding_box()
    page.mouse.click(
        box["x"] + (x + 0.5) / size * box["width"], box["y"] + (y + 0.5) / size * box["height"]
    )


def test_a_click_on_a_pixel_and_on_a_unit(
    page: Page, address: str, collection: AtlasCollection
) -> None:
    served = collection["late"]
    number = served.atlas["conv2"][40].examples[0].image
    image = served.model.scanned.model.prepare(served.atlas.picture(number).pixels)
    maps = rot180.feature_maps(served.model.network, image, "conv2")[0].numpy()
    page.goto(f"{address}/atlas/late/images/{number}?layer=conv2&order=strongest")
    shown = page.locator("#all-features button")
    expect(shown).to_have_count(64)
    order = [int(one.get_attribute("data-channel")) for one in shown.all()]
    assert order == np.argsort(-maps.max((1, 2)), kind="stable").tolist()
    expect(page.locator("#answers")).to_contain_text("Prediction:")

    click_pixel(page, 20, 13)
    units = page.locator("#at-pixel-units button")
    expect(units.first).to_be_visible()
    y, x = served.tiles("conv2").nearest((20, 13))
    values = maps[:, y, x]
    found = [int(one.get_attribute("data-channel")) for one in units.all()]
    assert found == [n for n in np.argsort(-values, kind="stable").tolist() if values[n] > 0]
    best = found[0]
    assert f"{best} {float(f'{values[best]:.3g}'):g}" in units.first.inner_text()

    units.first.click()
    over = page.locator("#stage-over")
    expect(over).to_have_attribute("visibility", "visible")
    wanted = f"/features/conv2/{best}/over-{y}-{x}-auto-switches.webp"
    expect(over).to_have_attribute("href", re.compile(re.escape(wanted)))
    with page.expect_download() as download:
        page.get_by_text("Save this picture").click()
    saved = np.asarray(Image.open(download.value.path()))
    signal = rot180.project(served.model.network, image, "conv2", best, (y, x)).full().numpy()
    drawn = overlay(signal, served.atlas.picture(number).pixels)
    assert np.abs(saved.astype(int) - drawn.astype(int)).max() <= 1
    screenshot(page, "image")

    page.get_by_label("gradient", exact=True).check(force=True)
    expect(over).to_have_attribute("href", re.compile("gradient-switches"))
    page.get_by_label("alone", exact=True).check(force=True)
    expect(over).to_have_attribute("href", re.compile(f"unit-{y}-{x}-gradient"))
    address_now = page.url
    page.goto(address_now)  # the state is in the address
    expect(over).to_have_attribute("href", re.compile(f"{best}/unit-{y}-{x}-gradient-switches"))
    expect(page.locator("#at-pixel-title")).to_have_text("At pixel (20, 13)")
    assert_accessible(page)


def test_a_feature_leads_to_its_unit_on_the_image(
    page: Page, address: str, collection: AtlasCollection
) -> None:
    example = collection["late"].atlas["conv2"][40].examples[0]
    page.goto(f"{address}/atlas/late/features/conv2/40")
    page.locator(".whole-image").first.click()
    y, x = example.position
    over = re.compile(f"/40/over-{y}-{x}-auto-switches")
    expect(page.locator("#stage-over")).to_have_attribute("href", over)
    expect(page.locator("#stage-field")).to_have_attribute("visibility", "visible")
    frame = page.locator("#stage-field").evaluate(
        "r => ['y', 'x', 'height', 'width'].map(n => r[n].baseVal.value)"
    )
    top, left, bottom, right = example.box
    assert frame == [top, left, bottom - top, right - left]
    chosen = page.locator("#at-pixel-units button[aria-pressed=true]")
    expect(chosen).to_have_attribute("data-channel", "40")


def test_the_image_by_keys(page: Page, address: str, collection: AtlasCollection) -> None:
    number = collection["late"].atlas["conv2"][40].examples[0].image
    page.goto(f"{address}/atlas/late/images/{number}?layer=conv1")
    expect(page.locator("#all-features button").first).to_be_visible()
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#at-pixel-title")).to_have_text("At pixel (16, 17)")
    page.keyboard.press("Shift+ArrowDown")
    expect(page.locator("#at-pixel-title")).to_have_text("At pixel (18, 17)")
    expect(page.locator("#stage-words")).to_contain_text("Pixel (18, 17)")
    page.keyboard.press("l")
    expect(page.locator("#all-title")).to_contain_text("conv2")
    page.keyboard.press("Shift+L")
    expect(page.locator("#all-title")).to_contain_text("conv1")
    page.keyboard.press("m")
    assert parse_qs(urlsplit(page.url).query)["method"] == ["deconvnet"]


def test_a_layer_of_an_image_in_every_way(
    page: Page, address: str, collection: AtlasCollection
) -> None:
    number = collection["late"].atlas["conv2"][12].examples[0].image
    page.goto(f"{address}/atlas/late/images/{number}")
    picture = page.locator("#all-features img").first
    for show, look in (("peaks", "peak-"), ("maps", "map."), ("projections", "whole-")):
        page.get_by_label(show, exact=True).check(force=True)
        expect(picture).to_have_attribute("src", re.compile(re.escape(look)))
        expect(picture).not_to_have_class(re.compile("waiting|failed"))
        size = 16 if show == "maps" else 32
        expect(picture).to_have_js_property("naturalWidth", size)
    page.locator("#all-features button").first.click()
    expect(page.locator("#stage-over")).to_have_attribute("href", re.compile("over-all-all"))
    with page.expect_navigation():
        page.get_by_text("Go to the feature").click()
    assert "/features/conv2/" in page.url


def test_an_image_opens_deep_and_unusual_features_come_first(
    page: Page, address: str, collection: AtlasCollection
) -> None:
    served = collection["late"]
    number = served.atlas["conv2"][12].examples[0].image
    page.goto(f"{address}/atlas/late/images/{number}")
    expect(page.locator("#all-title")).to_contain_text("conv2 on this image, most unusual first")
    shown = page.locator("#all-features button")
    expect(shown).to_have_count(64)
    for order in ("unusual", "strongest"):
        page.get_by_label(order, exact=True).check(force=True)
        wanted = image_layer_view(served, str(number), "conv2", order).peaks
        for place in (0, 1, 63):
            channel = str(wanted[place].channel)
            expect(shown.nth(place)).to_have_attribute("data-channel", channel)
        assert ("order=strongest" in page.url) == (order == "strongest")
    page.reload()  # the state is in the address
    expect(page.get_by_label("strongest", exact=True)).to_be_checked()
    expect(page.locator("#all-title")).to_contain_text("strongest first")


def test_a_picture_is_chosen_dropped_or_pasted(page: Page, address: str, photo: Path) -> None:
    page.goto(f"{address}/atlas/late/images")
    with page.expect_navigation():
        page.locator("input[type=file]").set_input_files(photo)
    expect(page.get_by_role("heading", level=1)).to_have_text("Your image")
    expect(page.locator("#all-features button").first).to_be_visible()
    first = page.url
    data = list(photo.read_bytes())
    for event in ("drop", "paste"):
        with page.expect_navigation():
            page.evaluate(
                """([event, data]) => {
                  const dataTransfer = new DataTransfer();
                  const file = new File([new Uint8Array(data)], "a.png", {type: "image/png"});
                  dataTransfer.items.add(file);
                  document.dispatchEvent(event === "paste"
                    ? new ClipboardEvent("paste", {clipboardData: dataTransfer, bubbles: true})
                    : new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
                }""",
                [event, data],
            )
        expect(page.get_by_role("heading", level=1)).to_have_text("Your image")
        assert page.url.split("?")[0] != first.split("?")[0]
    screenshot(page, "your-picture")
    assert_accessible(page)


def test_a_picture_is_taken_with_the_camera(page: Page, address: str) -> None:
    page.goto(f"{address}/atlas/late/images")
    page.get_by_role("button", name="use the camera").click()
    shoot = page.get_by_role("button", name="Take the picture")
    expect(shoot).to_be_enabled()
    with page.expect_navigation():
        shoot.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your image")


def test_what_is_no_picture_is_said(
    page: Page, address: str, tmp_path: Path, errors: list[str]
) -> None:
    page.goto(f"{address}/atlas/late/images")
    path = tmp_path / "picture.png"
    path.write_bytes(b"no picture")
    page.locator("input[type=file]").set_input_files(path)
    expect(page.get_by_role("alert")).to_contain_text(
        "it is not a JPEG, PNG, WebP, GIF or BMP file"
    )
    assert all("415" in one for one in errors)
    forgiven(page, errors)
    page.goto(f"{address}/atlas/late/images/uforgotten")
    expect(page.get_by_text("This upload has expired")).to_be_visible()
    screenshot(page, "forgotten")
    forgiven(page, errors)


def test_a_server_that_goes_away_is_said(
    page: Page, address: str, collection: AtlasCollection, errors: list[str]
) -> None:
    number = collection["late"].atlas["conv2"][12].examples[0].image
    page.goto(f"{address}/atlas/late/images/{number}")
    expect(page.locator("#all-features button").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.route("**/pixels/**", lambda route: route.abort())
    click_pixel(page, 5, 5)
    expect(page.locator("#image-error")).to_have_text("The server does not respond.")
    page.unroute("**/pixels/**")
    click_pixel(page, 6, 6)
    expect(page.locator("#image-error")).to_be_hidden()
    forgiven(page, errors)


def test_a_busy_server_is_asked_again(
    page: Page, address: str, collection: AtlasCollection, errors: list[str]
) -> None:
    refused: list[str] = []

    def busy(route: object) -> None:
        if len(refused) < 3:
            refused.append("x")
            route.fulfill(status=503, body='{"error": "busy"}')  # type: ignore[attr-defined]
        else:
            route.continue_()  # type: ignore[attr-defined]

    page.route("**/projection-0-*", busy)
    page.goto(f"{address}/atlas/late/features/conv2/33")
    picture = page.locator("img.projection").first
    expect(picture).to_have_js_property("naturalWidth", 112, timeout=20_000)
    expect(picture).not_to_have_class(re.compile("waiting|failed"))
    assert len(refused) == 3
    forgiven(page, errors)
