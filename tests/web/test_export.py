"""An exported site: the same pages, opened from a disk, without a server."""

import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Page, expect
from typer.testing import CliRunner

import rot180
from rot180.cli import app
from rot180.errors import Rot180Error
from rot180.web import export as exporting
from rot180.web import lessons
from rot180.web.collection import AtlasCollection
from rot180.web.export import ENTRIES, bundled_scripts, export, export_options
from rot180.web.filters import PRESETS
from rot180.web.templates import static_files
from rot180.web.urls import file_name
from rot180.web.views.layer import layer_view
from tests.atlas.scans import normalisation, small_data, small_network
from tests.web.accessible import assert_accessible
from tests.web.atlases import loader, opened
from tests.web.conftest import screenshot


@pytest.fixture(scope="module")
def site(collection: AtlasCollection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of two layers, with the list of lessons and the first state of each."""
    served = collection["late"]
    out = tmp_path_factory.mktemp("export") / "site with a name"
    asked = export_options(served, ["conv1", "head"], ["deconvnet", "guided"], ["switches"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lessons, "PAGES", [one for one in lessons.PAGES if not one[1]])
        page = export(served, out, asked)
    assert page == out / "index.html"
    return out


class Links(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.found.append(value)
            if name == "data-template" and value:
                for method in ("deconvnet", "guided"):
                    rules = value.replace("{method}", method).replace("{unpool}", "switches")
                    self.found.append(rules)


def files_below(site: Path) -> Iterator[Path]:
    return (one for one in site.rglob("*") if one.is_file())


@pytest.mark.slow
def test_everything_that_a_page_refers_to_is_there(site: Path) -> None:
    missing: set[str] = set()
    pages = [one for one in files_below(site) if one.suffix == ".html"]
    assert len(pages) > 40
    for page in pages:
        links = Links()
        links.feed(page.read_text(encoding="utf-8"))
        for address in links.found:
            path = unquote(urlsplit(address).path)
            assert not path.startswith("/"), (page, address)
            assert not urlsplit(address).scheme, (page, address)
            if path and not (page.parent / path).is_file():
                missing.add(f"{page.relative_to(site)}: {address}")
    assert missing == set()


@pytest.mark.slow
def test_it_is_the_same_from_a_disk(page: Page, site: Path, collection: AtlasCollection) -> None:
    served = collection["late"]
    page.goto((site / "index.html").as_uri())
    assert page.locator("[data-row]").count() == 2
    page.get_by_role("link", name="conv1", exact=True).click()
    page.locator("#sort").select_option("colour")
    page.get_by_role("button", name="colour-driven", exact=True).click()
    order = layer_view(served, "conv1", "colour", PRESETS["colour-driven"]).order
    words = page.locator("#layer-tiles li span").all_inner_texts()
    assert [int(one.split()[0]) for one in words] == order
    page.get_by_label("projections", exact=True).check(force=True)
    picture = page.locator("#layer-tiles img").first
    expect(picture).to_have_js_property("naturalWidth", 224)
    page.locator("#layer-tiles a").first.click()
    projection = page.locator("img.projection").first
    page.get_by_label("guided", exact=True).check(force=True)
    expect(projection).to_have_attribute("src", re.compile("projection-0-guided-switches"))
    expect(projection).to_have_js_property("naturalWidth", 110)
    assert page.get_by_label("gradient", exact=True).count() == 0
    assert_accessible(page)
    screenshot(page, "export-feature", whole=False)
    page.keyboard.press("/")
    page.keyboard.type("head/3")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("features/001-head/3.html"))
    page.locator(".whole-image").first.click()
    expect(page.get_by_text("Features that this image excites most")).to_be_visible()


@pytest.mark.slow
def test_the_lessons_are_there_too(page: Page, site: Path) -> None:
    page.goto((site / "index.html").as_uri())
    page.get_by_role("link", name="Learn").click()
    page.locator("main a").first.click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_text("rot180 serve")).to_be_visible()
    assert_accessible(page)


def test_the_modules_share_a_scope() -> None:
    script = bundled_scripts()
    assert "import " not in re.sub(r"//.*|`[^`]*`|\"[^\"]*\"", "", script)
    assert not re.search(r"^export ", script, re.MULTILINE)
    names = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", script, re.MULTILINE)
    assert len(names) == len(set(names)), "top-level names of modules have to differ"
    scripts = {name for name in static_files() if name.endswith(".js")}
    lines = "\n".join(static_files()[name].decode() for name in scripts)
    imported = set(re.findall(r'^import (?:.* from )?"\./(.*)";$', lines, re.MULTILINE))
    assert scripts - imported == set(ENTRIES), "every other module is imported by some"


@pytest.mark.slow
def test_an_export_replaces_an_export_and_nothing_else(
    collection: AtlasCollection, tmp_path: Path
) -> None:
    served = collection["late"]
    asked = export_options(served, ["head"], [], [], lessons=False)
    out = tmp_path / "site"
    export(served, out, asked)
    (out / "layers" / "old.html").write_text("old")
    before = sorted(one.relative_to(out) for one in files_below(out))
    export(served, out, asked)
    after = sorted(one.relative_to(out) for one in files_below(out))
    assert set(before) - set(after) == {Path("layers/old.html")}
    assert [one.name for one in tmp_path.iterdir()] == ["site"]
    other = tmp_path / "papers"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    with pytest.raises(Rot180Error, match="not written by an export of rot180"):
        export(served, other, asked)
    with pytest.raises(Rot180Error, match="is a file"):
        export(served, other / "thesis.tex", asked)
    assert (other / "thesis.tex").read_text() == "precious"


@pytest.mark.slow
def test_an_interrupted_export_leaves_nothing(collection: AtlasCollection, tmp_path: Path) -> None:
    served = collection["late"]
    out = tmp_path / "site"

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(served, out, export_options(served, ["head"], [], [], lessons=False), stop)
    assert list(tmp_path.iterdir()) == []


def test_what_is_asked_for_is_checked(collection: AtlasCollection) -> None:
    served = collection["late"]
    assert export_options(served, ["conv*"]).layers == ("conv1", "conv2")
    for layers, methods, unpoolings in (
        (["conv9"], ["guided"], ["switches"]),
        (None, ["relu"], ["switches"]),
        (None, ["guided"], ["max"]),
    ):
        with pytest.raises(Rot180Error, match="There is no"):
            export_options(served, layers, methods, unpoolings)


def test_names_of_files_are_safe_and_differ() -> None:
    names = ["a/b", "a_b", "..", "x" * 300, "conv2", 'a"<b>']
    files = [file_name(number, name) for number, name in enumerate(names)]
    assert len(set(files)) == len(files)
    assert all(re.fullmatch(r"[\w.-]{1,80}", one) for one in files)


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "small.atlas"
    rot180.scan(small_network(), small_data(60), path, batch=8, **normalisation()).close()
    done = CliRunner().invoke(app, ["export", str(path), str(tmp_path / "site")])
    assert done.exit_code == 1
    assert "--no-projections" in done.output
    again = ["export", str(path), str(tmp_path / "site"), "--no-projections", "--layers", "one"]
    again.append("--no-lessons")
    done = CliRunner().invoke(app, again)
    assert done.exit_code == 0, done.output
    assert "index.html" in done.output
    assert (tmp_path / "site" / "index.html").is_file()
    assert not list((tmp_path / "site").rglob("projection-*"))


def test_the_small_network_is_no_other(tmp_path: Path) -> None:
    path = tmp_path / "other.atlas"
    rot180.scan(small_network(), small_data(60), path, batch=8, **normalisation()).close()
    served = next(iter(AtlasCollection(opened([path]), [loader]).values()))
    served.model.load()
    assert served.model.state == "absent"
    assert "does not name the model" in served.model.reason


def test_what_a_killed_export_left_is_removed_by_the_next(
    collection: AtlasCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, out = (
        export_options(collection["late"], ["conv1"], [], [], lessons=False),
        tmp_path / "site",
    )
    child = os.fork()
    if not child:
        exporting._Site.write = lambda site, progress: os._exit(1)
        export(collection["late"], out, asked)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(exporting._Site, "write", lambda site, _: site._file(exporting.MARK, "{}"))
    for _ in range(2):  # the second takes the place of the first
        export(collection["late"], out, asked)
        assert list(tmp_path.iterdir()) == [out]
