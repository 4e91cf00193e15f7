"""Connects to the file of an atlas: read-only, whole, and of this version."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from rot180.atlas.schema import APPLICATION_ID, TABLES, VERSION
from rot180.errors import Rot180Error

DAMAGED = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What SQLite's module raises: the second, where it cannot decode the error's own words."""


def connected(path: Path) -> sqlite3.Connection:
    """Open an atlas read-only.

    Raises:
        Rot180Error: it is no atlas, one of another version, damaged, or being written to.
    """
    connection = _opened(path)
    try:
        _check_kind(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _opened(path: Path) -> sqlite3.Connection:
    """Open a file read-only, after giving back what an interrupted transaction left."""
    try:
        return _read_only(path)
    except DAMAGED as error:
        if "journal" not in str(error) and "readonly" not in str(error):
            raise unreadable(path, error) from error
    try:  # a scan was killed while it wrote: SQLite rolls its transaction back when it may write
        with closing(sqlite3.connect(path)) as writing:
            writing.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        return _read_only(path)
    except DAMAGED as error:
        if "readonly" in str(error) or "unable to open" in str(error):
            raise Rot180Error(
                f"{path} was left in the middle of writing, and may not be written to here: copy "
                f"it and {path.name}-journal to another directory, and open it there."
            ) from error
        raise unreadable(path, error) from error


def _read_only(path: Path) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _check_kind(path: Path, connection: sqlite3.Connection) -> None:
    try:
        ((kind,),) = connection.execute("PRAGMA application_id").fetchall()
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        if kind != APPLICATION_ID:
            raise Rot180Error(f"{path} is a database, but not an atlas that 'rot180 scan' made.")
        if version != VERSION:
            newer = "a newer version of rot180" if version > VERSION else "an older version"
            raise Rot180Error(
                f"{path} was made by {newer} (its tables have version {version}, this one knows "
                f"{VERSION}): update rot180, or scan again."
            )
        there = set(connection.execute("SELECT type, name, sql FROM sqlite_schema"))
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    except DAMAGED as error:
        raise unreadable(path, error) from error
    if there != _tables():
        raise Rot180Error(f"{path} has other tables than an atlas: it was changed, or is damaged.")
    if path.stat().st_size < size * pages:
        raise Rot180Error(f"{path} is cut short: copy it again.")


def _tables() -> set[tuple[Any, ...]]:
    """Return the tables of an atlas, as SQLite lists them."""
    blank = sqlite3.connect(":memory:")
    try:
        blank.executescript(TABLES)
        return set(blank.execute("SELECT type, name, sql FROM sqlite_schema"))
    finally:
        blank.close()


def unreadable(path: Path, error: Exception) -> Rot180Error:
    """Return the error that says why a file cannot be read."""
    if "locked" in str(error):
        return Rot180Error(f"{path} cannot be read while another process writes to it: try again.")
    if "unable to open" in str(error):
        return Rot180Error(f"{path} cannot be read: check its permissions.")
    return Rot180Error(f"{path} is not an atlas, or a damaged one ({error}).")
