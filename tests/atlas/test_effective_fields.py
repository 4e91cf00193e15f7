"""The effective receptive fields of examples: measured on demand, stored in the atlas, shown."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

import rot180
from rot180.datasets import ArrayDataset
from rot180.errors import Rot180Error
from rot180.figures.tiles import Tiles
from rot180.models.model import Model
from tests.atlas.large_fields import large_model, large_pictures
from tests.atlas.scans import change, rows_of


@pytest.fixture(scope="module")
def model() -> Model:
    return large_model()


@pytest.fixture(scope="module")
def scanned(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fields") / "large.atlas"
    rot180.scan(model, ArrayDataset(large_pictures(12)), path, examples=4).close()
    return path


@pytest.fixture
def path(scanned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(scanned, tmp_path / "large.atlas"))


def measured(path: Path) -> list[tuple[str, int, int]]:
    with rot180.open(path) as atlas:
        found = atlas.rows(
            "SELECT layer, channel, rank FROM effective_field JOIN feature ON feature = id "
            "ORDER BY feature, rank"
        )
    return [tuple(row) for row in found]


def test_a_field_is_that_of_the_examples_projection(path: Path, model: Model) -> None:
    images = model.prepare(large_pictures(12))
    with rot180.measure_effective_fields(path, model, examples=2) as atlas:
        count = 0
        for feature in atlas["2"]:
            for rank, example in enumerate(feature.firing):
                if rank >= 2:
                    assert example.effective is None
                    continue
                p = rot180.project(
                    model.network(), images[example.image], "2", feature.channel, example.position
                )
                assert example.effective == p.effective_box()
                count += 1
        assert count > 4


def test_only_layers_with_large_fields_are_measured(path: Path, model: Model) -> None:
    rot180.measure_effective_fields(path, model).close()
    assert {layer for layer, _, _ in measured(path)} == {"2", "6"}


def test_measuring_goes_on_where_it_stopped(
    path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rot180.atlas.effective_fields._STORED_TOGETHER", 2)
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rot180.measure_effective_fields(path, model, examples=4, progress=stop)
    total = seen[0][1]
    assert len(measured(path)) == 4
    again: list[tuple[int, int]] = []
    rot180.measure_effective_fields(
        path, model, examples=4, progress=lambda *counts: again.append(counts)
    ).close()
    assert again[-1] == (total - 4, total - 4)
    assert len(measured(path)) == total


def test_other_tables_stay_as_they_are(path: Path, model: Model) -> None:
    before = rows_of(path)
    rot180.measure_effective_fields(path, model, layers="2").close()
    after = rows_of(path)
    assert after.pop("effective_field") != before.pop("effective_field")
    assert after == before


def test_tiles_show_an_examples_own_field(path: Path, model: Model) -> None:
    with rot180.measure_effective_fields(path, model) as atlas:
        tiles = Tiles(atlas["2"], atlas.size)
        for feature in atlas["2"]:
            for example in feature.firing[:1]:
                field, shown = example.effective, tiles.box(example)
                assert (shown.height, shown.width) == (max(field.height, 32), max(field.width, 32))
                assert shown.top <= field.top < field.bottom <= shown.bottom
                assert shown.left <= field.left < field.right <= shown.right
                pixels = atlas.picture(example.image).pixels
                tile = tiles.patch(pixels, example)
                assert tile.shape == (tiles.height, tiles.width, 4)
                if shown.height == shown.width:
                    assert (tile[..., 3] == 255).all()
                cut = pixels[shown.top : shown.bottom, shown.left : shown.right]
                there = tile[..., 3] > 0
                assert tile[there][:, :3].mean() == pytest.approx(cut.mean(), abs=4)


def test_a_later_scan_that_changes_examples_forgets_their_fields(
    model: Model, tmp_path: Path
) -> None:
    path, data = tmp_path / "part.atlas", ArrayDataset(large_pictures(12))
    parts = [tmp_path / f"{n}.atlas" for n in (1, 2)]
    for n, part in enumerate(parts, 1):
        rot180.scan(model, data, part, examples=2, batch=2, shard=(n, 2)).close()
        rot180.measure_effective_fields(part, model).close()
    rot180.merge(parts, path).close()
    assert measured(path) == []


@pytest.mark.parametrize(
    "values", ["top = -1", "bottom = 97", "bottom = top", "\"left\" = 'x'", "rank = 'x'"]
)
def test_fields_that_cannot_be_are_damage(path: Path, model: Model, values: str) -> None:
    rot180.measure_effective_fields(path, model).close()
    change(path, f"UPDATE effective_field SET {values} WHERE feature = 6 OR feature = 7")
    with rot180.open(path) as atlas:

        def read() -> None:
            for feature in atlas["2"]:
                len(feature.examples)

        with pytest.raises(Rot180Error, match=r"damaged.*effective_field"):
            read()


def test_what_cannot_be_measured_is_said(path: Path, model: Model, tmp_path: Path) -> None:
    with pytest.raises(Rot180Error, match="At least one example"):
        rot180.measure_effective_fields(path, model, examples=0)
    with pytest.raises(Rot180Error, match="no layer 'x'"):
        rot180.measure_effective_fields(path, model, layers="x")
    change(path, "DELETE FROM metadata WHERE key = 'finished'")
    with pytest.raises(Rot180Error, match="unfinished"):
        rot180.measure_effective_fields(path, model)
    bare = tmp_path / "bare.atlas"
    data = ArrayDataset(large_pictures(12))
    rot180.scan(model, data, bare, images="none").close()
    with pytest.raises(Rot180Error, match="holds no pictures"):
        rot180.measure_effective_fields(bare, model)
    with closing(rot180.measure_effective_fields(bare, model, data=data, layers="2")) as atlas:
        assert any(one.effective for feature in atlas["2"] for one in feature.firing)
