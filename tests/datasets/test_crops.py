"""Crops of photographs in packages: inside them, over all of them, and the same every time."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rot180.datasets import ArrayDataset, crops, decode_file, resize_and_crop
from rot180.errors import Rot180Error

SIDES = st.integers(8, 1500)


@pytest.fixture(scope="module")
def small() -> ArrayDataset:
    return crops.open_crops((32, 32))


@given(SIDES, SIDES)
def test_crops_are_squares_inside_the_photograph_that_cover_it_and_overlap(
    height: int, width: int
) -> None:
    boxes = crops.crop_boxes(height, width)
    top, left, bottom, right = boxes.T
    assert boxes.min() == 0
    assert bottom.max() == height
    assert right.max() == width
    assert (bottom - top == right - left).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    for side in np.unique(bottom - top):
        of_size = boxes[bottom - top == side]
        for first, extent in ((of_size[:, 0], height), (of_size[:, 1], width)):
            starts = np.unique(first)
            assert starts[0] == 0
            assert starts[-1] + side == extent
            assert (np.diff(starts) < side).all()


def test_the_photographs_of_packages_that_rot180_needs_are_all_there() -> None:
    for photograph in crops.PHOTOGRAPHS:
        if photograph.package != "sklearn":
            assert photograph.path is not None, photograph
            assert decode_file(photograph.path).shape[2] in (1, 3)
    assert len({one.name for one in crops.PHOTOGRAPHS}) == len(crops.PHOTOGRAPHS)


def test_a_crop_is_the_part_of_the_photograph_that_its_name_says(small: ArrayDataset) -> None:
    assert 100 <= len(small) <= 280
    assert small.images.shape[1:] == (32, 32, 3)
    index = next(n for n in range(len(small)) if small.describe(n).startswith("cat, "))
    for number in (index, index + 7):
        top, bottom, left, right = map(int, re.findall(r"\d+", small.describe(number)))
        label = small.label(number)
        assert label is not None
        assert small.classes[label] == "cat"
        (photograph,) = (one for one in crops.PHOTOGRAPHS if one.name == "cat")
        assert photograph.path is not None
        part = decode_file(photograph.path)[top:bottom, left:right]
        assert np.array_equal(small.image(number), resize_and_crop(part, (32, 32), 3))


def test_the_crops_are_the_same_every_time(small: ArrayDataset) -> None:
    assert crops.open_crops((32, 32)).fingerprint == small.fingerprint
    assert crops.open_crops((24, 24)).fingerprint != small.fingerprint


def test_a_photograph_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = crops.PHOTOGRAPHS[3], crops.Photograph("palm", "no_such_package", "palm.jpg")
    gone = crops.Photograph("palm", "skimage", "data/no-such-palm.jpg")
    assert other.path is None
    assert gone.path is None
    monkeypatch.setattr(crops, "PHOTOGRAPHS", (other, gone, here))
    assert crops.open_crops((16, 16)).classes == (here.name,)
    monkeypatch.setattr(crops, "PHOTOGRAPHS", (other, gone))
    with pytest.raises(Rot180Error, match=r"no_such_package, skimage.*pip install scikit-image"):
        crops.open_crops((16, 16))
