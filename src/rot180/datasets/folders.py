"""Folders of image files: plain images, class folders, and train/test folders of either."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from rot180.datasets.dataset import TEST_NAMES, checked_index, division
from rot180.datasets.decode import BadImage, decode_file
from rot180.datasets.fingerprints import combined, of_files
from rot180.errors import Rot180Error

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif")
OTHER_SUFFIXES = (".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2")
SUFFIXES = frozenset((*PHOTO_SUFFIXES, *OTHER_SUFFIXES))


@dataclass(frozen=True)
class ImageFile:
    """One image file.

    Attributes:
        path: below the root, with forward slashes.
        size: in bytes.
        state: when it was changed (in nanoseconds), and its inode.
        folder: its class folder.
    """

    path: str
    size: int
    state: tuple[int, int]
    folder: str | None


class FolderDataset:
    """Image files below one directory; they are read when they are asked for."""

    def __init__(
        self, root: Path, files: Sequence[ImageFile], classes: tuple[str, ...], split: str
    ) -> None:
        self.root = root
        self.name = f"folder {root.resolve().name}"
        self.split = split
        self.classes = classes
        self._files = files
        self._labels = {name: label for label, name in enumerate(classes)}

    @cached_property
    def fingerprint(self) -> str:
        """Made of paths, sizes and content; see ``fingerprints``."""
        listing = (f"{file.path}\0{file.size}" for file in self._files)
        content = of_files(
            [self.root / file.path for file in self._files], [file.size for file in self._files]
        )
        return combined(["folder", self.split, "\0".join(self.classes), *listing, *content])

    @cached_property
    def state(self) -> str:
        """Moves as soon as one of the files is written, replaced or moved on this machine."""
        return combined(f"{file.path}\0{file.size}\0{file.state}" for file in self._files)

    def __len__(self) -> int:
        return len(self._files)

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Read and decode one file. Raises ``BadImage`` where that is not possible."""
        return decode_file(self._path(index), self.where(index))

    def fitted_of(
        self, numbers: range, size: tuple[int, int], channels: int
    ) -> Iterator[UInt8[np.ndarray, "height width c"] | BadImage]:
        """Consecutive images at the size that is wanted, or what is wrong with them.

        Large files take less memory than by ``image``.
        """
        for number in numbers:
            try:
                yield decode_file(self._path(number), self.where(number), (size, channels))
            except BadImage as error:
                yield error

    def _path(self, index: int) -> Path:
        return self.root / self._files[checked_index(index, len(self))].path

    def label(self, index: int) -> int | None:
        """The number of the image's class folder; None for an image in no class folder."""
        folder = self._files[checked_index(index, len(self))].folder
        return None if folder is None else self._labels[folder]

    def where(self, index: int) -> str:
        """The path of the file."""
        return str(self.root / self._files[checked_index(index, len(self))].path)


def open_folder(root: Path, split: str) -> FolderDataset:
    """Open a directory of images.

    With a subdirectory ``train`` or ``test`` (or ``validation``, ``valid``, ``val``, which count
    as test) those are the splits; otherwise the images are divided by ``in_test`` of their path.
    In either case images lie in class folders (nested to any depth; the classes are the folders'
    names, sorted) or directly in the directory (no classes). Where there are class folders, images
    beside them are left out. Hidden files and other kinds of files are ignored; the order is that
    of the sorted paths.

    Raises:
        Rot180Error: there are no images, or none in this split.
    """
    parts = _split_folders(root)
    if parts:
        everything = {part: _images_in(root, folders) for part, folders in parts.items()}
        wanted = ("train", "test") if split == "all" else (split,)
        files = [file for part in wanted for file in everything.get(part, [])]
    else:
        everything = {"all": _images_in(root, [""])}
        listing = everything["all"]
        files = [listing[index] for index in division((file.path for file in listing), split)]
    found = [file for listing in everything.values() for file in listing]
    if not found:
        raise Rot180Error(
            f"There are no images in {root}: give a directory with image files "
            f"({', '.join(sorted(SUFFIXES))}), with class folders or with *.parquet files."
        )
    if not files:
        own = " and ".join(name for folders in parts.values() for name in folders)
        raise Rot180Error(
            f"No image of {root} is in the split '{split}'"
            + (f" (it holds {own})" if own else f" (it holds {len(found)} in all)")
            + ": use the split 'all'"
            + (" or add the folder." if own else ".")
        )
    classes = tuple(sorted({file.folder for file in found if file.folder is not None}))
    return FolderDataset(root, files, classes, split)


def _split_folders(root: Path) -> dict[str, list[str]]:
    """The names of the subdirectories that are splits, by split; empty where there are none."""
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    parts = {
        "train": [name for name in names if name.lower() == "train"],
        "test": [name for name in names if name.lower() in TEST_NAMES],
    }
    return {part: folders for part, folders in parts.items() if folders}


def _images_in(root: Path, folders: Sequence[str]) -> list[ImageFile]:
    """The images of the class folders in ``folders``; those that lie plain where there are none."""
    found = []
    for folder in folders:
        below = _walk(root / folder, folder, None, set())
        in_classes = [file for file in below if file.folder is not None]
        found += in_classes or below
    return found


def _walk(directory: Path, path: str, folder: str | None, above: set[str]) -> list[ImageFile]:
    """All images below ``directory`` in sorted order; ``folder`` is the class folder they are in.

    Linked directories are followed (subsets of large data sets are often made of links), except
    round in a circle.
    """
    here = os.path.realpath(directory)
    if here in above:
        return []
    try:
        with os.scandir(directory) as listing:
            entries = sorted((e for e in listing if not e.name.startswith(".")), key=_by_name)
    except OSError as error:
        raise Rot180Error(
            f"Cannot read the directory {directory}: {error.strerror}. Check its permissions."
        ) from error
    found = []
    for entry in entries:
        below = f"{path}/{entry.name}" if path else entry.name
        if entry.is_dir():
            inside = entry.name if folder is None else folder
            found += _walk(directory / entry.name, below, inside, above | {here})
        elif entry.is_file() and os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            facts = entry.stat()
            state = (facts.st_mtime_ns, facts.st_ino)
            found.append(ImageFile(below, facts.st_size, state, folder))
    return found


def _by_name(entry: "os.DirEntry[str]") -> str:
    return entry.name
