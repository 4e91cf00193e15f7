"""The pictures that the server sends show what the library computes."""

import numpy as np
import pytest

import rot180
from rot180.figures.tiles import Tiles
from rot180.projection.imaging import signed_to_rgb
from rot180.web.collection import AtlasCollection
from rot180.web.errors import NotFound
from rot180.web.feature_pictures import FeaturePicture, heat, mean_tile, mosaic, overlay
from rot180.web.image_pictures import ImagePicture
from tests.web.atlases import ask

RULES = [("deconvnet", "switches"), ("gradient", "repeat"), ("guided", "switches")]


def test_a_patch_is_the_tile_of_a_sheet(address: str, collection: AtlasCollection) -> None:
    atlas = collection["late"].atlas
    tiles = Tiles(atlas["conv2"], atlas.size)
    for channel, rank in ((5, 0), (40, 3), (63, 8)):
        answer = ask(address, f"/atlas/late/features/conv2/{channel}/patch-{rank}.png")
        example = atlas["conv2"][channel].examples[rank]
        wanted = tiles.patch(atlas.picture(example.image).pixels, example)
        assert answer.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(answer.pixels, wanted)


@pytest.mark.parametrize(("method", "unpool"), RULES)
@pytest.mark.parametrize("layer", ["conv1", "conv2", "head"])
def test_a_projection_is_what_project_returns(
    address: str, collection: AtlasCollection, layer: str, method: str, unpool: str
) -> None:
    served = collection["late"]
    atlas, named = served.atlas, served.model.scanned.model
    tiles = Tiles(atlas[layer], atlas.size)
    example = atlas[layer][3].examples[2]
    image = named.prepare(atlas.picture(example.image).pixels)
    p = rot180.project(named.network(), image, layer, 3, example.position, method, unpool)
    wanted = tiles.signal(p.full().numpy(), example)
    answer = ask(address, f"/atlas/late/features/{layer}/3/projection-2-{method}-{unpool}.png")
    # From the same numbers up to rounding: a grey value may be the next one.
    assert np.abs(answer.pixels.astype(int) - wanted.astype(int)).max() <= 1


@pytest.mark.parametrize(("method", "unpool"), RULES)
def test_a_unit_of_an_open_image_is_what_project_returns(
    address: str, collection: AtlasCollection, method: str, unpool: str
) -> None:
    served = collection["late"]
    named, number = served.model.scanned.model, served.atlas["conv2"][40].examples[0].image
    pixels = served.atlas.picture(number).pixels
    image, network = named.prepare(pixels), named.network()
    start = f"/atlas/late/images/{number}/features/conv2/40"
    unit = rot180.project(network, image, "conv2", 40, (3, 5), method, unpool).full().numpy()
    whole = rot180.project(network, image, "conv2", 40, None, method, unpool).full().numpy()
    peak = rot180.project(network, image, "conv2", 40, "peak", method, unpool).full().numpy()
    for look, signal in (
        ("unit-3-5", unit),
        ("unit-all-all", whole),
        ("whole", whole),
        ("peak", peak),
    ):
        found = ask(address, f"{start}/{look}-{method}-{unpool}.png").pixels.astype(int)
        assert np.abs(found - signed_to_rgb(signal).astype(int)).max() <= 1
    over = ask(address, f"{start}/over-3-5-{method}-{unpool}.png").pixels.astype(int)
    assert np.abs(over - overlay(unit, pixels).astype(int)).max() <= 1


def test_maps_are_the_layers_activations(address: str, collection: AtlasCollection) -> None:
    served = collection["late"]
    number = served.atlas["conv1"][0].examples[0].image
    image = served.model.scanned.model.prepare(served.atlas.picture(number).pixels)
    maps = rot180.feature_maps(served.model.network, image, "conv1")[0].numpy()
    for channel in (0, 17):
        answer = ask(address, f"/atlas/late/images/{number}/features/conv1/{channel}/map.png")
        wanted = heat(maps[channel], float(maps.max()))
        np.testing.assert_array_equal(answer.pixels, wanted[:, :, 0])


def test_an_image_is_itself(address: str, collection: AtlasCollection) -> None:
    atlas = collection["late"].atlas
    number = atlas["conv2"][1].examples[0].image
    for form in ("png", "webp"):
        answer = ask(address, f"/atlas/late/images/{number}.{form}")
        assert answer.headers["content-type"] == f"image/{form}"
        np.testing.assert_array_equal(answer.pixels, atlas.picture(number).pixels)


@pytest.mark.slow
def test_many_in_one_picture_are_the_single_ones(address: str, collection: AtlasCollection) -> None:
    start = "/atlas/late/features/conv2/7"
    for single, many in (("patch-{}", "patches-{}"), ("projection-{}-guided-repeat",) * 2):
        many = many if many != single else "projections-{}-guided-repeat"
        for count, across in ((1, 1), (4, 2), (9, 3)):
            whole = ask(address, f"{start}/{many.format(count)}.png").pixels
            size = (len(whole) + 4) // across
            for rank in range(count):
                y, x = rank // across * size, rank % across * size
                one = ask(address, f"{start}/{single.format(rank)}.png").pixels
                np.testing.assert_array_equal(whole[y : y + len(one), x : x + len(one)], one)


def test_the_mean_of_patches_is_their_mean(collection: AtlasCollection, address: str) -> None:
    atlas = collection["late"].atlas
    tiles = Tiles(atlas["conv2"], atlas.size)
    made = [tiles.patch(atlas.picture(one.image).pixels, one) for one in atlas["conv2"][4].examples]
    values = np.stack(made).astype(float)
    there = values[..., 3] > 0
    found = ask(address, "/atlas/late/features/conv2/4/mean-9.png").pixels
    for y, x in ((10, 10), (50, 60), (90, 30)):
        some = values[there[:, y, x], y, x, :3]
        if len(some):
            np.testing.assert_allclose(found[y, x, :3], some.mean(0), atol=0.51)
    both = ask(address, "/atlas/late/features/conv2/4/mean-9-deconvnet-switches.png").pixels
    np.testing.assert_array_equal(both[:, : tiles.width], found)


def test_empty_places_of_tiles_are_left_out_of_a_mean() -> None:
    full, empty = np.full((2, 2, 4), 200, np.uint8), np.zeros((2, 2, 4), np.uint8)
    full[..., 3] = 255
    assert (mean_tile([full, empty])[..., :3] == 200).all()
    assert (mean_tile([empty, empty])[..., 3] == 0).all()


def test_a_mosaic_has_room_for_what_is_missing() -> None:
    tile = np.full((5, 7, 4), 9, np.uint8)
    found = mosaic([tile, tile], 4, (5, 7))
    assert found.shape == (5 + 4 + 5, 7 + 4 + 7, 4)
    assert (found[:5, :7] == 9).all()
    assert (found[9:] == 0).all()


def test_browsers_keep_pictures_and_ask_whether_they_changed(address: str) -> None:
    path = "/atlas/late/features/conv2/2/patches-4.webp"
    first = ask(address, path)
    tag = first.headers["etag"]
    again = ask(address, path, headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")
    assert ask(address, path, headers={"If-None-Match": '"other"'}).body == first.body
    assert ask(address, "/atlas/late/features/conv2/3/patches-4.webp").headers["etag"] != tag


@pytest.mark.parametrize(
    "name",
    [
        "patches-2", "patches-4-guided-switches", "patch", "patch--1", "patch-x", "patch-9999",
        "projection-0", "projection-0-relu-switches", "projection-0-guided-max", "mean", "mean-9-x",
        "projections-9-guided", "nothing-1", "", "patch-٣",
    ],
)  # fmt: skip
def test_pictures_that_there_are_not_have_a_sentence(name: str) -> None:
    with pytest.raises(NotFound, match=r"\.$"):
        FeaturePicture.parse(name)


@pytest.mark.parametrize(
    "name",
    [
        "map-1", "whole", "whole-guided", "unit-guided-switches", "unit-1-x-guided-switches",
        "over--1-2-guided-switches", "peak-relu-switches", "x", "", "unit-1-2-guided-switches-3",
        "over-1-999999999-guided-switches",
    ],
)  # fmt: skip
def test_looks_that_there_are_not_have_a_sentence(name: str) -> None:
    with pytest.raises(NotFound, match=r"\.$"):
        ImagePicture.parse(name)


@pytest.mark.parametrize(
    "path",
    [
        "features/conv2/64/patch-0.webp",
        "features/conv9/0/patch-0.webp",
        "features/conv2/0/patch-0.gif",
        "features/conv2/0/patch-44.webp",
        "images/999999999.webp",
        "images/nobody.webp",
        "images/0.gif",
        "images/99999999999999999999.webp",
    ],
)
def test_what_there_is_not_is_not_found(address: str, path: str) -> None:
    answer = ask(address, f"/atlas/late/{path}")
    assert answer.status == 404
    assert answer.json["error"].endswith(".")


def test_positions_outside_the_maps_are_not_found(
    address: str, collection: AtlasCollection
) -> None:
    number = collection["late"].atlas["conv2"][40].examples[0].image
    start = f"/atlas/late/images/{number}"
    for path in (
        "features/conv2/40/unit-16-0-guided-switches.png",
        "features/conv2/99/map.png",
        "pixels/conv2/32/0.json",
        "layers/conv9.json",
    ):
        assert ask(address, f"{start}/{path}").status == 404
