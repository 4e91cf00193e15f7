"""The second lesson's numbers are those of PyTorch's own operators, carried back by hand."""

import re
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from rot180 import Rot180Error
from rot180.web.app import application
from rot180.web.lessons.deconvnet import PRESETS, ProjectionView, build

JSON = {"accept": "application/json"}


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(application(), base_url="http://127.0.0.1")


@st.composite
def questions(draw: st.DrawFn) -> dict[str, str]:
    def grid(size: int, least: int, most: int) -> str:
        line = st.lists(st.integers(least, most), min_size=size, max_size=size)
        lines = draw(st.lists(line, min_size=size, max_size=size))
        return ";".join(",".join(map(str, one)) for one in lines)

    return {
        "image": grid(6, 0, 9),
        "first": "|".join(grid(3, -2, 2) for _ in range(2)),
        "second": "|".join(grid(2, -2, 2) for _ in range(4)),
        "feature": draw(st.sampled_from("01")),
        "unit": draw(st.sampled_from(["", "0,0", "0,1", "1,0", "1,1"])),
        "unpool": draw(st.sampled_from(["switches", "repeat"])),
    }


def tensor(values: Any, *shape: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def close(found: Any, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(np.array(found), expected[0].numpy(), rtol=1e-12, atol=1e-12)


def went(one: ProjectionView) -> dict[str, torch.Tensor]:
    """Go forward with PyTorch's operators, from what the lesson says it was given."""
    conv1 = functional.conv2d(
        tensor(one.image, 1, 1, 6, 6), tensor(one.first, 2, 1, 3, 3), padding=1
    )
    pooled, where = functional.max_pool2d(conv1.relu(), 2, return_indices=True)
    conv2 = functional.conv2d(pooled, tensor(one.second, 2, 2, 2, 2))
    return {
        "conv1": conv1,
        "relu1": conv1.relu(),
        "pool1": pooled,
        "where": where,
        "conv2": conv2,
        "relu2": conv2.relu(),
    }


def rectified(signal: torch.Tensor, fired: torch.Tensor, method: str) -> torch.Tensor:
    if method != "deconvnet":
        signal = torch.where(fired > 0, signal, 0)
    return signal if method == "gradient" else signal.clamp(min=0)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(questions())
def test_every_signal_is_what_pytorch_makes_of_it(question: dict[str, str]) -> None:
    one = build(**question)
    maps = went(one)
    for name, found in one.maps.items():
        close(found, maps[name])
    place = maps["where"][0]
    rows = torch.stack([place // 6, place % 6], dim=-1)
    assert one.switches == rows.tolist()
    unit, activations = one.unit, maps["relu2"][0, one.unit.feature]
    assert unit.feature == int(question["feature"])
    if question["unit"]:
        assert f"{unit.y},{unit.x}" == question["unit"]
    else:
        assert unit.activation == activations.max()
    assert unit.activation == activations[unit.y, unit.x]
    for method, way in one.ways.items():
        signal = torch.zeros_like(maps["relu2"])
        signal[0, unit.feature, unit.y, unit.x] = unit.activation
        close(way.signals["relu2"], signal)
        signal = rectified(signal, maps["relu2"], method)
        close(way.signals["conv2"], signal)
        signal = functional.conv_transpose2d(signal, tensor(one.second, 2, 2, 2, 2))
        close(way.signals["pool1"], signal)
        if one.unpool == "switches":
            signal = functional.max_unpool2d(signal, maps["where"], 2)
        else:
            signal = functional.interpolate(signal, scale_factor=2, mode="nearest")
        close(way.signals["relu1"], signal)
        signal = rectified(signal, maps["relu1"], method)
        close(way.signals["conv1"], signal)
        pixels = functional.conv_transpose2d(signal, tensor(one.first, 2, 1, 3, 3), padding=1)
        close(way.signals["pixels"], pixels)
    for name, apart in one.differs.items():
        three = [np.array(way.signals[name]) for way in one.ways.values()]
        assert np.array_equal(apart, np.ptp(three, axis=0) > 1e-12)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(questions())
def test_products_name_their_factors_and_add_up(question: dict[str, str]) -> None:
    one = build(**question)
    first, second = np.array(one.first), np.array(one.second).reshape(2, 2, 2, 2)
    forward = {
        "w1": first,
        "w2": second,
        "x": np.array(one.image),
        "p": np.array(one.maps["pool1"]),
    }
    told = [
        (one.sums["conv1"], one.maps["conv1"], forward),
        (one.sums["conv2"], one.maps["conv2"], forward),
    ]
    for way in one.ways.values():
        back = {
            "w1": first,
            "w2": second,
            "s1": np.array(way.signals["conv1"]),
            "s2": np.array(way.signals["conv2"]),
        }
        told += [(way.sums[name], way.signals[name], back) for name in ("pool1", "pixels")]
    for entries, grids, values in told:
        for entry, value in zip(entries, np.ravel(grids), strict=True):
            assert entry.value == entry.total == pytest.approx(value, abs=1e-9)
            added = 0.0
            for term in entry.products:
                assert [f.value for f in term.factors] == [
                    values[f.name][tuple(f.index)] for f in term.factors
                ]
                assert term.value == np.prod([f.value for f in term.factors]) != 0
                weight = next(f for f in term.factors if f.name in ("w1", "w2"))
                assert term.weight == np.ravel_multi_index(weight.index, values[weight.name].shape)
                added += term.value
            assert added == pytest.approx(value, abs=1e-9)


def test_entries_stand_in_the_order_of_rows() -> None:
    one = build()
    places = [list(at) for at in np.ndindex(2, 6, 6)]
    assert [entry.index for entry in one.sums["conv1"]] == places
    for way in one.ways.values():
        assert [entry.index for entry in way.sums["pixels"]] == [
            list(at) for at in np.ndindex(6, 6)
        ]
        assert [entry.index for entry in way.sums["pool1"]] == [
            list(at) for at in np.ndindex(2, 3, 3)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_images_to_begin_with_show_something(preset: str) -> None:
    both = [build(preset=preset, feature=feature) for feature in "01"]
    assert all(one.unit.activation > 0 for one in both)
    assert any(np.any(one.differs["pixels"]) for one in both)


def test_on_the_first_image_no_two_methods_agree() -> None:
    pixels = [way.signals["pixels"] for way in build().ways.values()]
    assert all(pixels[a] != pixels[b] for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.slow
def test_an_address_makes_its_lesson_again(client: TestClient) -> None:
    one = build(preset="cross", feature="1", unit="0,1", unpool="repeat")
    assert build(**one.state) == one
    own = {**one.state, "image": ";".join(",".join(line) for line in PRESETS["cross"])}
    assert build(**own).ways == one.ways
    assert "preset" not in build(**own).state
    answer = client.get("/learn/deconvnet.json", params=one.state, headers=JSON)
    assert answer.json() == asdict(one)
    described = client.get("/openapi.json", headers=JSON).json()
    shape = described["paths"]["/learn/deconvnet.json"]["get"]["responses"]["200"]
    assert shape["content"]["application/json"]["schema"]["$ref"].endswith("/ProjectionView")


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"preset": "bars"}, "no image 'bars'. There are: bar"),
        ({"image": "1,2;3,4"}, "The image is 2x2; in this lesson it is 6x6"),
        ({"first": "1"}, "first kernels are 2 grids with | between them; there are 1"),
        ({"second": "1,2;3,4|1|1|1"}, "second kernels' grid 2 is 1x1; .* 2x2"),
        ({"feature": "2"}, "feature is 0 or 1"),
        ({"unit": "2,0"}, "no unit '2,0'"),
        ({"unpool": "none"}, "no unpooling 'none'"),
    ],
)
def test_what_cannot_be_understood_is_said(
    client: TestClient, question: dict[str, str], said: str
) -> None:
    said = said.replace("|", r"\|")
    with pytest.raises(Rot180Error, match=said):
        build(**question)
    answer = client.get("/learn/deconvnet.json", params=question, headers=JSON)
    assert answer.status_code == 400
    assert re.search(said, answer.json()["error"])
    page = client.get("/learn/deconvnet", params=question, headers={"accept": "text/html"})
    assert page.status_code == 400
    assert "From a unit back to the pixels" in page.text
