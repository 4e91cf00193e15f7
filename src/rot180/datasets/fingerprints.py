"""Fingerprints: what the images are, in 32 hexadecimal digits, without reading all of them.

A fingerprint is the start of a SHA-256. What goes in:

- **files** (Parquet, the binary CIFAR-10): of each file its size and up to 64 evenly spaced blocks
  of 64 KiB, so the whole content up to 4 MiB and a constant cost above; then the split and, where
  rows were chosen from one file, the rule that chose them;
- **folders of images**: relative paths and sizes of all files; the content, as above, of evenly
  spaced ones, of all as long as they are at most 4,096 files of 256 MiB together; class names and
  split;
- **arrays**: shape and content, labels, class names, split.

Neither the place of the data nor any time stamp goes in, so a copy on another machine has the same
fingerprint. The price of not reading everything: in a large folder or file, a change that keeps the
number of bytes can go unnoticed. What is kept on this machine (``decoded``) is therefore known by
the *state* of the files, too: when each was changed, and its inode.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rot180.files import open_regular

BLOCK = 64 * 1024
BLOCKS = 64
DIGITS = 32
FILES, FILES_BYTES = 4096, 256 * 1024**2


def combined(parts: Iterable[str | bytes]) -> str:
    """32 hexadecimal digits for a sequence of parts; the parts' borders matter."""
    digest = hashlib.sha256()
    for part in parts:
        data = as_bytes(part) if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:DIGITS]


def as_bytes(text: str) -> bytes:
    """Return what is hashed of a text, of a file's name its bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # halves of characters, in names from Windows
        return text.encode("utf-8", "surrogatepass")


def of_files(paths: Sequence[Path], sizes: Sequence[int]) -> Iterator[str]:
    """Yield the fingerprints of evenly spaced files, of all where that is not too much to read.

    Args:
        paths: of the files.
        sizes: how many bytes each has.
    """
    every = max(-(-len(paths) // FILES), -(-sum(sizes) // FILES_BYTES), 1)
    for path in paths[::every]:
        try:
            yield of_file(path)
        except OSError as error:
            yield f"not read: {error.strerror}"


def state_of_files(paths: Iterable[Path]) -> str:
    """Return what moves as soon as one of these files is written or replaced on this machine.

    Raises:
        OSError: one is not there.
    """
    found = (path.stat() for path in paths)
    return combined(f"{one.st_size} {one.st_mtime_ns} {one.st_ino}" for one in found)


def of_file(path: Path) -> str:
    """32 hexadecimal digits for a file: its size and up to 64 evenly spaced blocks of 64 KiB.

    Raises:
        OSError: the file cannot be read, or is no regular file.
    """
    size = path.stat().st_size
    parts: list[str | bytes] = [str(size)]
    with open_regular(path) as file:
        if size <= BLOCK * BLOCKS:
            parts.append(file.read())
        else:
            for number in range(BLOCKS):
                file.seek(number * (size - BLOCK) // (BLOCKS - 1))
                parts.append(file.read(BLOCK))
    return combined(parts)
