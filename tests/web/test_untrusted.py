"""Whatever an atlas says is shown as words; what it lacks is said, and the rest shown."""

import html
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import rot180
from rot180.web.app import application
from rot180.web.collection import AtlasCollection
from rot180.web.server import serve_in_thread
from tests.atlas.scans import change, normalisation, small_data, small_network
from tests.web.accessible import assert_accessible
from tests.web.atlases import ask, opened
from tests.web.conftest import screenshot


def shown(*paths: Path, data: Any = None) -> AtlasCollection:
    """Atlases whose networks are not at hand, which is known already."""
    found = AtlasCollection(opened(paths), data=data)
    for served in found.values():
        served.model.load()
    return found


EVIL = "<script>document.title='owned'</script>\"'><img src=x onerror=\"document.title='owned'\">"
PATHS = ("", "/layers/one", "/features/one/2", "/images", "/search?q=script")


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An atlas whose every word is an attempt to run something."""
    path = tmp_path_factory.mktemp("evil") / "evil.atlas"
    rot180.scan(small_network(), small_data(60), path, batch=8, **normalisation()).close()
    change(
        path,
        ("UPDATE class SET name = ? || number", [EVIL]),
        ("UPDATE image SET name = ? || number", [EVIL]),
        ("UPDATE layer SET kind = ?, rectifier = ?", [EVIL, EVIL]),
        ("UPDATE metadata SET value = json_quote(?) WHERE key = 'model'", [EVIL]),
        ("UPDATE metadata SET value = json_set(value, '$.name', ?) WHERE key = 'data'", [EVIL]),
    )
    with serve_in_thread(application(shown(path))) as address:
        yield address


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_words_of_a_file_run_nothing(page: Page, evil: str, path: str) -> None:
    page.goto(f"{evil}/atlas/evil{path}")
    page.wait_for_load_state("networkidle")
    assert "owned" not in page.title().split("·")[-1]
    assert page.evaluate("document.title") != "owned"
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("main script:not([type='application/json'])").count() == 0
    text = ask(evil, f"/atlas/evil{path}").body.decode()
    assert "<script>document" not in text
    assert html.escape("<script>", quote=True) in text or "\\u003cscript" in text


@pytest.mark.slow
def test_an_image_with_such_a_name_is_shown(page: Page, evil: str) -> None:
    page.goto(f"{evil}/atlas/evil/images")
    page.locator(".images a").first.click()
    expect(page.get_by_text("Features that this image excites most")).to_be_visible()
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.slow
def test_a_name_that_is_no_word_for_addresses_becomes_one(tmp_path: Path) -> None:
    path = tmp_path / "a b <c>%2f.atlas"
    rot180.scan(small_network(), small_data(60), path, batch=8, **normalisation()).close()
    copy = Path(shutil.copy(path, tmp_path / "a-b--c--2f.atlas"))
    collection = AtlasCollection(opened([path, path, copy]))
    assert all(re.fullmatch(r"[\w.-]+", name) for name in collection)
    assert len(collection) == 3


@pytest.mark.slow
def test_without_its_network_an_atlas_shows_what_it_stores(page: Page, evil: str) -> None:
    page.goto(f"{evil}/atlas/evil/features/two/3")
    expect(page.get_by_text("The network is not available")).to_be_visible()
    expect(
        page.get_by_text("does not name the model").or_(page.get_by_text("script"))
    ).not_to_have_count(0)
    assert page.locator("img.projection").count() == 0
    assert page.locator("img.patch").count() == 9
    page.goto(f"{evil}/atlas/evil/layers/two")
    assert page.get_by_label("projections", exact=True).count() == 0
    page.goto(f"{evil}/atlas/evil/images")
    assert page.locator("[data-upload]").count() == 0
    page.locator(".images a").first.click()
    assert page.locator("#opened").count() == 0
    assert_accessible(page)
    screenshot(page, "absent")
    answer = ask(evil, "/atlas/evil/features/two/3/projection-0-guided-switches.png")
    assert answer.status == 409
    assert answer.json["error"].endswith(".")
    assert ask(evil, "/atlas/evil/images", "POST", b"x").status == 409


@pytest.mark.slow
def test_without_pictures_an_atlas_shows_its_numbers(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "bare.atlas"
    data = small_data(60)
    given = {"batch": 8, "images": "none", **normalisation()}
    rot180.scan(small_network(), data, path, **given).close()
    with serve_in_thread(application(shown(path))) as address:
        for one in ("", "/layers/one", "/features/one/2", "/images"):
            page.goto(f"{address}/atlas/bare{one}")
            expect(page.get_by_text("holds no pictures").first).to_be_visible()
            assert page.locator("img.tile").count() == 0
            assert_accessible(page)
        assert ask(address, "/atlas/bare/features/one/2/patch-0.webp").status == 404
    with serve_in_thread(application(shown(path, data=data))) as address:
        page.goto(f"{address}/atlas/bare/features/one/2")
        page.wait_for_load_state("networkidle")
        assert page.locator("img.patch").first.evaluate("one => one.naturalWidth") > 0


@pytest.mark.slow
def test_a_damaged_atlas_is_said(tmp_path: Path) -> None:
    path = tmp_path / "damaged.atlas"
    rot180.scan(small_network(), small_data(60), path, batch=8, **normalisation()).close()
    change(path, "UPDATE feature SET max = 'strong' WHERE channel = 1")
    with serve_in_thread(application(shown(path))) as address:
        answer = ask(address, "/atlas/damaged/features/one/1.json")
        assert answer.status == 400
        assert "damaged" in answer.json["error"]
        assert ask(address, "/atlas/damaged/features/one/2.json").status == 200


@pytest.mark.slow
def test_a_feature_that_never_fires_is_shown_as_that(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "dead.atlas"
    rot180.scan(small_network(), small_data(60), path, batch=8, **normalisation()).close()
    change(
        path,
        "UPDATE feature SET max = 0, mean = 0, mean_peak = 0, firing_positions = 0, "
        "firing_images = 0, dead = 1, class_selectivity = NULL, best_class = NULL, "
        "colour_r2 = NULL, brightness_r2 = NULL WHERE layer = 'one' AND channel = 0",
        "UPDATE example SET activation = 0 WHERE feature = 0",
        "DELETE FROM correlation WHERE feature = 0",
        "DELETE FROM class_response WHERE feature = 0",
    )
    with serve_in_thread(application(shown(path))) as address:
        page.goto(f"{address}/atlas/dead/features/one/0")
        expect(page.get_by_text("It does not fire on any scanned image")).to_be_visible()
        assert page.locator(".example").count() == 0
        page.goto(f"{address}/atlas/dead/layers/one")
        expect(page.locator("#layer-count")).to_have_text("6 of 6 features")
        assert_accessible(page)
