"""Parquet files: columns, splits, classes, row groups, damage."""

import json
import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rot180.datasets import BadImage, is_test, open_dataset
from rot180.errors import Rot180Error, Rot180Warning
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
    assert train.describe(7) == "row 1 of train-00001-of-00002.parquet"
    assert len({train.fingerprint, test.fingerprint, both.fingerprint}) == 3


def test_one_parquet_file_is_divided_by_row(tmp_path: Path) -> None:
    path = put_parquet(tmp_path / "pets.parquet", [encoded(pixels(row)) for row in range(20)])
    train, test, both = (open_dataset(str(path), s) for s in ("train", "test", "all"))
    assert [test.describe(i) for i in range(len(test))] == [
        f"row {row} of pets.parquet" for row in range(20) if is_test(f"row {row}")
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
    from rot180.datasets.fingerprints import file_fingerprint

    content = bytearray(5 * 1024 * 1024)
    before = file_fingerprint(put(tmp_path / "large", content))
    content[-1] = 1
    assert file_fingerprint(put(tmp_path / "large", content)) != before
    assert file_fingerprint(put(tmp_path / "large", content + b"\0")) != before


@pytest.mark.slow
def test_the_real_cifar10(cifar10_parquet: Path) -> None:
    train, test = (open_dataset(str(cifar10_parquet), split) for split in ("train", "test"))
    assert (len(train), len(test)) == (50_000, 10_000)
    assert train.classes[0] == "airplane"
    assert train.classes[9] == "truck"
    assert train.image(0).shape == (32, 32, 3)
    assert {train.label(index) for index in range(0, 50_000, 100)} == set(range(10))
    assert test.describe(9_999) == "row 9999 of test.parquet"


def put_columns(path: Path, metadata: dict[str, str] | None = None, **columns: Any) -> Path:
    """A Parquet file with images and other columns."""
    count = len(next(iter(columns.values())))
    images = pa.array([encoded(pixels(row)) for row in range(count)], pa.binary())
    table = pa.table({"image": images, **columns}).replace_schema_metadata(metadata)
    pq.write_table(table, path)
    return path


LABELS: dict[str, tuple[pa.Array, tuple[str, ...], list[int | None]]] = {
    "texts": (pa.array(["owl", None, "cat"]), ("cat", "owl"), [1, None, 0]),
    "categories": (
        pa.array(["owl", None, "cat"]).dictionary_encode(),
        ("cat", "owl"),
        [1, None, 0],
    ),
    "bytes": (
        pa.array([b"\xe9", b"cat", rb"\xe9"]),
        (r"\x5cxe9", "cat", r"\xe9"),
        [2, 1, 0],
    ),
    "floats": (
        pa.array([1.0, float("nan"), None]),
        ("class 0", "class 1"),
        [1, None, None],
    ),
    "half floats": (
        pa.array(np.array([1, 0, 1], np.float16)),
        ("class 0", "class 1"),
        [1, 0, 1],
    ),
    "booleans": (pa.array([True, False, None]), ("class 0", "class 1"), [1, 0, None]),
    "nothing": (pa.nulls(3), (), [None, None, None]),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("column", ["label", "target", "class"])
def test_labels_of_other_types_are_classes(tmp_path: Path, kind: str, column: str) -> None:
    values, classes, labels = LABELS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = open_dataset(str(put_columns(tmp_path / "x.parquet", **{column: values})), "all")
    order = [int(dataset.describe(row).split()[1]) for row in range(3)]
    assert sorted(dataset.classes) == sorted(classes)
    assert [dataset.label(order.index(row)) for row in range(3)] == [
        None if label is None else dataset.classes.index(classes[label]) for label in labels
    ]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (pa.array([0.5, 1.0]), r"holds numbers \(double\), some with a fraction .*, not classes"),
        (pa.array([2**64 - 1, 1], pa.uint64()), r"holds numbers \(uint64\)"),
        (pa.array([[1], [2, 3]]), r"holds list<.*>, not classes: the images have none"),
        (pa.array([0, 1], pa.date32()), r"holds date32"),
    ],
)
def test_labels_that_are_no_classes_are_told(tmp_path: Path, values: pa.Array, reason: str) -> None:
    path = put_columns(tmp_path / "x.parquet", label=values)
    with pytest.warns(Rot180Warning, match=rf"^The column 'label' of x\.parquet {reason}"):
        dataset = open_dataset(str(path), "all")
    assert (dataset.classes, dataset.label(0)) == ((), None)


def test_a_text_for_each_row_is_no_class(tmp_path: Path) -> None:
    texts = pa.array([f"caption {row}" for row in range(150)])
    path = put_columns(tmp_path / "x.parquet", label=texts)
    with pytest.warns(Rot180Warning, match="150 different texts in 150 rows, not classes"):
        assert open_dataset(str(path), "all").classes == ()


def test_a_column_that_might_be_of_classes_is_named(tmp_path: Path) -> None:
    path = put_columns(tmp_path / "x.parquet", species=pa.array([1, 2]))
    with pytest.warns(
        Rot180Warning, match=r"no column is called label .* there is species \(int64"
    ):
        assert open_dataset(str(path), "all").classes == ()


def test_a_column_of_whole_numbers_comes_before_another(tmp_path: Path) -> None:
    path = put_columns(
        tmp_path / "x.parquet", label=pa.array(["a", "b"]), fine_label=pa.array([1, 0])
    )
    assert open_dataset(str(path), "all").classes == ("class 0", "class 1")


def test_texts_are_the_same_classes_in_every_file(tmp_path: Path) -> None:
    put_columns(tmp_path / "training.parquet", label=pa.array(["owl", "cat"]))
    put_columns(tmp_path / "testing.parquet", label=pa.array(["dog", "owl", None]))
    train, test = (open_dataset(str(tmp_path), split) for split in ("train", "test"))
    assert train.classes == test.classes == ("cat", "dog", "owl")
    assert [train.label(row) for row in range(2)] == [2, 0]
    assert [test.label(row) for row in range(3)] == [1, 2, None]
    put_columns(tmp_path / "testing.parquet", label=pa.array([1]))
    with pytest.raises(Rot180Error, match=r"texts in training\.parquet and numbers in testing"):
        open_dataset(str(tmp_path))


def test_names_in_parquet_that_are_no_text_are_shown_as_text(tmp_path: Path) -> None:
    info = {"info": {"features": {"label": {"names": ["\ud800", "caf\udce9", r"caf\xe9"]}}}}
    metadata = {"huggingface": json.dumps(info)}
    path = put_columns(tmp_path / "x.parquet", metadata, label=pa.array([0, 1, 2]))
    there = tmp_path / os.fsdecode(b"caf\xe9.parquet")
    shutil.move(path, there)
    dataset = open_dataset(str(there), "all")
    assert dataset.classes == (r"\ud800", r"caf\xe9", r"caf\x5cxe9")
    assert dataset.name == r"caf\xe9"
    assert r"of caf\xe9.parquet" in dataset.describe(0)
    assert sorted(everything(dataset)) == sorted(pixels(row).tobytes() for row in range(3))


@pytest.mark.parametrize("name", ["image", "label"])
def test_columns_of_the_same_name_are_refused(tmp_path: Path, name: str) -> None:
    images = pa.array([encoded(pixels(0))], pa.binary())
    values = {"image": images, "label": pa.array([0])}
    table = pa.table([*values.values(), values[name]], names=[*values, name])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(Rot180Error, match=f"has 2 columns called '{name}', so it is not clear"):
        open_dataset(str(tmp_path / "x.parquet"), "all")


def test_other_columns_may_have_the_same_name(tmp_path: Path) -> None:
    images = pa.array([encoded(pixels(0))], pa.binary())
    label = pa.array([0])
    table = pa.table([images, label, label, label], names=["image", "label", "x", "x"])
    pq.write_table(table, tmp_path / "x.parquet")
    dataset = open_dataset(str(tmp_path / "x.parquet"), "all")
    assert everything(dataset) == [pixels(0).tobytes()]


def test_fields_of_the_same_name_are_no_images(tmp_path: Path) -> None:
    field = pa.array([encoded(pixels(0))], pa.binary())
    struct = pa.StructArray.from_arrays([field, field], names=["bytes", "bytes"])
    pq.write_table(pa.table({"image": struct}), tmp_path / "x.parquet")
    with pytest.raises(Rot180Error, match="has no column of images"):
        open_dataset(str(tmp_path / "x.parquet"), "all")


@pytest.mark.parametrize("text", ["[" * 200_000, '{"info": ' * 200_000, "1" * 5000, "null"])
def test_metadata_that_are_not_as_hugging_face_writes_them(tmp_path: Path, text: str) -> None:
    path = put_columns(tmp_path / "x.parquet", {"huggingface": text}, label=pa.array([1]))
    assert open_dataset(str(path), "all").classes == ("class 0", "class 1")


def test_a_file_that_claims_too_much_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put_columns(tmp_path / "x.parquet", label=pa.array([1, 0, 1]))
    monkeypatch.setattr("rot180.datasets.parquet_file.ROWS_UNCHECKED", 2)
    assert len(open_dataset(str(path), "all")) == 3
    table = pa.table({"image": pa.nulls(10_000, pa.binary())})
    pq.write_table(table, path)
    with pytest.raises(Rot180Error, match=r"x\.parquet claims 10,000 rows in [0-9,]+ bytes"):
        open_dataset(str(path), "all")


@pytest.mark.parametrize("fault", [NotImplementedError, KeyError, TypeError, MemoryError])
def test_whatever_pyarrow_raises_becomes_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    path = put_columns(tmp_path / "x.parquet", label=pa.array([1, 0, 1]))
    dataset = open_dataset(str(path), "all")

    def failing(*_: object, **__: object) -> None:
        raise fault("no such conversion")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", failing)
    with pytest.raises(Rot180Error, match=r"row group 0 of .*: '?no such conversion'?\. The file"):
        dataset.image(0)
    monkeypatch.setattr(pq.ParquetFile, "read", failing)
    with pytest.raises(Rot180Error, match=r"the column 'label' of .*: '?no such conversion"):
        open_dataset(str(path), "all")


def test_a_row_group_of_fewer_values_than_rows_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(str(put_columns(tmp_path / "x.parquet", label=pa.array([1, 0]))), "all")
    read = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda *a, **b: (one.slice(0, 1) for one in read(*a, **b))
    )
    with pytest.raises(Rot180Error, match=r"Row group 0 of .* holds 1 values for 2 rows"):
        dataset.image(1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["texts", "categories", "floats"])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path: Path, kind: str) -> None:
    info = {"info": {"features": {"label": {"names": ["x", "y"]}}}}
    path = tmp_path / "x.parquet"
    put_columns(path, {"huggingface": json.dumps(info)}, label=LABELS[kind][0])
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    random = np.random.default_rng(0)
    refused = 0
    for number in range(500):
        damaged = bytearray(whole)
        for place in random.integers(footer if number % 3 else 0, len(whole), 1 + number % 4):
            damaged[place] = random.choice([0, 1, 127, 128, 255, random.integers(256)])
        path.write_bytes(damaged)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Rot180Warning)
                dataset = open_dataset(str(path), "all")
            "".join(dataset.classes).encode()
            for index in range(min(len(dataset), 3)):
                dataset.label(index)
                dataset.image(index)
        except Rot180Error:
            refused += 1
    assert 0 < refused < 500


@pytest.mark.parametrize("plain", [False, True])
def test_a_row_group_that_is_too_large_to_be_held_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    images = [encoded(pixels(n)) for n in range(6)]
    path = put_parquet(tmp_path / "x.parquet", images, plain=plain, group=6)
    monkeypatch.setattr("rot180.datasets.parquet_file.GROUP_BYTES", sum(map(len, images)) // 2)
    with pytest.raises(Rot180Error, match=r"Row group 0 of .* smaller row groups"):
        open_dataset(str(path), "all").image(0)


def test_a_row_group_that_holds_more_than_it_says_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image, stored once and meant a thousand times: small in the file, large in memory."""
    image = encoded(pixels(1, 60, 60))
    path = put_parquet(tmp_path / "x.parquet", [image] * 1000, group=1000)
    assert path.stat().st_size < 10 * len(image)
    monkeypatch.setattr("rot180.datasets.parquet_file.GROUP_BYTES", 100 * len(image))
    monkeypatch.setattr("rot180.datasets.parquet_file.ROWS_AT_ONCE", 50)
    with pytest.raises(Rot180Error, match=r"Row group 0 of .* smaller row groups"):
        open_dataset(str(path), "all").image(0)


def test_columns_that_count_rows_are_not_remarked_on(tmp_path: Path) -> None:
    numbers = pa.array([0, 1, 2])
    for name in ("id", "image_id", "index", "__index_level_0__"):
        path = put_columns(tmp_path / f"{name}.parquet", **{name: numbers})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            open_dataset(str(path), "all")
    path = put_columns(tmp_path / "x.parquet", id=numbers, breed=numbers)
    with pytest.warns(Rot180Warning, match=r"but there is breed \(int64\)"):
        open_dataset(str(path), "all")
