"""Parquet files as Hugging Face publishes images: a column of image files, a column of labels."""

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from rot180.datasets.base import (
    TEST_NAMES,
    TRAIN_NAMES,
    check_index,
    numbered_classes,
    split_indices,
)
from rot180.datasets.decode import BadImage, TargetSize, decode
from rot180.datasets.fingerprints import combine, file_fingerprint, files_state
from rot180.datasets.parquet_columns import CLASSES_MOST
from rot180.datasets.parquet_file import ParquetFile, split_rows
from rot180.errors import Rot180Error, Rot180Warning, suggest
from rot180.visible import valid_name

_SPLIT_NAME = re.compile(rf"({'|'.join((*TRAIN_NAMES, *TEST_NAMES))})(?![a-z])", re.IGNORECASE)


class ParquetDataset:
    """Rows of some Parquet files."""

    def __init__(
        self,
        files: Sequence[ParquetFile],
        rows: Int64[np.ndarray, " k"] | None,
        classes: tuple[str, ...],
        name: str,
        split: str,
    ) -> None:
        """Create the data set.

        Args:
            files: the files.
            rows: rows to use, counted through all files; None for all.
            classes: class names by label.
            name: name of the data in captions.
            split: ``train``, ``test`` or ``all``.
        """
        self.name = valid_name(name)
        self.split = split
        self.classes = classes
        self._files = files
        self._starts = np.cumsum([0, *(len(file) for file in files)])
        self._rows = np.arange(self._starts[-1], dtype=np.int64) if rows is None else rows
        labels = np.concatenate([np.empty(0, dtype=np.int64), *map(_labels, files)])
        self._labels: Int64[np.ndarray, " n"] = labels[self._rows]
        # Do not change these texts: fingerprints of existing atlases depend on them.
        chosen = "all rows" if rows is None else "rows by in_test"
        digests = (file_fingerprint(file.path) for file in files)
        self.fingerprint = combine(["parquet", split, chosen, *digests])
        self.state = files_state(file.path for file in files)

    def __len__(self) -> int:
        return len(self._rows)

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Read and decode a row.

        Raises:
            BadImage: the row holds no image.
        """
        check_index(index, len(self))
        result = next(self.read_images(range(index, index + 1)))
        if isinstance(result, BadImage):
            raise result
        return result

    def read_images(self, indices: range) -> Iterator[UInt8[np.ndarray, "h w c"] | BadImage]:
        """Yield consecutive images in order, or the error for a broken one.

        This is faster than calling ``image`` for each, because their rows are read at once.
        """
        return self._decode(indices, None)

    def read_resized(
        self, indices: range, size: tuple[int, int], channels: int
    ) -> Iterator[UInt8[np.ndarray, "height width c"] | BadImage]:
        """Yield consecutive images of the given size, or the error for a broken one."""
        return self._decode(indices, (size, channels))

    def _decode(
        self, indices: range, target: TargetSize | None
    ) -> Iterator[UInt8[np.ndarray, "h w c"] | BadImage]:
        for index, data in zip(indices, self._data(indices), strict=True):
            if data is None:
                yield BadImage("the row holds no bytes", self.describe(index))
                continue
            try:
                yield decode(data, target=target)
            except BadImage as error:
                yield BadImage(error.reason, self.describe(index))

    def label(self, index: int) -> int | None:
        """Return the class of a row; None if the column is absent, null or negative."""
        label = int(self._labels[check_index(index, len(self))])
        return None if label < 0 else label

    def read_labels(self, indices: range) -> Int64[np.ndarray, " n"]:
        """Return the classes of consecutive images; -1 where ``label`` gives None."""
        return np.asarray(self._labels[indices.start : indices.stop])

    def describe(self, index: int) -> str:
        """Return the row and its file: ``row 17 of train.parquet``."""
        file, row = self._locate(index)
        return f"row {row} of {valid_name(file.path.name)}"

    def _data(self, indices: range) -> Iterator[bytes | None]:
        rows = self._rows[indices.start : indices.stop]
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            for file, part in split_rows(range(run[0], run[-1] + 1), self._starts):
                yield from self._files[file].data(part)

    def _locate(self, index: int) -> tuple[ParquetFile, int]:
        row = int(self._rows[check_index(index, len(self))])
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._files[file], row - int(self._starts[file])


def _labels(file: ParquetFile) -> Int64[np.ndarray, " n"]:
    """Return the labels of a file, -1 for none."""
    if file.labels is None:
        return np.full(len(file), -1, dtype=np.int64)
    return file.labels.clip(min=-1)


def open_parquet(paths: Sequence[Path], split: str, name: str) -> ParquetDataset:
    """Open Parquet files as one data set.

    A file belongs to the split that its name begins with (``train``, ``test``, ``validation``,
    ``valid``, ``val``; the last three count as test), in the order of the names. If no name gives
    a split, the rows of all files together are divided by ``is_test`` of ``row 0``, ``row 1``, ….

    Raises:
        Rot180Error: a file cannot be read, lacks a column, or gives no split while others do; or
            the split is empty.
    """
    paths_of: dict[str, list[Path]] = {"train": [], "test": [], "": []}
    for path in sorted(paths, key=lambda path: path.name):
        paths_of[_split_of(path)].append(path)
    with_split = paths_of["train"] + paths_of["test"]
    if with_split and paths_of[""]:
        raise Rot180Error(
            f"{paths_of[''][0]} does not say which split it belongs to, as {with_split[0].name} "
            f"does: begin its name with one of train, {', '.join(TEST_NAMES)}, or pass one file."
        )
    files = {path: ParquetFile(path) for path in with_split + paths_of[""]}
    for remark in sorted({file.remark for file in files.values() if file.remark}):
        warnings.warn(remark, Rot180Warning, stacklevel=5)
    if with_split:
        used = with_split if split == "all" else paths_of[split]
        rows = None
    else:
        used = paths_of[""]
        count = sum(len(file) for file in files.values())
        rows = split_indices((f"row {row}" for row in range(count)), split)
    # Class names and labels come from all files, so that they are the same in every split.
    classes = _common_classes(list(files.values()))
    dataset = ParquetDataset([files[path] for path in used], rows, classes, name, split)
    if not len(dataset):
        raise Rot180Error(
            f"There are no rows of the split '{split}' in {suggest(p.name for p in files)}: "
            "add its file, or use the split 'all'."
        )
    return dataset


def _split_of(path: Path) -> str:
    match = _SPLIT_NAME.match(path.name)
    if match is None:
        return ""
    return "train" if match[1].lower() in TRAIN_NAMES else "test"


def _common_classes(files: Sequence[ParquetFile]) -> tuple[str, ...]:
    """Return the class names of all files, or numbered names for as many labels as there are.

    Labels that are texts are changed to the indices of the common names.
    """
    labelled = [file for file in files if file.labels is not None]
    with_texts = [file for file in labelled if file.texts]
    if with_texts:
        return _common_texts(labelled, with_texts)
    largest = -1
    for file in labelled:
        if file.labels is not None:
            largest = max(largest, int(file.labels.max(initial=-1)))
    if largest >= CLASSES_MOST:
        raise Rot180Error(
            f"The column '{labelled[0].label_column}' of {labelled[0].path.name} holds {largest}, "
            "which is not the number of a class: rename the column if it holds something else."
        )
    names = next((file.classes for file in files if file.classes), ())
    return names + numbered_classes(largest + 1)[len(names) :]


def _common_texts(
    labelled: Sequence[ParquetFile], with_texts: Sequence[ParquetFile]
) -> tuple[str, ...]:
    numeric = next((file for file in labelled if not file.texts), None)
    if numeric is not None:
        raise Rot180Error(
            f"The classes are texts in {with_texts[0].path.name} and numbers in "
            f"{numeric.path.name}: write them alike."
        )
    classes = tuple(sorted({name for file in with_texts for name in file.classes}))
    label_of = {name: label for label, name in enumerate(classes)}
    for file in with_texts:
        # The common label of each of the file's, and one more at the end, for -1.
        labels = np.array([*(label_of[name] for name in file.classes), -1], dtype=np.int64)
        file.labels = labels[file.labels]
    return classes
