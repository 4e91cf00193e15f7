"""Data sets that torchvision can download and read."""

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

# What torchvision's classes call the two splits, tried in this order.
PART_NAMES = {
    "train": ("train", "trainval", "train-standard"),
    "test": ("test", "val", "valid"),
}
# Images whose pixels go into the fingerprint, evenly spaced.
SAMPLED = 64


class TorchvisionDataset:
    """Images and class numbers from one or two torchvision data sets, one after the other."""

    def __init__(
        self,
        parts: Mapping[str, Any],
        name: str,
        split: str,
        rows: Int64[np.ndarray, " k"] | None = None,
    ) -> None:
        """Take torchvision's data sets by the name of their part.

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
        """One image, 0 to 255."""
        part, row = self._place(index)
        return to_array(self._parts[part][row][0], self.describe(index))

    def label(self, index: int) -> int | None:
        """The class of one image."""
        part, row = self._place(index)
        return int(self._labels[part][row])

    def describe(self, index: int) -> str:
        """Name one image: ``cifar10 train, image 17``."""
        part, row = self._place(index)
        return f"{self.name} {self._names[part]}, image {row}"

    def _place(self, index: int) -> tuple[int, int]:
        row = int(self._rows[check_index(index, len(self))])
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return part, row - int(self._starts[part])

    def _class_names(self) -> tuple[str, ...]:
        names = getattr(self._parts[0], "classes", None) or ()
        # Some classes are tuples of synonyms (ImageNet): the first is the usual one.
        known = tuple(str(n[0]) if isinstance(n, tuple) and n else str(n) for n in names)
        largest = max((int(labels.max(initial=-1)) for labels in self._labels), default=-1)
        return known + tuple(f"class {number}" for number in range(len(known), largest + 1))


def open_torchvision(kind: str, split: str) -> TorchvisionDataset:
    """Open a data set of ``torchvision.datasets`` by its class name, downloading it if need be.

    The files lie in the cache directory. A class that knows no splits is divided by ``is_test``
    of ``row 0``, ``row 1``, ….

    Raises:
        Rot180Error: there is no such class, it needs more than a directory and a split, it cannot
            be downloaded, or it does not hold images with class numbers.
    """
    import torchvision.datasets

    known = torchvision.datasets.__all__
    made = getattr(torchvision.datasets, kind, None) if kind in known else None
    if not isinstance(made, type):
        raise Rot180Error(
            f"torchvision has no data set '{kind}'. It has {suggest(_nearest_first(known, kind))}: "
            "spell the name as torchvision does."
        )
    name = "cifar10" if kind == "CIFAR10" else kind
    parameters = _parameters(made)
    if not {"train", "split"} & set(parameters):
        whole = _construct(made, kind, parameters, {}, cache_directory())
        rows = split_indices((f"row {row}" for row in range(len(whole))), split)
        return TorchvisionDataset({"all": whole}, name, split, rows)
    wanted = ("train", "test") if split == "all" else (split,)
    parts = {part: _part(made, kind, parameters, part) for part in wanted}
    return TorchvisionDataset(parts, name, split)


def _nearest_first(names: Sequence[str], wanted: str) -> list[str]:
    """Order names by likeness whatever their case: few people write ``CIFAR10`` as the class."""
    by_lower = {name.lower(): name for name in names}
    near = get_close_matches(wanted.lower(), by_lower, n=len(names), cutoff=0.3)
    return [by_lower[name] for name in (*near, *(n for n in by_lower if n not in near))]


def open_pickled_cifar(directory: Path, split: str) -> TorchvisionDataset:
    """Open the official pickled CIFAR-10 (``data_batch_1`` … in ``directory``) with torchvision.

    Unpickling runs what the file says. So the files are compared with the published MD5 sums
    before anything is unpickled: here, and again by torchvision itself.

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
    made = type("CIFAR10", (CIFAR10,), {"base_folder": directory.name})
    wanted = ("train", "test") if split == "all" else (split,)
    parts = {part: made(str(directory.parent), train=part == "train") for part in wanted}
    return TorchvisionDataset(parts, "cifar10", split)


def _parameters(made: type) -> dict[str, inspect.Parameter]:
    """The constructor's parameters, and after them those that it hands on with ``**kwargs``."""
    found: dict[str, inspect.Parameter] = {}
    for base in made.__mro__:
        if base is object or "__init__" not in vars(base):
            continue
        own = inspect.signature(base.__init__).parameters  # type: ignore[misc]
        found |= {name: own[name] for name in own if name not in found}
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in own.values()):
            break
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {n: p for n, p in found.items() if p.kind in plain and n != "self"}


def _part(made: type, kind: str, parameters: Mapping[str, inspect.Parameter], part: str) -> Any:
    """One split, by the first of its names that the class understands."""
    root = cache_directory()
    # A class's own parameter comes before one that it hands on.
    if next(n for n in parameters if n in ("train", "split")) == "train":
        return _construct(made, kind, parameters, {"train": part == "train"}, root)
    for name in PART_NAMES[part]:
        try:
            return _construct(made, kind, parameters, {"split": name}, root)
        except ValueError:  # how torchvision says that there is no such split
            continue
    raise Rot180Error(
        f"torchvision's {kind} has no split that could be '{part}' "
        f"({', '.join(PART_NAMES[part])}): choose another data set."
    )


def _construct(
    made: type,
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
        # Some versions of torchvision print; standard output belongs to the command's results.
        with redirect_stdout(sys.stderr):
            return made(**given)
    except (OSError, RuntimeError, ImportError) as error:  # a ValueError means: no such split
        raise Rot180Error(_no_download(kind, root, error)) from error


def _no_download(kind: str, root: Path, error: Exception) -> str:
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
    """All class numbers, without decoding the images where the class keeps a list of them."""
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
