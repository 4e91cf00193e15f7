"""The interface of data sets, and the division of data without splits of their own."""

import hashlib
from collections.abc import Iterable
from pathlib import PurePath
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8

from rot180.datasets.fingerprints import as_bytes
from rot180.errors import Rot180Error, suggest

SPLITS = ("train", "test", "all")
# Names of files and folders that are splits; validation counts as test.
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "validation", "valid", "val")
# Without a split of their own, one in this many images is a test image.
TEST_SHARE = 6


@runtime_checkable
class Dataset(Protocol):
    """Images in a fixed order, some of them with a class. Indices run from 0 to ``len - 1``.

    A data set may have more attributes. A data set of files: ``state``, a text that changes
    whenever the files change on this machine, so that images are decoded again; and
    ``image_name(index)``, the name of an image within the data set (see ``image_name``). A data set
    of class folders: ``folders``, their names in the order of ``classes``; and ``class_file``, the
    file that names the classes.
    """

    @property
    def name(self) -> str:
        """Name of the data in captions, such as ``photos``, ``cifar10``, ``folder cats``."""
        ...

    @property
    def split(self) -> str:
        """``train``, ``test`` or ``all`` (train followed by test)."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label; empty if there are no labels."""
        ...

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that depend on the images, and not on their location."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Return an image, 0 to 255, c = 3 (RGB) or 1 (grey).

        Raises:
            BadImage: the image is broken.
        """
        ...

    def label(self, index: int) -> int | None:
        """Return the class of an image as an index into ``classes``; None if it has no class."""
        ...

    def describe(self, index: int) -> str:
        """Return which image this is, for people: a file path, ``row 17 of train.parquet``."""
        ...


def image_name(data: Dataset, index: int) -> str:
    """Return the name of an image within its data set, independent of the location of the data.

    Atlases store this name. For data sets without a method ``image_name`` it is the description of
    the image, or the last part of it if it is an absolute path.
    """
    own = getattr(data, "image_name", None)
    return portable(data.describe(index) if own is None else str(own(index)))


def portable(name: str) -> str:
    """Return the name; without its directories if it is an absolute path."""
    return PurePath(name).name if PurePath(name).is_absolute() else name


def check_split(split: str) -> str:
    """Return ``split`` if it is one of ``SPLITS``.

    Raises:
        Rot180Error: the split does not exist.
    """
    if split not in SPLITS:
        raise Rot180Error(f"There is no split '{split}': choose one of {suggest(SPLITS, split)}.")
    return split


def check_index(index: int, length: int) -> int:
    """Return ``index`` if it is in the range of a data set with ``length`` images.

    Raises:
        IndexError: the index is negative or too large. This is an error of the program, not of the
            user; it also ends a ``for`` loop over a data set.
    """
    if not 0 <= index < length:
        raise IndexError(f"image {index} of a data set with {length} images")
    return index


def is_test(key: str) -> bool:
    """Return whether the image with this name or row is a test image.

    It is one if the first 8 bytes of the SHA-256 of ``key``, read as a big-endian number, fall in
    the lowest sixth of their range. The answer depends on nothing else: adding or removing images
    never moves other images from one split to the other.
    """
    digest = hashlib.sha256(as_bytes(key)).digest()
    return int.from_bytes(digest[:8], "big") * TEST_SHARE < 2**64


def split_indices(keys: Iterable[str], split: str) -> Int64[np.ndarray, " k"]:
    """Return the positions in ``keys`` of the images of a split (see ``is_test``), train first."""
    test = np.fromiter((is_test(key) for key in keys), dtype=bool)
    members = {"train": ~test, "test": test}
    parts = ("train", "test") if split == "all" else (split,)
    return np.concatenate([np.flatnonzero(members[part]) for part in parts]).astype(np.int64)


def numbered_classes(count: int) -> tuple[str, ...]:
    """Return names for classes that have only numbers: ``class 0``, ``class 1``, …."""
    return tuple(f"class {number}" for number in range(count))
