"""Parquet files as Hugging Face publishes images: a column of image files, a column of labels.

Rows are read by row group when they are asked for. The schema's metadata is the only thing that is
trusted beyond the columns themselves, and only for the names of the classes. What the file's own
metadata claim (rows, columns) is compared with the size of the file and with what is read.
"""

import json
import os
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
from rot180.errors import Rot180Error, Rot180Warning, suggest
from rot180.files import open_regular
from rot180.visible import valid_name

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label", "target", "targets", "class")
# Row groups held in memory: two, so that threads at a border do not push each other's out.
GROUPS_HELD = 2
# A row group is held as a whole, so its images may have so many bytes; most have far less.
GROUP_BYTES = 2 * 1024**3
# Rows that are read at a time, to stop where a group holds more than the file says.
ROWS_AT_ONCE = 256
# More classes than this, and the column does not hold classes.
CLASSES_MOST = 1_000_000
# More rows than this, and there is a byte in the file for each of them at least.
ROWS_UNCHECKED = 1_000_000
# More different texts than this, in more than half of the rows, are no names of classes.
TEXTS_UNCHECKED = 100
# Columns that count rows, and are no classes under another name.
_NO_CLASSES = re.compile(r"^(.*_)?(id|idx|index|uuid|key)$|^__index_level_\d+__$", re.IGNORECASE)
_SPLIT_NAME = re.compile(rf"({'|'.join((*TRAIN_NAMES, *TEST_NAMES))})(?![a-z])", re.IGNORECASE)


class ParquetFile:
    """One Parquet file: which column holds what, the labels, and row groups on demand.

    Attributes:
        path: of the file.
        column: the name of the column of images.
        label_column: the name of the column of classes, or None.
        classes: their names, where the schema's metadata or the labels themselves say them.
        texts: whether the labels are texts in the file; ``labels`` then count in ``classes``.
        labels: (n,), the class of each row, negative for none; or None.
        remark: why there are no classes, where a person may wonder; or "".
    """

    def __init__(self, path: Path) -> None:
        """Read the schema and the labels.

        Raises:
            Rot180Error: not a Parquet file, or without a column of images.
        """
        self.path = path
        self._open()
        with self._reading("the schema"):
            schema = self._file.schema_arrow
            self.column, self._nested = _image_column(schema, path)
            self.label_column = _label_column(schema, path)
            self.classes = _class_names(schema, self.label_column)
            metadata = self._file.metadata
            groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            others = [
                f"{field.name} ({field.type})"
                for field in schema
                if _could_be(field.type) and not _NO_CLASSES.search(field.name)
            ]
        self._check_rows(groups)
        self._starts = np.cumsum([0, *groups])
        self.texts, self.remark = False, ""
        self.labels = None if self.label_column is None else self._read_labels(self.label_column)
        if self.label_column is None and others and not self.remark:
            self.remark = (
                f"The images of {path.name} have no classes: no column is called "
                f"{' or '.join(LABEL_COLUMNS)}, but there is {suggest(others)}."
            )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def data(self, rows: range) -> list[bytes | None]:
        """The image files in consecutive rows; None where a row has none."""
        found: list[bytes | None] = []
        for group, part in _divided(rows, self._starts):
            column = self._group(group)
            with self._reading(f"row group {group}"):
                found += column.slice(part.start, len(part)).to_pylist()
        return found

    def _group(self, group: int) -> Any:
        import pyarrow.compute

        # pyarrow's readers must not be used by two threads at once.
        with self._lock:
            if group in self._held:
                self._held.move_to_end(group)
                return self._held[group]
            with self._reading(f"row group {group}"):
                column = self._read_group(group)
                if self._nested:
                    column = pyarrow.compute.struct_field(column, "bytes")
            self._check_count(column, f"row group {group}", int(np.diff(self._starts)[group]))
            self._held[group] = column
            while len(self._held) > GROUPS_HELD:
                self._held.popitem(last=False)
            return column

    def _read_group(self, group: int) -> Any:
        """Read the images of a row group, unless they are more than may be held."""
        import pyarrow

        wanted = f"{self.column}.bytes" if self._nested else self.column
        about = self._file.metadata.row_group(group)
        columns = [about.column(n) for n in range(about.num_columns)]
        told = sum(one.total_uncompressed_size for one in columns if one.path_in_schema == wanted)
        self._check_size(group, told)
        parts, size = [], 0
        for batch in self._file.iter_batches(ROWS_AT_ONCE, [group], [wanted]):
            parts.append(batch.column(self.column))
            size += batch.nbytes
            self._check_size(group, size)
        kind = parts[0].type if parts else self._file.schema_arrow.field(self.column).type
        return pyarrow.chunked_array(parts, type=kind)

    def _check_size(self, group: int, size: int) -> None:
        if size > GROUP_BYTES:
            raise Rot180Error(
                f"Row group {group} of {self.path} holds images of {size:,} bytes or more, and "
                f"{GROUP_BYTES:,} are held in memory at most: write the file with smaller row "
                "groups."
            )

    def _check_rows(self, groups: Sequence[int]) -> None:
        rows, size = sum(groups), self.path.stat().st_size
        if min(groups, default=0) < 0 or rows > max(ROWS_UNCHECKED, size):
            raise Rot180Error(
                f"{self.path} claims {rows:,} rows in {size:,} bytes: it is damaged. "
                "Download it again."
            )

    def _check_count(self, column: Any, what: str, rows: int) -> None:
        if len(column) != rows:
            raise Rot180Error(
                f"{what[0].upper()}{what[1:]} of {self.path} holds {len(column)} values for {rows} "
                "rows: the file is damaged. Download it again."
            )

    def _read_labels(self, name: str) -> Int64[np.ndarray, " n"] | None:
        what = f"the column '{name}'"
        with self._reading(what):
            column = self._file.read(columns=[name])[name]
        self._check_count(column, what, len(self))
        with self._reading(what):
            kind, column = column.type, _plain(column)
        if column is None:
            self.remark = f"{what} of {self.path.name} holds {kind}"
        elif _is_textual(column.type) or _is_bytes(column.type):
            return self._read_texts(column, what)
        else:
            numbers = _whole(column)
            if numbers is not None:
                return numbers
            self.remark = (
                f"{what} of {self.path.name} holds numbers ({kind}), some with a fraction or too "
                "large"
            )
        self._without_classes()
        return None

    def _read_texts(self, column: Any, what: str) -> Int64[np.ndarray, " n"] | None:
        with self._reading(what):
            coded = column.cast("large_binary").combine_chunks().dictionary_encode()
            names = [
                name.decode("utf-8", "surrogateescape") for name in coded.dictionary.to_pylist()
            ]
            numbers = np.asarray(coded.indices.cast("int64").fill_null(-1).to_numpy(False))
        if len(names) > max(TEXTS_UNCHECKED, len(self) // 2) or len(names) > CLASSES_MOST:
            self.remark = (
                f"{what} of {self.path.name} holds {len(names)} different texts in {len(self)} rows"
            )
            self._without_classes()
            return None
        order = sorted(range(len(names)), key=names.__getitem__)
        places = np.append(np.argsort(np.array(order, dtype=np.int64)), -1).astype(np.int64)
        self.texts = True
        self.classes = tuple(valid_name(names[number]) for number in order)
        return np.asarray(places[numbers], dtype=np.int64)

    def _without_classes(self) -> None:
        """Finish the remark on a column that does not hold classes."""
        self.remark = (
            f"{self.remark[0].upper()}{self.remark[1:]}, not classes: the images have none."
        )
        self.label_column, self.classes = None, ()

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except Rot180Error:
            raise
        except Exception as error:  # pyarrow fails on damaged bytes with errors of any type
            raise Rot180Error(
                f"Cannot read {what} of {self.path}: {_first_line(error)}. The file is damaged, or "
                "of a kind that this pyarrow does not know: download it again, or write it anew."
            ) from error

    def _open(self) -> None:
        import pyarrow
        import pyarrow.parquet

        try:
            open_regular(self.path).close()  # pyarrow would wait for a pipe
            # As bytes, since pyarrow refuses a text that is no valid one.
            source = pyarrow.OSFile(os.fsencode(self.path))
            self._file: Any = pyarrow.parquet.ParquetFile(source)
        except Exception as error:  # of any type, see ``_reading``
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
        self.name = valid_name(name)
        self.split = split
        self.classes = classes
        self._files = files
        self._starts = np.cumsum([0, *(len(file) for file in files)])
        self._rows = np.arange(self._starts[-1], dtype=np.int64) if rows is None else rows
        known = (_labels_in(file) for file in files)
        everywhere = np.concatenate([np.empty(0, dtype=np.int64), *known])
        self._labels: Int64[np.ndarray, " n"] = everywhere[self._rows]
        chosen = "all rows" if rows is None else "rows by in_test"
        digests = (file_fingerprint(file.path) for file in files)
        self.fingerprint = combine(["parquet", split, chosen, *digests])
        self.state = files_state(file.path for file in files)

    def __len__(self) -> int:
        return len(self._rows)

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Read and decode one row. Raises ``BadImage`` where it holds no image."""
        check_index(index, len(self))
        result = next(self.read_images(range(index, index + 1)))
        if isinstance(result, BadImage):
            raise result
        return result

    def read_images(self, numbers: range) -> Iterator[UInt8[np.ndarray, "h w c"] | BadImage]:
        """Consecutive images one after the other, or what is wrong with them.

        Faster than ``image`` for each, because their rows are taken from the file at once.
        """
        return self._decoded(numbers, None)

    def read_resized(
        self, numbers: range, size: tuple[int, int], channels: int
    ) -> Iterator[UInt8[np.ndarray, "height width c"] | BadImage]:
        """Consecutive images at the size that is wanted, or what is wrong with them."""
        return self._decoded(numbers, (size, channels))

    def _decoded(
        self, numbers: range, target: TargetSize | None
    ) -> Iterator[UInt8[np.ndarray, "h w c"] | BadImage]:
        for number, data in zip(numbers, self._data(numbers), strict=True):
            if data is None:
                yield BadImage("the row holds no bytes", self.describe(number))
                continue
            try:
                yield decode(data, target=target)
            except BadImage as error:
                yield BadImage(error.reason, self.describe(number))

    def label(self, index: int) -> int | None:
        """The class of one row; None where the column is absent, null or negative."""
        label = int(self._labels[check_index(index, len(self))])
        return None if label < 0 else label

    def read_labels(self, numbers: range) -> Int64[np.ndarray, " n"]:
        """The classes of consecutive images; -1 where ``label`` gives None."""
        return np.asarray(self._labels[numbers.start : numbers.stop])

    def describe(self, index: int) -> str:
        """The row and its file, both as ``row 17 of train.parquet``."""
        file, row = self._place(index)
        return f"row {row} of {valid_name(file.path.name)}"

    def _data(self, numbers: range) -> Iterator[bytes | None]:
        rows = self._rows[numbers.start : numbers.stop]
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            for file, part in _divided(range(run[0], run[-1] + 1), self._starts):
                yield from self._files[file].data(part)

    def _place(self, index: int) -> tuple[ParquetFile, int]:
        row = int(self._rows[check_index(index, len(self))])
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
    says a split, the rows of all files together are divided by ``is_test`` of ``row 0``,
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
    for remark in sorted({file.remark for file in files.values() if file.remark}):
        warnings.warn(remark, Rot180Warning, stacklevel=5)
    if own:
        wanted = own if split == "all" else parts[split]
        rows = None
    else:
        wanted = parts[""]
        count = sum(len(file) for file in files.values())
        rows = split_indices((f"row {row}" for row in range(count)), split)
    # Names and numbers of classes come from all files, so that every split has the same.
    classes = _all_classes(list(files.values()))
    dataset = ParquetDataset([files[path] for path in wanted], rows, classes, name, split)
    if not len(dataset):
        raise Rot180Error(
            f"There are no rows of the split '{split}' in {suggest(p.name for p in files)}: "
            "add its file, or use the split 'all'."
        )
    return dataset


def _split_of(path: Path) -> str:
    found = _SPLIT_NAME.match(path.name)
    if found is None:
        return ""
    return "train" if found[1].lower() in TRAIN_NAMES else "test"


def _image_column(schema: Any, path: Path) -> tuple[str, bool]:
    """The name of the column of images, and whether the bytes are in a field of a struct."""
    candidates = {
        field.name: nested for field in schema if (nested := _holds_bytes(field.type)) is not None
    }
    named = [name for name in IMAGE_COLUMNS if name in candidates] or list(candidates)
    if named and (named[0] in IMAGE_COLUMNS or len(named) == 1):
        _check_single(schema, named[0], path)
        return named[0], candidates[named[0]]
    there = suggest((f"{field.name} ({field.type})" for field in schema), "image")
    raise Rot180Error(
        f"{path} has no column of images: it has {there}, and a column 'image' or 'img' is needed "
        "with the bytes of image files (binary, or a struct with a field 'bytes')."
    )


def _holds_bytes(kind: Any) -> bool | None:
    """True: a struct with bytes; False: plain bytes; None: something else."""
    from pyarrow import types

    if types.is_struct(kind):
        inside = [field.type for field in kind if field.name == "bytes"]
        return True if len(inside) == 1 and _holds_bytes(inside[0]) is False else None
    return False if _is_bytes(kind) else None


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _label_column(schema: Any, path: Path) -> str | None:
    """The column of classes: the first of whole numbers, otherwise the first."""
    from pyarrow import types

    named = [name for name in LABEL_COLUMNS if name in schema.names]
    for name in named:
        _check_single(schema, name, path)
    whole = (name for name in named if types.is_integer(schema.field(name).type))
    return next(whole, next(iter(named), None))


def _check_single(schema: Any, name: str, path: Path) -> None:
    count = schema.names.count(name)
    if count > 1:
        raise Rot180Error(
            f"{path} has {count} columns called '{name}', so it is not clear which one is meant: "
            "rename all but one."
        )


def _could_be(kind: Any) -> bool:
    """Whether a column of this type may be one of classes under another name."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_dictionary(kind) or _is_textual(kind))


def _is_textual(kind: Any) -> bool:
    from pyarrow import types

    texts = (types.is_string, types.is_large_string, types.is_string_view)
    return any(test(kind) for test in texts)


def _plain(column: Any) -> Any:
    """A column as numbers or texts, or None where it holds neither."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if types.is_null(kind) or types.is_boolean(kind) or types.is_integer(kind):
        return column
    if types.is_floating(kind) or types.is_decimal(kind):
        return column.cast("float64")
    return column if _is_textual(kind) or _is_bytes(kind) else None


def _whole(column: Any) -> Int64[np.ndarray, " n"] | None:
    """Whole numbers as int64, -1 for none (null, not a number); None if some are not whole."""
    from pyarrow import ArrowInvalid, compute, types

    if types.is_floating(column.type):
        column = compute.if_else(compute.is_nan(column), None, column)
    try:
        whole = column.cast("int64")
    except ArrowInvalid:  # a fraction, infinity or more than 64 bits
        return None
    return np.asarray(whole.fill_null(-1).to_numpy(), dtype=np.int64)


def _class_names(schema: Any, column: str | None) -> tuple[str, ...]:
    """What the metadata of Hugging Face's ``datasets`` call the classes; () where they do not."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        names = info["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):  # absent, or not as they write it
        return ()
    if not isinstance(names, list) or len(names) > CLASSES_MOST or not all(map(_is_text, names)):
        return ()
    return tuple(map(valid_name, names))


def _is_text(name: object) -> bool:
    return isinstance(name, str)


def _all_classes(files: Sequence[ParquetFile]) -> tuple[str, ...]:
    """The class names that the files agree on, or as many numbered ones as there are labels.

    Labels that are texts get their numbers here, the same in all files.
    """
    labelled = [file for file in files if file.labels is not None]
    texts = [file for file in labelled if file.texts]
    if texts:
        return _common_texts(labelled, texts)
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


def _common_texts(labelled: Sequence[ParquetFile], texts: Sequence[ParquetFile]) -> tuple[str, ...]:
    other = next((file for file in labelled if not file.texts), None)
    if other is not None:
        raise Rot180Error(
            f"The classes are texts in {texts[0].path.name} and numbers in {other.path.name}: "
            "write them alike."
        )
    classes = tuple(sorted({name for file in texts for name in file.classes}))
    number = {name: place for place, name in enumerate(classes)}
    for file in texts:
        # One more at the end, for -1.
        places = np.array([*(number[name] for name in file.classes), -1], dtype=np.int64)
        file.labels = places[file.labels]
    return classes


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
