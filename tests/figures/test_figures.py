"""The figures say what is there: their pixels and their numbers are computed another way here."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

import rot180
from rot180 import Rot180Error
from rot180.datasets import ArrayDataset
from rot180.figures.colour import ColourResponse, colour_response, local_means
from rot180.figures.context import FigureContext, first_of_class, most_colourful
from rot180.figures.overview import correlation, learning_curve
from rot180.figures.projection import projection_sheet
from rot180.figures.sheet import INK, Sheet
from rot180.figures.two_layer import draw
from rot180.graph.box import Box, Span
from rot180.models.checkpoint import Checkpoint
from rot180.models.model import Model
from rot180.models.two_layer import TwoLayer
from rot180.projection.imaging import scale_of


@pytest.fixture(scope="module")
def subject() -> FigureContext:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    data = ArrayDataset(images, rng.integers(0, 2, 30), ("cat", "dog"), name="noise")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TwoLayer(2, 3, (16, 16)).eval()
    with torch.no_grad():
        model.conv1.weight[3], model.conv1.bias[3] = 0, -1  # a feature that never fires
    checkpoint = Checkpoint(
        model, ("cat", "dog"), (0.5,) * 3, (0.25,) * 3, (16, 16), {"name": "noise"}
    )
    return FigureContext(checkpoint, data, image=4)


@pytest.fixture(scope="module")
def drawn(subject: FigureContext, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("figures")
    draw(subject, out, formats=("png", "svg"))
    return out


def numbers(drawn: Path, name: str) -> dict:
    return json.loads((drawn / f"{name}.json").read_text())


@pytest.mark.slow
def test_each_figure_has_a_picture_a_caption_and_numbers(drawn: Path) -> None:
    pictures = sorted(drawn.glob("*.png"))
    assert [one.name[0] for one in pictures] == list("12345678")
    for path in pictures:
        picture = Image.open(path)
        assert picture.mode == "RGBA"
        about = numbers(drawn, path.stem)
        assert picture.text["Description"] == about["caption"]
        assert len(about["caption"]) > 60
        assert picture.text["Title"] == about["title"]
        assert about["caption"].replace("&", "&amp;") in path.with_suffix(".svg").read_text()


@pytest.mark.slow
def test_the_strongest_activations_are_those_of_a_plain_search(subject, drawn) -> None:
    with torch.no_grad():
        x = (torch.from_numpy(subject.data.images).float() / 255 - 0.5) / 0.25
        maps = torch.relu(subject.model.model.conv1(x.permute(0, 3, 1, 2)))
    for one in numbers(drawn, "4-strongest")["strongest"]:
        of_feature = maps[:, one["channel"]]
        y, x_ = one["position"]
        assert one["activation"] == pytest.approx(float(of_feature.max()), rel=1e-5)
        assert float(of_feature[one["image"], y, x_]) == pytest.approx(float(of_feature.max()))
        assert one["box"] == list(
            Box.of(Span(y - 2, y + 3).clipped(16), Span(x_ - 2, x_ + 3).clipped(16))
        )


@pytest.mark.slow
def test_the_tiles_are_the_projections(subject, drawn) -> None:
    net = subject.model.network()
    x = subject.model.prepare(subject.data.image(4))
    sheet = np.asarray(Image.open(drawn / "2-first-layer.png"))
    scales = numbers(drawn, "2-first-layer")["tile_scale"]
    for channel in (0, 9, 31):
        signal = rot180.project(net, x, "conv1", channel, method="deconvnet").full().numpy()
        scale = scale_of(signal)
        assert scales[channel] == pytest.approx(scale, rel=1e-5)
        left, top = 2 * (16 + (channel % 8) * 104), 2 * (40 + channel // 8 * 120)
        tile = sheet[top + 6 : top + 192 : 12, left + 6 : left + 192 : 12]
        wanted = np.clip(128 + 127.5 * signal.transpose(1, 2, 0) / scale, 0, 255)
        assert (tile[..., 3] == 255).all()
        assert np.abs(tile[..., :3].astype(float) - wanted).max() <= 1.5
    silent = sheet[2 * 40 : 2 * 136, 2 * (16 + 3 * 104) : 2 * (112 + 3 * 104)]
    assert (silent[..., :3] == 128).all()
    assert sheet[2, 2, 3] == 0  # the page itself is transparent


def test_every_pixel_is_enlarged_to_an_equal_square() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    sheet = Sheet("x", "x", 200, 150)
    sheet.picture(16, 8, picture, 3)
    sheet.figure.set_dpi(200)
    canvas = FigureCanvasAgg(sheet.figure)
    canvas.draw()
    shown = np.asarray(canvas.buffer_rgba())[..., :3]
    found = shown[2 * 48 : 2 * 144, 32 : 32 + 192]
    assert np.array_equal(found, picture.repeat(6, 0).repeat(6, 1))


def _contrast(colour: str, other: float) -> float:
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    luminance = np.dot(linear, [0.2126, 0.7152, 0.0722])
    high, low = max(luminance, other) + 0.05, min(luminance, other) + 0.05
    return float(high / low)


def test_words_can_be_read_on_white_and_on_black() -> None:
    assert _contrast(INK, 1.0) >= 4.5
    assert _contrast(INK, 0.0) >= 4.5


@pytest.mark.slow
def test_the_probabilities_are_those_of_the_model(subject, drawn) -> None:
    x = subject.model.prepare(subject.data.image(4))[None]
    wanted = subject.model.model(x).softmax(1)[0].tolist()
    found = numbers(drawn, "1-image")["probabilities"]
    assert list(found.values()) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.slow
def test_colours_that_were_planted_are_found(subject) -> None:
    net, layer = subject.network, subject.layer(1)
    images = np.asarray(subject.data.images)
    means = local_means(net, layer, images)
    y, x = 5, 2
    top, left, bottom, right = net.receptive_field(layer, (y, x))
    assert np.allclose(means[:, y, x], images[:, top:bottom, left:right].mean((1, 2)))
    planted = means / 255 @ np.array([2.0, -3.0, 0.5]) + 1.5
    found = colour_response(net, layer, images, planted)
    assert found.coefficients == pytest.approx((2.0, -3.0, 0.5))
    assert found.explained == pytest.approx(1.0)
    assert found.words() == "less with green, more with red"
    noise = np.random.default_rng(1).normal(size=planted.shape)
    assert colour_response(net, layer, images, noise).explained < 0.02
    assert colour_response(net, layer, images, 0 * noise).explained == 0
    assert ColourResponse((-1.0,), 0.5).words() == "more where it is dark"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), c=st.integers(2, 6))
def test_correlation_is_numpys(seed: int, c: int) -> None:
    maps = np.random.default_rng(seed).normal(size=(3, c, 4, 5)).astype(np.float32)
    wanted = np.corrcoef(maps.transpose(1, 0, 2, 3).reshape(c, -1).astype(np.float64))
    assert np.allclose(correlation(maps), wanted)
    maps[:, 0] = 0
    assert (correlation(maps)[0] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("position", [None, "peak", (1, 2)])
def test_a_single_projection(subject, tmp_path: Path, position) -> None:
    sheet = projection_sheet(subject, "conv2", 7, position)
    written = sheet.save(tmp_path, ("png", "pdf"))
    assert [one.suffix for one in written] == [".png", ".pdf", ".json"]
    about = json.loads(written[-1].read_text())
    maps = subject.maps(subject.layer(1), [4])[0, 7]
    wanted = maps[1, 2] if position == (1, 2) else maps.max()
    assert about["activation"] == pytest.approx(float(wanted), abs=1e-6)
    assert "grey" in about["caption"]


@pytest.mark.slow
def test_a_large_image_is_drawn_smaller() -> None:
    model = torch.nn.Conv2d(3, 2, 3, padding=1)
    named = Model(model, (), (0.5,) * 3, (0.5,) * 3, (400, 1600), name="mine")
    data = ArrayDataset(np.zeros((1, 400, 1600, 3), np.uint8), name="black")
    layer = next(iter(named.network().layers))
    sheet = projection_sheet(FigureContext(named, data), layer, 1, None)
    assert sheet.width == 2 * 640 + 8 + 2 * 16
    assert sheet.height < 300
    assert "mine; images of black." in sheet.caption
    assert sheet.numbers["answer"] is None


@pytest.mark.slow
def test_the_learning_curve_keeps_the_history(tmp_path: Path) -> None:
    history = [{"epoch": e, "loss": 1 / e, "accuracy": 0.5, "held_out": 0.6} for e in (1, 2)]
    written = learning_curve(history).save(tmp_path)
    assert json.loads(written[-1].read_text())["history"] == history


def test_the_image_to_look_at_is_one_with_much_in_it(subject) -> None:
    images = np.asarray(subject.data.images) // 8 + 100
    images[11] = subject.data.images[11]
    assert most_colourful(ArrayDataset(images)) == 11


def test_images_and_classes_that_do_not_exist(subject) -> None:
    with pytest.raises(Rot180Error, match="no image 30: the data set has 30 images, 0 to 29"):
        FigureContext(subject.model, subject.data, image=30)
    with pytest.raises(Rot180Error, match=r"no class 'cot' in noise. There are: cat, dog"):
        first_of_class(subject.data, "cot")
    assert subject.data.labels[first_of_class(subject.data, "dog")] == 1
    with pytest.raises(Rot180Error, match="no feature 32"):
        draw(subject, "unused", channels=(32, None))


def test_a_sheet_shows_itself_in_a_notebook() -> None:
    sheet = Sheet("name", "title", 200, 100, caption="What is seen.")
    shown = Image.open(io.BytesIO(sheet._repr_png_()))
    assert shown.size == (320, 224)
    assert shown.text["Description"] == "What is seen."
