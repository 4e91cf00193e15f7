"""Fingerprints: what the images are, in 32 hexadecimal digits, without reading all of them.

A fingerprint is the start of a SHA-256. What goes in:

- **files** (Parquet, the binary CIFAR-10): of each file its size and up to 64 evenly spaced blocks
  of 64 KiB, so the whole content up to 4 MiB and a constant cost above; then the split and, where
  rows were chosen from one file, the rule that chose them;
- **folders of images**: relative paths and sizes of the files (nothing is read), class names
  and split;
- **arrays**: shape and content, labels, class names, split.

Neither the place of the data nor any time stamp goes in, so a copy on another machine has the same
fingerprint. The price of not reading everything: an image overwritten by another one with exactly
the same number of bytes, in a folder, goes unnoticed.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

BLOCK = 64 * 1024
BLOCKS = 64
DIGITS = 32


def combined(parts: Iterable[str | bytes]) -> str:
    """32 hexadecimal digits for a sequence of parts; the parts' borders matter."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:DIGITS]


def of_file(path: Path) -> str:
    """32 hexadecimal digits for a file: its size and up to 64 evenly spaced blocks of 64 KiB.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    parts: list[str | bytes] = [str(size)]
    with path.open("rb") as file:
        if size <= BLOCK * BLOCKS:
            parts.append(file.read())
        else:
            for number in range(BLOCKS):
                file.seek(number * (size - BLOCK) // (BLOCKS - 1))
                parts.append(file.read(BLOCK))
    return combined(parts)
