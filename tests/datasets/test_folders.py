"""Folders of images: which files count, which class and split they are in."""

import io
import os
import shutil
import socket
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rot180.datasets import (
    BadImage,
    Dataset,
    decode_all,
    fingerprints,
    folders,
    is_test,
    open_dataset,
)
from rot180.datasets.loader import BatchLoader
from rot180.errors import Rot180Error, Rot180Warning
from rot180.visible import valid_name
from tests.datasets.dataset_files import encoded, pixels, put, put_images


def names(dataset: Dataset, root: Path) -> list[str]:
    return [str(Path(dataset.describe(i)).relative_to(root)) for i in range(len(dataset))]


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
    from rot180.datasets.base import split_indices

    train, test, both = (split_indices(keys, split).tolist() for split in ("train", "test", "all"))
    assert sorted(train + test) == list(range(len(keys)))
    assert both == train + test
    assert [keys[i] for i in test] == [key for key in keys if is_test(key)]
    assert split_indices([*keys, extra], "test").tolist()[: len(test)] == test


def test_one_image_in_six_is_a_test_image() -> None:
    assert sum(is_test(f"row {row}") for row in range(12_000)) == pytest.approx(2_000, rel=0.05)
    assert [row for row in range(20) if is_test(f"row {row}")] == DIVISION


# Files of users depend on this division: it must not change from one version to the next.
DIVISION = [7]


def test_an_undivided_folder_is_divided_by_path(tmp_path: Path) -> None:
    files = [f"{c}/{n}.png" for c in "ab" for n in range(20)]
    put_images(tmp_path, files)
    train, test, both = (open_dataset(str(tmp_path), s) for s in ("train", "test", "all"))
    assert names(test, tmp_path) == [f for f in sorted(files) if is_test(f)]
    assert sorted(names(both, tmp_path)) == sorted(files)
    assert not set(names(train, tmp_path)) & set(names(test, tmp_path))
    assert train.split == "train"


def test_a_folder_too_small_to_divide(tmp_path: Path) -> None:
    put_images(tmp_path, ["1.png"])
    empty = "test" if len(open_dataset(str(tmp_path), "all")) and not is_test("1.png") else "train"
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
    assert np.array_equal(decode_all(data, (8, 8), 3).images, before)
    times = [(one.stat().st_atime_ns, one.stat().st_mtime_ns) for one in sorted(folder.iterdir())]
    sizes = [one.stat().st_size for one in sorted(folder.iterdir())]
    for number, one in enumerate(after):
        write(folder / f"{number}.{kind}", one, kind, sizes[number])
    changed = open_dataset(str(tmp_path), "all")
    assert changed.fingerprint != data.fingerprint
    assert changed.state != data.state
    assert np.array_equal(decode_all(changed, (8, 8), 3).images, after)
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
    assert np.array_equal(decode_all(data, (8, 8), 3).images, before)
    write(folder / "1.bmp", before[1] ^ 1, "bmp")  # files 0 and 3 are looked into
    changed = open_dataset(str(tmp_path), "all")
    assert changed.fingerprint == data.fingerprint
    assert np.array_equal(decode_all(changed, (8, 8), 3).images[1], before[1] ^ 1)
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
    assert isinstance(dataset, folders.FolderDataset)
    assert dataset.folders[dataset.label(0) or 0] == Path(dataset.describe(0)).parent.name
    assert dataset.classes[dataset.label(0) or 0] == Path(dataset.describe(0)).stem


def test_names_that_are_no_text_are_shown_as_text_and_read_all_the_same(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"pict\xfcres")
    files = [b"caf\xe9/a.png", b"caf\xea/b\xff.png", rb"caf\xe9/c.png", "café/d.png".encode()]
    for number, name in enumerate(files):
        put(root / os.fsdecode(name), encoded(pixels(number)))
    put(root / os.fsdecode(b"caf\xe9/bad\x80.png"), b"no image")
    dataset = open_dataset(str(root), "all")
    for text in (dataset.name, *dataset.classes, *map(dataset.describe, range(5))):
        text.encode()  # a surrogate raises
    assert dataset.name == r"folder pict\xfcres"
    assert set(dataset.classes) == {r"caf\xe9", r"caf\xea", r"caf\x5cxe9", "café"}
    assert len(set(map(dataset.describe, range(5)))) == 5
    seen = {}
    with BatchLoader(dataset, [range(5)], 5, (8, 10), 3) as loading:
        batch = next(iter(loading))
    assert [Path(one.description).name for one in batch.bad] == [r"bad\x80.png"]
    for number, image in zip(batch.indices, batch.images, strict=True):
        seen[dataset.classes[dataset.label(int(number)) or 0]] = image.tobytes()
    expected = [r"caf\xe9", r"caf\xea", r"caf\x5cxe9", "café"]
    assert seen == {name: pixels(number).tobytes() for number, name in enumerate(expected)}
    array = decode_all(dataset, (8, 10), 3)
    assert array.classes == dataset.classes
    assert len(open_dataset(str(root), "train")) <= 5
    assert len(dataset.fingerprint) == 32


@given(st.lists(st.text(st.sampled_from("\\xeu5cd89\udce9\udc5c\ud800\udfff"), max_size=9)))
def test_different_names_stay_different_as_text(written: list[str]) -> None:
    shown = [valid_name(name) for name in written]
    assert len(set(shown)) == len(set(written))
    "".join(shown).encode()


def test_halves_of_characters_can_be_divided_and_hashed() -> None:
    assert is_test("\ud800") in (True, False)
    assert fingerprints.combine(["\ud800"]) != fingerprints.combine(["\ud801"])


@pytest.mark.slow
def test_folders_lie_in_each_other_to_any_depth(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(os.open("a.png", os.O_CREAT, dir_fd=directory))
    os.close(directory)
    (tmp_path / "d/b.png").write_bytes(encoded(pixels(0)))
    try:
        dataset = open_dataset(str(tmp_path), "all")
        assert dataset.classes == ("d",)
        assert [dataset.describe(index)[-7:] for index in range(2)] == ["d/b.png", "d/a.png"]
    finally:
        # shutil.rmtree calls itself for each.
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_a_path_that_is_too_long_is_said_to_be(tmp_path: Path) -> None:
    put_images(tmp_path, ["a/1.png"])
    directory = os.open(tmp_path / "a", os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=directory)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    with pytest.raises(Rot180Error, match=r"Cannot read the directory .*d: File name too long\.$"):
        open_dataset(str(tmp_path), "all")


@pytest.mark.parametrize(
    ("one", "other"), [("Training", "Testing"), ("training", "val"), ("train", "testing")]
)
def test_training_and_testing_are_splits(tmp_path: Path, one: str, other: str) -> None:
    put_images(tmp_path, [f"{one}/b/2.png", f"{one}/a/1.png", f"{other}/b/3.png"])
    train, test = (open_dataset(str(tmp_path), split) for split in ("train", "test"))
    assert names(train, tmp_path) == [f"{one}/a/1.png", f"{one}/b/2.png"]
    assert names(test, tmp_path) == [f"{other}/b/3.png"]
    assert train.classes == test.classes == ("a", "b")


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_class_may_be_called_train(tmp_path: Path, name: str) -> None:
    put_images(tmp_path, [f"{kind}/{n}.png" for kind in (name, "bus", "car") for n in range(3)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = open_dataset(str(tmp_path), "all")
    assert dataset.classes == tuple(sorted(("bus", "car", name)))
    assert len(dataset) == 9


def test_what_could_be_a_split_or_a_class_is_told(tmp_path: Path) -> None:
    put_images(tmp_path, ["train/a/1.png", "train/b/2.png", "extra/3.png"])
    with pytest.warns(
        Rot180Warning, match="images in extra beside train, so all of these are taken"
    ):
        assert open_dataset(str(tmp_path), "all").classes == ("extra", "train")


def test_images_beside_the_splits_are_left_out_with_a_word(tmp_path: Path) -> None:
    put_images(tmp_path, ["train/a/1.png", "test/a/2.png", "unlabeled/3.png"])
    (tmp_path / "docs").mkdir()
    with pytest.warns(Rot180Warning, match="The images in unlabeled are left out: .*train, test"):
        assert open_dataset(str(tmp_path), "all").classes == ("a",)


def test_pipes_sockets_and_links_to_nowhere(tmp_path: Path) -> None:
    put_images(tmp_path, ["1.png"])
    os.mkfifo(tmp_path / "2.png")
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path may not be long
        bound.bind("3.png")
        os.chdir(here)
    (tmp_path / "4.png").symlink_to(os.devnull)
    (tmp_path / "5.png").symlink_to("nowhere.png")
    (tmp_path / "6.png").symlink_to("6.png")
    os.mkfifo(tmp_path / "README")
    dataset = open_dataset(str(tmp_path), "all")
    assert names(dataset, tmp_path) == ["1.png", "5.png", "6.png"]
    assert len(dataset.fingerprint) == len(dataset.state) == 32
    assert dataset.image(0).shape == (8, 10, 3)
    for index, reason in ((1, "No such file"), (2, "Too many levels of symbolic links")):
        with pytest.raises(BadImage, match=reason):
            dataset.image(index)
    (tmp_path / "1.png").unlink()
    os.mkfifo(tmp_path / "1.png")  # after the folder was listed
    with pytest.raises(BadImage, match="it is not a regular file"):
        dataset.image(0)


def test_links_that_multiply_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "ENTRIES_PER_DIRECTORY", 5)
    monkeypatch.setattr(folders, "ENTRIES_LEAST", 50)
    for number in range(30):
        (tmp_path / f"{number}").mkdir()
        for name in "ab":
            (tmp_path / f"{number}/{name}").symlink_to(tmp_path / f"{number + 1}")
    put_images(tmp_path, ["30/1.png"])
    with pytest.raises(Rot180Error, match="lead to the same directories again and again"):
        open_dataset(str(tmp_path), "all")


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-this-name", "a\0b"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(Rot180Error, match="There is no data set and no file or directory"):
        open_dataset(name)


def test_a_pipe_instead_of_a_data_set(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.parquet")
    with pytest.raises(Rot180Error, match="neither a directory nor a regular file"):
        open_dataset(str(tmp_path / "x.parquet"))
    with pytest.raises(Rot180Error, match=r"x\.parquet .*not a regular file"):
        open_dataset(str(tmp_path))
