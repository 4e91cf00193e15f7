"""The cache directory, and arrays of images in it.

An array is stored as two files: ``NAME.npy`` with the images, and ``NAME.json`` with notes and a
digest of the first. Both are written whole. An array whose files disagree, or that another program
wrote, counts as absent and is built again. The digest reads at most 4 MiB
(``fingerprints.file_fingerprint``), so opening a large array stays cheap.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from platformdirs import user_cache_path

from rot180.datasets.decode import BadImage
from rot180.datasets.fingerprints import file_fingerprint
from rot180.errors import Rot180Error
from rot180.files import atomic_write

FORMAT = 1
# Without a cache directory, arrays of more bytes go to an unnamed temporary file.
IN_MEMORY = 2 * 1024**3

Write = Callable[[UInt8[np.ndarray, "b h w c"]], None]
Build = Callable[[Write], dict[str, Any]]
CachedImages = tuple[UInt8[np.ndarray, "n h w c"], dict[str, Any]]


def cache_directory() -> Path:
    """Return the directory for files that can be made again; it need not exist.

    It is ``ROT180_CACHE`` if that is set, and otherwise the directory ``rot180`` where the system
    keeps the caches of a user: in ``XDG_CACHE_HOME`` or ``~/.cache`` on Linux.
    """
    own = os.environ.get("ROT180_CACHE")
    return Path(own).expanduser() if own else user_cache_path("rot180", appauthor=False)


def get_or_build(name: str, shape: tuple[int, int, int, int], build: Build) -> CachedImages:
    """Return the images cached under ``name`` with their notes; build and cache them if absent.

    ``build`` is called with a function that takes consecutive blocks of images (b, h, w, c), and
    returns the notes (any JSON value). If the cache directory cannot be written, it may be called a
    second time, and the images stay in memory.

    Args:
        name: stem of the file names.
        shape: (n, h, w, c), where n is the maximal number of images that ``build`` writes.
        build: writes the images.

    Returns:
        The images, memory-mapped (read only) if they could be cached, and the notes.
    """
    cached = load_cached(name, shape)
    if cached is not None:
        return cached
    try:
        _build_files(name, shape, build)
        cached = load_cached(name, shape)
    except BadImage:
        raise
    except Rot180Error as error:
        # ``atomic_write`` raises it when it cannot write; other errors do not concern the cache.
        if not isinstance(error.__cause__, OSError):
            raise
    return cached if cached is not None else _build_in_memory(shape, build)


def load_cached(name: str, shape: tuple[int, int, int, int]) -> CachedImages | None:
    """Return the images cached under ``name`` with their notes; None if absent or damaged."""
    array_path, notes_path = _paths(name)
    try:
        head = json.loads(notes_path.read_text(encoding="utf-8"))
        if head["format"] != FORMAT or head["digest"] != file_fingerprint(array_path):
            return None
        images = np.load(array_path, mmap_mode="r", allow_pickle=False)
        notes = head["notes"]
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    matches = images.dtype == np.uint8 and images.ndim == 4 and images.shape[1:] == shape[1:]
    if not matches or len(images) > shape[0] or not isinstance(notes, dict):
        return None
    return images, notes


def _paths(name: str) -> tuple[Path, Path]:
    directory = cache_directory() / "images"
    return directory / f"{name}.npy", directory / f"{name}.json"


def _build_files(name: str, shape: tuple[int, int, int, int], build: Build) -> None:
    """Stream the images to the file. Their number is known only afterwards."""
    array_path, notes_path = _paths(name)
    with atomic_write(array_path) as temporary:
        with temporary.open("r+b") as file:
            _write_header(file, shape)
            start, count = file.tell(), 0

            def write(block: UInt8[np.ndarray, "b h w c"]) -> None:
                nonlocal count
                file.write(np.ascontiguousarray(block).data)
                count += len(block)

            notes = build(write)
            file.seek(0)
            # NumPy leaves room in the header for the first axis, so the new one is as long.
            _write_header(file, (count, *shape[1:]))
            if file.tell() != start:
                raise OSError("the header of the array changed its length")
        head = {"format": FORMAT, "digest": file_fingerprint(temporary), "notes": notes}
    with atomic_write(notes_path) as temporary:
        temporary.write_text(json.dumps(head), encoding="utf-8")


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    head = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)


def _build_in_memory(shape: tuple[int, int, int, int], build: Build) -> CachedImages:
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

    notes = build(write)
    return images[:count], notes
