"""Batches decoded ahead are what reading one image after the other gives."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from rot180.datasets import ArrayDataset, BadImage, Dataset, open_dataset, resize_and_crop
from rot180.datasets.loader import Batch, BatchLoader, SupportsRanges
from rot180.errors import Rot180Error
from tests.datasets.dataset_files import encoded, pixels, put, put_images, put_parquet

COUNT = 23
SIZE = (8, 10)


class Recording:
    """A data set of noise that says which images were asked for and can fail at one of them."""

    name, split, classes, fingerprint = "recording", "all", (), "0" * 32

    def __init__(
        self, count: int, error: Exception | None = None, at: Sequence[int] = (), pause: float = 0
    ) -> None:
        self.count, self.error, self.at, self.pause = count, error, at, pause
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> np.ndarray:
        self.read.append(index)
        time.sleep(self.pause)
        if self.error is not None and index in self.at:
            raise self.error
        return pixels(index, *SIZE)

    def label(self, index: int) -> int | None:
        return None if index % 3 == 0 else index % 3

    def describe(self, index: int) -> str:
        return f"recorded {index}"


def from_folder(root: Path) -> Dataset:
    put_images(root, [f"{'ab'[number % 2]}/{number:02}.png" for number in range(COUNT - 2)])
    put(root / "b/large.jpg", encoded(pixels(90, 50, 33), "JPEG"))
    put(root / "b/grey.jpg", encoded(pixels(91, 8, 10, 1), "JPEG"))
    return open_dataset(str(root), "all")


def from_parquet(root: Path) -> Dataset:
    """Two files in row groups of four, of which the rows of one split are not consecutive."""
    data = [encoded(pixels(row), ("PNG", "JPEG")[row % 2]) for row in range(COUNT + 9)]
    labels = [None if row % 5 == 0 else row % 5 for row in range(COUNT + 9)]
    put_parquet(root / "a.parquet", data[:14], labels[:14])
    put_parquet(root / "b.parquet", data[14:], labels[14:])
    return open_dataset(str(root), "train")


def from_array(_: Path) -> Dataset:
    images = np.stack([pixels(seed) for seed in range(COUNT)])
    return ArrayDataset(images, np.arange(COUNT) % 4 - 1)


def from_recording(_: Path) -> Dataset:
    return Recording(COUNT)


FORMS = [from_folder, from_parquet, from_array, from_recording]
form = pytest.mark.parametrize("make", FORMS, ids=lambda make: make.__name__)


def one_by_one(
    dataset: Dataset, numbers: range, size: tuple[int, int], channels: int
) -> tuple[list[int], list[np.ndarray], list[int], list[tuple[int, str, str]]]:
    """Numbers, pixels, labels and broken images of a batch, read without any haste."""
    kept, images, labels, bad = [], [], [], []
    for number in numbers:
        try:
            images.append(resize_and_crop(dataset.image(number), size, channels))
        except BadImage as error:
            bad.append((number, dataset.describe(number), error.reason))
            continue
        kept.append(number)
        label = dataset.label(number)
        labels.append(-1 if label is None else label)
    return kept, images, labels, bad


def assert_is(
    batch: Batch, dataset: Dataset, numbers: range, size: tuple[int, int], channels: int
) -> None:
    kept, images, labels, bad = one_by_one(dataset, numbers, size, channels)
    assert (batch.indices.tolist(), batch.labels.tolist()) == (kept, labels)
    assert (batch.stop, list(batch.bad)) == (numbers.stop, bad)
    assert batch.indices.dtype == batch.labels.dtype == np.int64
    assert batch.images.dtype == np.uint8
    expected = np.stack(images) if images else np.empty((0, *size, channels))
    np.testing.assert_array_equal(batch.images, expected)


def cut(numbers: range, batch: int) -> list[range]:
    return [numbers[start : start + batch] for start in range(0, len(numbers), batch)]


def stops(batches: BatchLoader, seen: list[int]) -> None:
    """Go through all batches and note how far each reaches."""
    for batch in batches:
        seen.append(batch.stop)


def loading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("rot180-loading")]


@form
@pytest.mark.parametrize("size", [SIZE, (5, 7)], ids=["its size", "resized"])
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_what_one_by_one_reading_gives(
    tmp_path: Path, make: Callable[[Path], Dataset], size: tuple[int, int], channels: int
) -> None:
    dataset = make(tmp_path / "data")
    everything = range(len(dataset))
    for batch in (1, 4, len(dataset), 100):
        batches = list(BatchLoader(dataset, [everything], batch, size, channels))
        for found, numbers in zip(batches, cut(everything, batch), strict=True):
            assert_is(found, dataset, numbers, size, channels)


@form
def test_no_batch_holds_images_of_two_ranges(
    tmp_path: Path, make: Callable[[Path], Dataset]
) -> None:
    dataset = make(tmp_path / "data")
    ranges = [range(0, 4), range(4, 10), range(12, 12), range(16, 23), range(8, 9)]
    batches = list(BatchLoader(dataset, ranges, 4, SIZE, 3, ahead=1))
    expected = [numbers for whole in ranges for numbers in cut(whole, 4)]
    assert [batch.stop for batch in batches] == [4, 8, 10, 20, 23, 9]
    for batch, numbers in zip(batches, expected, strict=True):
        assert_is(batch, dataset, numbers, SIZE, 3)


def test_parts_smaller_than_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rot180.datasets.loader.CHUNK_MOST", 3)
    dataset = from_parquet(tmp_path)
    (batch,) = BatchLoader(dataset, [range(2, 22)], 20, SIZE, 3)
    assert_is(batch, dataset, range(2, 22), SIZE, 3)


def test_a_batch_is_not_a_view_of_the_data() -> None:
    images = np.stack([pixels(seed) for seed in range(4)])
    first = next(iter(BatchLoader(ArrayDataset(images.copy()), [range(4)], 2, SIZE, 3)))
    first.images[:] = 0
    first.labels[:] = 7
    (again,) = BatchLoader(ArrayDataset(images), [range(4)], 4, SIZE, 3)
    np.testing.assert_array_equal(again.images, images)
    assert again.labels.tolist() == [-1] * 4


def broken_folder(root: Path, bad: Sequence[int]) -> Dataset:
    put_images(root, [f"train/{number:02}.png" for number in range(COUNT)])
    for number in bad:
        put(root / f"train/{number:02}.png", b"hello" if number % 2 else b"")
    return open_dataset(str(root), "all")


def broken_parquet(root: Path, bad: Sequence[int]) -> Dataset:
    whole = encoded(pixels(1), "JPEG")
    data = [encoded(pixels(row), "JPEG") for row in range(COUNT)]
    rows = [(None if n % 2 else whole[:300]) if n in bad else data[n] for n in range(COUNT)]
    return open_dataset(str(put_parquet(root / "train.parquet", rows, [1] * COUNT)), "all")


@pytest.mark.parametrize("make", [broken_folder, broken_parquet])
def test_broken_images_are_missing_from_their_batches(
    tmp_path: Path, make: Callable[[Path, Sequence[int]], Dataset]
) -> None:
    dataset = make(tmp_path / "data", [2, 8, 9, 10, 11, 15])
    batches = list(BatchLoader(dataset, [range(COUNT)], 4, SIZE, 3))
    assert [len(batch.indices) for batch in batches] == [3, 4, 0, 3, 4, 3]
    assert [batch.stop for batch in batches] == [4, 8, 12, 16, 20, 23]
    for batch, numbers in zip(batches, cut(range(COUNT), 4), strict=True):
        assert_is(batch, dataset, numbers, SIZE, 3)
    assert batches[2].images.shape == (0, *SIZE, 3)
    number, where, reason = batches[3].bad[0]
    assert (number, where) == (15, dataset.describe(15))
    assert "15" in where
    assert reason in ("it is not an image of a known kind", "the row holds no bytes")


@pytest.mark.parametrize("make", [broken_folder, broken_parquet])
def test_a_broken_image_can_be_fatal_at_its_batch(
    tmp_path: Path, make: Callable[[Path, Sequence[int]], Dataset]
) -> None:
    dataset = make(tmp_path / "data", [9, 10, 15])
    seen: list[int] = []
    with pytest.raises(BadImage) as raised:
        stops(BatchLoader(dataset, [range(COUNT)], 4, SIZE, 3, on_bad_image="fail"), seen)
    assert seen == [4, 8]
    assert raised.value.description == dataset.describe(9)
    assert loading_threads() == []


def test_mostly_broken_images_are_not_a_data_set() -> None:
    error = BadImage("it is torn", "recorded 0")
    half = Recording(240, error, range(0, 240, 2))
    assert sum(len(batch.bad) for batch in BatchLoader(half, [range(240)], 10, SIZE, 3)) == 120
    more = Recording(240, error, range(51))
    seen: list[int] = []
    with pytest.raises(
        Rot180Error, match=r"51 of 100 images in recording \(all\).* first of them recorded 0: it"
    ):
        stops(BatchLoader(more, [range(240)], 10, SIZE, 3), seen)
    assert seen == list(range(10, 100, 10))
    few = Recording(99, error, range(99))
    assert sum(len(batch.bad) for batch in BatchLoader(few, [range(99)], 10, SIZE, 3)) == 99


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_than_so_many_batches_are_decoded_ahead(ahead: int) -> None:
    dataset = Recording(60)
    for asked, _ in enumerate(BatchLoader(dataset, [range(60)], 4, SIZE, 3, ahead=ahead), start=1):
        time.sleep(0.02)  # the threads would go on if they were let
        assert len(dataset.read) == min(60, 4 * (asked + ahead))
    assert sorted(dataset.read) == list(range(60))


def test_by_default_the_batches_ahead_have_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    image = SIZE[0] * SIZE[1] * 3
    for budget, ahead in ((12 * image, 3), (image, 2)):
        monkeypatch.setattr("rot180.datasets.loader.AHEAD_BYTES", budget)
        dataset = Recording(60)
        with BatchLoader(dataset, [range(60)], 4, SIZE, 3) as loading:
            going = iter(loading)
            next(going)
            time.sleep(0.1)
            assert len(dataset.read) == 4 * (1 + ahead)


def test_nothing_is_read_before_the_first_batch_is_asked_for() -> None:
    dataset = Recording(8)
    with BatchLoader(dataset, [range(8)], 4, SIZE, 3):
        time.sleep(0.02)
    assert dataset.read == []
    assert list(BatchLoader(dataset, [], 4, SIZE, 3)) == []


def leave(batches: BatchLoader) -> None:
    for _ in batches:
        break


def interrupt(batches: BatchLoader) -> None:
    def at_the_first() -> None:
        for _ in batches:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at_the_first()


def close(batches: BatchLoader) -> None:
    going = iter(batches)
    next(going)
    batches.close()
    batches.close()
    with pytest.raises(RuntimeError, match="closed"):
        next(going)


def leave_the_block(batches: BatchLoader) -> None:
    with batches:
        going = iter(batches)
        next(going)


def finish(batches: BatchLoader) -> None:
    assert sum(len(batch.indices) for batch in batches) == 40


@pytest.mark.parametrize("end", [leave, interrupt, close, leave_the_block, finish])
def test_the_threads_end_with_the_iteration(end: Callable[[BatchLoader], None]) -> None:
    dataset = Recording(40, pause=0.005)
    batches = BatchLoader(dataset, [range(40)], 4, SIZE, 3, ahead=10)
    end(batches)
    assert loading_threads() == []
    read = len(dataset.read)
    assert read == 40 or end is not finish
    assert read < 40 or end is finish
    with pytest.raises(RuntimeError, match="iterated once"):
        next(iter(batches))


def test_other_errors_reach_the_consumer_at_their_batch() -> None:
    dataset = Recording(40, ZeroDivisionError("a mistake"), [13])
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        stops(BatchLoader(dataset, [range(40)], 4, SIZE, 3), seen)
    assert seen == [4, 8, 12]
    assert loading_threads() == []


@pytest.mark.slow
def test_waiting_is_counted() -> None:
    slow = BatchLoader(Recording(4, pause=0.02), [range(4)], 1, SIZE, 3, ahead=1)
    assert slow.waited == 0
    next(iter(slow))
    assert 0.02 <= slow.waited < 1
    quick = BatchLoader(Recording(8), [range(8)], 4, SIZE, 3)
    for _ in quick:
        time.sleep(0.3)
    assert quick.waited < 0.3


def test_arguments_that_make_no_sense() -> None:
    dataset = Recording(8)
    for wrong, sentence in (
        ({"batch_size": 0}, "A batch cannot hold 0 images"),
        ({"ahead": 0}, "0 batches cannot be decoded ahead"),
        ({"size": (0, 4)}, "cannot be 0 x 4"),
        ({"channels": 2}, "not 2"),
        ({"on_bad_image": "never"}, "skip, fail"),
    ):
        right = {"ranges": [range(8)], "batch_size": 4, "size": SIZE, "channels": 3}
        with pytest.raises(Rot180Error, match=sentence):
            BatchLoader(dataset, **(right | wrong))  # type: ignore[arg-type]
    for numbers in (range(9), range(-1, 4), range(0, 8, 2)):
        with pytest.raises(IndexError, match="8 images"):
            BatchLoader(dataset, [numbers], 4, SIZE, 3)


@pytest.mark.slow
def test_reading_runs_is_reading_one_by_one(tmp_path: Path) -> None:
    dataset = from_parquet(tmp_path)
    assert isinstance(dataset, SupportsRanges)
    for start, stop in itertools.combinations(range(0, len(dataset) + 1, 3), 2):
        numbers = range(start, stop)
        for number, image in zip(numbers, dataset.read_images(numbers), strict=True):
            np.testing.assert_array_equal(image, dataset.image(number))
        labels = [-1 if (label := dataset.label(n)) is None else label for n in numbers]
        assert dataset.read_labels(numbers).tolist() == labels


@pytest.mark.slow
def test_the_real_cifar10(cifar10_parquet: Path) -> None:
    dataset = open_dataset(str(cifar10_parquet / "train.parquet"), "all")
    for batch in BatchLoader(
        dataset, [range(4_900, 5_100), range(49_900, 50_000)], 150, (32, 32), 3
    ):
        numbers = range(int(batch.indices[0]), batch.stop)
        assert_is(batch, dataset, numbers, (32, 32), 3)
