"""Files that are either the old one or the new one, never half of each."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rot180.errors import Rot180Error


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; rename it onto ``path`` when all went well.

    A full disk, a signal or an exception leaves the old file as it was.

    Raises:
        Rot180Error: the directory cannot be made or written to, or the disk is full.
    """
    path = Path(path)
    beside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        beside = Path(name)
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise Rot180Error(
            f"Cannot write {path}: {error.strerror or error}{place}. "
            + (
                "The file that was there is unchanged."
                if path.is_file()
                else "No file was left behind."
            )
        ) from error
    finally:
        if beside is not None:
            with suppress(OSError):
                beside.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Find out now whether :func:`written_whole` could write this file later.

    Raises:
        Rot180Error: it could not.
    """
    path = Path(path)
    if path.is_dir():
        raise Rot180Error(f"Cannot write {path}: it is a directory; name a file in it.")
    trial = path.with_name(f".{path.name}-trial")
    with written_whole(trial):
        pass
    trial.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
