"""The cache directory, and image arrays kept there.

An array is kept as two files: ``NAME.npy`` with the images, and ``NAME.json`` with what belongs to
them and a digest of the first. Both are written whole. An array whose files disagree, or that some
other program wrote, counts as absent and is made again. The digest reads at most 4 MiB
(``fingerprints.of_file``), so opening a large array stays cheap.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rot180.datasets.decode import BadImage
from rot180.datasets.fingerprints import of_file
from rot180.errors import Rot180Error
from rot180.files import atomic_write

FORMAT = 1
# Without a cache directory, arrays above this many bytes go to an unnamed temporary file.
IN_MEMORY = 2 * 1024**3

Write = Callable[[UInt8[np.ndarray, "b h w c"]], None]
Fill = Callable[[Write], dict[str, Any]]
Kept = tuple[UInt8[np.ndarray, "n h w c"], dict[str, Any]]


def cache_directory() -> Path:
    """Where rot180 keeps what it can make again; the directory need not exist.

    ``ROT180_CACHE``, or else ``rot180`` in ``XDG_CACHE_HOME``, or else ``~/.cache/rot180``.
    """
    own = os.environ.get("ROT180_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification asks to ignore relative paths.
    base = Path(shared) if os.path.isabs(shared) else Path(os.path.expanduser("~/.cache"))
    return base / "rot180"


def remembered(name: str, shape: tuple[int, int, int, int], fill: Fill) -> Kept:
    """The images kept under ``name`` with their notes; made by ``fill`` and kept when absent.

    ``fill`` is called with a function that takes blocks of images (b, h, w, c), one after the
    other, and returns the notes (anything that JSON holds). Where the cache directory cannot be
    written it may be called a second time, and the images then live in memory.

    Args:
        name: the stem of the file names.
        shape: (n, h, w, c), where n is the most images that ``fill`` will write.
        fill: makes the images.

    Returns:
        The images, memory-mapped (read only) where they could be kept, and the notes.
    """
    found = recalled(name, shape)
    if found is not None:
        return found
    try:
        _fill_files(name, shape, fill)
        found = recalled(name, shape)
    except BadImage:
        raise
    except Rot180Error as error:
        # ``atomic_write`` says so when it could not write; other errors are not about the cache.
        if not isinstance(error.__cause__, OSError):
            raise
    return found if found is not None else _fill_memory(shape, fill)


def recalled(name: str, shape: tuple[int, int, int, int]) -> Kept | None:
    """The images kept under ``name`` with their notes; None where absent, damaged or foreign."""
    path, beside = _paths(name)
    try:
        head = json.loads(beside.read_text(encoding="utf-8"))
        if head["format"] != FORMAT or head["digest"] != of_file(path):
            return None
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        notes = head["notes"]
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    as_told = images.dtype == np.uint8 and images.ndim == 4 and images.shape[1:] == shape[1:]
    if not as_told or len(images) > shape[0] or not isinstance(notes, dict):
        return None
    return images, notes


def _paths(name: str) -> tuple[Path, Path]:
    directory = cache_directory() / "images"
    return directory / f"{name}.npy", directory / f"{name}.json"


def _fill_files(name: str, shape: tuple[int, int, int, int], fill: Fill) -> None:
    """Stream the images to the file; only then is it known how many there are."""
    path, beside = _paths(name)
    with atomic_write(path) as unfinished:
        with unfinished.open("r+b") as file:
            _write_header(file, shape)
            start, count = file.tell(), 0

            def write(block: UInt8[np.ndarray, "b h w c"]) -> None:
                nonlocal count
                file.write(np.ascontiguousarray(block).data)
                count += len(block)

            notes = fill(write)
            file.seek(0)
            # NumPy leaves room in the header for the first axis, so the new one is as long.
            _write_header(file, (count, *shape[1:]))
            if file.tell() != start:
                raise OSError("the header of the array changed its length")
        head = {"format": FORMAT, "digest": of_file(unfinished), "notes": notes}
    with atomic_write(beside) as unfinished:
        unfinished.write_text(json.dumps(head), encoding="utf-8")


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    head = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)


def _fill_memory(shape: tuple[int, int, int, int], fill: Fill) -> Kept:
    if int(np.prod(shape, dtype=np.int64)) <= IN_MEMORY:
        images = np.empty(shape, dtype=np.uint8)
    else:
        # The mapping keeps the unnamed file alive for as long as the array is in use.
        with tempfile.TemporaryFile() as file:
            images = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
    count = 0

    def write(block: UInt8[np.ndarray, "b h w c"]) -> None:
        nonlocal count
        images[count : count + len(block)] = block
        count += len(block)

    notes = fill(write)
    return images[:count], notes
