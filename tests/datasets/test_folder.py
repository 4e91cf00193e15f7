"""Folders of images: which files count, which class and split they are in."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rot180.datasets import BadImage, Dataset, fingerprints, in_test, open_dataset
from rot180.datasets.decoded import decoded
from rot180.errors import Rot180Error
from tests.datasets.dataset_files import encoded, pixels, put, put_images


def names(dataset: Dataset, root: Path) -> list[str]:
    return [str(Path(dataset.where(i)).relative_to(root)) for i in range(len(dataset))]


def test_class_folders(tmp_path: Path) -> None:
    files = ["dog/b.png", "cat/deep/er/a.png", "cat/z.PNG", "dog/.hidden.png", ".git/x.png"]
    put_images(tmp_path / "pets", files)
    put(tmp_path / "pets/cat/readme.txt", b"not an image")
    put(tmp_path / "pets/stray.png", encoded(pixels(0)))
    (tmp_path / "pets/empty").mkdir()
    dataset = open_dataset(str(tmp_path / "pets"), "all")
    assert dataset.name == "folder pets"
    assert dataset.classes == ("cat", "dog")
    assert sorted(names(dataset, tmp_path / "pets")) == [
        "cat/deep/er/a.png",
        "cat/z.PNG",
        "dog/b.png",
    ]
    for index in range(3):
        folder = names(dataset, tmp_path / "pets")[index].split("/")[0]
        assert dataset.label(index) == ("cat", "dog").index(folder)
    index = names(dataset, tmp_path / "pets").index("dog/b.png")
    np.testing.assert_array_equal(dataset.image(index), pixels(0))


def test_plain_images_have_no_classes(tmp_path: Path) -> None:
    put_images(tmp_path, ["b.png", "a.png"])
    dataset = open_dataset(str(tmp_path), "all")
    assert dataset.classes == ()
    assert [dataset.label(index) for index in range(2)] == [None, None]


@pytest.mark.parametrize("test_name", ["test", "val", "valid", "validation", "Test"])
def test_folders_that_are_splits(tmp_path: Path, test_name: str) -> None:
    put_images(tmp_path, ["train/b/2.png", "train/a/1.png", f"{test_name}/b/3.png"])
    train, test, both = (open_dataset(str(tmp_path), s) for s in ("train", "test", "all"))
    assert names(train, tmp_path) == ["train/a/1.png", "train/b/2.png"]
    assert names(test, tmp_path) == [f"{test_name}/b/3.png"]
    assert names(both, tmp_path) == names(train, tmp_path) + names(test, tmp_path)
    # The classes are those of all splits, so that a label means the same in each.
    assert train.classes == test.classes == ("a", "b")
    assert test.label(0) == 1


def test_a_split_that_is_missing(tmp_path: Path) -> None:
    put_images(tmp_path, ["train/a/1.png"])
    with pytest.raises(Rot180Error, match=r"in the split 'test' \(it holds train\)"):
        open_dataset(str(tmp_path), "test")


@pytest.mark.slow
@settings(deadline=None)
@given(keys=st.lists(st.text(max_size=12), unique=True, max_size=60), extra=st.text(min_size=13))
def test_the_division_of_a_name_depends_on_nothing_else(keys: list[str], extra: str) -> None:
    from rot180.datasets.dataset import division

    train, test, both = (division(keys, split).tolist() for split in ("train", "test", "all"))
    assert sorted(train + test) == list(range(len(keys)))
    assert both == train + test
    assert [keys[i] for i in test] == [key for key in keys if in_test(key)]
    assert division([*keys, extra], "test").tolist()[: len(test)] == test


def test_one_image_in_six_is_a_test_image() -> None:
    assert sum(in_test(f"row {row}") for row in range(12_000)) == pytest.approx(2_000, rel=0.05)
    assert [row for row in range(20) if in_test(f"row {row}")] == DIVISION


# Files of users depend on this division: it must not change from one version to the next.
DIVISION = [7]


def test_an_undivided_folder_is_divided_by_path(tmp_path: Path) -> None:
    files = [f"{c}/{n}.png" for c in "ab" for n in range(20)]
    put_images(tmp_path, files)
    train, test, both = (open_dataset(str(tmp_path), s) for s in ("train", "test", "all"))
    assert names(test, tmp_path) == [f for f in sorted(files) if in_test(f)]
    assert sorted(names(both, tmp_path)) == sorted(files)
    assert not set(names(train, tmp_path)) & set(names(test, tmp_path))
    assert train.split == "train"


def test_a_folder_too_small_to_divide(tmp_path: Path) -> None:
    put_images(tmp_path, ["1.png"])
    empty = "test" if len(open_dataset(str(tmp_path), "all")) and not in_test("1.png") else "train"
    with pytest.raises(Rot180Error, match=r"\(it holds 1 in all\): use the split 'all'"):
        open_dataset(str(tmp_path), empty)


def test_the_fingerprint_moves_with_the_data(tmp_path: Path) -> None:
    here = put_images(tmp_path / "one", ["a/1.png", "a/2.png", "b/3.png"])
    fingerprint = open_dataset(str(here), "all").fingerprint
    there = tmp_path / "elsewhere" / "two"
    shutil.copytree(here, there)
    os.utime(there / "a/1.png", (1, 1))
    assert open_dataset(str(there), "all").fingerprint == fingerprint
    assert open_dataset(str(there), "train").fingerprint != fingerprint
    (there / "a/1.png").rename(there / "a/0.png")
    assert open_dataset(str(there), "all").fingerprint != fingerprint
    put(here / "a/1.png", encoded(pixels(0)) + b"\0")
    assert open_dataset(str(here), "all").fingerprint != fingerprint


@pytest.mark.parametrize("kind", ["bmp", "png", "tiff"])
def test_other_pixels_in_as_many_bytes_are_another_data_set(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    before = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    after = before ^ 1
    for number, one in enumerate(before):
        write(folder / f"{number}.{kind}", one, kind)
    data = open_dataset(str(tmp_path), "all")
    assert np.array_equal(decoded(data, (8, 8), 3).images, before)
    times = [(one.stat().st_atime_ns, one.stat().st_mtime_ns) for one in sorted(folder.iterdir())]
    sizes = [one.stat().st_size for one in sorted(folder.iterdir())]
    for number, one in enumerate(after):
        write(folder / f"{number}.{kind}", one, kind, sizes[number])
    changed = open_dataset(str(tmp_path), "all")
    assert changed.fingerprint != data.fingerprint
    assert changed.state != data.state
    assert np.array_equal(decoded(changed, (8, 8), 3).images, after)
    for one, time in zip(sorted(folder.iterdir()), times, strict=True):
        os.utime(one, ns=time)  # as a copy does that keeps times
    assert open_dataset(str(tmp_path), "all").fingerprint == changed.fingerprint


def test_what_the_fingerprint_of_a_large_folder_leaves_out_is_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "FILES", 2)
    folder = tmp_path / "train"
    folder.mkdir()
    before = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    for number, one in enumerate(before):
        write(folder / f"{number}.bmp", one, "bmp")
    data = open_dataset(str(tmp_path), "all")
    assert np.array_equal(decoded(data, (8, 8), 3).images, before)
    write(folder / "1.bmp", before[1] ^ 1, "bmp")  # files 0 and 3 are looked into
    changed = open_dataset(str(tmp_path), "all")
    assert changed.fingerprint == data.fingerprint
    assert np.array_equal(decoded(changed, (8, 8), 3).images[1], before[1] ^ 1)
    write(folder / "3.bmp", before[3] ^ 1, "bmp")
    assert open_dataset(str(tmp_path), "all").fingerprint != data.fingerprint


def write(path: Path, image: np.ndarray, kind: str, size: int | None = None) -> None:
    """Write an image, of as many bytes as there were."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **({"compress_level": 0} if kind == "png" else {}))
    data = stream.getvalue()
    assert size is None or len(data) == size
    path.write_bytes(data)


def test_linked_class_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    put_images(tmp_path / "far", ["1.png"])
    (tmp_path / "set").mkdir()
    (tmp_path / "set/cat").symlink_to(tmp_path / "far", target_is_directory=True)
    (tmp_path / "far/again").symlink_to(tmp_path / "far", target_is_directory=True)
    assert names(open_dataset(str(tmp_path / "set"), "all"), tmp_path) == ["set/cat/1.png"]


def test_a_file_that_vanishes_is_a_bad_image(tmp_path: Path) -> None:
    put_images(tmp_path, ["1.png"])
    dataset = open_dataset(str(tmp_path), "all")
    (tmp_path / "1.png").unlink()
    with pytest.raises(BadImage, match=r"1\.png: No such file"):
        dataset.image(0)


@pytest.mark.slow
def test_real_photographs(imagenet_sample: Path) -> None:
    dataset = open_dataset(str(imagenet_sample), "all")
    assert len(dataset) >= len(dataset.classes) > 1
    assert dataset.image(0).shape[2] in (1, 3)
    assert dataset.classes[dataset.label(0) or 0] == Path(dataset.where(0)).parent.name
