"""Fingerprints of images: 32 hexadecimal digits, computed without reading all of the data.

A fingerprint is the start of a SHA-256 of

- for **files** (Parquet, the binary CIFAR-10): the size of each file and up to 64 evenly spaced
  blocks of 64 KiB, so the whole content up to 4 MiB and a constant cost above; the split; and, if
  rows were chosen from one file, the rule that chose them;
- for **folders of images**: relative paths and sizes of all files; the content, as above, of evenly
  spaced files, and of all if there are at most 4,096 files of 256 MiB together; the class names and
  the split;
- for **arrays**: shape and content, labels, class names, split.

Locations and time stamps do not count, so a copy on another machine has the same fingerprint. In
return, a change of a large folder or file that keeps the number of bytes can go unnoticed. Decoded
images in the cache (``decode_all``) are therefore also identified by the *state* of the files: the
time of the last change and the inode of each.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rot180.files import open_regular

BLOCK = 64 * 1024
BLOCKS = 64
DIGITS = 32
FILES, FILES_BYTES = 4096, 256 * 1024**2


def combine(parts: Iterable[str | bytes]) -> str:
    """Return 32 hexadecimal digits for a sequence of parts; where one part ends counts, too."""
    digest = hashlib.sha256()
    for part in parts:
        data = as_bytes(part) if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:DIGITS]


def as_bytes(text: str) -> bytes:
    """Return the bytes of a text for hashing; for the name of a file these are its own bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # lone surrogates in names from Windows
        return text.encode("utf-8", "surrogatepass")


def sampled_fingerprints(paths: Sequence[Path], sizes: Sequence[int]) -> Iterator[str]:
    """Yield the fingerprints of evenly spaced files, or of all if they are few and small.

    Args:
        paths: paths of the files.
        sizes: size of each file in bytes.
    """
    step = max(-(-len(paths) // FILES), -(-sum(sizes) // FILES_BYTES), 1)
    for path in paths[::step]:
        try:
            yield file_fingerprint(path)
        except OSError as error:
            yield f"not read: {error.strerror}"


def files_state(paths: Iterable[Path]) -> str:
    """Return digits that change when one of the files is written or replaced on this machine.

    Raises:
        OSError: a file does not exist.
    """
    stats = (path.stat() for path in paths)
    return combine(f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}" for stat in stats)


def file_fingerprint(path: Path) -> str:
    """Return 32 hexadecimal digits for the size of a file and up to 64 blocks of 64 KiB.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
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
    return combine(parts)
