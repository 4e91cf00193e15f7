"""The plates of an atlas: tiles are the pixels they say, projections those of these units."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import rot180
from rot180 import Rot180Error
from rot180.atlas.atlas import Atlas
from rot180.atlas.feature import AtlasLayer, Example
from rot180.cli import app
from rot180.datasets import ArrayDataset
from rot180.figures.plates import patches
from rot180.figures.sheet import Sheet, drawable, save_pages, shortened
from rot180.figures.tiles import Tiles
from rot180.graph.box import Box
from rot180.models.model import Model
from rot180.projection.faithfulness import Faithfulness, Score
from rot180.projection.imaging import scale_of, signed_to_rgb


@pytest.fixture(scope="module")
def few() -> ArrayDataset:
    photos = rot180.open_dataset("photos", "test")
    images = np.stack([photos.image(n) for n in range(200)])
    labels = np.array([photos.label(n) for n in range(200)])
    return ArrayDataset(images, labels, photos.classes, name="photos")


@pytest.fixture(scope="module")
def model() -> Model:
    return rot180.load("two-layer")


@pytest.fixture(scope="module")
def atlas(few: ArrayDataset, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    return rot180.scan(model, few, tmp_path_factory.mktemp("atlas") / "few.atlas")


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["sheet", *map(str, words)])
    return result.exit_code, " ".join(result.output.split())


def drawn(sheet: Sheet, directory: Path) -> np.ndarray:
    return np.asarray(Image.open(sheet.save(directory)[0]))


def on_page(page: np.ndarray, tiles: Tiles, place: int, number: int, right: bool) -> np.ndarray:
    """Cut a tile out of the first row of a page: of its feature at a place, patch or projection."""
    wide = 3 * (tiles.width + 4) + 4
    left = 32 + place * (2 * wide + 12 + 56) + (wide + 12 if right else 0)
    y, x = 84 + number // 3 * (tiles.height + 4), left + 4 + number % 3 * (tiles.width + 4)
    return page[y : y + tiles.height, x : x + tiles.width]


def at_its_place(
    layer: AtlasLayer, example: Example, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put an image (h, w, c) around the peak as the geometry of the layer says, pixel by pixel."""
    (high, wide), (stride_y, stride_x) = layer.receptive_field, layer.stride
    middle = layer.height // 2
    origin = layer.fields.rows[middle][0] - middle * stride_y
    top, left = origin + example.position[0] * stride_y, origin + example.position[1] * stride_x
    tile, there = (
        np.zeros((high, wide, values.shape[2]), values.dtype),
        np.zeros((high, wide), bool),
    )
    for y in range(high):
        for x in range(wide):
            row, column = int(top) + y, int(left) + x
            if 0 <= row < values.shape[0] and 0 <= column < values.shape[1]:
                tile[y, x], there[y, x] = values[row, column], True
    return tile, there


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv1", "conv2"])
def test_tiles_are_the_stored_pixels_with_the_peak_at_one_place(atlas: Atlas, name: str) -> None:
    layer = atlas[name]
    tiles, cut = Tiles(layer, atlas.size), 0
    factor = int(tiles.factor)
    for feature in layer:
        for example in feature.examples:
            pixels = atlas.picture(example.image).pixels
            wanted, there = at_its_place(layer, example, pixels)
            found = tiles.patch(pixels, example)
            small = found[::factor, ::factor]
            assert (found == small.repeat(factor, 0).repeat(factor, 1)).all()
            assert ((small[..., 3] == 255) == there).all()
            assert set(np.unique(small[..., 3])) <= {0, 255}
            assert (small[there][:, :3] == wanted[there]).all()
            cut += not there.all()
    assert cut > 10  # some are at the border


@pytest.mark.slow
def test_the_page_shows_these_tiles_and_the_projections_of_the_same_units(
    atlas: Atlas, model: Model, tmp_path: Path
) -> None:
    layer, net = atlas["conv2"], model.network()
    tiles = Tiles(layer, atlas.size)
    (sheet,) = patches(atlas, "conv2", model, features=[12, 3, 60], method="deconvnet")
    page = drawn(sheet, tmp_path)
    about = json.loads((tmp_path / "patches-1.json").read_text())
    assert [one["channel"] for one in about["features"]] == [12, 3, 60]
    for place, one in enumerate(about["features"]):
        feature = layer[one["channel"]]
        assert one["max"] == feature.max
        for number, (example, unit) in enumerate(zip(feature.examples, one["units"], strict=True)):
            assert unit["image"] == example.image
            assert unit["position"] == list(example.position)
            pixels = atlas.picture(example.image).pixels
            patch = tiles.patch(pixels, example)
            shown = on_page(page, tiles, place, number, right=False)
            there = patch[..., 3] == 255
            assert (shown[there] == patch[there]).all()
            assert (shown[~there][:, 3] == 56).all()  # the mount

            projection = rot180.project(
                net,
                model.prepare(pixels),
                "conv2",
                feature.channel,
                example.position,
                method="deconvnet",
            )
            assert projection.activation == pytest.approx(example.activation, rel=1e-3)
            assert projection.box == example.box
            assert unit["scale"] == pytest.approx(scale_of(projection.pixels.numpy()), rel=1e-4)
            whole = signed_to_rgb(projection.full().numpy())
            wanted, inside = at_its_place(layer, example, whole)
            shown = on_page(page, tiles, place, number, right=True)
            shown = shown[:: int(tiles.factor), :: int(tiles.factor)]
            assert ((shown[..., 3] == 255) == inside).all()
            difference = shown[inside][:, :3].astype(int) - wanted[inside].astype(int)
            assert np.abs(difference).max() <= 1


def test_a_field_as_large_as_the_image_shows_all_of_it(atlas: Atlas) -> None:
    tiles = Tiles(atlas["head"], atlas.size)
    assert tiles.whole
    example = atlas["head"][0].examples[0]._replace(box=Box(0, 0, 20, 32))
    pixels = atlas.picture(example.image).pixels
    assert (tiles.patch(pixels, example)[::4, ::4, :3] == pixels).all()


def large_fields() -> tuple[rot180.Network, np.ndarray]:
    """Return a network whose units see 151 pixels, and two images for it."""
    model = nn.Sequential(nn.Conv2d(3, 2, 151, padding=75, stride=8), nn.ReLU())
    images = np.random.default_rng(0).integers(0, 256, (2, 200, 240, 3), dtype=np.uint8)
    return rot180.capture(model.eval(), torch.zeros(1, 3, 200, 240)), images


@pytest.mark.slow
def test_large_fields_are_made_smaller_and_stay_at_their_place(tmp_path: Path) -> None:
    net, images = large_fields()
    normalised = {"mean": (0.5,) * 3, "std": (0.2,) * 3}
    with rot180.scan(net, ArrayDataset(images), tmp_path / "a.atlas", **normalised) as atlas:
        layer = atlas["0"]
        tiles = Tiles(layer, atlas.size)
        assert (tiles.height, tiles.width) == (112, 112)
        for y, x in ((0, 0), (12, 15), (24, 29), (0, 29)):
            box = net.receptive_field(net.layer("0"), (y, x))
            tile = tiles.patch(images[0], Example(0, 1.0, (y, x), box, 1.0))
            rows, columns = (tile[..., 3].any(axis) for axis in (1, 0))
            for found, place, size in ((rows, y, 200), (columns, x, 240)):
                at = 112 / 151 * (np.arange(112) / (112 / 151) - 75 + 8 * place)  # of its pixels
                inside = (at > 0.75) & (at < 112 / 151 * size - 0.75)
                outside = (at < -1.75) | (at > 112 / 151 * size + 0.75)
                assert found[inside].all()
                assert not found[outside].any()


@pytest.mark.slow
def test_tiles_of_large_fields_are_cut_to_what_matters(tmp_path: Path) -> None:
    net, images = large_fields()
    normalised = {"mean": (0.5,) * 3, "std": (0.2,) * 3}
    with rot180.scan(net, ArrayDataset(images), tmp_path / "a.atlas", **normalised) as atlas:
        layer, score = atlas["0"], Score(0.1, 0.9)
        atlas.faithfulness["0"] = Faithfulness(
            "0", 4, {"gradient": score}, score, score, "gradient", 32.2
        )
        tiles = Tiles(layer, atlas.size)
        assert tiles.effective == 40
        assert not tiles.whole
        for (y, x), corner in (
            ((0, 0), (0, 0)),
            ((12, 15), (12 * 8 - 20, 15 * 8 - 20)),
            ((24, 29), (160, 200)),
        ):
            box = net.receptive_field(net.layer("0"), (y, x))
            example = Example(0, 1.0, (y, x), box, 1.0)
            shown = tiles.box(example)
            assert (shown.height, shown.width) == (40, 40)
            assert abs(shown.top - corner[0]) <= 1
            assert abs(shown.left - corner[1]) <= 1
            tile = tiles.patch(images[0], example)
            cut = images[0, shown.top : shown.bottom, shown.left : shown.right]
            assert (tile[..., 3] == 255).all()
            assert (tile[1::3, 1::3, :3] == cut).all()
            assert tiles.nearest(tiles.middle((y, x))) == (y, x)
        atlas.faithfulness["0"] = replace(atlas.faithfulness["0"], effective=110.0)
        assert Tiles(layer, atlas.size).effective is None  # hardly smaller than the field


@pytest.mark.slow
def test_pages_hold_every_feature_once_and_in_order(atlas: Atlas, tmp_path: Path) -> None:
    shown = []
    for number, sheet in enumerate(patches(atlas, "conv2", name="p"), 1):
        assert sheet.name == f"p-{number}"
        assert (sheet.numbers["page"], sheet.numbers["pages"]) == (number, 4)
        shown += [one["channel"] for one in sheet.numbers["features"]]
    alive = [one.channel for one in atlas["conv2"] if not one.dead]
    assert shown == alive
    (sheet,) = patches(atlas, "conv2", sort="strongest", most=7)
    strongest = sorted(alive, key=lambda one: (-atlas["conv2"][one].max, one))[:7]
    assert [one["channel"] for one in sheet.numbers["features"]] == strongest
    assert "7 of 64 features" in sheet.caption
    sheets = patches(atlas, "conv1", name="p")
    path, _ = save_pages(sheets, tmp_path / "p.pdf")
    assert len(re.findall(rb"/Type /Page\b", path.read_bytes())) == 2
    about = json.loads((tmp_path / "p.json").read_text())
    assert [one["page"] for one in about["pages"]] == [1, 2]


@pytest.mark.slow
def test_features_that_never_fire_are_left_out_and_counted(
    few: ArrayDataset, model: Model, tmp_path: Path
) -> None:
    silent = rot180.load("two-layer")
    with torch.no_grad():
        silent.model.conv1.bias[:3] = -1000.0
    with rot180.scan(silent, few, tmp_path / "s.atlas", layers=["conv1"], examples=4) as atlas:
        (sheet, _) = patches(atlas, "conv1")
        assert sheet.numbers["features"][0]["channel"] == 3
        assert sheet.numbers["silent"] == 3
        assert "never fire are left out: 3" in sheet.caption
        with pytest.raises(Rot180Error, match="nothing to show"):
            patches(atlas, "conv1", features=[0, 2])
        with pytest.raises(Rot180Error, match="another network"):
            patches(atlas, "conv1", model)


@pytest.mark.slow
def test_without_pictures_the_data_are_needed(
    few: ArrayDataset, model: Model, atlas: Atlas, tmp_path: Path
) -> None:
    with rot180.scan(model, few, tmp_path / "n.atlas", layers="conv1", images="none") as bare:
        with pytest.raises(Rot180Error, match="--images"):
            patches(bare, "conv1")
        with pytest.raises(Rot180Error, match="other images"):
            patches(bare, "conv1", data=ArrayDataset(few.images[:100]))
        given, stored = (
            drawn(next(one), tmp_path)
            for one in (patches(bare, "conv1", data=few), patches(atlas, "conv1"))
        )
        assert (given == stored).all()
    with rot180.scan(model, few, tmp_path / "c.atlas", layers="conv1", images="compact") as small:
        assert "compressed" in next(patches(small, "conv1")).caption


@pytest.mark.slow
def test_the_command_writes_what_it_says(atlas: Atlas, tmp_path: Path) -> None:
    out = tmp_path / "plates" / "c2"
    chosen = ("--layer", "conv2", "--features", "3, 17,40-47", "--out", out)
    status, printed = run(atlas.path, *chosen, "--method", "guided")
    assert status == 0, printed
    about = json.loads((tmp_path / "plates" / "c2-1.json").read_text())
    assert [one["channel"] for one in about["features"]] == [3, 17, *range(40, 48)]
    assert about["method"] == "guided"
    assert about["caption"] in printed
    status, printed = run(atlas.path, *chosen, "--no-projections", "--format", "pdf")
    assert status == 0, printed
    assert (tmp_path / "plates" / "c2.pdf").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--features", "3,x"), "neither"),
        (("--features", ""), "neither"),
        (("--features", "-3"), "neither"),
        (("--features", "3-"), "neither"),
        (("--features", "47-40"), "write 40-47"),
        (("--features", "0-999999999"), "64 features, 0 to 63"),
        (("--features", "64"), "64 features, 0 to 63"),
        (("--sort", "nicest"), "no order 'nicest'"),
        (("--format", "bmp"), "no format 'bmp'"),
        (("--format", "png", "--out", "x.pdf"), "--format says png"),
        (("--layer", "conv9"), "no layer 'conv9'"),
        (("--method", "wrong"), "wrong"),
        (("--model", f"{__file__}:tiny"), "another network"),
        (("--data", "photos", "--split", "train"), "other images"),
    ],
)
def test_what_is_wrong_is_said(atlas: Atlas, words: tuple[str, ...], reason: str) -> None:
    layer = () if "--layer" in words else ("--layer", "conv2")
    status, printed = run(atlas.path, *layer, *words)
    assert status == 1
    assert reason in printed


def tiny() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


@pytest.mark.slow
def test_code_is_not_run_because_an_atlas_names_it(few: ArrayDataset, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = tmp_path / "code.py"
    code.write_text(
        "import pathlib, torch\n"
        f"pathlib.Path({str(ran)!r}).touch()\n"
        "def net():\n    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())\n"
    )
    name, path = f"{code}:net", tmp_path / "code.atlas"
    with pytest.warns(UserWarning, match="Assumed"):
        model = rot180.load(name, size=32)
    rot180.scan(model, ArrayDataset(few.images[:20]), path).close()
    ran.unlink()
    words = (path, "--layer", "0", "--features", "0-3", "--out", tmp_path / "x")
    status, printed = run(*words)
    assert status == 1
    assert "--model" in printed
    assert not ran.exists()
    status, printed = run(*words, "--model", name)
    assert status == 0, printed


def test_words_of_others_cannot_break_a_sheet(tmp_path: Path) -> None:
    words = "a$b_{\x1b[31m\n\u202e国}" + "long " * 100
    assert drawable(words).startswith("a$b_{\ufffd[31m\ufffd\ufffd\ufffd}")
    cut = shortened(words, 120, 10.5)
    assert cut.endswith("…")
    assert len(cut) < 30
    sheet = Sheet("x", "$\\frac$", 200, 40)
    sheet.text(0, 0, words)
    assert sheet.save(tmp_path)[0].is_file()
