"""Tiles show what matters to a unit; all that it sees is one switch away."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

import rot180
from rot180.datasets import ArrayDataset
from rot180.figures.tiles import Tiles
from rot180.web.app import application
from rot180.web.collection import AtlasCollection
from rot180.web.feature_pictures import FeaturePicture, draw
from tests.atlas.large_fields import large_model, large_pictures


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> AtlasCollection:
    path, model = tmp_path_factory.mktemp("fields") / "large.atlas", large_model()
    rot180.scan(model, ArrayDataset(large_pictures(8)), path, examples=4).close()
    return AtlasCollection([rot180.measure_effective_fields(path, model, layers="2")])


@pytest.fixture(scope="module")
def client(collection: AtlasCollection) -> Iterator[TestClient]:
    with TestClient(application(collection), base_url="http://127.0.0.1") as found:
        yield found


def test_a_layer_offers_whole_fields_where_its_tiles_are_cut(client: TestClient) -> None:
    cut = client.get("/atlas/large/layers/2?show=fields")
    assert cut.status_code == 200
    assert "fields-4" in cut.text
    assert 'value="fields" checked' in cut.text
    whole = client.get("/atlas/large/layers/0")
    assert 'value="fields"' not in whole.text


def test_such_a_tile_shows_all_that_the_unit_sees(collection: AtlasCollection) -> None:
    served = collection["large"]
    feature = next(one for one in served.atlas["2"] if one.firing)
    example = feature.firing[0]
    pixels = served.pixels(example.image)
    tiles = Tiles(served.atlas["2"], served.atlas.size, receptive_fields=True)
    assert tiles.box(example) == example.box
    found = draw(served, feature, FeaturePicture.parse("field-0"))
    assert (found == tiles.patch(pixels, example)).all()
    cut = draw(served, feature, FeaturePicture.parse("patch-0"))
    assert cut.shape != found.shape or (cut != found).any()


def test_a_feature_tells_each_examples_field(client: TestClient) -> None:
    examples = [
        one
        for channel in range(5)
        for one in client.get(f"/atlas/large/features/2/{channel}.json").json()["examples"]
    ]
    measured = [one for one in examples if one["effective"] is not None]
    assert measured
    for one in measured:
        top, left, bottom, right = one["box"]
        a, b, c, d = one["effective"]
        assert top <= a < c <= bottom
        assert left <= b < d <= right
