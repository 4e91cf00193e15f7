"""One Parquet file of images: its columns, its labels, and its row groups when they are needed.

Nothing in the file is trusted. The numbers of rows and columns in its metadata are compared with
the size of the file and with the values that are read; the metadata of the schema only give the
names of the classes.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from rot180.datasets import parquet_columns as columns
from rot180.datasets.parquet_columns import CLASSES_MOST, LABEL_COLUMNS
from rot180.errors import Rot180Error, suggest
from rot180.files import open_regular
from rot180.visible import valid_name

# Number of row groups in memory: two, so that threads at a border do not evict each other's group.
GROUPS_HELD = 2
# Maximal size of a row group, which is held as a whole. Most groups are far smaller.
GROUP_BYTES = 2 * 1024**3
# Rows are read in batches of this size, to stop if a group holds more than its metadata say.
ROWS_AT_ONCE = 256
# A file may claim so many rows, and above that one for each of its bytes.
ROWS_UNCHECKED = 1_000_000
# More different texts than this, in more than half of the rows, are not class names.
TEXTS_UNCHECKED = 100


class ParquetFile:
    """A Parquet file: which column holds what, the labels, and row groups on demand.

    Attributes:
        path: path of the file.
        column: name of the column of images.
        label_column: name of the column of classes; None if there is none.
        classes: class names, if the metadata of the schema or the labels themselves give them.
        texts: whether the labels are texts in the file; ``labels`` are then indices in ``classes``.
        labels: (n,), the class of each row, negative for none; or None.
        remark: why there are no classes, if the user may wonder; otherwise "".
    """

    def __init__(self, path: Path) -> None:
        """Read the schema and the labels.

        Raises:
            Rot180Error: the file is not a Parquet file, or has no column of images.
        """
        self.path = path
        self._open()
        with self._reading("the schema"):
            schema = self._file.schema_arrow
            self.column, self._nested = columns.image_column(schema, path)
            self.label_column = columns.label_column(schema, path)
            self.classes = columns.class_names(schema, self.label_column)
            metadata = self._file.metadata
            groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            others = columns.possible_label_columns(schema)
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
        """Return the image files in consecutive rows; None for a row without one."""
        data: list[bytes | None] = []
        for group, part in split_rows(rows, self._starts):
            column = self._group(group)
            with self._reading(f"row group {group}"):
                data += column.slice(part.start, len(part)).to_pylist()
        return data

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
        """Read the images of a row group, unless they exceed ``GROUP_BYTES``."""
        import pyarrow

        name = f"{self.column}.bytes" if self._nested else self.column
        metadata = self._file.metadata.row_group(group)
        chunks = [metadata.column(n) for n in range(metadata.num_columns)]
        claimed = sum(
            chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == name
        )
        self._check_size(group, claimed)
        parts, size = [], 0
        for batch in self._file.iter_batches(ROWS_AT_ONCE, [group], [name]):
            parts.append(batch.column(self.column))
            size += batch.nbytes
            self._check_size(group, size)
        arrow_type = parts[0].type if parts else self._file.schema_arrow.field(self.column).type
        return pyarrow.chunked_array(parts, type=arrow_type)

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
            arrow_type, column = column.type, columns.simplify(column)
        if column is None:
            self.remark = f"{what} of {self.path.name} holds {arrow_type}"
        elif columns.is_text(column.type) or columns.is_bytes(column.type):
            return self._read_texts(column, what)
        else:
            labels = columns.to_integers(column)
            if labels is not None:
                return labels
            self.remark = (
                f"{what} of {self.path.name} holds numbers ({arrow_type}), some with a fraction or "
                "too large"
            )
        self._drop_classes()
        return None

    def _read_texts(self, column: Any, what: str) -> Int64[np.ndarray, " n"] | None:
        with self._reading(what):
            encoded = column.cast("large_binary").combine_chunks().dictionary_encode()
            names = [
                name.decode("utf-8", "surrogateescape") for name in encoded.dictionary.to_pylist()
            ]
            codes = np.asarray(encoded.indices.cast("int64").fill_null(-1).to_numpy(False))
        if len(names) > max(TEXTS_UNCHECKED, len(self) // 2) or len(names) > CLASSES_MOST:
            self.remark = (
                f"{what} of {self.path.name} holds {len(names)} different texts in {len(self)} rows"
            )
            self._drop_classes()
            return None
        order = sorted(range(len(names)), key=names.__getitem__)
        # The label of each code, and one more at the end, for -1.
        labels = np.append(np.argsort(np.array(order, dtype=np.int64)), -1).astype(np.int64)
        self.texts = True
        self.classes = tuple(valid_name(names[code]) for code in order)
        return np.asarray(labels[codes], dtype=np.int64)

    def _drop_classes(self) -> None:
        """Complete the remark on a column that does not hold classes, and ignore the column."""
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
            # As bytes, since pyarrow refuses a path that is not valid text.
            source = pyarrow.OSFile(os.fsencode(self.path))
            self._file: Any = pyarrow.parquet.ParquetFile(source)
        except Exception as error:  # of any type, see ``_reading``
            raise Rot180Error(
                f"{self.path} is not a Parquet file that can be read ({_first_line(error)}): "
                "download it again."
            ) from error
        self._lock = threading.Lock()
        self._held: OrderedDict[int, Any] = OrderedDict()

    # A data set is pickled for the worker processes of a loader; an open file and a lock cannot be.
    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_file", "_lock", "_held")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


def split_rows(rows: range, starts: Int64[np.ndarray, " k"]) -> Iterator[tuple[int, range]]:
    """Yield the parts (files, row groups) that consecutive rows are in, and the rows within each.

    Args:
        rows: consecutive rows.
        starts: first row of each part, and the number of all rows.
    """
    row = rows.start
    while row < rows.stop:
        part = int(np.searchsorted(starts, row, side="right")) - 1
        start, stop = int(starts[part]), min(rows.stop, int(starts[part + 1]))
        yield part, range(row - start, stop - start)
        row = stop


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
