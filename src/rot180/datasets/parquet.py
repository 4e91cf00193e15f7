"""Parquet files as Hugging Face publishes images: a column of image files, a column of labels.

Rows are read by row group when they are asked for. The schema's metadata is the only thing that is
trusted beyond the columns themselves, and only for the names of the classes.
"""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from rot180.datasets.dataset import TEST_NAMES, checked_index, division, numbered_classes
from rot180.datasets.decode import BadImage, Fit, decode
from rot180.datasets.fingerprints import combined, of_file, state_of_files
from rot180.errors import Rot180Error, listed

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
# Row groups held in memory: two, so that threads at a border do not push each other's out.
GROUPS_HELD = 2
# More classes than this, and the column does not hold classes.
CLASSES_MOST = 1_000_000
_SPLIT_NAME = re.compile(rf"(train|{'|'.join(TEST_NAMES)})(?![a-z])", re.IGNORECASE)


class ParquetFile:
    """One Parquet file: which column holds what, the labels, and row groups on demand."""

    def __init__(self, path: Path) -> None:
        """Read the schema and the labels.

        Raises:
            Rot180Error: not a Parquet file, or without a column of images.
        """
        self.path = path
        self._open()
        schema = self._file.schema_arrow
        self.column, self._nested = _image_column(schema, path)
        self.label_column = _label_column(schema)
        self.classes = _class_names(schema, self.label_column)
        metadata = self._file.metadata
        groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._starts = np.cumsum([0, *groups])
        self.labels = self._read_labels()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def data(self, rows: range) -> list[bytes | None]:
        """The image files in consecutive rows; None where a row has none."""
        found: list[bytes | None] = []
        for group, part in _divided(rows, self._starts):
            values = self._group(group).slice(part.start, len(part)).to_pylist()
            if self._nested:
                values = [None if value is None else value["bytes"] for value in values]
            found += values
        return found

    def _group(self, group: int) -> Any:
        # pyarrow's readers must not be used by two threads at once.
        with self._lock:
            if group in self._held:
                self._held.move_to_end(group)
                return self._held[group]
            wanted = f"{self.column}.bytes" if self._nested else self.column
            with self._reading(f"row group {group}"):
                column = self._file.read_row_group(group, columns=[wanted])[self.column]
            self._held[group] = column
            while len(self._held) > GROUPS_HELD:
                self._held.popitem(last=False)
            return column

    def _read_labels(self) -> Int64[np.ndarray, " n"] | None:
        if self.label_column is None:
            return None
        with self._reading(f"the column '{self.label_column}'"):
            column = self._file.read(columns=[self.label_column])[self.label_column]
            return np.asarray(column.cast("int64").fill_null(-1).to_numpy(), dtype=np.int64)

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise Rot180Error(
                f"Cannot read {what} of {self.path}: {_first_line(error)}. "
                "The file is damaged: download it again."
            ) from error

    def _open(self) -> None:
        import pyarrow.parquet

        try:
            self._file: Any = pyarrow.parquet.ParquetFile(self.path)
        except (OSError, ValueError) as error:
            raise Rot180Error(
                f"{self.path} is not a Parquet file that can be read ({_first_line(error)}): "
                "download it again."
            ) from error
        self._lock = threading.Lock()
        self._held: OrderedDict[int, Any] = OrderedDict()

    # A data set travels to the worker processes of a loader; an open file and a lock do not.
    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_file", "_lock", "_held")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


class ParquetDataset:
    """Chosen rows of some Parquet files."""

    def __init__(
        self,
        files: Sequence[ParquetFile],
        rows: Int64[np.ndarray, " k"] | None,
        classes: tuple[str, ...],
        name: str,
        split: str,
    ) -> None:
        """Take all rows of the files, or the given ones, counted through all files."""
        self.name = name
        self.split = split
        self.classes = classes
        self._files = files
        self._starts = np.cumsum([0, *(len(file) for file in files)])
        self._rows = np.arange(self._starts[-1], dtype=np.int64) if rows is None else rows
        known = (_labels_in(file) for file in files)
        everywhere = np.concatenate([np.empty(0, dtype=np.int64), *known])
        self._labels: Int64[np.ndarray, " n"] = everywhere[self._rows]
        chosen = "all rows" if rows is None else "rows by in_test"
        digests = (of_file(file.path) for file in files)
        self.fingerprint = combined(["parquet", split, chosen, *digests])
        self.state = state_of_files(file.path for file in files)

    def __len__(self) -> int:
        return len(self._rows)

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Read and decode one row. Raises ``BadImage`` where it holds no image."""
        checked_index(index, len(self))
        result = next(self.images_of(range(index, index + 1)))
        if isinstance(result, BadImage):
            raise result
        return result

    def images_of(self, numbers: range) -> Iterator[UInt8[np.ndarray, "h w c"] | BadImage]:
        """Consecutive images one after the other, or what is wrong with them.

        Faster than ``image`` for each, because their rows are taken from the file at once.
        """
        return self._decoded(numbers, None)

    def fitted_of(
        self, numbers: range, size: tuple[int, int], channels: int
    ) -> Iterator[UInt8[np.ndarray, "height width c"] | BadImage]:
        """Consecutive images at the size that is wanted, or what is wrong with them."""
        return self._decoded(numbers, (size, channels))

    def _decoded(
        self, numbers: range, fit: Fit | None
    ) -> Iterator[UInt8[np.ndarray, "h w c"] | BadImage]:
        for number, data in zip(numbers, self._data(numbers), strict=True):
            if data is None:
                yield BadImage("the row holds no bytes", self.where(number))
                continue
            try:
                yield decode(data, fit=fit)
            except BadImage as error:
                yield BadImage(error.reason, self.where(number))

    def label(self, index: int) -> int | None:
        """The class of one row; None where the column is absent, null or negative."""
        label = int(self._labels[checked_index(index, len(self))])
        return None if label < 0 else label

    def labels_of(self, numbers: range) -> Int64[np.ndarray, " n"]:
        """The classes of consecutive images; -1 where ``label`` gives None."""
        return np.asarray(self._labels[numbers.start : numbers.stop])

    def where(self, index: int) -> str:
        """The row and its file, both as ``row 17 of train.parquet``."""
        file, row = self._place(index)
        return f"row {row} of {file.path.name}"

    def _data(self, numbers: range) -> Iterator[bytes | None]:
        rows = self._rows[numbers.start : numbers.stop]
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            for file, part in _divided(range(run[0], run[-1] + 1), self._starts):
                yield from self._files[file].data(part)

    def _place(self, index: int) -> tuple[ParquetFile, int]:
        row = int(self._rows[checked_index(index, len(self))])
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._files[file], row - int(self._starts[file])


def _divided(rows: range, starts: Int64[np.ndarray, " k"]) -> Iterator[tuple[int, range]]:
    """Consecutive rows by the part (a file, a row group) that they lie in, and where in it."""
    row = rows.start
    while row < rows.stop:
        part = int(np.searchsorted(starts, row, side="right")) - 1
        start, stop = int(starts[part]), min(rows.stop, int(starts[part + 1]))
        yield part, range(row - start, stop - start)
        row = stop


def _labels_in(file: ParquetFile) -> Int64[np.ndarray, " n"]:
    """The labels of a file, -1 where there are none."""
    if file.labels is None:
        return np.full(len(file), -1, dtype=np.int64)
    return file.labels.clip(min=-1)


def open_parquet(paths: Sequence[Path], split: str, name: str) -> ParquetDataset:
    """Open Parquet files as one data set.

    Files belong to the split that their name begins with (``train``, ``test``, ``validation``,
    ``valid``, ``val``; the last three count as test), in the order of their names. Where no name
    says a split, the rows of all files together are divided by ``in_test`` of ``row 0``,
    ``row 1``, ….

    Raises:
        Rot180Error: a file cannot be read, lacks a column, names no split beside others that
            do, or the split is empty.
    """
    parts: dict[str, list[Path]] = {"train": [], "test": [], "": []}
    for path in sorted(paths, key=lambda path: path.name):
        parts[_split_of(path)].append(path)
    own = parts["train"] + parts["test"]
    if own and parts[""]:
        raise Rot180Error(
            f"{parts[''][0]} does not say which split it belongs to, as {own[0].name} does: "
            f"begin its name with one of train, {', '.join(TEST_NAMES)}, or pass one file."
        )
    files = {path: ParquetFile(path) for path in own + parts[""]}
    if own:
        wanted = own if split == "all" else parts[split]
        rows = None
    else:
        wanted = parts[""]
        count = sum(len(file) for file in files.values())
        rows = division((f"row {row}" for row in range(count)), split)
    # Names and numbers of classes come from all files, so that every split has the same.
    classes = _all_classes(list(files.values()))
    dataset = ParquetDataset([files[path] for path in wanted], rows, classes, name, split)
    if not len(dataset):
        raise Rot180Error(
            f"There are no rows of the split '{split}' in {listed(p.name for p in files)}: "
            "add its file, or use the split 'all'."
        )
    return dataset


def _split_of(path: Path) -> str:
    found = _SPLIT_NAME.match(path.name)
    if found is None:
        return ""
    return "train" if found[1].lower() == "train" else "test"


def _image_column(schema: Any, path: Path) -> tuple[str, bool]:
    """The name of the column of images, and whether the bytes are in a field of a struct."""
    candidates = {
        field.name: nested for field in schema if (nested := _holds_bytes(field.type)) is not None
    }
    named = [name for name in IMAGE_COLUMNS if name in candidates] or list(candidates)
    if named and (named[0] in IMAGE_COLUMNS or len(named) == 1):
        return named[0], candidates[named[0]]
    there = listed((f"{field.name} ({field.type})" for field in schema), "image")
    raise Rot180Error(
        f"{path} has no column of images: it has {there}, and a column 'image' or 'img' is needed "
        "with the bytes of image files (binary, or a struct with a field 'bytes')."
    )


def _holds_bytes(kind: Any) -> bool | None:
    """True: a struct with bytes; False: plain bytes; None: something else."""
    from pyarrow import types

    if types.is_struct(kind):
        fields = {field.name: field.type for field in kind}
        return True if "bytes" in fields and _holds_bytes(fields["bytes"]) is False else None
    return False if types.is_binary(kind) or types.is_large_binary(kind) else None


def _label_column(schema: Any) -> str | None:
    """The column of class numbers; a column of anything else does not count as labels."""
    from pyarrow import types

    for name in LABEL_COLUMNS:
        if name in schema.names and types.is_integer(schema.field(name).type):
            return name
    return None


def _class_names(schema: Any, column: str | None) -> tuple[str, ...]:
    """What the metadata of Hugging Face's ``datasets`` call the classes; () where they do not."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        names = info["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(names) if isinstance(names, list) and all(map(_is_text, names)) else ()


def _is_text(name: object) -> bool:
    return isinstance(name, str)


def _all_classes(files: Sequence[ParquetFile]) -> tuple[str, ...]:
    """The class names that the files agree on, or as many numbered ones as there are labels."""
    largest = -1
    for file in files:
        if file.labels is not None:
            largest = max(largest, int(file.labels.max(initial=-1)))
    if largest >= CLASSES_MOST:
        raise Rot180Error(
            f"The column '{files[0].label_column}' of {files[0].path.name} holds {largest}, which "
            "is not the number of a class: rename the column if it holds something else."
        )
    names = next((file.classes for file in files if file.classes), ())
    return names + numbered_classes(largest + 1)[len(names) :]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
