"""What a data set is to the rest of rot180, and how one without splits of its own is divided."""

import hashlib
from collections.abc import Iterable
from pathlib import PurePath
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8

from rot180.datasets.fingerprints import as_bytes
from rot180.errors import Rot180Error, suggest

SPLITS = ("train", "test", "all")
# Names under which the splits are found in files and folders; validation counts as test.
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "validation", "valid", "val")
# One image in this many is a test image where the data come without a division of their own.
TEST_SHARE = 6


@runtime_checkable
class Dataset(Protocol):
    """Images in a fixed order, some of them with a class. Indices run from 0 to ``len - 1``.

    A data set of files may have an attribute ``state``, a text that moves whenever they change on
    this machine: decoded images are then decoded again. One of class folders may have ``folders``,
    their names in the order of ``classes``, and ``class_file``, which says what they are called;
    one of files ``image_name(index)``, which names an image within the data set (see
    ``image_name``).
    """

    @property
    def name(self) -> str:
        """What to call the data in a caption, as ``photos``, ``cifar10``, ``folder cats``."""
        ...

    @property
    def split(self) -> str:
        """``train``, ``test`` or ``all`` (train followed by test)."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names by label; empty where there are no labels."""
        ...

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that depend on what the images are, not on where they lie."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """One image, 0 to 255, c = 3 (RGB) or 1 (grey). Raises ``BadImage`` for a broken one."""
        ...

    def label(self, index: int) -> int | None:
        """The class of one image, an index into ``classes``; None where it has none."""
        ...

    def where(self, index: int) -> str:
        """Name one image to a person: a file path, ``row 17 of train.parquet``."""
        ...


def image_name(data: Dataset, index: int) -> str:
    """Return what an image is called within its data set, wherever that lies on this machine.

    It is what atlases hold. Data sets that say no more than :meth:`Dataset.where` are taken by
    that; of a path that begins at the root of the disk it is the last part.
    """
    own = getattr(data, "image_name", None)
    return portable(data.where(index) if own is None else str(own(index)))


def portable(name: str) -> str:
    """Return a name, without the directories of a path that begins at the root of the disk."""
    return PurePath(name).name if PurePath(name).is_absolute() else name


def checked_split(split: str) -> str:
    """Return ``split`` if it is one of ``SPLITS``.

    Raises:
        Rot180Error: it is not.
    """
    if split not in SPLITS:
        raise Rot180Error(f"There is no split '{split}': choose one of {suggest(SPLITS, split)}.")
    return split


def checked_index(index: int, length: int) -> int:
    """Return ``index`` if there is such an image.

    Raises:
        IndexError: it is negative or too large (an error of the program, not of the user; it
            also ends a ``for`` loop over a data set).
    """
    if not 0 <= index < length:
        raise IndexError(f"image {index} of a data set with {length} images")
    return index


def in_test(key: str) -> bool:
    """Whether the image with this name or row belongs to the test images.

    It does when the first 8 bytes of the SHA-256 of ``key``, read as a big-endian number, fall
    in the lowest sixth of their range. The answer depends on nothing else: adding or removing
    other images never moves an image from one side to the other.
    """
    digest = hashlib.sha256(as_bytes(key)).digest()
    return int.from_bytes(digest[:8], "big") * TEST_SHARE < 2**64


def division(keys: Iterable[str], split: str) -> Int64[np.ndarray, " k"]:
    """The positions in ``keys`` of the images of a split, by ``in_test``; train before test."""
    test = np.fromiter((in_test(key) for key in keys), dtype=bool)
    parts = {"train": ~test, "test": test}
    wanted = ("train", "test") if split == "all" else (split,)
    return np.concatenate([np.flatnonzero(parts[part]) for part in wanted]).astype(np.int64)


def numbered_classes(count: int) -> tuple[str, ...]:
    """Names for classes that have only numbers: ``class 0``, ``class 1``, …."""
    return tuple(f"class {number}" for number in range(count))
