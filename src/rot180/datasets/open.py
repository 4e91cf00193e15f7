"""Opening a data set by its name or path: the forms that ``--data`` takes."""

import os
from pathlib import Path
from typing import Any

from rot180.datasets.base import Dataset, check_split
from rot180.datasets.cifar_binary import open_binary_cifar
from rot180.datasets.folders import SUFFIXES, open_folder
from rot180.datasets.parquet import open_parquet
from rot180.datasets.photos import open_photos
from rot180.datasets.torchvision import open_pickled_cifar, open_torchvision
from rot180.errors import Rot180Error, suggest
from rot180.files import permission_hint

NAMES = ("photos", "cifar10")
FORMS = (
    "photos, cifar10, torchvision:NAME, a directory (of images, of class folders, of train/ and "
    "test/ folders, of *.parquet files, of the binary CIFAR-10) or a .parquet file"
)


def open_dataset(spec: str, split: str = "train", classes: Any = None) -> Dataset:
    """Open a data set by its name or path.

    Args:
        spec: ``photos`` (tiles from photographs that come with scikit-image), ``cifar10``,
            ``torchvision:NAME``, or the path of a directory or of a ``.parquet`` file. To open a
            directory with one of these names, write ``./photos``.
        split: ``train``, ``test`` or ``all`` (train followed by test). A validation split counts
            as test. Data without splits are divided: about one image in six is a test image,
            chosen by a hash of its name or row (``base.is_test``).
        classes: file with the names of class folders, such as WordNet identifiers and names
            (see ``rot180.datasets.class_names``); by default ``classes.txt`` or ``classes.json``
            in the directory, if it exists.

    Raises:
        Rot180Error: the name, path or split is unknown, or the data cannot be used.

    Example:
        >>> import rot180
        >>> photos = rot180.open_dataset("photos", "test")
        >>> len(photos), photos.image(0).shape, photos.classes[photos.label(0)]
        (1600, (32, 32, 3), 'astronaut')
    """
    check_split(split)
    path = Path(os.path.expanduser(spec))
    if classes is not None and not (spec not in NAMES and spec and os.path.isdir(path)):
        raise Rot180Error(
            f"--classes names class folders, and '{spec}' is no directory of them: leave it out."
        )
    if spec == "photos":
        return open_photos(split)
    if spec == "cifar10":
        return open_torchvision("CIFAR10", split)
    if spec.startswith("torchvision:"):
        return open_torchvision(spec.removeprefix("torchvision:"), split)
    if spec and os.path.isdir(path):
        return _open_directory(path, split, classes)
    if spec and os.path.isfile(path):
        return _open_file(path, split)
    if spec and os.path.lexists(path):
        raise Rot180Error(
            f"{path} is neither a directory nor a regular file (or a link to one): pass {FORMS}."
        )
    raise Rot180Error(_unknown_message(spec))


def _open_directory(path: Path, split: str, classes: Any = None) -> Dataset:
    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        if classes is not None:
            return open_folder(path, split, classes)
        # Hugging Face's repositories have the files one level down, in ``data``.
        for directory in (path, path / "data"):
            parquet = sorted(f for f in directory.glob("*.parquet") if not f.name.startswith("."))
            if parquet:
                return open_parquet(parquet, split, path.resolve().name)
        for directory in (path, path / "cifar-10-batches-bin"):
            if any((directory / name).is_file() for name in ("data_batch_1.bin", "test_batch.bin")):
                return open_binary_cifar(directory, split)
        for directory in (path, path / "cifar-10-batches-py"):
            if any((directory / name).is_file() for name in ("data_batch_1", "test_batch")):
                return open_pickled_cifar(directory.resolve(), split)
        if not entries:
            raise Rot180Error(f"The directory {path} is empty: pass {FORMS}.")
        return open_folder(path, split)
    except OSError as error:
        raise Rot180Error(
            f"Cannot read {error.filename or path}: {error.strerror or error}."
            f"{permission_hint(error)}"
        ) from error


def _open_file(path: Path, split: str) -> Dataset:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return open_parquet([path], split, path.stem)
    if suffix in SUFFIXES:
        raise Rot180Error(
            f"{path} is a single image: pass the directory that it lies in, {path.parent}."
        )
    raise Rot180Error(f"{path} is not a kind of file that holds a data set: pass {FORMS}.")


def _unknown_message(spec: str) -> str:
    if not spec:
        return f"The name of the data set is empty: pass {FORMS}."
    if "/" in spec or "\\" in spec or Path(spec).suffix:
        return f"There is no file or directory {spec}: check the path, or pass {FORMS}."
    names = suggest([*NAMES, "torchvision:NAME"], spec)
    return (
        f"There is no data set and no file or directory called '{spec}'. The names are {names}; "
        f"pass {FORMS}."
    )
