"""The binary version of CIFAR-10, as its authors publish it.

Each record is 3073 bytes: the label, then 1024 red, 1024 green and 1024 blue values, row by row
(https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from rot180.datasets.base import check_index, numbered_classes
from rot180.datasets.fingerprints import combine, file_fingerprint, files_state
from rot180.errors import Rot180Error
from rot180.visible import valid_name

RECORD = 1 + 3 * 32 * 32


class BinaryCifar:
    """Records in some files of the binary CIFAR-10, memory-mapped."""

    name = "cifar10"

    def __init__(self, files: Sequence[Path], classes: tuple[str, ...], split: str) -> None:
        self.split = split
        self.classes = classes
        self._files = [valid_name(file.name) for file in files]
        self._records = [_records(file, len(classes)) for file in files]
        # Index of the first image of each file, and the number of all images.
        self._starts = np.cumsum([0, *(len(records) for records in self._records)])
        self.fingerprint = combine(
            ["cifar-binary", split, *(file_fingerprint(file) for file in files)]
        )
        self.state = files_state(files)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def image(self, index: int) -> UInt8[np.ndarray, "32 32 3"]:
        """Return an image, RGB."""
        file, row = self._locate(index)
        planes = np.array(self._records[file][row, 1:]).reshape(3, 32, 32)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))

    def label(self, index: int) -> int | None:
        """Return the class of an image."""
        file, row = self._locate(index)
        return int(self._records[file][row, 0])

    def describe(self, index: int) -> str:
        """Return the record and its file: ``row 17 of data_batch_1.bin``."""
        file, row = self._locate(index)
        return f"row {row} of {self._files[file]}"

    def _locate(self, index: int) -> tuple[int, int]:
        check_index(index, len(self))
        file = int(np.searchsorted(self._starts, index, side="right")) - 1
        return file, index - int(self._starts[file])


def open_binary_cifar(directory: Path, split: str) -> BinaryCifar:
    """Open ``data_batch_*.bin`` (train) and ``test_batch.bin`` (test) in a directory.

    Raises:
        Rot180Error: the files of the split are missing, or one is not of this format.
    """
    files_of = {
        "train": sorted(directory.glob("data_batch_*.bin")),
        "test": sorted(directory.glob("test_batch.bin")),
    }
    parts = ("train", "test") if split == "all" else (split,)
    files = [file for part in parts for file in files_of[part]]
    if not files:
        name = "data_batch_1.bin to data_batch_5.bin" if split == "train" else "test_batch.bin"
        raise Rot180Error(
            f"The split '{split}' of CIFAR-10 is missing in {directory}: "
            f"add {name} or use the split 'all'."
        )
    names = directory / "batches.meta.txt"
    lines = (
        names.read_text(encoding="utf-8", errors="surrogateescape").split()
        if names.is_file()
        else []
    )
    classes = tuple(map(valid_name, lines)) or numbered_classes(10)
    return BinaryCifar(files, classes, split)


def _records(file: Path, classes: int) -> UInt8[np.ndarray, "n 3073"]:
    size = file.stat().st_size
    if size == 0 or size % RECORD:
        raise Rot180Error(
            f"{file} has {size} bytes, which is not a whole number of CIFAR-10 records of {RECORD} "
            "bytes: download the binary version again."
        )
    records = np.memmap(file, dtype=np.uint8, mode="r").reshape(-1, RECORD)
    largest = int(records[:, 0].max())
    if largest >= classes:
        raise Rot180Error(
            f"{file} has the label {largest}, but there are only {classes} classes: "
            "it is not the binary version of CIFAR-10, or it is damaged."
        )
    return records
