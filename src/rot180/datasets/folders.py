"""Folders of image files: plain images, class folders, and train/test folders of either."""

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rot180.datasets.base import TEST_NAMES, TRAIN_NAMES, check_index, split_indices
from rot180.datasets.class_names import ClassFile, class_file_beside, read_class_file
from rot180.datasets.decode import BadImage, decode_file
from rot180.datasets.fingerprints import combine, sampled_fingerprints
from rot180.errors import Rot180Error, Rot180Warning, suggest
from rot180.files import permission_hint
from rot180.visible import valid_name

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif")
OTHER_SUFFIXES = (".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2")
SUFFIXES = frozenset((*PHOTO_SUFFIXES, *OTHER_SUFFIXES))
# Links may lead to a directory in several ways, but to all of them in this many on average.
WAYS = 100
ENTERED_LEAST = 1000


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
        self,
        root: Path,
        files: Sequence[ImageFile],
        folders: tuple[str, ...],
        split: str,
        class_file: ClassFile | None = None,
    ) -> None:
        self.root = root
        self.name = valid_name(f"folder {root.resolve().name}")
        self.split = split
        self.folders = tuple(map(valid_name, folders))
        self.class_file = class_file
        self.classes = self.folders if class_file is None else class_file.folder_names(self.folders)
        self._files = files
        self._labels = {name: label for label, name in enumerate(folders)}

    @cached_property
    def fingerprint(self) -> str:
        """Made of paths, sizes and content, not of classes' names; see ``fingerprints``."""
        listing = (f"{file.path}\0{file.size}" for file in self._files)
        content = sampled_fingerprints(
            [self.root / file.path for file in self._files], [file.size for file in self._files]
        )
        return combine(["folder", self.split, "\0".join(self.folders), *listing, *content])

    @cached_property
    def state(self) -> str:
        """Moves as soon as one of the files is written, replaced or moved on this machine."""
        return combine(f"{file.path}\0{file.size}\0{file.state}" for file in self._files)

    def __len__(self) -> int:
        return len(self._files)

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Read and decode one file. Raises ``BadImage`` where that is not possible."""
        return decode_file(self._path(index), self.describe(index))

    def read_resized(
        self, numbers: range, size: tuple[int, int], channels: int
    ) -> Iterator[UInt8[np.ndarray, "height width c"] | BadImage]:
        """Consecutive images at the size that is wanted, or what is wrong with them.

        Large files take less memory than by ``image``.
        """
        for number in numbers:
            try:
                yield decode_file(self._path(number), self.describe(number), (size, channels))
            except BadImage as error:
                yield error

    def _path(self, index: int) -> Path:
        return self.root / self._files[check_index(index, len(self))].path

    def label(self, index: int) -> int | None:
        """The number of the image's class folder; None for an image in no class folder."""
        folder = self._files[check_index(index, len(self))].folder
        return None if folder is None else self._labels[folder]

    def describe(self, index: int) -> str:
        """The path of the file, as valid text (``visible.valid_name``)."""
        return valid_name(str(self._path(index)))

    def image_name(self, index: int) -> str:
        """The path of the file below the root, as valid text."""
        return valid_name(self._files[check_index(index, len(self))].path)


def open_folder(root: Path, split: str, classes: Any = None) -> FolderDataset:
    """Open a directory of images.

    With subdirectories ``train`` (or ``training``) and ``test`` (or ``testing``, ``validation``,
    ``valid``, ``val``, which count as test) those are the splits, and a warning names other
    directories of images. With one of the two it is a split, unless there are images in other
    directories, too: then it is a class like them. Data without splits are divided by ``is_test``
    of the images' paths.
    In either case images lie in class folders (nested to any depth; the classes are the folders'
    names, sorted) or directly in the directory (no classes). Where there are class folders, images
    beside them are left out. Hidden files and other kinds of files are ignored, but a link to a
    file that is missing counts as a broken image; the order is that of the sorted paths.

    A file ``classes.txt`` or ``classes.json`` in the directory says what the class folders are
    called (see ``rot180.datasets.class_names``), or one beside it where it is called like a
    split; one that says nothing about them is left alone, with a warning. ``classes`` is the path
    of another such file.

    Raises:
        Rot180Error: there are no images, or none in this split, or ``classes`` says nothing about
            the folders.
    """
    parts = _split_folders(root)
    if parts:
        everything = {part: _images_in(root, folders) for part, folders in parts.items()}
        wanted = ("train", "test") if split == "all" else (split,)
        files = [file for part in wanted for file in everything.get(part, [])]
    else:
        everything = {"all": _images_in(root, [""])}
        listing = everything["all"]
        files = [listing[index] for index in split_indices((file.path for file in listing), split)]
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
    folders = tuple(sorted({file.folder for file in found if file.folder is not None}))
    if classes is not None:
        if not folders:
            raise Rot180Error(
                f"The images of {root} lie in no class folders, so there is nothing that {classes} "
                "could name: leave out --classes."
            )
        return FolderDataset(root, files, folders, split, read_class_file(classes))
    return FolderDataset(root, files, folders, split, _class_file(root, folders))


def _class_file(root: Path, folders: tuple[str, ...]) -> ClassFile | None:
    """Read the file that says what the class folders are called, if there is one that does."""
    path = class_file_beside(root) if folders else None
    if path is None and folders and root.name.lower() in (*TRAIN_NAMES, *TEST_NAMES):
        path = class_file_beside(root.parent)
    if path is None:
        return None
    try:
        found = read_class_file(path)
        found.folder_names([valid_name(one) for one in folders])
    except Rot180Error as error:
        _remark(f"The classes keep the names of their folders: {error}")
        return None
    return found


def _split_folders(root: Path) -> dict[str, list[str]]:
    """The names of the subdirectories that are splits, by split; empty where there are none."""
    names = sorted(entry.name for entry in root.iterdir() if os.path.isdir(entry))
    parts = {
        "train": [name for name in names if name.lower() in TRAIN_NAMES],
        "test": [name for name in names if name.lower() in TEST_NAMES],
    }
    parts = {part: folders for part, folders in parts.items() if folders}
    splits = [name for folders in parts.values() for name in folders]
    others = [name for name in names if name not in splits and not name.startswith(".")]
    others = [name for name in others if any(_walk(root / name, name, name))] if splits else []
    if others and len(parts) == 1:
        if all(
            "/" in file.path.removeprefix(f"{one}/") for one in splits for file in _in(root, one)
        ):
            _remark(
                f"In {root} there are images in {suggest(others)} beside {suggest(splits)}, so all "
                "of these are taken as classes: move the split into a directory of its own if it "
                "is one."
            )
        return {}
    if others:
        _remark(
            f"The images in {suggest(others)} are left out: {root} has the splits "
            f"{suggest(splits)}."
        )
    return parts


def _in(root: Path, folder: str) -> Iterator[ImageFile]:
    return _walk(root / folder, folder, None)


def _remark(text: str) -> None:
    warnings.warn(text, Rot180Warning, stacklevel=6)  # where ``open_dataset`` is called


def _images_in(root: Path, folders: Sequence[str]) -> list[ImageFile]:
    """The images of the class folders in ``folders``; those that lie plain where there are none."""
    found = []
    for folder in folders:
        below = list(_in(root, folder))
        in_classes = [file for file in below if file.folder is not None]
        found += in_classes or below
    return found


@dataclass(frozen=True)
class _Directory:
    """A directory that is being gone through.

    Attributes:
        place: what it is, by whatever path: its device and inode.
        path: below the root.
        folder: the class folder that its images are in.
        entries: those that are left.
    """

    place: tuple[int, int]
    path: str
    folder: str | None
    entries: Iterator["os.DirEntry[str]"]


def _walk(directory: Path, path: str, folder: str | None) -> Iterator[ImageFile]:
    """All images below ``directory`` in sorted order; ``folder`` is the class folder they are in.

    Linked directories are followed (subsets of large data sets are often made of links), except
    round in a circle. How deep directories lie in each other does not matter.
    """
    inside = [_entered(directory, path, folder)]
    above = {inside[0].place}
    known, entered = set(above), 1
    while inside:
        here = inside[-1]
        entry = next(here.entries, None)
        if entry is None:
            above.discard(inside.pop().place)
            continue
        below = f"{here.path}/{entry.name}" if here.path else entry.name
        if _is_directory(entry):
            deeper = _entered(
                Path(entry.path), below, entry.name if here.folder is None else here.folder
            )
            if deeper.place in above:
                continue
            known.add(deeper.place)
            entered += 1
            if entered > ENTERED_LEAST + WAYS * len(known):
                raise Rot180Error(
                    f"Links below {directory} lead to the same directories again and again: "
                    "remove them, or give a directory without."
                )
            above.add(deeper.place)
            inside.append(deeper)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield from _image_file(entry, below, here.folder)


def _entered(directory: Path, path: str, folder: str | None) -> _Directory:
    try:
        facts = directory.stat()
        with os.scandir(directory) as listing:
            entries = sorted((e for e in listing if not e.name.startswith(".")), key=_by_name)
    except OSError as error:
        raise Rot180Error(
            f"Cannot read the directory {directory}: {error.strerror}.{permission_hint(error)}"
        ) from error
    return _Directory((facts.st_dev, facts.st_ino), path, folder, iter(entries))


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link round in a circle, or into what may not be read
        return False


def _image_file(entry: "os.DirEntry[str]", path: str, folder: str | None) -> Iterator[ImageFile]:
    """What is called like an image, unless it is a pipe, a socket or a device."""
    try:
        facts = entry.stat()
    except OSError:  # a link to nowhere, which is told when it is to be read
        yield ImageFile(path, 0, (0, 0), folder)
        return
    if stat.S_ISREG(facts.st_mode):
        yield ImageFile(path, facts.st_size, (facts.st_mtime_ns, facts.st_ino), folder)


def _by_name(entry: "os.DirEntry[str]") -> str:
    return entry.name
