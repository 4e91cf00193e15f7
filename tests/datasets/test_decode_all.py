"""Decoding a whole data set: broken images, the cache, and its failures."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from rot180.datasets import (
    ArrayDataset,
    BadImage,
    Dataset,
    cache_directory,
    decode_all,
    open_dataset,
    resize_and_crop,
)
from rot180.datasets import cache as image_cache
from rot180.errors import Rot180Error
from tests.datasets.dataset_files import encoded, pixels, put, put_images


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROT180_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Seven good images in two classes, three broken ones."""
    root = put_images(tmp_path / "pets", [f"{c}/{n}.png" for c in ("cat", "dog") for n in range(3)])
    put(root / "cat/grey.png", encoded(pixels(50, channels=1)))
    put(root / "cat/truncated.jpg", encoded(pixels(9, 64, 64), "JPEG")[:900])
    put(root / "dog/text.png", b"hello")
    put(root / "dog/empty.png", b"")
    return root


class Counting:
    """Counts how many images are decoded."""

    def __init__(self, dataset: Dataset) -> None:
        self.__dict__.update({n: getattr(dataset, n) for n in ("name", "split", "classes")})
        self.fingerprint = dataset.fingerprint
        self.inner, self.decoded = dataset, 0
        self.label, self.describe = dataset.label, dataset.describe

    def __len__(self) -> int:
        return len(self.inner)

    def image(self, index: int) -> np.ndarray:
        self.decoded += 1
        return self.inner.image(index)


@pytest.mark.usefixtures("cache")
def test_broken_images_are_left_out_and_named(pets: Path) -> None:
    dataset = open_dataset(str(pets), "all")
    result = decode_all(dataset, (6, 6), 3)
    assert result.images.shape == (7, 6, 6, 3)
    reasons = {Path(where).name: reason for where, reason in result.bad}
    assert set(reasons) == {"truncated.jpg", "text.png", "empty.png"}
    assert "truncated" in reasons["truncated.jpg"]
    assert reasons["empty.png"] == "it is empty (0 bytes)"
    for index in range(7):
        source = int(result.sources[index])
        np.testing.assert_array_equal(
            result.image(index), resize_and_crop(dataset.image(source), (6, 6), 3)
        )
        assert result.label(index) == dataset.label(source)
        assert result.describe(index) == dataset.describe(source)
    assert (result.classes, result.name, result.split) == (dataset.classes, dataset.name, "all")


def test_the_second_time_nothing_is_decoded(pets: Path, cache: Path) -> None:
    dataset = Counting(open_dataset(str(pets), "all"))
    seen: list[tuple[int, int]] = []
    first = decode_all(dataset, (6, 6), 3, progress=lambda done, total: seen.append((done, total)))
    assert (dataset.decoded, seen[-1]) == (10, (10, 10))
    second = decode_all(dataset, (6, 6), 3)
    assert dataset.decoded == 10
    assert isinstance(second.images, np.memmap)
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.sources, second.sources)
    assert (first.bad, first.fingerprint) == (second.bad, second.fingerprint)
    other = decode_all(dataset, (6, 6), 1)
    assert dataset.decoded == 20
    assert other.images.shape == (7, 6, 6, 1)
    assert other.fingerprint != first.fingerprint
    assert len(list(cache.iterdir())) == 4


@pytest.mark.usefixtures("cache")
def test_the_first_broken_image_can_be_fatal(pets: Path) -> None:
    dataset = open_dataset(str(pets), "all")
    for _ in range(2):  # decoding, and from the cache
        with pytest.raises(BadImage, match=r"\.(png|jpg): .*--on-bad-image skip"):
            decode_all(dataset, (6, 6), 3, on_bad_image="fail")
        decode_all(dataset, (6, 6), 3)
    with pytest.raises(Rot180Error, match="skip, fail"):
        decode_all(dataset, (6, 6), 3, on_bad_image="never")


@pytest.mark.usefixtures("cache")
def test_mostly_broken_images_are_not_a_data_set(tmp_path: Path) -> None:
    root = put_images(tmp_path / "x", ["0.png", "1.png"])
    for number in range(3):
        put(root / f"bad{number}.png", b"hello")
    with pytest.raises(
        Rot180Error, match=r"3 of the 5 images in folder x .* the first of them .*bad"
    ):
        decode_all(open_dataset(str(root), "all"), (6, 6), 3)
    nothing = ArrayDataset(np.zeros((0, 4, 4, 3), dtype=np.uint8))
    with pytest.raises(Rot180Error, match=r"no images in arrays \(all\)"):
        decode_all(nothing, (6, 6), 3)


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign", "object", "notes", "no notes"])
def test_a_damaged_cache_is_made_again(pets: Path, cache: Path, damage: str) -> None:
    dataset = Counting(open_dataset(str(pets), "all"))
    first = np.array(decode_all(dataset, (6, 6), 3).images)
    array, notes = next(cache.glob("*.npy")), next(cache.glob("*.json"))
    content = bytearray(array.read_bytes())
    if damage == "cut":
        put(array, content[:-5])
    elif damage == "changed":
        content[-1] ^= 1
        put(array, content)
    elif damage == "foreign":
        np.save(array, np.zeros((7, 6, 6, 3), dtype=np.float32))
        head = json.loads(notes.read_text()) | {"digest": image_cache.file_fingerprint(array)}
        notes.write_text(json.dumps(head))
    elif damage == "object":
        np.save(array, np.array([{}], dtype=object), allow_pickle=True)
        head = json.loads(notes.read_text()) | {"digest": image_cache.file_fingerprint(array)}
        notes.write_text(json.dumps(head))
    elif damage == "notes":
        notes.write_text('{"format": 1')
    else:
        notes.unlink()
    again = decode_all(dataset, (6, 6), 3)
    assert dataset.decoded == 20
    np.testing.assert_array_equal(again.images, first)
    decode_all(dataset, (6, 6), 3)
    assert dataset.decoded == 20


def test_without_a_cache_directory_it_goes_on_in_memory(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file where the directory should be fails for every user, also for root.
    monkeypatch.setenv("ROT180_CACHE", str(put(tmp_path / "file", b"") / "cache"))
    dataset = open_dataset(str(pets), "all")
    in_memory = decode_all(dataset, (6, 6), 3)
    assert len(in_memory.bad) == 3
    monkeypatch.setattr(image_cache, "IN_MEMORY", 100)
    mapped = decode_all(dataset, (6, 6), 3)
    assert isinstance(mapped.images, np.memmap)
    monkeypatch.setenv("ROT180_CACHE", str(tmp_path / "cache"))
    kept = decode_all(dataset, (6, 6), 3)
    for other in (mapped, kept):
        np.testing.assert_array_equal(other.images, in_memory.images)
        assert other.fingerprint == in_memory.fingerprint


def test_a_full_disk_does_not_stop_it(
    pets: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_cache, "_write_header", full)
    assert len(decode_all(open_dataset(str(pets), "all"), (6, 6), 3)) == 7
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("cache")
def test_an_array_that_fits_is_left_alone() -> None:
    array = ArrayDataset(np.stack([pixels(seed) for seed in range(3)]), [0, 1, 0])
    assert decode_all(array, (8, 10), 3) is array
    smaller = decode_all(array, (4, 5), 1)
    assert smaller.images.shape == (3, 4, 5, 1)
    assert smaller.labels is not None
    assert smaller.labels.tolist() == [0, 1, 0]


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROT180_CACHE", "/a/b")
    assert cache_directory() == Path("/a/b")
    monkeypatch.delenv("ROT180_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert cache_directory() == Path("/c/rot180")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", os.sep + "home")
    assert cache_directory() == Path("/home/.cache/rot180")


@pytest.mark.usefixtures("cache")
def test_more_images_than_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put_images(tmp_path / "many", [f"{n:02}.png" for n in range(25)])
    dataset = open_dataset(str(root), "all")
    whole = decode_all(dataset, (8, 10), 3)
    monkeypatch.setenv("ROT180_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(sys.modules[decode_all.__module__], "BATCH_MOST", 4)
    seen: list[int] = []
    parts = decode_all(dataset, (8, 10), 3, progress=lambda done, _: seen.append(done))
    np.testing.assert_array_equal(parts.images, whole.images)
    assert seen == [4, 8, 12, 16, 20, 24, 25]
