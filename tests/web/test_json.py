"""What pages show is data, too: the same numbers as the atlas and the network give."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rot180
from rot180.errors import Rot180Error
from rot180.projection.rules import CHOICES
from rot180.web.collection import AtlasCollection
from rot180.web.filters import NAMED, parse_conditions, select
from tests.web.atlases import ask


@pytest.mark.slow
def test_a_network(address: str, collection: AtlasCollection) -> None:
    found, atlas = ask(address, "/atlas/late.json").json, collection["late"].atlas
    assert [one["name"] for one in found["layers"]] == list(atlas)
    assert found["connections"] == [[-1, 0], [0, 1], [1, 2]]
    assert found["features"] == 106
    for row in found["layers"]:
        layer = atlas[row["name"]]
        for tile in found["tiles"][row["name"]]:
            assert layer[tile["channel"]].examples[tile["rank"]].image == tile["image"]
        assert row["dead"] == sum(one.dead for one in layer)
        assert row["by_colour"] == sum((one.colour_r2 or 0) >= 0.25 for one in layer)
        assert tuple(row["receptive_field"]) == layer.receptive_field
    assert ask(address, "/index.json").json == [found]


@pytest.mark.slow
def test_a_layer(address: str, collection: AtlasCollection) -> None:
    found, layer = (
        ask(address, "/atlas/late/layers/conv2.json").json,
        collection["late"].atlas["conv2"],
    )
    assert found["order"] == list(range(64))
    for name, values in found["statistics"].items():
        assert values == [one.statistics[name] for one in layer]
    where = "colour_r2%3E%3D0.02,firing_images%3C%3D0.99"
    asked = f"/atlas/late/layers/conv2.json?sort=rarest&where={where}"
    order = ask(address, asked).json["order"]
    wanted = [one for one in layer if one.colour_r2 >= 0.02 and one.firing_images <= 0.99]
    wanted.sort(key=lambda one: (one.firing_images, one.channel))
    assert order == [one.channel for one in wanted]
    assert 0 < len(order) < 64


def pages(address: str, path: str) -> Iterator[Any]:
    """Follow the links from page to page of a list."""
    next_: str | None = path
    while next_:
        page = ask(address, next_).json
        yield page
        next_ = page["next"]


def test_a_layer_comes_in_pages(address: str, collection: AtlasCollection) -> None:
    state = "sort=-max&where=firing_images%3E%3D0.5"
    whole = ask(address, f"/atlas/late/layers/conv2.json?{state}").json
    found = list(pages(address, f"/atlas/late/layers/conv2.json?{state}&from=3&count=7"))
    assert [one["total"] for one in found] == [whole["total"]] * len(found)
    assert [channel for one in found for channel in one["order"]] == whole["order"][3:]
    assert max(len(one["order"]) for one in found) == 7 < whole["total"] - 3
    layer = collection["late"].atlas["conv2"]
    for page in found:
        for name, values in page["statistics"].items():
            assert values == [layer[channel].statistics[name] for channel in page["order"]]
    beyond = ask(address, "/atlas/late/layers/conv2.json?from=64").json
    assert (beyond["order"], beyond["total"], beyond["next"]) == ([], 64, None)


@pytest.mark.parametrize("order", ["unusual", "strongest"])
def test_the_features_on_an_image_come_in_pages(
    address: str, collection: AtlasCollection, order: str
) -> None:
    number = collection["late"].atlas["conv2"][40].examples[0].image
    path = f"/atlas/late/images/{number}/layers/conv2.json?order={order}"
    whole = ask(address, path).json
    found = list(pages(address, f"{path}&count=30"))
    assert [len(one["peaks"]) for one in found] == [30, 30, 4]
    assert [peak for one in found for peak in one["peaks"]] == whole["peaks"]
    assert {one["total"] for one in found} == {whole["total"]} == {64}
    assert whole["next"] is None


@pytest.mark.parametrize("wrong", ["from=-1", "from=x", "count=0", "count=501"])
def test_pages_that_cannot_be_are_refused(address: str, wrong: str) -> None:
    for path in ("/atlas/late/layers/conv2.json", "/atlas/late/images/0/layers/conv2.json"):
        answer = ask(address, f"{path}?{wrong}")
        assert answer.status == 400
        assert wrong.split("=")[0] in answer.json["error"]


def test_a_feature(address: str, collection: AtlasCollection) -> None:
    found = ask(address, "/atlas/late/features/conv2/40.json?method=guided").json
    feature = collection["late"].atlas["conv2"][40]
    assert found["statistics"] == feature.statistics
    assert [one["image"] for one in found["examples"]] == [one.image for one in feature.examples]
    assert [tuple(one["box"]) for one in found["examples"]] == [one.box for one in feature.examples]
    assert [one[2] for one in found["histogram"]] == [one.images for one in feature.histogram]
    assert [one[0] for one in found["partners"]] == [
        one.channel for one in feature.correlated_features
    ]
    assert (found["before"], found["after"], found["method"]) == (39, 41, "guided")
    assert set(found["image_matters"].values()) == {True}
    assert {"auto", "deconvnet", "gradient", "guided"} <= set(found["image_matters"])


@pytest.mark.slow
def test_the_images_and_what_they_are_the_strongest_of(
    address: str, collection: AtlasCollection
) -> None:
    atlas = collection["late"].atlas
    first = Counter(one.examples[0].image for one in atlas.features() if one.examples)
    found = ask(address, "/atlas/late/images.json").json
    wanted = [(one["image"], first[one["image"]]) for one in found["images"]]
    assert [(one["image"], one["wins"]) for one in found["images"]] == wanted
    assert wanted == sorted(wanted, key=lambda one: (-one[1], one[0]))
    assert wanted[: len(first)] == sorted(first.items(), key=lambda one: (-one[1], one[0]))[:120]


@pytest.mark.slow
def test_the_page_of_an_image_offers_every_method_first_the_most_faithful(
    address: str, collection: AtlasCollection
) -> None:
    number = collection["late"].atlas["conv2"][40].examples[0].image
    answer = ask(address, f"/atlas/late/images/{number}")
    assert answer.status == 200
    offered = re.findall(r'name="method" value="(\w+)"( checked)?', answer.body.decode())
    assert [name for name, _ in offered] == list(CHOICES)
    assert [name for name, checked in offered if checked] == ["auto"]


def test_an_image_and_its_pixels(address: str, collection: AtlasCollection) -> None:
    served = collection["late"]
    number = served.atlas["conv2"][40].examples[0].image
    image = served.model.scanned.model.prepare(served.atlas.picture(number).pixels)
    maps = rot180.feature_maps(served.model.network, image, "conv2")[0].numpy()
    found = ask(address, f"/atlas/late/images/{number}/layers/conv2.json?order=strongest").json
    peaks = found["peaks"]
    assert [one["channel"] for one in peaks] == np.argsort(
        -maps.max((1, 2)), kind="stable"
    ).tolist()
    for one in peaks[:10]:
        y, x = one["position"]
        assert maps[one["channel"], y, x] == pytest.approx(one["activation"], rel=1e-5)
        assert maps[one["channel"]].max() == pytest.approx(one["activation"], rel=1e-5)
    chances = [one["probability"] for one in found["top_classes"]]
    assert chances == sorted(chances, reverse=True)
    name, chance = served.model.scanned.model.top_class(image)
    assert found["top_classes"][0] == {"name": name, "probability": pytest.approx(chance, rel=1e-4)}

    for y, x in ((0, 0), (20, 9), (31, 31)):
        found = ask(address, f"/atlas/late/images/{number}/pixels/conv2/{y}/{x}.json").json
        row, column = found["position"]
        top, left, bottom, right = found["box"]
        assert top <= y < bottom
        assert left <= x < right
        values = maps[:, row, column]
        assert found["firing"] == (values > 0).sum()
        assert [one["channel"] for one in found["units"]] == [
            n for n in np.argsort(-values, kind="stable").tolist() if values[n] > 0
        ][:48]


@pytest.mark.parametrize("layer", ["conv1", "conv2", "head"])
def test_the_unit_at_a_pixel_lies_around_it_most_nearly(
    collection: AtlasCollection, layer: str
) -> None:
    served = collection["late"]
    part, tiles = served.atlas[layer], served.tiles(layer)
    for y in range(32):
        row, _ = tiles.nearest((y, 0))
        spans = part.fields.rows
        start, stop = spans[row]
        assert start <= y < stop
        # Of those that the border does not cut, none has its middle nearer.
        whole = [n for n, (a, b) in enumerate(spans) if b - a == part.receptive_field[0]]
        distance = abs((start + stop - 1) / 2 - y)
        if row in whole:
            assert distance <= min(abs(sum(spans[n]) / 2 - 0.5 - y) for n in whole)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "head"])
def test_the_middle_of_a_unit_leads_back_to_it(collection: AtlasCollection, layer: str) -> None:
    tiles, part = collection["late"].tiles(layer), collection["late"].atlas[layer]
    for y in range(part.height):
        for x in range(0, part.width, 3):
            assert tiles.nearest(tiles.middle((y, x))) == (y, x)


def test_search_finds_what_is_meant(address: str) -> None:
    for words, place in (
        ("conv2", "/atlas/late/layers/conv2"),
        ("conv2/40", "/atlas/late/features/conv2/40"),
        ("conv2 40", "/atlas/late/features/conv2/40"),
        ("hea", "/atlas/late/layers/head"),
    ):
        answer = ask(address, f"/atlas/late/search?q={words.replace(' ', '+')}")
        assert (answer.status, answer.headers["location"]) == (303, place)
    found = ask(address, "/atlas/late/search.json?q=conv2/64").json
    assert (found["only"], found["features"]) == (None, [])
    found = ask(address, "/atlas/late/search.json?q=astronaut").json
    assert found["features"]
    assert all("astronaut" in one["words"] for one in found["features"])


@pytest.mark.slow
def test_every_page_has_its_data_and_openapi_describes_it(address: str) -> None:
    described = ask(address, "/openapi.json").json
    assert described["openapi"].startswith("3")
    for path in ("/atlas/{atlas}.json", "/atlas/{atlas}/features/{layer}/{channel}.json"):
        answer = described["paths"][path]["get"]["responses"]["200"]
        assert "$ref" in answer["content"]["application/json"]["schema"]
    for path in ("/atlas/late", "/atlas/late/layers/conv1", "/atlas/late/features/conv1/3",
                 "/atlas/late/images"):  # fmt: skip
        assert ask(address, path).headers["content-type"].startswith("text/html")
        assert ask(address, f"{path}.json").headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/atlas/nobody.json", 404, "There is no atlas 'nobody' here"),
        ("/atlas/late/layers/conv9.json", 404, "conv2"),
        ("/atlas/late/features/conv2/64.json", 404, "0 to 63"),
        ("/atlas/late/features/conv2/4.json?method=relu", 400, "deconvnet"),
        ("/atlas/late/layers/conv2.json?sort=best", 400, "strongest"),
        ("/atlas/late/layers/conv2.json?where=colour", 400, "colour_r2>=0.25"),
        ("/atlas/late/layers/conv2.json?show=all", 400, "patches"),
        ("/atlas/late/images/77777777.json", 404, "not an example"),
        ("/atlas/late/images/0/layers/conv2.json?order=best", 400, "unusual"),
        ("/atlas/late/images.json?from=x", 400, "from"),
        ("/compare.json", 404, "two atlases"),
        ("/series.json", 404, "two atlases"),
        ("/series.json?of=nobody", 404, "no atlas 'nobody'"),
    ],
)
def test_what_is_wrong_is_a_sentence(address: str, path: str, status: int, words: str) -> None:
    answer = ask(address, path)
    assert answer.status == status
    assert words in answer.json["error"]
    assert answer.json["error"].endswith(".")


Column = st.lists(st.none() | st.floats(-3, 3, allow_nan=False).map(lambda x: round(x, 1)))


@pytest.mark.slow
@given(st.data(), st.integers(1, 30))
def test_features_are_chosen_and_sorted_as_said(data: Any, count: int) -> None:
    exact = st.lists(st.none() | st.integers(-5, 5), min_size=count, max_size=count)
    columns = {
        name: data.draw(exact) for name in ("max", "colour_r2", "firing_images", "brightness")
    }
    sort = data.draw(
        st.sampled_from(["strongest", "rarest", "-max", "colour_r2", "channel", "dark"])
    )
    value, sign = data.draw(st.integers(-5, 5)), data.draw(st.sampled_from([">=", "<="]))
    found = select(columns, sort, f"colour_r2{sign}{value}")

    def holds(one: int | None) -> bool:
        return one is not None and (one >= value if sign == ">=" else one <= value)

    assert set(found) == {n for n in range(count) if holds(columns["colour_r2"][n])}
    column, down = NAMED.get(sort, (sort.removeprefix("-"), sort.startswith("-")))
    values = [n if column == "channel" else columns[column][n] for n in found]
    known = [one for one in values if one is not None]
    assert values[: len(known)] == known  # what has no value comes last
    assert known == sorted(known, reverse=down)
    for one, two, x, y in zip(found, found[1:], values, values[1:], strict=False):
        assert x != y or one < two  # equal ones by number


@pytest.mark.parametrize("words", ["x>=1", "max>1", "max>=", "max>=1;", "max>=one", "max>=1,,<=2"])
def test_what_is_no_condition_is_a_sentence(words: str) -> None:
    with pytest.raises(Rot180Error, match="is not a condition"):
        parse_conditions(words)


def test_two_atlases_side_by_side(series: str) -> None:
    found = ask(series, "/compare.json").json
    assert (found["first"]["atlas"], found["second"]["atlas"]) == ("early", "late")
    assert found["images"] == 200
    correlations = [one["correlation"] for one in found["pairs"]]
    assert correlations == sorted(correlations, reverse=True)
    assert found["mutual"] == sum(one["mutual"] for one in found["pairs"]) > 10
    back = ask(series, "/compare.json?first=late&second=early").json
    mutual = {(p["channel"], p["other"]) for p in found["pairs"] if p["mutual"]}
    assert {(p["other"], p["channel"]) for p in back["pairs"] if p["mutual"]} == mutual
    same = ask(series, "/compare.json?first=late&second=late").json
    assert all(one["channel"] == one["other"] for one in same["pairs"])
    assert ask(series, "/compare.json?layer=nothing").status == 404


def test_a_feature_through_a_series(series: str) -> None:
    found = ask(series, "/series.json?layer=conv1&channel=5").json
    assert [one["channel"] for one in found["steps"]] == [5, 5]
    assert found["steps"][0]["correlation"] is None
    like = ask(series, "/series.json?layer=conv1&channel=5&follow=likeness").json
    other = ask(series, "/compare.json?first=late&second=early&layer=conv1").json
    (pair,) = [one for one in other["pairs"] if one["channel"] == 5]
    assert like["steps"][0]["channel"] == pair["other"]
    assert like["steps"][1]["correlation"] == pytest.approx(pair["correlation"], abs=1e-9)
    back = ask(series, "/series.json?of=early&layer=conv1&channel=5&follow=likeness").json
    early = ask(series, "/compare.json?first=early&second=late&layer=conv1").json
    (pair,) = [one for one in early["pairs"] if one["channel"] == 5]
    assert [one["channel"] for one in back["steps"]] == [5, pair["other"]]
    assert back["at"] == 0
    assert ask(series, "/series.json?follow=name").status == 404
    assert ask(series, "/series.json?layer=conv1&channel=99").status == 404
