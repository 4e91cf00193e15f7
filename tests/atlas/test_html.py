"""What a notebook shows of an atlas: its words escaped, its pictures inside."""

import base64
import re
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import rot180
from rot180.datasets import ArrayDataset

NAMES = ("<script>alert(1)</script>", "a & b")


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> rot180.Atlas:
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    data = ArrayDataset(images, np.arange(40) % 2, NAMES, name="<b>noise</b>")
    path = tmp_path_factory.mktemp("atlas") / "noise.atlas"
    return rot180.scan(rot180.load("two-layer"), data, path)


def shown(thing: object) -> ElementTree.Element:
    """Return the elements of what is shown, which are well-formed and run nothing."""
    html = thing._repr_html_()
    assert "<script" not in html
    assert "<b>" not in html
    closed = re.sub(r"(<img[^>]*)>", r"\1/>", html)
    return ElementTree.fromstring(f"<div>{closed}</div>")


def test_an_atlas_shows_its_layers(atlas: rot180.Atlas) -> None:
    found = shown(atlas)
    assert [row[0].text for row in found.iter("tr")][1:] == ["conv1", "conv2", "head"]
    assert "<b>noise</b>" in "".join(found.itertext())


def test_a_layer_shows_its_strongest_features(atlas: rot180.Atlas) -> None:
    found = list(shown(atlas["conv2"]).iter("tr"))[1:]
    strongest = max(atlas["conv2"], key=lambda one: one.max)
    assert len(found) == 12
    assert found[0][0].text == str(strongest.channel)


def test_a_feature_shows_its_patches(atlas: rot180.Atlas) -> None:
    feature = atlas["conv1"][3]
    found = [one.attrib["src"] for one in shown(feature).iter("img")]
    assert len(found) == 9
    data = base64.b64decode(found[0].removeprefix("data:image/png;base64,"))
    picture = np.asarray(Image.open(BytesIO(data)))
    box = feature.examples[0].box
    pixels = atlas.picture(feature.examples[0].image).pixels
    factor = len(picture) // box.height
    patch = pixels[box.top : box.bottom, box.left : box.right]
    assert (picture[::factor, ::factor] == patch).all()


def test_a_feature_names_its_best_class(atlas: rot180.Atlas) -> None:
    feature = atlas["conv1"][3]
    rows = {row[0].text: row[1].text for row in shown(feature).iter("tr") if row[0].tag == "td"}
    assert rows["best class"] == NAMES[feature.best_class]
    assert rows["best class"] == feature.class_responses[0].name


@pytest.mark.slow
def test_without_pictures_it_shows_numbers(tmp_path: Path) -> None:
    images = np.zeros((3, 32, 32, 3), np.uint8)
    with rot180.scan(rot180.load("two-layer"), images, tmp_path / "x", images="none") as atlas:
        assert not list(shown(atlas["head"][0]).iter("img"))
