"""Data sets made from arrays, and the sentences for arrays that will not do."""

import numpy as np
import pytest

from rot180.datasets import ArrayDataset, Dataset
from rot180.errors import Rot180Error

IMAGES = np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3)


def test_images_and_labels_come_back() -> None:
    dataset = ArrayDataset(IMAGES, [1, 0, -1, 1], ("a", "b"), name="mine")
    assert isinstance(dataset, Dataset)
    np.testing.assert_array_equal(dataset.image(2), IMAGES[2])
    assert [dataset.label(index) for index in range(4)] == [1, 0, None, 1]
    assert dataset.describe(3) == "mine, image 3"
    assert dataset.bad == ()
    assert "4 images of 5 x 6 x 3" in repr(dataset)
    assert len(list(dataset.image(index) for index in range(len(dataset)))) == 4


def test_labels_are_optional_and_so_are_names() -> None:
    assert ArrayDataset(IMAGES).label(0) is None
    assert ArrayDataset(IMAGES).classes == ()
    assert ArrayDataset(IMAGES, [0, 2, 1, 0]).classes == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize("index", [-1, 4])
def test_there_is_no_image_beyond_the_last(index: int) -> None:
    with pytest.raises(IndexError, match="data set with 4 images"):
        ArrayDataset(IMAGES).image(index)


def test_the_fingerprint_is_of_the_content() -> None:
    one = ArrayDataset(IMAGES, [0, 1, 0, 1])
    assert one.fingerprint == ArrayDataset(IMAGES.copy(), [0, 1, 0, 1], name="x").fingerprint
    changed = IMAGES.copy()
    changed[3, 4, 5, 2] ^= 1
    others = [
        ArrayDataset(changed, [0, 1, 0, 1]),
        ArrayDataset(IMAGES, [0, 1, 1, 1]),
        ArrayDataset(IMAGES),
        ArrayDataset(IMAGES.reshape(4, 6, 5, 3), [0, 1, 0, 1]),
        ArrayDataset(IMAGES, [0, 1, 0, 1], split="test"),
        ArrayDataset(IMAGES, [0, 1, 0, 1], ("a", "b")),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 7
    assert len(one.fingerprint) == 32


@pytest.mark.parametrize(
    ("images", "labels", "classes", "sentence"),
    [
        ([[1]], None, (), "The images are list, not a NumPy array"),
        (IMAGES / 255, None, (), "float64, not uint8"),
        (IMAGES[0], None, (), r"shape \(5, 6, 3\), not \(n, h, w, c\)"),
        (IMAGES.transpose(0, 3, 1, 2), None, (), "channels come last"),
        (IMAGES, [0, 1], (), "4 images but 2 labels"),
        (IMAGES, [0.5, 1, 1, 1], (), "type float64"),
        (IMAGES, [0, 1, 2, 0], ("a", "b"), r"label 2 is out of range: .* to 1 \(there are 2"),
        (IMAGES, [0, 1, -2, 0], (), "label -2 is out of range"),
    ],
)
def test_arrays_that_will_not_do(
    images: object, labels: object, classes: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(Rot180Error, match=sentence):
        ArrayDataset(images, labels, classes)
