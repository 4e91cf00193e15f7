"""The photographs: no source pixel in both splits, the same tiles every time."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rot180.datasets.photos as photos
from rot180.datasets import Photos, decode, open_dataset
from rot180.errors import Rot180Error


def covered(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


@pytest.fixture(scope="module")
def sources() -> list[np.ndarray]:
    return [decode(path.read_bytes()) for path in photos.photograph_paths()]


@pytest.fixture
def train() -> Photos:
    return photos.open_photos("train")


@pytest.fixture
def test() -> Photos:
    return photos.open_photos("test")


@pytest.mark.parametrize("number", range(8), ids=photos.CLASSES)
def test_no_source_pixel_is_in_both_splits(
    train: Photos, test: Photos, sources: list[np.ndarray], number: int
) -> None:
    height, width = sources[number].shape[:2]
    in_train = covered(train.boxes[number::8], height, width)
    in_test = covered(test.boxes[number::8], height, width)
    assert not (in_train & in_test).any()
    assert in_train.any()
    assert in_test.any()


def test_a_tile_depends_on_the_pixels_of_its_box_alone(
    train: Photos, sources: list[np.ndarray]
) -> None:
    for index in (0, 9, 18, 27, 4000, 7999):
        top, left, bottom, right = train.boxes[index]
        lonely = np.zeros_like(sources[index % 8])
        lonely[top:bottom, left:right] = sources[index % 8][top:bottom, left:right]
        np.testing.assert_array_equal(
            photos.tile(lonely, train.boxes[index]), train.image(index), strict=True
        )


def test_a_tile_is_the_mean_over_areas(sources: list[np.ndarray]) -> None:
    for side in photos.SIDES:
        box = np.array([10, 20, 10 + side, 20 + side])
        crop = Image.fromarray(sources[6][10 : 10 + side, 20 : 20 + side])
        by_pillow = np.asarray(crop.resize((32, 32), Image.Resampling.BOX), dtype=int)
        # Pillow's box filter gives a pixel at the edge of a window all or nothing of its weight.
        if side % 32 == 0:
            assert abs(photos.tile(sources[6], box).astype(int) - by_pillow).max() <= 1
        means = photos.tile(sources[6], box).mean(axis=(0, 1))
        np.testing.assert_allclose(means, np.asarray(crop).mean(axis=(0, 1)), atol=0.5)


def test_the_held_out_blocks_are_six_queens() -> None:
    places = list(enumerate(photos.TEST_COLUMNS))
    for row, column in places:
        for other_row, other_column in places[row + 1 :]:
            assert column != other_column
            assert abs(column - other_column) != other_row - row
    blocks = photos.held_out_blocks(300, 451)
    assert blocks.min() == 0
    assert blocks[:, 2].max() == 300


def test_sizes_classes_and_order(train: Photos, test: Photos) -> None:
    assert train.images.shape == (8000, 32, 32, 3)
    assert test.images.shape == (1600, 32, 32, 3)
    assert train.classes[1] == "cat"
    assert [train.label(index) for index in range(9)] == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    for part, each in ((train, 1000), (test, 200)):
        assert part.labels is not None
        assert np.bincount(part.labels).tolist() == [each] * 8
    boxes_of_cats = {tuple(box) for box in train.boxes[1::8].tolist()}
    assert len(boxes_of_cats) == 1000
    assert len({int(box[2] - box[0]) for box in train.boxes}) == 5


def test_a_tile_is_named_by_its_box(train: Photos) -> None:
    top, left, bottom, right = train.boxes[12]
    assert train.describe(12) == f"photo tissue, rows {top}-{bottom}, columns {left}-{right}"


@pytest.mark.slow
def test_flat_tiles_are_rare(train: Photos, test: Photos) -> None:
    for part in (train, test):
        deviation = part.images.astype(np.float32).mean(axis=3).std(axis=(1, 2))
        assert (deviation < 3).mean() < 0.02


@pytest.mark.slow
def test_the_same_tiles_are_made_again_from_nothing(
    test: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROT180_CACHE", str(tmp_path))
    again = photos.open_photos("test")
    np.testing.assert_array_equal(again.images, test.images)
    np.testing.assert_array_equal(again.boxes, test.boxes)
    assert again.fingerprint == test.fingerprint


def test_the_second_time_nothing_is_cut(test: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(photos, "tile")
    assert isinstance(photos.open_photos("test").images, np.memmap)


@pytest.mark.slow
def test_all_is_train_followed_by_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROT180_CACHE", str(tmp_path))
    monkeypatch.setattr(photos, "PER_CLASS", {"train": 6, "test": 3})
    train, test, both = (photos.open_photos(split) for split in ("train", "test", "all"))
    np.testing.assert_array_equal(both.images, np.concatenate([train.images, test.images]))
    np.testing.assert_array_equal(both.boxes, np.concatenate([train.boxes, test.boxes]))
    assert len({train.fingerprint, test.fingerprint, both.fingerprint}) == 3


def test_a_missing_photograph_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(photos.PHOTOGRAPHS, "cat", "no-such-cat.png")
    with pytest.raises(Rot180Error, match=r"no-such-cat\.png.*install scikit-image"):
        open_dataset("photos")
