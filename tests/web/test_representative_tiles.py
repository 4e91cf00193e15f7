"""The tiles that stand for layers and blocks: which are chosen, and what blocks are."""

from pathlib import Path

import numpy as np
import pytest
import torch

import rot180
from rot180.datasets import ArrayDataset
from rot180.web import pages
from rot180.web.blocks import block_name, blocks_of, cover_tiles
from rot180.web.collection import AtlasCollection, ServedAtlas
from rot180.web.representative_tiles import STRIP, RepresentativeTile, _whole, representative_tiles
from rot180.web.urls import ServerUrls
from rot180.web.views.network import network_view
from tests.atlas.scans import (
    SIZE,
    SmallNet,
    change,
    normalisation,
    pictures,
    scanned,
    small_network,
)


def served_of(path: Path) -> ServedAtlas:
    return next(iter(AtlasCollection([rot180.open(path)]).values()))


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("_blocks.4._project_conv", "_blocks.4"),
        ("layer1.0.conv1", "layer1.0"),
        ("layer1.0.downsample.0", "layer1.0"),
        ("features.28", "features"),
        ("features.3.conv.0.0", "features.3"),
        ("blocks.3.1.conv_pw", "blocks.3.1"),
        ("Mixed_5b.branch1x1.conv", "Mixed_5b"),
        ("inception3a.branch2.0.conv", "inception3a"),
        ("encoder.layers.encoder_layer_0.mlp.0", "encoder.layers.encoder_layer_0"),
        ("conv1", "conv1"),
        ("head", "head"),
        ("", ""),
        (".", "."),
    ],
)
def test_a_block_is_the_common_beginning_of_names(layer: str, block: str) -> None:
    assert block_name(layer) == block


def test_only_neighbours_are_a_block() -> None:
    names = ["stem", "b.0.one", "b.0.two", "b.1.one", "b.0.three", "head"]
    found = [(one.name, one.layers) for one in blocks_of(names, {})]
    assert found == [
        ("stem", [0]), ("b.0", [1, 2]), ("b.1.one", [3]), ("b.0.three", [4]), ("head", [5]),
    ]  # fmt: skip


def test_a_block_shows_its_layers_in_turn_and_images_once() -> None:
    tiles = {
        "b.0.x": [RepresentativeTile("b.0.x", n, 0, image) for n, image in enumerate((1, 2, 3))],
        "b.0.y": [RepresentativeTile("b.0.y", n, 0, image) for n, image in enumerate((1, 4))],
        "head": [RepresentativeTile("head", n, 0, n) for n in range(9)],
    }
    block, head = blocks_of(list(tiles), tiles)
    assert [(one.layer, one.image) for one in block.tiles] == [
        ("b.0.y", 1), ("b.0.y", 4), ("b.0.x", 2), ("b.0.x", 3), ("b.0.x", 1),
    ]  # fmt: skip
    assert cover_tiles([block, head], [True, True, False]) == block.tiles
    assert len(cover_tiles([head], [False] * 3)) == STRIP


@pytest.mark.slow
def test_tiles_are_of_different_features_images_and_classes(tmp_path: Path) -> None:
    served = served_of(scanned(tmp_path / "small.atlas"))
    for name, tiles in representative_tiles(served).items():
        layer = served.atlas[name]
        alive = sum(bool(one.firing) for one in layer)
        assert len({one.channel for one in tiles}) == len(tiles) == min(alive, STRIP)
        for one in tiles:
            assert layer[one.channel].firing[one.rank].image == one.image
        classes = [served.atlas.image_info(one.image)[1] for one in tiles[:3]]
        known = [one for one in classes if one is not None]
        assert len(set(known)) == len(known)


@pytest.mark.slow
def test_tiles_are_varied_where_the_strongest_examples_are_flat(tmp_path: Path) -> None:
    images = pictures(60)
    images[:3] = 255  # as a clear sky is, and brighter than all others
    torch.manual_seed(0)
    model = SmallNet().eval()
    with torch.no_grad():
        model.one.weight.abs_()  # features that fire where it is bright
    network = rot180.capture(model, torch.zeros(1, 3, SIZE, SIZE))
    path = tmp_path / "sky.atlas"
    given = normalisation()
    rot180.scan(network, ArrayDataset(images, name="sky"), path, batch=8, **given).close()
    served = served_of(path)
    layer = served.atlas["one"]
    assert all(one.examples[0].image < 3 for one in layer)
    tiles = representative_tiles(served)["one"]
    assert len(tiles) == len(layer)
    for tile in tiles:
        box = layer[tile.channel].examples[tile.rank].box
        assert tile.image >= 3
        assert served.pixels(tile.image)[box.top : box.bottom, box.left : box.right].std() > 5


def test_a_field_is_whole_if_the_border_does_not_cut_it() -> None:
    spans = np.array([[0, 3], [0, 5], [2, 7], [4, 8], [6, 8]])
    assert _whole(spans, 8).tolist() == [False, False, True, False, False]
    all_of_it = np.array([[0, 8], [0, 8]])
    assert _whole(all_of_it, 8).tolist() == [True, True]
    none_is = np.array([[0, 5], [0, 7], [1, 8], [3, 8]])
    assert _whole(none_is, 8).tolist() == [False, True, True, False]


def test_a_damaged_picture_does_not_keep_the_network_from_being_shown(tmp_path: Path) -> None:
    path = scanned(tmp_path / "small.atlas")
    good = representative_tiles(served_of(path))
    change(path, "UPDATE image SET picture = x'00' WHERE number % 2 = 1")
    served = served_of(path)
    assert {name: len(one) for name, one in representative_tiles(served).items()} == {
        name: len(one) for name, one in good.items()
    }


@pytest.mark.slow
def test_what_no_class_is_large_enough_for_is_not_counted(tmp_path: Path) -> None:
    known, unknown = tmp_path / "known.atlas", tmp_path / "unknown.atlas"
    scanned(known)
    few = ArrayDataset(pictures(36), np.arange(36) % 9, [f"kind {n}" for n in range(9)], name="x")
    rot180.scan(small_network(), few, unknown, batch=8, **normalisation()).close()
    for path, there in ((known, True), (unknown, False)):
        served = served_of(path)
        view = network_view(served)
        assert all((one.selective is not None) == there for one in view.layers)
        page = pages.network_page(ServerUrls(), served, view)
        assert ("selective for a class</a>" in page) == there
