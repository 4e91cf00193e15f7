"""The numbers of the lessons are those that the definitions give, whatever the learner asks for."""

import json
import re
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from rot180 import Rot180Error
from rot180.web.app import application
from rot180.web.lessons import LESSONS, PAGES, render_lesson
from rot180.web.lessons.convolution import ConvolutionView, build
from rot180.web.urls import StaticUrls

JSON = {"accept": "application/json"}


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(application(), base_url="http://127.0.0.1")


def rows(text: str) -> list[list[float]]:
    return [[float(one) for one in line.split(",")] for line in text.split(";")]


def text(values: Any) -> str:
    return ";".join(",".join(str(float(one)) for one in line) for line in values)


def grids(rows: tuple[int, int], columns: tuple[int, int]) -> st.SearchStrategy[list[list[float]]]:
    numbers = st.integers(-40, 40).map(lambda one: one / 10)
    return st.tuples(st.integers(*rows), st.integers(*columns)).flatmap(
        lambda size: st.lists(
            st.lists(numbers, min_size=size[1], max_size=size[1]),
            min_size=size[0],
            max_size=size[0],
        )
    )


@st.composite
def questions(draw: st.DrawFn) -> dict[str, str]:
    stride = draw(st.sampled_from("123"))
    return {
        "image": text(draw(grids((1, 6), (1, 6)))),
        "kernel": text(draw(grids((1, 4), (1, 4)))),
        "stride": stride,
        "padding": draw(st.sampled_from(["valid", "full"] + ["same"] * (stride == "1"))),
        "operation": draw(st.sampled_from(["correlation", "convolution"])),
        "activation": draw(st.sampled_from(["none", "relu", "sigmoid", "tanh"])),
        "bias": str(draw(st.integers(-20, 20)) / 10),
        "seed": str(draw(st.integers(0, 99))),
    }


def forward(
    image: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor, one: ConvolutionView
) -> torch.Tensor:
    """Go forward as the definition says, pixel by pixel, with nothing of the package."""
    (top, bottom), (left, right) = one.border
    wide = torch.nn.functional.pad(image, (left, right, top, bottom))
    used = kernel.flip(0, 1) if one.operation == "convolution" else kernel
    kh, kw = kernel.shape
    lines = [
        torch.stack(
            [
                (wide[y : y + kh, x : x + kw] * used).sum() + bias
                for x in range(0, wide.shape[1] - kw + 1, one.stride)
            ]
        )
        for y in range(0, wide.shape[0] - kh + 1, one.stride)
    ]
    return torch.stack(lines)


FUNCTIONS = {
    "none": lambda z: z,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def close(found: Any, expected: Any) -> None:
    values = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    np.testing.assert_allclose(np.array(found), np.array(values), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(questions())
def test_every_number_of_a_convolution_is_what_autograd_finds(question: dict[str, str]) -> None:
    try:
        one = build(**question)
    except Rot180Error:  # no window fits, or covers a pixel
        reject()
    image, kernel = (
        torch.tensor(rows(question[k]), dtype=torch.float64) for k in ("image", "kernel")
    )
    bias = torch.tensor(float(question["bias"]), dtype=torch.float64)
    for leaf in (image, kernel, bias):
        leaf.requires_grad_()
    z = forward(image, kernel, bias, one)
    z.retain_grad()
    output = FUNCTIONS[one.activation](z)
    cost = ((output - torch.tensor(one.target, dtype=torch.float64)) ** 2).sum() / 2
    cost.backward()
    close(one.image, image)
    close(one.kernel, kernel)
    close(one.turned, kernel.flip(0, 1))
    close(one.z, z)
    close(one.output, output)
    close(one.cost, cost)
    close(one.delta, z.grad)
    close(one.error, image.grad)
    close(one.gradient, kernel.grad)
    close(one.bias_gradient, bias.grad)
    where = np.abs(np.array(one.output) - np.array(one.target)) > 1e-9
    close((np.array(one.slope) * (np.array(one.output) - one.target))[where], z.grad.numpy()[where])
    for way in one.both:
        if way.operation == one.operation:
            close(way.z, z)
            close(way.error, image.grad)
            close(way.gradient, kernel.grad)
        assert way.off < 1e-9


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(questions())
def test_the_products_of_an_entry_are_right_and_add_up_to_it(question: dict[str, str]) -> None:
    try:
        one = build(**question)
    except Rot180Error:
        reject()
    values = {
        "w": one.kernel,
        "a": one.image,
        "delta": one.delta,
        "z": one.z,
        "a'": one.output,
        "f'(z)": one.slope,
        "-y": (-np.array(one.target)).tolist(),
        "b": one.bias,
    }
    grid = {
        "z": one.z,
        "delta": one.delta,
        "error": one.error,
        "gradient": one.gradient,
        "bias": [[one.bias_gradient]],
    }
    assert set(one.entries) == set(grid)
    for kind, entries in one.entries.items():
        for entry, value in zip(entries, np.ravel(grid[kind]), strict=True):
            assert entry.value == pytest.approx(value, abs=1e-12)
            assert entry.total == pytest.approx(value, abs=1e-9)
            added = 0.0
            for term in entry.products:
                whole = 1.0
                for factor in term.factors:
                    found = values[factor.name]
                    for place in factor.index:
                        found = found[place]
                    assert factor.value == pytest.approx(found, abs=1e-12)
                    whole *= factor.value
                assert term.value == pytest.approx(whole, abs=1e-12)
                added += whole
            assert added == pytest.approx(value, abs=1e-9)
            if not entry.kink and kind != "z":
                assert entry.difference == pytest.approx(value, abs=1e-5)
                assert entry.off == pytest.approx(abs(entry.difference - value), abs=1e-12)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(questions())
def test_what_slides_makes_the_same_numbers_at_the_window_that_is_said(
    question: dict[str, str],
) -> None:
    try:
        one = build(**question)
    except Rot180Error:
        reject()
    (way,) = (way for way in one.both if way.operation == one.operation)
    flat = np.ravel(one.kernel)
    over = {
        "z": (np.array(one.framed), flat[np.array(way.forward)], one.bias),
        "error": (np.array(one.spread), flat[np.array(way.back)], 0),
        "gradient": (np.array(one.framed), np.array(one.dilated), 0),
    }
    for kind, (wide, slid, added) in over.items():
        height, width = slid.shape
        for entry in one.entries[kind]:
            y, x = entry.window
            window = wide[y : y + height, x : x + width]
            assert window.shape == slid.shape
            assert (window * slid).sum() + added == pytest.approx(entry.value, abs=1e-9)
    turned = np.array(one.operation == "convolution")
    numbers = np.arange(flat.size).reshape(np.shape(one.kernel))
    close(way.forward, numbers[::-1, ::-1] if turned else numbers)
    close(way.back, numbers if turned else numbers[::-1, ::-1])


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(questions())
def test_the_perceptron_of_a_convolution_is_it(question: dict[str, str]) -> None:
    try:
        one = build(**question)
    except Rot180Error:
        reject()
    matrix, numbers = np.array(one.perceptron.matrix), np.array(one.perceptron.weight)
    close(matrix @ np.ravel(one.image) + one.bias, np.ravel(one.z))
    close(matrix.T @ np.ravel(one.delta), np.ravel(one.error))
    close(matrix, np.where(numbers < 0, 0, np.ravel(one.kernel)[numbers]))
    assert one.perceptron.connections == numbers.size
    assert one.perceptron.kept == (numbers >= 0).sum()
    counted = [(numbers == k).sum() for k in range(np.size(one.kernel))]
    assert np.ravel(one.perceptron.uses).tolist() == counted


def test_the_other_rotation_on_the_way_back_is_wrong_by_what_is_said() -> None:
    one = build(image="1,2,3;4,5,6;7,8,9", kernel="1,0;0,-2", target="0,0;0,0", bias="0")
    delta = np.array(one.delta)
    spread = np.pad(delta, 1)
    right = [
        [(spread[y : y + 2, x : x + 2] * [[-2, 0], [0, 1]]).sum() for x in range(3)]
        for y in range(3)
    ]
    wrong = [
        [(spread[y : y + 2, x : x + 2] * [[1, 0], [0, -2]]).sum() for x in range(3)]
        for y in range(3)
    ]
    close(one.error, right)
    assert one.both[0].otherwise == np.abs(np.subtract(right, wrong)).max()
    assert build(kernel="1,2;2,1").both[0].otherwise == 0


@pytest.mark.slow
def test_an_address_makes_its_lesson_again() -> None:
    one = build(size="5x3", kernel_size="2x3", seed="7", activation="tanh", padding="full")
    assert build(**one.state) == one
    assert build(image="1,−2;.5,4", kernel="1").image == [[1, -2], [0.5, 4]]
    assert np.array_equal(one.target, np.round(one.target, 2))  # as one would write it


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"image": "1,2;3"}, "rows of different lengths .2, 1."),
        ({"image": "1,x"}, "'x' for an entry of the image; write a number"),
        ({"image": "1,"}, "empty for an entry of the image"),
        ({"kernel": "1,1e9"}, "out of range for an entry of the kernel"),
        ({"kernel": "nan"}, "out of range"),
        ({"bias": "two"}, "'two' for the bias"),
        ({"image": ",".join("1" * 9)}, "1x9; in this lesson it is at most 8x8"),
        ({"kernel": ";".join("1" * 6)}, "6x1; .* at most 5x5"),
        ({"image": "1", "kernel": "1,1"}, "1x2 does not fit into the image, which is 1x1"),
        ({"target": "1"}, "The target is 1x1, but the output .* is 3x3"),
        ({"stride": "4"}, "The stride is 1, 2 or 3"),
        ({"stride": "2", "padding": "same"}, "'same' needs stride 1"),
        ({"padding": "big"}, "no padding 'big'"),
        ({"operation": "corr"}, "no operation 'corr'"),
        ({"activation": "gelu"}, "no activation 'gelu'"),
        ({"size": "9x2"}, "each from 1 to 8; this one is '9x2'"),
        ({"kernel_size": "two"}, "size of the kernel is written like 4x5"),
        ({"seed": "-1"}, "seed is a whole number"),
    ],
)
def test_what_cannot_be_understood_is_said_in_json_and_on_the_page(
    client: TestClient, question: dict[str, str], said: str
) -> None:
    with pytest.raises(Rot180Error, match=said):
        build(**question)
    answer = client.get("/learn/convolution.json", params=question, headers=JSON)
    assert answer.status_code == 400
    assert re.search(said, answer.json()["error"])
    page = client.get("/learn/convolution", params=question, headers={"accept": "text/html"})
    assert page.status_code == 400
    assert "rotated kernel" in page.text  # the lesson itself, with the words on it
    assert 'role="alert" hidden' not in page.text


@pytest.mark.slow
def test_json_is_what_was_worked_out(client: TestClient) -> None:
    question = {"image": "1,2;3,4", "kernel": "2,-1", "activation": "relu", "seed": "3"}
    answer = client.get("/learn/convolution.json", params=question, headers=JSON)
    assert answer.json() == asdict(build(**question))
    described = client.get("/openapi.json", headers=JSON).json()
    shape = described["paths"]["/learn/convolution.json"]["get"]["responses"]["200"]
    assert shape["content"]["application/json"]["schema"]["$ref"].endswith("/ConvolutionView")
    fields = described["components"]["schemas"]["ConvolutionView"]["properties"]
    assert set(fields) == set(answer.json())


def embedded(page: str) -> dict[str, Any]:
    (found,) = re.findall(r'id="lesson-data">(.*?)</script>', page, re.S)
    return dict(json.loads(found))


@pytest.mark.slow
def test_pages_of_a_folder_hold_their_numbers_and_lead_to_each_other_only() -> None:
    urls = StaticUrls([], 1)
    files = {urls.learn(lesson, **state) for lesson, state in PAGES}
    assert len(files) == len(PAGES)
    for lesson, state in [*PAGES[:3], *PAGES[3::3]]:
        page = render_lesson(urls, lesson, state)
        targets = set(re.findall(r'<a [^>]*href="([^"]*)"', page)) - {urls.home(), "#main"}
        assert targets <= files
        assert "data-json" not in page
        if lesson:
            assert "rot180 serve" in page
            assert "lesson-editor" not in page
            there = embedded(page)["state"]
            assert {k: there[k] for k in state} == state


def test_pages_of_a_folder_are_all_combinations() -> None:
    wanted = set(product(("correlation", "convolution"), "12", ("valid", "same", "full")))
    found = {tuple(s.values()) for lesson, s in PAGES if lesson == "convolution" and s}
    assert found == {one for one in wanted if one[1:] != ("2", "same")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lesson", "step"),
    [(name, step) for name, one in LESSONS.items() for step in range(1, len(one.steps) + 1)],
)
def test_a_step_has_an_address(client: TestClient, lesson: str, step: int) -> None:
    page = client.get(f"/learn/{lesson}?step={step}&utm_source=x").text
    assert re.findall(r'data-step="(\d)">', page) == [str(step)]
    assert len(re.findall(r'data-step="(\d)"', page)) == len(LESSONS[lesson].steps)


def test_a_step_that_does_not_exist(client: TestClient) -> None:
    answer = client.get("/learn/convolution?step=12")
    assert answer.status_code == 400
    assert "numbered from 1 to 8, not &#39;12&#39;" in answer.text
