"""A layer of very many features is shown a page at a time; sorting and choosing act on all."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect

import rot180
from rot180.web import export as exporting
from rot180.web import pages
from rot180.web.app import application
from rot180.web.collection import AtlasCollection
from rot180.web.filters import select
from rot180.web.server import serve_in_thread
from tests.atlas.scans import scanned
from tests.web.wide import wide_atlas

pytestmark = pytest.mark.slow

MANY, SOME = 100_000, 1300


def _shelf(path: Path) -> AtlasCollection:
    collection = AtlasCollection([rot180.open(path)])
    for served in collection.values():
        served.model.load()
    return collection


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> AtlasCollection:
    return _shelf(wide_atlas(tmp_path_factory.mktemp("many") / "wide.atlas", MANY))


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> AtlasCollection:
    return _shelf(wide_atlas(tmp_path_factory.mktemp("some") / "wide.atlas", SOME))


@pytest.fixture
def client(many: AtlasCollection) -> Iterator[TestClient]:
    with TestClient(application(many), base_url="http://127.0.0.1") as found:
        yield found


def _numbers(html: str) -> list[int]:
    return [int(one) for one in re.findall(r'<a href="/atlas/wide/features/head/(\d+)"><', html)]


def test_a_page_of_a_hundred_thousand_features_is_small(client: TestClient) -> None:
    client.get("/atlas/wide/layers/head")  # reads the statistics
    began = time.process_time()
    answer = client.get("/atlas/wide/layers/head")
    assert time.process_time() - began < 2
    assert len(answer.content) < 200_000
    assert _numbers(answer.text) == list(range(500))


def test_the_json_of_a_hundred_thousand_features_comes_in_small_pages(client: TestClient) -> None:
    first = client.get("/atlas/wide/layers/head.json")
    assert len(first.content) < 300_000
    page = first.json()
    assert page["total"] == MANY
    assert page["order"] == list(range(500))
    last = client.get("/atlas/wide/layers/head.json?sort=-channel&from=99900").json()
    assert last["order"] == list(range(99, -1, -1))
    assert last["next"] is None
    page = client.get(page["next"]).json()
    assert page["order"] == list(range(500, 1000))


def test_sorting_and_choosing_act_on_all_features(
    client: TestClient, many: AtlasCollection
) -> None:
    state = {"sort": "-max", "where": "firing_images>=0.99"}
    statistics = many["wide"].atlas["head"].statistics
    wanted = select(statistics, **state)
    assert len(wanted) > 500
    assert max(wanted) > 50_000
    answer = client.get("/atlas/wide/layers/head", params=state)
    found, pages = _numbers(answer.text), 1
    while more := re.search(r'data-more href="([^"]+)"', answer.text):
        answer = client.get(more[1].replace("&amp;", "&"))
        found += _numbers(answer.text)
        pages += 1
    assert found == wanted
    assert pages == -(-len(wanted) // 500)


def test_pages_begin_where_there_are_features(client: TestClient) -> None:
    for first in ("99999", "100000000"):
        answer = client.get("/atlas/wide/layers/head", params={"from": first})
        assert _numbers(answer.text)[-1] == MANY - 1
    for first in ("-1", "x", "1" * 30):
        answer = client.get("/atlas/wide/layers/head", params={"from": first})
        assert answer.status_code == 400


def _left(page: Page) -> None:
    """Leave a page before its server ends: its pictures are still on their way."""
    page.goto("about:blank")


def test_scrolling_brings_more_from_the_server(page: Page, many: AtlasCollection) -> None:
    with serve_in_thread(application(many)) as address:
        page.goto(f"{address}/atlas/wide/layers/head")
        tiles = page.locator("#layer-tiles > li")
        expect(tiles).to_have_count(500)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        expect(tiles).to_have_count(1000, timeout=30_000)
        page.get_by_label("Sort by").select_option("weakest")
        page.wait_for_url("**sort=weakest**")
        largest = many["wide"].atlas["head"].statistics["max"]
        first = int(tiles.first.locator("span").inner_text().split()[0])
        assert largest[first] == min(largest)
        _left(page)


def test_scrolling_shows_more_of_what_the_page_holds(page: Page, some: AtlasCollection) -> None:
    with serve_in_thread(application(some)) as address:
        page.goto(f"{address}/atlas/wide/layers/head?sort=weakest")
        tiles = page.locator("#layer-tiles > li")
        expect(tiles).to_have_count(500)
        for count in (1000, SOME):
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            expect(tiles).to_have_count(count)
        wanted = select(some["wide"].atlas["head"].statistics, "weakest")
        shown = tiles.evaluate_all(
            "all => all.map((one) => Number(one.querySelector('span').firstChild.textContent))"
        )
        assert shown == wanted
        page.get_by_role("button", name="common", exact=True).click()
        expect(tiles).to_have_count(500)
        expect(page.locator("#layer-count")).to_contain_text(f"of {SOME} features")
        _left(page)


def test_an_export_has_a_page_for_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "FEATURES", 2)
    monkeypatch.setattr(exporting, "PAGE", 2)
    served = _shelf(scanned(tmp_path / "small.atlas"))["small"]
    exporting.export(
        served, tmp_path / "site", exporting.export_options(served, ["head"], (), (), False)
    )
    layers = tmp_path / "site" / "layers"
    first, next_, last = (layers / f"000-head{one}.html" for one in ("", "-from-2", "-from-4"))
    assert sorted(layers.iterdir()) == sorted([first, next_, last])
    assert 'data-more href="../layers/000-head-from-2.html"' in first.read_text()
    assert 'id="layer-controls"' in first.read_text()
    assert 'href="../layers/000-head.html"' in next_.read_text()
    text = last.read_text()
    assert "features/000-head/4.html" in text
    assert 'id="layer-controls"' not in text
    assert '"columns":null' in text
