"""Data sets of torchvision, which downloads and reads them."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from rot180.datasets.base import check_index, split_indices
from rot180.datasets.cache import cache_directory
from rot180.datasets.decode import to_array
from rot180.datasets.fingerprints import combine
from rot180.errors import Rot180Error, suggest

# Names of the two splits in torchvision's classes, tried in this order.
PART_NAMES = {
    "train": ("train", "trainval", "train-standard"),
    "test": ("test", "val", "valid"),
}
# Number of images, evenly spaced, whose pixels count for the fingerprint.
SAMPLED = 64


class TorchvisionDataset:
    """Images and class numbers of one or two data sets of torchvision, in this order."""

    def __init__(
        self,
        parts: Mapping[str, Any],
        name: str,
        split: str,
        rows: Int64[np.ndarray, " k"] | None = None,
    ) -> None:
        """Combine data sets of torchvision.

        Args:
            parts: data sets by the name of their part.
            name: name of the data in captions.
            split: ``train``, ``test`` or ``all``.
            rows: indices of the images to use, counted through all parts; all by default.

        Raises:
            Rot180Error: the items are not an image and a class number.
        """
        self.name = name
        self.split = split
        self._names = list(parts)
        self._parts = list(parts.values())
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self._rows = np.arange(self._starts[-1], dtype=np.int64) if rows is None else rows
        self._labels = [_all_labels(part, name) for part in self._parts]
        self.classes = self._class_names()
        sampled = sorted(
            {int(i) for i in np.linspace(0, len(self) - 1, SAMPLED)} if len(self) else []
        )
        pixels = (self.image(index) for index in sampled)
        content = (combine([str(image.shape), image.tobytes()]) for image in pixels)
        labels = (labels.tobytes() for labels in self._labels)
        self.fingerprint = combine(["torchvision", name, split, str(len(self)), *content, *labels])

    def __len__(self) -> int:
        return len(self._rows)

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Return an image, 0 to 255."""
        part, row = self._locate(index)
        return to_array(self._parts[part][row][0], self.describe(index))

    def label(self, index: int) -> int | None:
        """Return the class of an image."""
        part, row = self._locate(index)
        return int(self._labels[part][row])

    def describe(self, index: int) -> str:
        """Return which image this is: ``cifar10 train, image 17``."""
        part, row = self._locate(index)
        return f"{self.name} {self._names[part]}, image {row}"

    def _locate(self, index: int) -> tuple[int, int]:
        row = int(self._rows[check_index(index, len(self))])
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return part, row - int(self._starts[part])

    def _class_names(self) -> tuple[str, ...]:
        names = getattr(self._parts[0], "classes", None) or ()
        # The names of some classes are tuples of synonyms (ImageNet): the first is the common one.
        known = tuple(str(n[0]) if isinstance(n, tuple) and n else str(n) for n in names)
        largest = max((int(labels.max(initial=-1)) for labels in self._labels), default=-1)
        return known + tuple(f"class {number}" for number in range(len(known), largest + 1))


def open_torchvision(kind: str, split: str) -> TorchvisionDataset:
    """Open a data set of ``torchvision.datasets`` by its class name; download it if necessary.

    The files are in the cache directory. Data without splits are divided by ``is_test`` of
    ``row 0``, ``row 1``, ….

    Raises:
        Rot180Error: the class does not exist, needs more than a directory and a split, cannot be
            downloaded, or does not hold images with class numbers.
    """
    import torchvision.datasets

    known = torchvision.datasets.__all__
    dataset_class = getattr(torchvision.datasets, kind, None) if kind in known else None
    if not isinstance(dataset_class, type):
        raise Rot180Error(
            f"torchvision has no data set '{kind}'. It has {suggest(_nearest_first(known, kind))}: "
            "spell the name as torchvision does."
        )
    name = "cifar10" if kind == "CIFAR10" else kind
    parameters = _parameters(dataset_class)
    if not {"train", "split"} & set(parameters):
        whole = _construct(dataset_class, kind, parameters, {}, cache_directory())
        rows = split_indices((f"row {row}" for row in range(len(whole))), split)
        return TorchvisionDataset({"all": whole}, name, split, rows)
    wanted = ("train", "test") if split == "all" else (split,)
    parts = {part: _open_part(dataset_class, kind, parameters, part) for part in wanted}
    return TorchvisionDataset(parts, name, split)


def _nearest_first(names: Sequence[str], wanted: str) -> list[str]:
    """Return the names by similarity, ignoring case: few people write ``CIFAR10`` in capitals."""
    by_lower = {name.lower(): name for name in names}
    similar = get_close_matches(wanted.lower(), by_lower, n=len(names), cutoff=0.3)
    return [by_lower[name] for name in (*similar, *(n for n in by_lower if n not in similar))]


def open_pickled_cifar(directory: Path, split: str) -> TorchvisionDataset:
    """Open the official pickled CIFAR-10 (``data_batch_1`` … in ``directory``) with torchvision.

    Unpickling can run any code. So the files are compared with the published MD5 sums before
    anything is unpickled: here, and again by torchvision itself.

    Raises:
        Rot180Error: a file is missing or is not the published one.
    """
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    sums = [
        *CIFAR10.train_list,
        *CIFAR10.test_list,
        [CIFAR10.meta["filename"], CIFAR10.meta["md5"]],
    ]
    for file, md5 in sums:
        if not check_integrity(str(directory / file), md5):
            raise Rot180Error(
                f"{directory / file} is missing or is not the official file (its MD5 sum is not "
                f"{md5}), and a pickled file is not opened unchecked: download "
                "cifar-10-python.tar.gz again, or use the binary version."
            )
    local_class = type("CIFAR10", (CIFAR10,), {"base_folder": directory.name})
    wanted = ("train", "test") if split == "all" else (split,)
    parts = {part: local_class(str(directory.parent), train=part == "train") for part in wanted}
    return TorchvisionDataset(parts, "cifar10", split)


def _parameters(dataset_class: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of the constructor, then those that it passes on by ``**kwargs``."""
    parameters: dict[str, inspect.Parameter] = {}
    for base in dataset_class.__mro__:
        if base is object or "__init__" not in vars(base):
            continue
        own = inspect.signature(base.__init__).parameters  # type: ignore[misc]
        parameters |= {name: own[name] for name in own if name not in parameters}
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in own.values()):
            break
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {n: p for n, p in parameters.items() if p.kind in named and n != "self"}


def _open_part(
    dataset_class: type, kind: str, parameters: Mapping[str, inspect.Parameter], part: str
) -> Any:
    """Open a split by the first of its names that the class accepts."""
    root = cache_directory()
    # The class's own parameter comes before one that it passes on.
    if next(n for n in parameters if n in ("train", "split")) == "train":
        return _construct(dataset_class, kind, parameters, {"train": part == "train"}, root)
    for name in PART_NAMES[part]:
        try:
            return _construct(dataset_class, kind, parameters, {"split": name}, root)
        except ValueError:  # torchvision raises it for an unknown split
            continue
    raise Rot180Error(
        f"torchvision's {kind} has no split that could be '{part}' "
        f"({', '.join(PART_NAMES[part])}): choose another data set."
    )


def _construct(
    dataset_class: type,
    kind: str,
    parameters: Mapping[str, inspect.Parameter],
    choice: Mapping[str, Any],
    root: Path,
) -> Any:
    given: dict[str, Any] = {"root": str(root), "download": True, **choice}
    given = {name: value for name, value in given.items() if name in parameters}
    empty = inspect.Parameter.empty
    missing = [n for n, p in parameters.items() if p.default is empty and n not in given]
    if missing:
        raise Rot180Error(
            f"torchvision's {kind} cannot be opened by its name, it also needs "
            f"{', '.join(missing)}: pass a directory of images instead."
        )
    try:
        # Some versions of torchvision print; standard output is for the results of the command.
        with redirect_stdout(sys.stderr):
            return dataset_class(**given)
    except (OSError, RuntimeError, ImportError) as error:  # a ValueError means: no such split
        raise Rot180Error(_download_message(kind, root, error)) from error


def _download_message(kind: str, root: Path, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0].strip("<>.: ")
    if kind == "CIFAR10":
        return (
            f"CIFAR-10 is not in {root} and cannot be downloaded ({reason}): put "
            f"cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html into {root}, "
            "or pass the path of a directory with its binary version or with *.parquet files."
        )
    return (
        f"torchvision's {kind} is not in {root} and cannot be downloaded ({reason}): put its files "
        "there as torchvision expects them, or pass the path of a directory of images."
    )


def _all_labels(part: Any, name: str) -> Int64[np.ndarray, " n"]:
    """Return all class numbers, without decoding the images if the class has a list of them."""
    if len(part):
        _check_item(part[0], name)
    for attribute in ("targets", "labels", "_labels"):
        values = getattr(part, attribute, None)
        if isinstance(values, Sequence) or hasattr(values, "__array__"):
            array = np.asarray(values)
            if array.shape == (len(part),) and array.dtype.kind in "iu":
                return array.astype(np.int64)
    return np.array([int(part[index][1]) for index in range(len(part))], dtype=np.int64)


def _check_item(item: Any, name: str) -> None:
    from PIL import Image

    pair = isinstance(item, tuple) and len(item) == 2
    if not pair or not isinstance(item[0], Image.Image):
        raise Rot180Error(
            f"torchvision's {name} does not hold pairs of an image and a class: "
            "choose a data set for classification."
        )
    if isinstance(item[1], bool) or not isinstance(item[1], int | np.integer):
        raise Rot180Error(
            f"torchvision's {name} has targets of type {type(item[1]).__name__}, not class "
            "numbers: choose a data set for classification."
        )
