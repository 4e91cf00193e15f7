"""Reading and writing files: whole or not at all, and nothing but regular files."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from rot180.errors import Rot180Error

try:
    import fcntl
except ImportError:  # Windows: no folder is locked there, and leftover folders stay
    fcntl = None  # type: ignore[assignment]

_NO_DIRECTORY_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF)
"""Errors of file systems that cannot synchronise a directory, or do not permit it."""
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)
"""Errors of file systems without locks. Leftover folders are not removed there."""
_PRIVATE = "-rot180-"
"""Part of the name of every private folder."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in a folder beside ``path``; rename it onto ``path`` at the end.

    A full disk, a signal or an exception leaves the old file as it was. Temporary folders that
    killed processes left behind for the same file are removed.

    Raises:
        Rot180Error: the directory cannot be made or written to, or the disk is full.
    """
    path = _checked_path(path)
    folder: Path | None = None
    try:
        changed = _make_directory(path.parent)
        with private_folder(path) as folder:
            temporary = folder / path.name
            temporary.touch()
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    except OSError as error:
        outcome = (
            "The file that was there is unchanged."
            if is_file(path)
            else "There is no file of this name now."
        )
        raise Rot180Error(
            f"Cannot write {path}: {error.strerror or error}{_location(error, folder)}. {outcome}"
        ) from error
    try:
        sync_directories(changed)
    except OSError as error:
        raise Rot180Error(
            f"{path} is written, but the disk has not confirmed it ({error.strerror or error}): "
            "after a loss of power it could be missing. Check the disk, and write it again."
        ) from error


@contextmanager
def private_folder(path: Path) -> Iterator[Path]:
    """Make a hidden folder beside ``path`` for its temporary files; remove it at the end.

    Folders of processes that no longer run are removed first. The owner of a folder holds a lock
    on it, which ends with the process: a folder that can be locked has no owner.

    Raises:
        OSError: the folder cannot be made.
    """
    prefix = f".{path.name[:40]}{_PRIVATE}"  # a name has 255 bytes at most
    _remove_leftovers(path.parent, prefix)
    folder, handle = _locked_folder(path.parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def check_writable(path: str | Path) -> None:
    """Check now that :func:`atomic_write` will be able to write this file.

    Raises:
        Rot180Error: the file cannot be written.
    """
    path = _checked_path(path)
    try:
        if path.is_dir():
            raise Rot180Error(f"Cannot write {path}: it is a directory; name a file in it.")
        _make_directory(path.parent)
        with private_folder(path) as folder:
            (folder / path.name).touch()
    except OSError as error:
        raise Rot180Error(
            f"Cannot write {path}: {error.strerror or error}{_location(error)}."
        ) from error


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading. Pipes are not waited for, and devices are not opened.

    Raises:
        OSError: the file does not exist, may not be read, or is not a regular file.
    """
    # Opening a device can have effects, so the path is checked first. It may be replaced before it
    # is opened, so the open file is checked, too.
    if stat.S_ISREG(path.stat().st_mode):
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "rb")
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
    raise OSError(0, "it is not a regular file", str(path))


def permission_hint(error: OSError) -> str:
    """Return a sentence with a leading space that helps with a permission error, otherwise ""."""
    return " Check its permissions." if isinstance(error, PermissionError) else ""


def is_file(path: Path) -> bool:
    """Return whether the file exists; False for impossible names and where access is denied."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_directory(path: Path) -> bool:
    """Return whether the directory exists, as :func:`is_file` does for files."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def sync_directories(directories: Iterable[Path]) -> None:
    """Wait until the entries of these directories are on the disk, and with them a renaming.

    File systems that cannot synchronise directories are skipped.

    Raises:
        OSError: the disk failed.
    """
    if os.name != "posix":
        return
    for directory in directories:
        try:
            handle = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            if error.errno not in _NO_DIRECTORY_SYNC:
                raise


def _checked_path(path: str | Path) -> Path:
    """Return the path.

    Raises:
        Rot180Error: no file can have this name.
    """
    try:
        if b"\0" not in os.fsencode(path):
            return Path(path)
    except UnicodeEncodeError:
        pass
    raise Rot180Error(f"No file can have the name {str(path)[:80]!r}: give another one.")


def _make_directory(directory: Path) -> list[Path]:
    """Make a directory; return it and all directories that got a new entry."""
    missing = []
    for path in (directory, *directory.parents):
        if path.exists():
            break
        missing.append(path)
    directory.mkdir(parents=True, exist_ok=True)
    return [directory, *(path.parent for path in missing)]


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int | None]:
    """Make a folder and lock it; try again if another process removes it before it is locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            handle = _lock(folder)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return folder, None
            with suppress(OSError):
                folder.rmdir()
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), folder.stat()):
                return folder, handle
        os.close(handle)


def _remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove this user's folders that killed processes left behind."""
    if fcntl is None:
        return
    with suppress(OSError):
        for entry in list(os.scandir(parent)):
            if entry.name.startswith(prefix) and _is_own(entry):
                with suppress(OSError):
                    handle = _lock(Path(entry.path))
                    shutil.rmtree(entry.path, ignore_errors=True)
                    os.close(handle)


def _is_own(entry: os.DirEntry[str]) -> bool:
    """Return whether the folder belongs to this user: others may write to the same directory."""
    mine = entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    return mine and entry.is_dir(follow_symlinks=False)


def _lock(folder: Path) -> int:
    """Lock a folder until the returned handle is closed.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the file system has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "no locks")
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _location(error: OSError, folder: Path | None = None) -> str:
    """Return the file of an error in brackets; nothing for the files of a private folder."""
    if not isinstance(error.filename, str) or _PRIVATE in error.filename:
        return ""
    inside = folder is not None and folder in Path(error.filename).parents
    return "" if inside else f" ({error.filename})"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
