"""Writes atlases: every change is one transaction, so that a file is valid whenever it is left."""

import json
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rot180.atlas import tables
from rot180.atlas.accumulator import ScanState
from rot180.atlas.feature_index import FeatureIndex
from rot180.atlas.file import check_side_files, is_curable, reason_of
from rot180.atlas.schema import APPLICATION_ID, TABLES, VERSION
from rot180.atlas.tables import ReceptiveFields
from rot180.errors import Rot180Error, Rot180Warning
from rot180.files import is_file, private_folder, sync_directories

_RESULTS = (
    *("feature", "example", "effective_field", "histogram", "class_response", "correlation"),
    *("sample_image", "sample", "state"),
)
"""The tables that are written anew at every checkpoint."""

_PICTURES = 256
"""Pictures stored in one transaction."""

PATIENCE = 600.0
"""Seconds to wait for another program that holds the file."""

_BUSY = {"SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_LOCKED"}


class FileBusy(Rot180Error):
    """Another program holds a lock on the file, as every program does while it reads it."""


class AtlasWriter:
    """Writes one atlas.

    Args:
        path: the file; it exists already (see :func:`create`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._warned = False
        check_side_files(path)
        with self._errors_as_sentences():
            self.connection = sqlite3.connect(path, isolation_level=None)
            # Full synchronisation is SQLite's default; it stands here because all rests on it.
            self.connection.execute("PRAGMA synchronous = FULL")

    def __enter__(self) -> "AtlasWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    @contextmanager
    def _errors_as_sentences(self) -> Iterator[None]:
        """Turn the database's errors into sentences."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            kind = FileBusy if getattr(error, "sqlite_errorname", "") in _BUSY else Rot180Error
            if not is_file(self.path):
                raise Rot180Error(
                    f"Cannot write {self.path}: it has been moved or removed during the scan."
                ) from error
            if not is_curable(error):
                raise Rot180Error(
                    f"Cannot continue {self.path}: it is damaged ({reason_of(error)}). Use an "
                    "earlier copy, or scan again."
                ) from error
            raise kind(
                f"Cannot write {self.path}: {reason_of(error)}. What was saved before is "
                "intact; give the same command again to continue from there."
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run changes as one transaction: all of them are made, or none."""
        with self._errors_as_sentences():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def _change(
        self, change: Callable[[sqlite3.Connection], Any], patience: float | None = None
    ) -> None:
        """Make a change in one transaction, as soon as no other program holds the file.

        Args:
            change: makes the change; it is called again after the file was busy.
            patience: maximal number of seconds to wait; :data:`PATIENCE` by default.
        """
        until = time.monotonic() + (PATIENCE if patience is None else patience)
        while True:
            try:
                with self.transaction() as file:
                    change(file)
                return
            except FileBusy:
                if time.monotonic() >= until:
                    raise
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"Another program is reading {self.path} or writing to it: waiting for it, for "
                    f"at most {PATIENCE / 60:.0f} minutes.",
                    Rot180Warning,
                    stacklevel=2,
                )
            time.sleep(0.1)

    def save(
        self,
        state: ScanState,
        fields: Mapping[str, ReceptiveFields],
        names: Callable[[int], tuple[str, int | None]],
        progress: Sequence[tuple[int, int, int]],
        before: Sequence[tuple[int, int, int]] | None,
        skipped: Iterable[tuple[int, str, str]],
        seconds: float = 0.0,
        patience: float | None = None,
    ) -> None:
        """Write a checkpoint: the state, the rows computed from it, and the progress of the scan.

        Args:
            state: the state after the images of ``progress``.
            fields: the receptive fields of each layer.
            names: returns the name and the class of an image, by its number.
            progress: (first, stop, next) of each range of images.
            before: progress that the file must hold; None: any.
            skipped: (image, name, reason) of images that could not be read.
            seconds: time spent since the last checkpoint.
            patience: maximal number of seconds to wait for other programs that hold the file;
                :data:`PATIENCE` by default.

        Raises:
            FileBusy: another program held it for longer.
            Rot180Error: the file cannot be written, or another process continues the scan.
        """
        skipped = list(skipped)

        def change(file: sqlite3.Connection) -> None:
            if before is not None and self.progress() != list(before):
                raise Rot180Error(
                    f"{self.path} was changed by another process, which is scanning into it. This "
                    "process stops; the other continues."
                )
            for table in _RESULTS:
                file.execute(f"DELETE FROM {table}")
            _insert(file, "feature", tables.feature_rows(state))
            _insert(file, "example", tables.example_rows(state, dict(fields)))
            _insert(file, "histogram", tables.histogram_rows(state))
            _insert(file, "class_response", tables.class_response_rows(state))
            _insert(file, "correlation", tables.correlation_rows(state))
            _insert(file, "sample_image", enumerate(sorted(state.sample_images.tolist())))
            _insert(file, "sample", tables.sample_rows(state))
            _insert(file, "state", _packed(state.arrays()))
            counts = state.class_images.tolist()
            file.executemany(
                "UPDATE class SET images = ? WHERE number = ?",
                [(count, number) for number, count in enumerate(counts[:-1])],
            )
            _insert(file, "skipped", skipped, "OR REPLACE ")
            self._images(file, names)
            file.execute("DELETE FROM progress")
            _insert(file, "progress", progress)
            file.execute(
                "UPDATE metadata SET value = CAST(value AS REAL) + ? WHERE key = 'seconds'",
                (seconds,),
            )

        self._change(change, patience)

    def _images(
        self, file: sqlite3.Connection, names: Callable[[int], tuple[str, int | None]]
    ) -> None:
        """Insert rows for images that became examples, and delete those of others."""
        file.execute("DELETE FROM image WHERE number NOT IN (SELECT image FROM example)")
        new = file.execute(
            "SELECT DISTINCT image FROM example WHERE image NOT IN (SELECT number FROM image) "
            "ORDER BY image"
        ).fetchall()
        _insert(file, "image", ((number, *names(number), None) for (number,) in new))

    def progress(self) -> list[tuple[int, int, int]]:
        """Return (first, stop, next) of each range of images."""
        with self._errors_as_sentences():
            return list(self.connection.execute("SELECT * FROM progress ORDER BY first"))

    def missing_pictures(self) -> list[int]:
        """Return the images whose pictures are missing."""
        found = self.connection.execute("SELECT number FROM image WHERE picture IS NULL")
        return sorted(number for (number,) in found)

    def add_pictures(
        self, pictures_of: Callable[[Sequence[int]], Iterable[tuple[int, bytes]]]
    ) -> None:
        """Store the missing pictures in several transactions, so that an interrupt loses few.

        Args:
            pictures_of: returns the number and the picture of each of some images.
        """
        missing = self.missing_pictures()
        for start in range(0, len(missing), _PICTURES):
            found = pictures_of(missing[start : start + _PICTURES])
            self._put_pictures([(data, number) for number, data in found])

    def _put_pictures(self, some: list[tuple[bytes, int]]) -> None:
        self._change(
            lambda file: file.executemany("UPDATE image SET picture = ? WHERE number = ?", some)
        )

    def add_effective_fields(self, rows: Sequence[tuple[int, ...]]) -> None:
        """Store effective receptive fields: (feature, rank, top, left, bottom, right) each."""
        self._change(lambda file: _insert(file, "effective_field", rows, "OR REPLACE "))

    def set_metadata(self, facts: Mapping[str, Any]) -> None:
        """Add metadata, or replace it."""
        self._change(lambda file: _insert(file, "metadata", _as_json(facts), "OR REPLACE "))

    def rename(self, facts: Mapping[str, Any], classes: Sequence[str]) -> None:
        """Change the names of the classes, and metadata."""

        def change(file: sqlite3.Connection) -> None:
            _insert(file, "metadata", _as_json(facts), "OR REPLACE ")
            file.executemany(
                "UPDATE class SET name = ? WHERE number = ?",
                [(name, number) for number, name in enumerate(classes)],
            )

        self._change(change)

    def finish(self, facts: Mapping[str, Any], keep_state: bool) -> None:
        """Mark the scan as finished, and free the space that its state took."""

        def change(file: sqlite3.Connection) -> None:
            if not keep_state:
                file.execute("DELETE FROM state")
            _insert(file, "metadata", _as_json(facts), "OR REPLACE ")

        self._change(change)
        try:
            self.connection.execute("VACUUM")
        except (
            sqlite3.Error
        ):  # no space for a second copy, or another reader: the file is complete anyway
            return


def roll_back(path: Path) -> None:
    """Let SQLite roll back a transaction that a killed scan has left unfinished, if any.

    Raises:
        Rot180Error: the file cannot be written.
    """
    if Path(f"{path}-journal").exists():
        with AtlasWriter(path) as writer:
            writer.progress()


@contextmanager
def create_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a new atlas; when the block ends well, move the file to ``path``.

    Raises:
        Rot180Error: the directory cannot be written to, or another file appeared there meanwhile.
    """
    try:
        with private_folder(path) as directory:
            new = directory / path.name
            yield new
            try:
                # A hard link, unlike a rename, never replaces an existing file.
                os.link(new, path)
            except FileExistsError:
                if path.stat().st_size:
                    raise Rot180Error(
                        f"{path} was made by another process meanwhile, which continues the scan."
                    ) from None
                os.replace(new, path)
            except OSError:  # a file system without links
                os.replace(new, path)
            sync_directories([path.parent])
    except OSError as error:
        raise Rot180Error(f"Cannot write {path}: {error.strerror or error}.") from error


def create(
    path: Path,
    about: Mapping[str, Any],
    layers: Iterable[tuple[Any, ...]],
    fields: Mapping[str, ReceptiveFields],
    classes: Sequence[str],
    index: FeatureIndex,
    progress: Sequence[tuple[int, int, int]],
) -> AtlasWriter:
    """Make a new atlas that holds no images yet.

    Raises:
        Rot180Error: the file cannot be made.
    """
    writer = AtlasWriter(path)
    with writer.transaction() as file:
        for statement in TABLES.split(";\n"):
            if statement.strip():
                file.execute(statement)
        file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        file.execute(f"PRAGMA user_version = {VERSION}")
        _insert(file, "metadata", _as_json({**about, "index": index.to_json()}))
        _insert(file, "layer", layers)
        for name, spans in fields.items():
            for axis, places in enumerate(spans):
                found = ((name, axis, n, a, b) for n, (a, b) in enumerate(places.tolist()))
                _insert(file, "receptive_field", found)
        _insert(file, "class", ((number, name, 0) for number, name in enumerate(classes)))
        _insert(file, "progress", progress)
    return writer


def _as_json(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, json.dumps(value, ensure_ascii=False)) for key, value in facts.items()]


def _insert(
    file: sqlite3.Connection, table: str, found: Iterable[tuple[Any, ...]], how: str = ""
) -> None:
    """Insert rows, each with a value for every column."""
    width = len(file.execute(f"PRAGMA table_info({table})").fetchall())
    marks = ", ".join("?" * width)
    file.executemany(f"INSERT {how}INTO {table} VALUES ({marks})", found)


def _packed(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str, str, bytes]]:
    for name, array in arrays.items():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        yield name, array.dtype.name, json.dumps(array.shape), little.tobytes()


def unpack_array(name: str, kind: Any, shape: Any, numbers: Any) -> np.ndarray:
    """Return an array of the state from its columns in the file.

    Raises:
        Rot180Error: these are not the bytes of such an array.
    """
    try:
        if kind not in ("int64", "float64", "float32", "float16"):
            raise ValueError
        sizes = tuple(int(one) for one in json.loads(shape))
        if min(sizes, default=0) < 0:
            raise ValueError
        return np.frombuffer(numbers, np.dtype(kind).newbyteorder("<")).reshape(sizes).astype(kind)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Rot180Error(
            f"The state of the scan is damaged: '{name}' is not as it was written."
        ) from error
