"""Files that are either the old one or the new one, never half of each."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rot180.errors import Rot180Error

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and nothing cleared away
    fcntl = None  # type: ignore[assignment]

_UNCONFIRMABLE = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF)
"""What file systems answer that cannot confirm a directory, or may not be asked to."""
_LOCKLESS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)
"""What file systems answer that have no locks. Nothing is cleared away there."""
_OURS = "-rot180-"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to, in a folder beside ``path``; rename it onto ``path`` at the end.

    A full disk, a signal or an exception leaves the old file as it was. What a process that was
    killed left of its own attempts at this file is cleared away.

    Raises:
        Rot180Error: the directory cannot be made or written to, or the disk is full.
    """
    path = _named(path)
    folder: Path | None = None
    try:
        changed = _made(path.parent)
        with private_folder(path) as folder:
            beside = folder / path.name
            beside.touch()
            yield beside
            with beside.open("rb") as written:
                os.fsync(written.fileno())
            beside.chmod(0o666 & ~_umask())
            beside.replace(path)
    except OSError as error:
        outcome = (
            "The file that was there is unchanged."
            if is_file(path)
            else "There is no file of this name now."
        )
        raise Rot180Error(
            f"Cannot write {path}: {error.strerror or error}{_place(error, folder)}. {outcome}"
        ) from error
    try:
        confirm(changed)
    except OSError as error:
        raise Rot180Error(
            f"{path} is written, but the disk has not confirmed it ({error.strerror or error}): "
            "after a loss of power it could be missing. Check the disk, and write it again."
        ) from error


@contextmanager
def private_folder(path: Path) -> Iterator[Path]:
    """Make a hidden folder beside ``path`` for what is to become it; remove it at the end.

    Such folders of processes that no longer run are removed first. A folder's owner holds a lock
    on it, which ends with the process: what can be locked belongs to nobody.

    Raises:
        OSError: the folder cannot be made.
    """
    prefix = f".{path.name[:40]}{_OURS}"  # a name has 255 bytes at most
    _clear(path.parent, prefix)
    folder, handle = _locked_folder(path.parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def check_writable(path: str | Path) -> None:
    """Find out now whether :func:`atomic_write` could write this file later.

    Raises:
        Rot180Error: it could not.
    """
    path = _named(path)
    try:
        if path.is_dir():
            raise Rot180Error(f"Cannot write {path}: it is a directory; name a file in it.")
        _made(path.parent)
        with private_folder(path) as folder:
            (folder / path.name).touch()
    except OSError as error:
        raise Rot180Error(
            f"Cannot write {path}: {error.strerror or error}{_place(error)}."
        ) from error


def is_file(path: Path) -> bool:
    """Say whether a file is there; what can be no file's name, or may not be looked at, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_directory(path: Path) -> bool:
    """Say whether a directory is there, as :func:`is_file` does of files."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def confirm(directories: Iterable[Path]) -> None:
    """Wait until the names in these directories are on the disk: a renaming is not before.

    File systems that cannot do that are left alone.

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
            if error.errno not in _UNCONFIRMABLE:
                raise


def _named(path: str | Path) -> Path:
    """Return a path, if it can be one.

    Raises:
        Rot180Error: no file can have this name.
    """
    try:
        if b"\0" not in os.fsencode(path):
            return Path(path)
    except UnicodeEncodeError:
        pass
    raise Rot180Error(f"No file can have the name {str(path)[:80]!r}: give another one.")


def _made(directory: Path) -> list[Path]:
    """Make a directory; return it and those in which something was made."""
    missing = []
    for one in (directory, *directory.parents):
        if one.exists():
            break
        missing.append(one)
    directory.mkdir(parents=True, exist_ok=True)
    return [directory, *(one.parent for one in missing)]


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int | None]:
    """Make a folder and lock it; another process may take it for left behind before it is."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            handle = _lock(folder)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno in _LOCKLESS:
                return folder, None
            with suppress(OSError):
                folder.rmdir()
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), folder.stat()):
                return folder, handle
        os.close(handle)


def _clear(parent: Path, prefix: str) -> None:
    """Remove the folders of processes that were killed, where they belong to the same user."""
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
    """Say whether this is a folder of the user: many may write into a place for temporary files."""
    mine = entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    return mine and entry.is_dir(follow_symlinks=False)


def _lock(folder: Path) -> int:
    """Lock a folder until the returned handle is closed.

    Raises:
        BlockingIOError: somebody else holds the lock.
        OSError: there are no locks here.
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


def _place(error: OSError, folder: Path | None = None) -> str:
    """Say where, unless it is a file of which nobody has to know."""
    if not isinstance(error.filename, str) or _OURS in error.filename:
        return ""
    inside = folder is not None and folder in Path(error.filename).parents
    return "" if inside else f" ({error.filename})"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
