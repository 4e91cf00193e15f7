"""The binary CIFAR-10, torchvision's data sets, and what is none of these."""

import ast
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rot180.datasets
from rot180.datasets import is_test, open_dataset
from rot180.errors import Rot180Error
from tests.datasets.dataset_files import (
    everything,
    pixels,
    put,
    put_binary_cifar,
    put_images,
)

# The binary CIFAR-10


@pytest.mark.parametrize("below", ["", "cifar-10-batches-bin"])
def test_the_binary_cifar10(tmp_path: Path, below: str) -> None:
    images = put_binary_cifar(tmp_path / below)
    train, test, both = (open_dataset(str(tmp_path), s) for s in ("train", "test", "all"))
    assert (len(train), len(test), len(both)) == (15, 3, 18)
    assert everything(train) == [image.tobytes() for image in images]
    assert everything(both) == everything(train) + everything(test)
    assert [train.label(index) for index in range(15)] == [index % 10 for index in range(15)]
    assert (train.name, train.classes[9]) == ("cifar10", "truck")
    assert train.describe(4) == "row 1 of data_batch_2.bin"
    assert train.fingerprint != test.fingerprint


def test_a_binary_cifar10_that_is_damaged(tmp_path: Path) -> None:
    put_binary_cifar(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    whole = path.read_bytes()
    put(path, whole[:-1])
    with pytest.raises(Rot180Error, match="9218 bytes, which is not a whole number of CIFAR-10"):
        open_dataset(str(tmp_path))
    put(path, b"\x63" + whole[1:])
    with pytest.raises(Rot180Error, match="has the label 99, but there are only 10 classes"):
        open_dataset(str(tmp_path))
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(Rot180Error, match=r"add test_batch\.bin"):
        open_dataset(str(tmp_path), "test")


class Trap:
    """Unpickling this is noticed."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a file of unknown origin was unpickled",))


@pytest.mark.parametrize("below", ["", "cifar-10-batches-py"])
def test_pickled_files_of_unknown_origin_are_not_opened(tmp_path: Path, below: str) -> None:
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"]:
        put(tmp_path / below / name, pickle.dumps(Trap()))
    with pytest.raises(Rot180Error, match="data_batch_1 is missing or is not the official file"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize("below", ["", "cifar-10-batches-py"])
def test_pickled_files_with_the_right_sums_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    from torchvision.datasets import CIFAR10

    def published(name: str, content: object) -> list[str]:
        path = put(tmp_path / below / name, pickle.dumps(content))
        return [name, hashlib.md5(path.read_bytes()).hexdigest()]

    def batch(name: str, seeds: list[int]) -> list[str]:
        planes = [pixels(seed, 32, 32).transpose(2, 0, 1).reshape(3072) for seed in seeds]
        return published(name, {"data": np.stack(planes), "labels": seeds})

    monkeypatch.setattr(CIFAR10, "train_list", [batch("data_batch_1", [0, 1])])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", [2])])
    meta = published("batches.meta", {"label_names": ["a", "b", "c"]})
    names = {"filename": meta[0], "md5": meta[1], "key": "label_names"}
    monkeypatch.setattr(CIFAR10, "meta", names)
    both = open_dataset(str(tmp_path), "all")
    assert everything(both) == [pixels(seed, 32, 32).tobytes() for seed in range(3)]
    assert ([both.label(index) for index in range(3)], both.classes) == ([0, 1, 2], ("a", "b", "c"))
    assert (both.name, both.describe(2)) == ("cifar10", "cifar10 test, image 0")


# torchvision


def test_cifar10_without_network_or_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets.cifar as cifar

    def offline(*_: object, **__: object) -> None:
        raise OSError("<urlopen error no route to host>")

    monkeypatch.setattr(cifar, "download_and_extract_archive", offline)
    monkeypatch.setenv("ROT180_CACHE", str(tmp_path))
    with pytest.raises(Rot180Error) as caught:
        open_dataset("cifar10")
    sentence = str(caught.value)
    assert "put cifar-10-python.tar.gz from https://www.cs.toronto.edu/" in sentence
    assert f"into {tmp_path}" in sentence
    assert "(urlopen error no route to host)" in sentence
    assert "binary version" in sentence


class Known:
    """Stands for a torchvision class: black images with their number as class."""

    classes = ("zero", "one", "two")

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        self.first, self.targets = (0, [0, 1, 2, 0]) if train else (100, [1, 1])
        assert download

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("L", (5, 4), self.first + index), self.targets[index]


class BySplit(Known):
    """One that names its splits in its own way."""

    def __init__(self, root: str, split: str = "trainval", **kwargs: Any) -> None:
        if split not in ("trainval", "val"):
            raise ValueError(f"Unknown value '{split}'")
        super().__init__(root, train=split == "trainval", **kwargs)


class Whole(Known):
    """One that knows no splits."""

    def __init__(self, root: str) -> None:
        self.first, self.targets = 0, [0, 1] * 10


class Boxes(Known):
    """One for detection."""

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index)[0], {"boxes": []}


@pytest.fixture
def torchvision_has(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    for made in (Known, BySplit, Whole, Boxes):
        monkeypatch.setattr(torchvision.datasets, made.__name__, made, raising=False)
    names = (*torchvision.datasets.__all__, "Known", "BySplit", "Whole", "Boxes")
    monkeypatch.setattr(torchvision.datasets, "__all__", names)


@pytest.mark.usefixtures("torchvision_has")
@pytest.mark.parametrize("name", ["Known", "BySplit"])
def test_a_torchvision_class(name: str) -> None:
    train, test, both = (open_dataset(f"torchvision:{name}", s) for s in ("train", "test", "all"))
    assert (len(train), len(test), len(both)) == (4, 2, 6)
    assert [int(both.image(index)[0, 0, 0]) for index in range(6)] == [0, 1, 2, 3, 100, 101]
    assert [both.label(index) for index in range(6)] == [0, 1, 2, 0, 1, 1]
    assert both.image(0).shape == (4, 5, 1)
    assert both.classes == ("zero", "one", "two")
    assert both.describe(5) == f"{name} test, image 1"
    assert len({train.fingerprint, test.fingerprint, both.fingerprint}) == 3


@pytest.mark.usefixtures("torchvision_has")
def test_a_torchvision_class_without_splits_is_divided() -> None:
    train, test, both = (open_dataset("torchvision:Whole", s) for s in ("train", "test", "all"))
    assert [index for index in range(20) if is_test(f"row {index}")] == [7]
    assert test.describe(0) == "Whole all, image 7"
    assert test.label(0) == 1
    assert everything(both) == everything(train) + everything(test)
    assert len(both) == 20


@pytest.mark.usefixtures("torchvision_has")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("CIFAR11", "has no data set 'CIFAR11'. It has CIFAR10"),
        ("mnist", "has no data set 'mnist'. It has MNIST"),
        ("wrap_dataset_for_transforms_v2", "has no data set"),
        ("CocoDetection", "also needs annFile"),
        ("Boxes", "targets of type dict, not class numbers"),
        ("EMNIST", "has no split that could be 'train'"),
    ],
)
def test_torchvision_classes_that_will_not_do(name: str, sentence: str) -> None:
    with pytest.raises(Rot180Error, match=sentence):
        open_dataset(f"torchvision:{name}")


# What is none of these


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            "foto",
            "no data set and no file or directory called 'foto'. The names are photos, .*folders",
        ),
        ("cifar-10", r"called 'cifar-10'. The names are cifar10, .*\.parquet file"),
        ("", "is empty: pass photos, cifar10"),
        ("no/such/place", "no file or directory no/such/place: check the path, or pass photos"),
        ("x.parquet", r"no file or directory x\.parquet"),
    ],
)
def test_names_and_paths_that_are_not_there(spec: str, sentence: str) -> None:
    with pytest.raises(Rot180Error, match=sentence):
        open_dataset(spec)


def test_files_and_directories_that_hold_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(Rot180Error, match="is empty: pass photos, cifar10"):
        open_dataset(str(tmp_path))
    put(tmp_path / "notes.txt", b"hello")
    with pytest.raises(Rot180Error, match=r"There are no images in .*\.jpg"):
        open_dataset(str(tmp_path))
    with pytest.raises(Rot180Error, match=r"notes\.txt is not a kind of file .* pass photos"):
        open_dataset(str(tmp_path / "notes.txt"))
    put_images(tmp_path, ["a.png"])
    with pytest.raises(Rot180Error, match="is a single image: pass the directory"):
        open_dataset(str(tmp_path / "a.png"))
    with pytest.raises(Rot180Error, match="no split 'tset': choose one of test"):
        open_dataset(str(tmp_path), "tset")


def test_importing_the_package_is_light() -> None:
    heavy = {"torch", "torchvision", "pyarrow", "skimage"}
    for path in Path(rot180.datasets.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not heavy & {name.split(".")[0] for name in names}, path.name
