"""A scan measures which method is the most faithful at each layer, and an atlas tells it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import rot180
from rot180.atlas import methods
from rot180.atlas.scan import ScanProgress
from rot180.errors import Rot180Error
from rot180.models.model import Model
from rot180.projection import automatic
from tests.atlas.scans import SIZE, SmallNet, change, normalisation, pictures, read_everything

pytestmark = pytest.mark.usefixtures("methods_tested")


def named() -> Model:
    torch.manual_seed(3)
    found = normalisation()
    return Model(SmallNet().eval(), (), found["mean"], found["std"], (SIZE, SIZE), name="small")


@pytest.fixture(scope="module")
def model() -> Model:
    return named()


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return pictures(60)


@pytest.fixture
def path(model: Model, data: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "small.atlas"
    rot180.scan(model, data, path, batch=4).close()
    return path


def test_every_layer_has_a_method_and_how_faithful_it_is(path: Path, model: Model) -> None:
    with rot180.open(path) as atlas:
        assert list(atlas.faithfulness) == list(atlas)
        for name, found in atlas.faithfulness.items():
            assert found.layer == name
            assert found.method in found.scores
            assert atlas[name].faithfulness is found
        images = methods.test_images(
            rot180.datasets.ArrayDataset(pictures(60), None, ()), (SIZE, SIZE), 3
        )
    network = named().network()
    rot180.use_sample(network, model.prepare(images))
    for name, found in atlas.faithfulness.items():
        again = automatic.measure_layer(network, network.layer(name))
        assert again.method == found.method
        for method, score in again.scores.items():
            assert score == pytest.approx(found.scores[method], abs=1e-4)


def test_auto_is_what_the_atlas_tells(path: Path) -> None:
    from rot180.atlas.model import ScannedModel

    told = {
        "measured_at": "one",
        "units": 3,
        "method": "guided",
        "effective": 5.0,
        "scores": {"guided": [0.1, 0.9], "map": [0.2, 0.5], "chance": [0.8, 0.1]},
    }
    words = json.dumps({"one": told, "two": told})
    change(path, f"UPDATE metadata SET value = '{words}' WHERE key = 'methods'")
    model = named()
    with rot180.open(path) as atlas:
        ScannedModel.for_atlas(atlas, model)
    p = rot180.project(model.network(), model.prepare(pictures(1)[0]), "two", 1, "peak")
    assert p.rules.method == "guided"


def test_parts_agree_and_their_whole_tells_the_same(
    data: np.ndarray, path: Path, tmp_path: Path
) -> None:
    parts = [tmp_path / f"{n}.atlas" for n in (1, 2)]
    for n, part in enumerate(parts, 1):
        rot180.scan(named(), data, part, batch=4, shard=(n, 2)).close()
    with rot180.merge(parts, tmp_path / "whole.atlas") as whole, rot180.open(path) as once:
        assert whole.metadata["methods"] == once.metadata["methods"]


def test_a_scan_may_leave_it_out(data: np.ndarray, tmp_path: Path) -> None:
    went: list[ScanProgress] = []
    with rot180.scan(
        named(), data, tmp_path / "a.atlas", methods=False, progress=went.append
    ) as atlas:
        assert atlas.faithfulness == {}
        assert {one.doing for one in went} == {"scanning"}
    with rot180.scan(named(), data, tmp_path / "b.atlas", progress=went.append) as atlas:
        assert len(atlas.faithfulness) == 3
        assert [one.done for one in went if one.doing == "testing methods"] == [1, 2, 3]


def test_layers_between_those_that_are_measured_take_the_nearest(
    monkeypatch: pytest.MonkeyPatch, data: np.ndarray, tmp_path: Path
) -> None:
    monkeypatch.setattr(methods, "LAYERS", 1)
    with rot180.scan(named(), data, tmp_path / "a.atlas") as atlas:
        where = {name: one.layer for name, one in atlas.faithfulness.items()}
    assert where == {"one": "head", "two": "head", "head": "head"}


def test_broken_images_are_not_in_the_sample() -> None:
    class Broken(rot180.datasets.ArrayDataset):
        def image(self, index: int) -> np.ndarray:
            if index % 3:
                raise rot180.datasets.BadImage(f"image {index}", "is broken")
            return super().image(index)

    made = Broken(pictures(60), None, ())
    found = methods.test_images(made, (SIZE, SIZE), 3)
    wanted = [n for n in range(60) if n % 3 == 0]
    assert len(found) == methods.IMAGES
    for one in found:
        assert any(np.array_equal(one, made.images[n]) for n in wanted)


@pytest.mark.parametrize(
    "told",
    [
        "[]",
        '{"nine": {}}',
        '{"one": null}',
        '{"one": {"scores": {"guided": [1, 2]}}}',
        '{"one": {"measured_at": "one", "units": 1, "method": "guided", "effective": 1e999, '
        '"scores": {"guided": [0, 1], "map": [0, 1], "chance": [0, 1]}}}',
        '{"one": {"measured_at": "one", "units": 1, "method": "other", "effective": 1, '
        '"scores": {"other": [0, 1], "map": [0, 1], "chance": [0, 1]}}}',
        '{"one": {"measured_at": "one", "units": 1, "method": "gradient", "effective": 1, '
        '"scores": {"guided": [0, 1], "map": [0, 1], "chance": [0, 1]}}}',
    ],
)
def test_what_cannot_be_a_measurement_is_damage(path: Path, tmp_path: Path, told: str) -> None:
    bad = Path(shutil.copy(path, tmp_path / "bad.atlas"))
    change(bad, f"UPDATE metadata SET value = '{told}' WHERE key = 'methods'")
    with pytest.raises(Rot180Error, match=r"damaged: its metadata\.methods"):
        read_everything(bad)


def test_an_interrupt_while_methods_are_tested_loses_no_image(
    data: np.ndarray, path: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.atlas"

    def stop(going: ScanProgress) -> None:
        if going.doing == "testing methods" and going.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rot180.scan(named(), data, again, batch=4, progress=stop)
    with rot180.open(again) as atlas:
        assert not atlas.finished
        assert atlas.scanned == len(data)
    went: list[ScanProgress] = []
    with (
        rot180.scan(named(), data, again, batch=4, progress=went.append) as atlas,
        rot180.open(path) as once,
    ):
        assert {one.doing for one in went} == {"testing methods"}
        assert atlas.metadata["methods"] == once.metadata["methods"]
