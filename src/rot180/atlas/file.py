"""Connects to the file of an atlas: read-only, whole, and of this version.

An atlas may come from anybody, and so may the files beside it, which SQLite would act on: a journal
makes it change the atlas, and can name another file that it then deletes. So a reader never opens
an atlas for writing. What a killed scan left half written is taken back in a private copy. This
follows "Defense Against The Dark Arts", https://www.sqlite.org/security.html.
"""

import os
import shutil
import sqlite3
import stat
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from rot180.atlas.schema import APPLICATION_ID, TABLES, VERSION
from rot180.errors import Rot180Error
from rot180.files import private_folder

DAMAGED = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What SQLite's module raises: the second, where it cannot decode the error's own words."""

_JOURNAL = bytes.fromhex("d9d505f920a163d7")
"""The first eight bytes of a journal, and the last eight of one that names a super-journal."""

_STEPS, _STEPS_A_PAGE, _AT_ONCE = 10**8, 10**5, 10**6
"""How many steps of SQLite's machine a query may take, whatever the size of the file, and for each
of its pages (of at most some thousand values); how often they are counted."""


_LONGEST = 2**27
"""Bytes that a value or a row may have in a file of any size: one that is being scanned grows. In
larger files it is the size of the file."""

_CHECKED_WHOLE = 2**24
"""Bytes up to which every page of a file is checked when it is opened. It takes about 0.4 s for
100 MB that lie in memory, and reads all of a file; so larger ones are checked only before a scan
goes on with them, or they are merged."""

_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk failed",
    sqlite3.SQLITE_NOLFS: "the file system holds no files as large",
    sqlite3.SQLITE_READONLY: "it may not be written to",
    sqlite3.SQLITE_PERM: "its permissions do not allow it",
    sqlite3.SQLITE_AUTH: "its permissions do not allow it",
    sqlite3.SQLITE_CANTOPEN: "it, or its folder, may not be opened",
    sqlite3.SQLITE_BUSY: "another program reads it or writes to it",
    sqlite3.SQLITE_LOCKED: "another program reads it or writes to it",
    sqlite3.SQLITE_PROTOCOL: "another program reads it or writes to it",
    sqlite3.SQLITE_INTERRUPT: "a query takes longer than one of an atlas can",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_CORRUPT: "its pages do not fit together",
    sqlite3.SQLITE_FORMAT: "its pages do not fit together",
    sqlite3.SQLITE_NOTADB: "it does not begin as an atlas does",
    sqlite3.SQLITE_TOOBIG: "a value in it is too long",
    sqlite3.SQLITE_CONSTRAINT: "rows of it contradict each other",
    sqlite3.SQLITE_MISMATCH: "a value in it is of another kind",
    sqlite3.SQLITE_ERROR: "its tables are not those of an atlas",
    sqlite3.SQLITE_SCHEMA: "its tables are not those of an atlas",
}
"""What SQLite's numbers of errors mean for an atlas; its own words speak of SQL and inner parts."""

_CURABLE = {
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY),
    *(sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT),
    sqlite3.SQLITE_NOMEM,
}
"""Those after which the file is as it was: something around it is in the way."""


class _Connection(sqlite3.Connection):
    """A connection whose queries end after a bounded number of steps.

    Attributes:
        steps: that the query has taken so far.
        most: how many it may take.
    """

    steps, most = 0, _STEPS

    def execute(self, *given: Any) -> sqlite3.Cursor:
        """Begin a query."""
        self.steps = 0
        return super().execute(*given)

    def is_over(self) -> bool:
        """Count steps, and say whether it is enough."""
        self.steps += _AT_ONCE
        return self.steps > self.most


def open_readonly(path: Path) -> sqlite3.Connection:
    """Open an atlas read-only.

    Raises:
        Rot180Error: it is no atlas, one of another version, damaged, or being written to; a file
            beside it is not one that rot180 leaves there.
    """
    check_side_files(path)
    connection = _opened(path)
    try:
        _check_kind(path, connection)
        if path.stat().st_size <= _CHECKED_WHOLE:
            check_pages(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def check_pages(path: Path, connection: sqlite3.Connection) -> None:
    """See that every page and row of a file is where it should be (SQLite's ``quick_check``).

    Raises:
        Rot180Error: the file is damaged.
    """
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchall()
    except DAMAGED as error:
        raise read_error(path, error) from error
    if found != [("ok",)]:
        raise Rot180Error(f"{path} is damaged (its pages do not fit together): use a copy.")


def check_side_files(path: Path) -> None:
    """Refuse files beside an atlas that rot180 does not leave there, before SQLite acts on them.

    Raises:
        Rot180Error: the atlas has a write-ahead log, or a journal that is a link or names other
            files.
    """
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        head = b""  # whoever opens it says why it cannot be read
    logs = [Path(f"{path}{end}") for end in ("-wal", "-shm")]
    there = next((one.name for one in logs if os.path.lexists(one)), None)
    if there or 2 in head[18:20]:
        found = f"{there} lies beside it" if there else "it was switched to a write-ahead log"
        raise Rot180Error(
            f"{path} is not opened: {found}, and rot180 writes none. Another program has changed "
            "this atlas; use a copy from before."
        )
    _check_journal(path, Path(f"{path}-journal"))


def _check_journal(path: Path, journal: Path) -> None:
    try:
        found = journal.lstat()
    except OSError:
        return
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        what = "is a link or no plain file"
    elif _names_others(journal):
        what = "names a file elsewhere, which SQLite would delete"
    else:
        return
    raise Rot180Error(
        f"{path} is not opened: {journal.name} beside it {what}. rot180 leaves no such journal; do "
        "not trust where they came from."
    )


def _names_others(journal: Path) -> bool:
    """Say whether a journal names a super-journal, as SQLite's ``readSuperJournal`` sees it."""
    try:
        with journal.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - len(_JOURNAL), 0))
            return size >= 2 * len(_JOURNAL) and file.read() == _JOURNAL
    except OSError:
        return False


def _opened(path: Path) -> sqlite3.Connection:
    """Open a file read-only, without what an interrupted transaction left in it."""
    for _ in range(3):
        try:
            return _read_only(path)
        except DAMAGED as error:
            if "journal" not in str(error) and "readonly" not in str(error):
                raise read_error(path, error) from error
        # A scan was killed while it wrote. Whoever goes on with it takes its transaction back.
        found = _taken_back(path)
        if found is not None:
            return found
    raise read_error(path, sqlite3.OperationalError("database is locked"))


def _taken_back(path: Path) -> sqlite3.Connection | None:
    """Open a private copy of an atlas, of which SQLite takes the last transaction back.

    Returns None if the files have changed meanwhile: somebody goes on with the scan.
    """
    journal = Path(f"{path}-journal")
    place = Path(tempfile.gettempdir())
    try:
        # An open file stays readable where its name is gone; elsewhere it is left.
        with private_folder(place / "half-written.atlas") as folder:
            copy = folder / "half-written.atlas"
            before = _state(path, journal)
            shutil.copyfile(path, copy)
            shutil.copyfile(journal, f"{copy}-journal")
            if before != _state(path, journal):
                return None
            check_side_files(copy)
            with closing(sqlite3.connect(copy)) as writing:
                _harden(writing)
                writing.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
            return _read_only(copy)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Rot180Error(
            f"{path} was left in the middle of writing, and no copy of it can be made in {place} "
            f"to read it: {error.strerror or error}. Give the scan's command again to go on with "
            "it, or set TMPDIR to a place with more room."
        ) from error
    except DAMAGED as error:
        raise read_error(path, error) from error


def _state(*paths: Path) -> list[tuple[int, ...]]:
    return [(one.st_ino, one.st_size, one.st_mtime_ns) for one in map(os.stat, paths)]


def _read_only(path: Path) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, factory=_Connection)
    try:
        _harden(connection)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        size = path.stat().st_size
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(size, _LONGEST))
        connection.most = _STEPS + _STEPS_A_PAGE * min(pages, size)
        connection.set_progress_handler(connection.is_over, _AT_ONCE)
    except BaseException:
        connection.close()
        raise
    return connection


def _harden(connection: sqlite3.Connection) -> None:
    """Switch off what SQLite offers and an atlas does not need."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA mmap_size = 0")
    limits = (
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1),
        (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 100_000),
        (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100),
        (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 10),
        (sqlite3.SQLITE_LIMIT_COLUMN, 100),
        (sqlite3.SQLITE_LIMIT_VDBE_OP, 25_000),
        (sqlite3.SQLITE_LIMIT_FUNCTION_ARG, 8),
        (sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766),
        (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50),
        (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
    )
    for limit, most in limits:
        connection.setlimit(limit, most)
    defensive = getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE", None)  # from Python 3.12 on
    if defensive is not None:
        connection.setconfig(defensive, True)  # type: ignore[attr-defined,unused-ignore]


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
        ((_, _, name),) = connection.execute("PRAGMA database_list").fetchall()
    except DAMAGED as error:
        raise read_error(path, error) from error
    if there != _tables():
        raise Rot180Error(f"{path} has other tables than an atlas: it was changed, or is damaged.")
    if Path(name) == path.resolve() and path.stat().st_size < size * pages:
        raise Rot180Error(f"{path} is cut short: copy it again.")


def _tables() -> set[tuple[Any, ...]]:
    """Return the tables of an atlas, as SQLite lists them."""
    blank = sqlite3.connect(":memory:")
    try:
        blank.executescript(TABLES)
        return set(blank.execute("SELECT type, name, sql FROM sqlite_schema"))
    finally:
        blank.close()


def read_error(path: Path, error: Exception) -> Rot180Error:
    """Return the error that says why a file cannot be read."""
    if "locked" in str(error):
        return Rot180Error(f"{path} cannot be read while another process writes to it: try again.")
    if "unable to open" in str(error):
        return Rot180Error(f"{path} cannot be read: check its permissions.")
    if "interrupted" in str(error):
        return Rot180Error(f"{path} is damaged: a query takes longer than one of an atlas can.")
    if is_curable(error):
        return Rot180Error(f"{path} cannot be read: {reason_of(error)}.")
    return Rot180Error(f"{path} is not an atlas, or a damaged one ({reason_of(error)}).")


def is_curable(error: Exception) -> bool:
    """Say whether something around the file is in the way, and not the file itself."""
    return isinstance(error, OSError) or _number_of(error) in _CURABLE


def reason_of(error: Exception) -> str:
    """Return why SQLite could not do something, in words that are not SQLite's."""
    if isinstance(error, OSError):
        return error.strerror or "the system does not say why"
    if isinstance(error, UnicodeError) or "UTF-8" in str(error):
        return "a text in it is not UTF-8"
    if isinstance(error, OverflowError):
        return "a number in it is too large"
    return _REASONS.get(_number_of(error), "it is not as rot180 wrote it")


def _number_of(error: Exception) -> int:
    """Return SQLite's number for a kind of error; 0 where it was Python that refused."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
