"""Parquet files: columns, splits, classes, row groups, damage."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from rot180.datasets import BadImage, in_test, open_dataset
from rot180.errors import Rot180Error
from tests.datasets.dataset_files import encoded, everything, pixels, put, put_parquet


@pytest.mark.parametrize("column", ["img", "image", "picture"])
@pytest.mark.parametrize("plain", [False, True], ids=["struct", "bytes"])
def test_parquet_with_its_own_splits(tmp_path: Path, column: str, plain: bool) -> None:
    images = [pixels(seed) for seed in range(11)]
    data = [encoded(image) for image in images]
    for name, rows in {
        "train-00000-of-00002": range(6),
        "train-00001-of-00002": range(6, 9),
        "validation-00000-of-00001": range(9, 11),
    }.items():
        path = tmp_path / "pets" / f"{name}.parquet"
        chosen, labels = [data[row] for row in rows], [row % 2 for row in rows]
        put_parquet(path, chosen, labels, ("cat", "dog"), column=column, plain=plain)
    train, test, both = (open_dataset(str(tmp_path / "pets"), s) for s in ("train", "test", "all"))
    assert (train.name, train.split, train.classes) == ("pets", "train", ("cat", "dog"))
    assert everything(train) == [image.tobytes() for image in images[:9]]
    assert everything(test) == [image.tobytes() for image in images[9:]]
    assert everything(both) == [image.tobytes() for image in images]
    assert [both.label(row) for row in range(11)] == [row % 2 for row in range(11)]
    assert train.where(7) == "row 1 of train-00001-of-00002.parquet"
    assert len({train.fingerprint, test.fingerprint, both.fingerprint}) == 3


def test_one_parquet_file_is_divided_by_row(tmp_path: Path) -> None:
    path = put_parquet(tmp_path / "pets.parquet", [encoded(pixels(row)) for row in range(20)])
    train, test, both = (open_dataset(str(path), s) for s in ("train", "test", "all"))
    assert [test.where(i) for i in range(len(test))] == [
        f"row {row} of pets.parquet" for row in range(20) if in_test(f"row {row}")
    ]
    assert everything(both) == everything(train) + everything(test)
    assert sorted(everything(both)) == sorted(pixels(row).tobytes() for row in range(20))
    assert (both.classes, both.label(0)) == ((), None)


def test_parquet_one_level_down(tmp_path: Path) -> None:
    put_parquet(tmp_path / "data/train-0.parquet", [encoded(pixels(0))])
    assert len(open_dataset(str(tmp_path), "train")) == 1


def test_labels_may_be_small_unsigned_numbers(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = pa.array([1, None], pa.uint8())
    table = pa.table({"image": [encoded(pixels(0))] * 2, "labels": labels})
    pq.write_table(table, tmp_path / "train.parquet")
    dataset = open_dataset(str(tmp_path / "train.parquet"))
    assert [dataset.label(index) for index in range(2)] == [1, None]


def test_classes_without_names_are_numbered_alike_in_every_split(tmp_path: Path) -> None:
    put_parquet(tmp_path / "train.parquet", [encoded(pixels(0))] * 3, [0, None, -1])
    put_parquet(tmp_path / "test.parquet", [encoded(pixels(0))], [2])
    train = open_dataset(str(tmp_path), "train")
    assert train.classes == ("class 0", "class 1", "class 2")
    assert [train.label(row) for row in range(3)] == [0, None, None]


def test_rows_are_read_by_row_group_and_held_briefly(tmp_path: Path) -> None:
    path = put_parquet(tmp_path / "x.parquet", [encoded(pixels(row)) for row in range(20)], group=4)
    dataset = open_dataset(str(path), "all")
    file = dataset._files[0]  # type: ignore[attr-defined]
    assert len(file._held) == 0
    order = [19, 0, 7, 1, 18]
    for index in order:
        dataset.image(index)
        assert len(file._held) <= 2
    again = pickle.loads(pickle.dumps(dataset))  # as a loader's worker processes do
    assert everything(again) == everything(dataset)


def test_a_row_without_bytes_is_a_bad_image(tmp_path: Path) -> None:
    path = put_parquet(tmp_path / "train.parquet", [encoded(pixels(0)), None])
    with pytest.raises(BadImage, match=r"row 1 of train\.parquet: the row holds no bytes"):
        open_dataset(str(path)).image(1)


def test_parquet_without_images_says_which_columns_there_are(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "x.parquet")
    with pytest.raises(
        Rot180Error, match=r"it has .*text \(string\).*, and a column 'image' or 'img' is needed"
    ):
        open_dataset(str(tmp_path / "x.parquet"))


def test_parquet_that_cannot_be_used(tmp_path: Path) -> None:
    put(tmp_path / "bad.parquet", b"PAR1 not really")
    with pytest.raises(Rot180Error, match=r"bad\.parquet is not a Parquet file"):
        open_dataset(str(tmp_path / "bad.parquet"))
    mixed = tmp_path / "mixed"
    put_parquet(mixed / "train.parquet", [encoded(pixels(0))])
    with pytest.raises(Rot180Error, match="no rows of the split 'test' in train"):
        open_dataset(str(mixed), "test")
    put_parquet(mixed / "valentine.parquet", [encoded(pixels(0))])
    with pytest.raises(Rot180Error, match=r"valentine\.parquet does not say which split"):
        open_dataset(str(mixed))
    huge = put_parquet(tmp_path / "huge.parquet", [encoded(pixels(0))], [2_000_000_000])
    with pytest.raises(Rot180Error, match="2000000000, which is not the number of a class"):
        open_dataset(str(huge), "all")


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = put_parquet(tmp_path / "train.parquet", [encoded(pixels(row)) for row in range(8)])
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    dataset = open_dataset(str(put(path, content)))
    with pytest.raises(Rot180Error, match=r"Cannot read row group 0 of .*: download it again"):
        dataset.image(0)
    np.testing.assert_array_equal(dataset.image(5), pixels(5))


def test_the_fingerprint_of_a_file_is_of_its_content(tmp_path: Path) -> None:
    data = [encoded(pixels(row)) for row in range(3)]
    first = put_parquet(tmp_path / "a/train.parquet", data)
    put(tmp_path / "b/train.parquet", first.read_bytes())
    put_parquet(tmp_path / "c/train.parquet", [*data[:2], data[0]])
    a, b, c = (open_dataset(str(tmp_path / name)).fingerprint for name in "abc")
    assert a == b != c


def test_large_files_are_sampled_to_the_last_byte(tmp_path: Path) -> None:
    from rot180.datasets.fingerprints import of_file

    content = bytearray(5 * 1024 * 1024)
    before = of_file(put(tmp_path / "large", content))
    content[-1] = 1
    assert of_file(put(tmp_path / "large", content)) != before
    assert of_file(put(tmp_path / "large", content + b"\0")) != before


@pytest.mark.slow
def test_the_real_cifar10(cifar10_parquet: Path) -> None:
    train, test = (open_dataset(str(cifar10_parquet), split) for split in ("train", "test"))
    assert (len(train), len(test)) == (50_000, 10_000)
    assert train.classes[0] == "airplane"
    assert train.classes[9] == "truck"
    assert train.image(0).shape == (32, 32, 3)
    assert {train.label(index) for index in range(0, 50_000, 100)} == set(range(10))
    assert test.where(9_999) == "row 9999 of test.parquet"
