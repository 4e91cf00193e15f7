"""Thousands of units of many images: the same as one at a time, in order, whatever comes."""

import numpy as np
import pytest
import torch

import rot180
from rot180 import Rot180Error
from tests.models import TwoConvolutions, Varied, image, relative_error, seeded


@pytest.fixture(scope="module")
def net() -> rot180.Network:
    return rot180.capture(seeded(Varied), image(1, 3, 21, 26))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return image(5, 3, 21, 26, seed=4)


def drawn(net: rot180.Network, count: int, seed: int = 0) -> list:
    """Draw units of all layers and images, in no order."""
    rng = np.random.default_rng(seed)
    units = []
    for _ in range(count):
        layer = list(net.layers.values())[rng.integers(len(net.layers))]
        place = (int(rng.integers(layer.height)), int(rng.integers(layer.width)))
        units.append((int(rng.integers(5)), layer.name, int(rng.integers(layer.channels)), place))
    return units


@pytest.mark.slow
@pytest.mark.parametrize("method", ["deconvnet", "gradient", "guided"])
@pytest.mark.parametrize("unpool", ["switches", "repeat"])
def test_each_is_what_it_is_alone(net, images, method: str, unpool: str) -> None:
    units = drawn(net, 120)
    found = list(rot180.project_units(net, images, units, method, unpool))
    assert len(found) == len(units)
    for (number, layer, channel, place), p in zip(units, found, strict=True):
        assert (p.layer, p.channel, p.position) == (layer, channel, place)
        alone = rot180.project(net, images[number], layer, channel, place, method, unpool)
        assert p.box == alone.box
        assert p.activation == pytest.approx(alone.activation, rel=1e-12)
        assert relative_error(p.pixels, alone.pixels) < 1e-12


@pytest.mark.slow
def test_many_units_of_one_image_take_one_pass_of_it_and_give_the_same(images) -> None:
    model = seeded(TwoConvolutions)
    net = rot180.capture(model, image(1, 3, 12, 12))
    x = image(1, 3, 12, 12, seed=2)
    every = [(0, "conv2", c, (y, x_)) for c in range(8) for y in range(6) for x_ in range(6)]
    total = torch.zeros(8, 3, 12, 12, dtype=torch.float64)
    for (_, _, channel, _), p in zip(
        every, rot180.project_units(net, x, every, "gradient"), strict=True
    ):
        total[channel] += p.full()
    whole = rot180.project(net, x[0], "conv2", method="gradient").full()
    assert relative_error(total, whole) < 1e-12


def test_the_peak_is_the_strongest_position(net, images) -> None:
    units = [(n, "body.0", c, "peak") for n in (3, 0) for c in (1, 7)]
    for (number, layer, channel, _), p in zip(
        units, rot180.project_units(net, images, units, method="deconvnet"), strict=True
    ):
        alone = rot180.project(net, images[number], layer, channel, "peak", method="deconvnet")
        assert p.position == alone.position
        assert relative_error(p.pixels, alone.pixels) < 1e-12


def test_a_unit_that_is_asked_for_twice_comes_twice(net, images) -> None:
    unit = (1, "stem.0", 3, (4, 4))
    one, two = rot180.project_units(net, images, [unit, unit], method="deconvnet")
    assert torch.equal(one.pixels, two.pixels)


class Reading:
    """Images that are made when they are asked for; it counts how often."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __getitem__(self, number: int) -> torch.Tensor:
        self.read.append(number)
        return image(3, 21, 26, seed=number)


@pytest.mark.slow
def test_images_are_read_when_they_are_needed_and_once(net) -> None:
    images = Reading()
    units = [(n % 7, "stem.0", n % 8, (n % 9, 3)) for n in range(300)]
    found = rot180.project_units(net, images, iter(units), method="deconvnet")
    assert not images.read
    for (number, layer, channel, place), p in zip(units, found, strict=True):
        alone = rot180.project(
            net, image(3, 21, 26, seed=number), layer, channel, place, method="deconvnet"
        )
        assert relative_error(p.pixels, alone.pixels) < 1e-12
    assert sorted(images.read) == list(range(7))


def test_images_by_name_of_a_number(net) -> None:
    (p,) = rot180.project_units(
        net, {9: image(3, 21, 26)}, [(9, "stem.0", 0, (1, 1))], method="deconvnet"
    )
    assert p.layer == "stem.0"


def test_the_good_ones_come_before_the_error(net, images) -> None:
    units = [(0, "stem.0", 0, (1, 1)), (0, "stem.0", 1, (1, 1)), (0, "stem.0", 99, (1, 1))]
    found = rot180.project_units(net, images, units, method="deconvnet")
    assert next(found).channel == 0
    assert next(found).channel == 1
    with pytest.raises(Rot180Error, match="no feature 99"):
        next(found)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ((5, "stem.0", 0, (0, 0)), r"no image 5: there are 5"),
        ((-1, "stem.0", 0, (0, 0)), r"no image -1"),
        ((0, "stem", 0, (0, 0)), r"no layer 'stem'"),
        ((0, None, 0, (0, 0)), r"named by a string"),
        ((0, "stem.0", 0, (99, 0)), r"lies outside"),
        ((0, "stem.0", 0, None), r"has a position"),
        ((0, "stem.0", 0), r"A unit is \(image, layer, channel, position\)"),
        (7, r"A unit is \(image, layer, channel, position\)"),
    ],
)
def test_a_bad_unit_gets_a_sentence(net, images, unit, words: str) -> None:
    with pytest.raises(Rot180Error, match=words):
        list(rot180.project_units(net, images, [unit], method="deconvnet"))


def test_bad_arguments_get_a_sentence(net, images) -> None:
    unit = [(0, "stem.0", 0, (0, 0))]
    for given, words in (
        ((net, images[0], unit), "takes a batch of images"),
        ((net, None, unit), "something that gives an image"),
        ((net, images, 5), "are a list of"),
        ((None, images, unit), "a network that rot180.capture returned"),
    ):
        with pytest.raises(Rot180Error, match=words):
            list(rot180.project_units(*given))
    with pytest.raises(Rot180Error, match="no method 'None'"):
        rot180.project_units(net, images, unit, None)
    with pytest.raises(Rot180Error, match="not numbers"):
        list(rot180.project_units(net, images * float("nan"), unit, method="deconvnet"))
