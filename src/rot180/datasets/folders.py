"""Folders of image files: images, class folders, and train and test folders of either."""

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
# Links may lead to the same directories again. A walk may enter each of them this often on average.
ENTRIES_PER_DIRECTORY = 100
ENTRIES_LEAST = 1000


@dataclass(frozen=True)
class ImageFile:
    """An image file.

    Attributes:
        path: path relative to the root, with forward slashes.
        size: size in bytes.
        state: time of the last change in nanoseconds, and inode.
        folder: class folder; None if it lies in none.
    """

    path: str
    size: int
    state: tuple[int, int]
    folder: str | None


class FolderDataset:
    """Image files below a directory. A file is read when its image is requested."""

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
        """Digest of paths, sizes and content, without class names; see ``fingerprints``."""
        listing = (f"{file.path}\0{file.size}" for file in self._files)
        content = sampled_fingerprints(
            [self.root / file.path for file in self._files], [file.size for file in self._files]
        )
        return combine(["folder", self.split, "\0".join(self.folders), *listing, *content])

    @cached_property
    def state(self) -> str:
        """Digest that changes when a file is written, replaced or moved on this machine."""
        return combine(f"{file.path}\0{file.size}\0{file.state}" for file in self._files)

    def __len__(self) -> int:
        return len(self._files)

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Read and decode a file.

        Raises:
            BadImage: the file cannot be read or decoded.
        """
        return decode_file(self._path(index), self.describe(index))

    def read_resized(
        self, indices: range, size: tuple[int, int], channels: int
    ) -> Iterator[UInt8[np.ndarray, "height width c"] | BadImage]:
        """Yield consecutive images of the given size, or the error for a broken one.

        Large files take less memory than with ``image``.
        """
        for index in indices:
            try:
                yield decode_file(self._path(index), self.describe(index), (size, channels))
            except BadImage as error:
                yield error

    def _path(self, index: int) -> Path:
        return self.root / self._files[check_index(index, len(self))].path

    def label(self, index: int) -> int | None:
        """Return the label of the image's class folder; None if it is in no class folder."""
        folder = self._files[check_index(index, len(self))].folder
        return None if folder is None else self._labels[folder]

    def describe(self, index: int) -> str:
        """Return the path of the file, as valid text (``visible.valid_name``)."""
        return valid_name(str(self._path(index)))

    def image_name(self, index: int) -> str:
        """Return the path of the file relative to the root, as valid text."""
        return valid_name(self._files[check_index(index, len(self))].path)


def open_folder(root: Path, split: str, classes: Any = None) -> FolderDataset:
    """Open a directory of images.

    Subdirectories named ``train`` (or ``training``) and ``test`` (or ``testing``, ``validation``,
    ``valid``, ``val``) are the splits, and a warning lists other directories with images. If only
    one of the two exists and other directories have images, too, it is a class like them. Data
    without splits are divided by ``is_test`` of the images' paths.

    Images lie in class folders (nested to any depth; the classes are the names of the folders,
    sorted) or directly in the directory (no classes). If there are class folders, images beside
    them are left out. Hidden files and files of other kinds are ignored, but a link to a missing
    file counts as a broken image. The images are in the order of their sorted paths.

    The class folders are named by ``classes.txt`` or ``classes.json`` (see
    ``rot180.datasets.class_names``) in the directory or, if the directory itself is named like a
    split, beside it. A file that names none of the folders is ignored with a warning.

    Args:
        root: the directory.
        split: ``train``, ``test`` or ``all``.
        classes: path of another file that names the class folders.

    Raises:
        Rot180Error: there are no images, or none in this split, or ``classes`` names none of the
            folders.
    """
    folders_of = _split_folders(root)
    if folders_of:
        files_of = {part: _images_in(root, folders) for part, folders in folders_of.items()}
        parts = ("train", "test") if split == "all" else (split,)
        files = [file for part in parts for file in files_of.get(part, [])]
    else:
        listing = _images_in(root, [""])
        files_of = {"all": listing}
        files = [listing[index] for index in split_indices((file.path for file in listing), split)]
    all_files = [file for listing in files_of.values() for file in listing]
    if not all_files:
        raise Rot180Error(
            f"There are no images in {root}: give a directory with image files "
            f"({', '.join(sorted(SUFFIXES))}), with class folders or with *.parquet files."
        )
    if not files:
        own = " and ".join(name for folders in folders_of.values() for name in folders)
        raise Rot180Error(
            f"No image of {root} is in the split '{split}'"
            + (f" (it holds {own})" if own else f" (it holds {len(all_files)} in all)")
            + ": use the split 'all'"
            + (" or add the folder." if own else ".")
        )
    folders = tuple(sorted({file.folder for file in all_files if file.folder is not None}))
    if classes is not None:
        if not folders:
            raise Rot180Error(
                f"The images of {root} lie in no class folders, so there is nothing that {classes} "
                "could name: leave out --classes."
            )
        return FolderDataset(root, files, folders, split, read_class_file(classes))
    return FolderDataset(root, files, folders, split, _class_file(root, folders))


def _class_file(root: Path, folders: tuple[str, ...]) -> ClassFile | None:
    """Return the file that names the class folders; None if there is none that does."""
    path = class_file_beside(root) if folders else None
    if path is None and folders and root.name.lower() in (*TRAIN_NAMES, *TEST_NAMES):
        path = class_file_beside(root.parent)
    if path is None:
        return None
    try:
        class_file = read_class_file(path)
        class_file.folder_names([valid_name(folder) for folder in folders])
    except Rot180Error as error:
        _warn(f"The classes keep the names of their folders: {error}")
        return None
    return class_file


def _split_folders(root: Path) -> dict[str, list[str]]:
    """Return the names of the subdirectories that are splits, by split."""
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
            "/" in file.path.removeprefix(f"{name}/")
            for name in splits
            for file in _files_in(root, name)
        ):
            _warn(
                f"In {root} there are images in {suggest(others)} beside {suggest(splits)}, so all "
                "of these are taken as classes: move the split into a directory of its own if it "
                "is one."
            )
        return {}
    if others:
        _warn(
            f"The images in {suggest(others)} are left out: {root} has the splits "
            f"{suggest(splits)}."
        )
    return parts


def _files_in(root: Path, folder: str) -> Iterator[ImageFile]:
    return _walk(root / folder, folder, None)


def _warn(text: str) -> None:
    warnings.warn(text, Rot180Warning, stacklevel=6)  # the caller of ``open_dataset``


def _images_in(root: Path, folders: Sequence[str]) -> list[ImageFile]:
    """Return the images in class folders; in a folder without these, all of its images."""
    images = []
    for folder in folders:
        files = list(_files_in(root, folder))
        in_classes = [file for file in files if file.folder is not None]
        images += in_classes or files
    return images


@dataclass(frozen=True)
class _Directory:
    """A directory during the walk.

    Attributes:
        identity: device and inode, which do not depend on the path.
        path: path relative to the root.
        folder: class folder of its images.
        entries: entries that are not processed yet.
    """

    identity: tuple[int, int]
    path: str
    folder: str | None
    entries: Iterator["os.DirEntry[str]"]


def _walk(directory: Path, path: str, folder: str | None) -> Iterator[ImageFile]:
    """Yield all images below a directory in sorted order.

    Linked directories are followed (subsets of large data sets are often made of links), unless a
    link leads to a directory above it. Directories may be nested to any depth.

    Args:
        directory: the directory.
        path: its path relative to the root.
        folder: class folder of its images; None: the subdirectories are the class folders.
    """
    stack = [_open_directory(directory, path, folder)]
    ancestors = {stack[0].identity}
    known, entered = set(ancestors), 1
    while stack:
        current = stack[-1]
        entry = next(current.entries, None)
        if entry is None:
            ancestors.discard(stack.pop().identity)
            continue
        entry_path = f"{current.path}/{entry.name}" if current.path else entry.name
        if _is_directory(entry):
            child = _open_directory(
                Path(entry.path),
                entry_path,
                entry.name if current.folder is None else current.folder,
            )
            if child.identity in ancestors:
                continue
            known.add(child.identity)
            entered += 1
            if entered > ENTRIES_LEAST + ENTRIES_PER_DIRECTORY * len(known):
                raise Rot180Error(
                    f"Links below {directory} lead to the same directories again and again: "
                    "remove them, or give a directory without."
                )
            ancestors.add(child.identity)
            stack.append(child)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield from _image_file(entry, entry_path, current.folder)


def _open_directory(directory: Path, path: str, folder: str | None) -> _Directory:
    try:
        status = directory.stat()
        with os.scandir(directory) as listing:
            entries = sorted((e for e in listing if not e.name.startswith(".")), key=_by_name)
    except OSError as error:
        raise Rot180Error(
            f"Cannot read the directory {directory}: {error.strerror}.{permission_hint(error)}"
        ) from error
    return _Directory((status.st_dev, status.st_ino), path, folder, iter(entries))


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to a directory without permission
        return False


def _image_file(entry: "os.DirEntry[str]", path: str, folder: str | None) -> Iterator[ImageFile]:
    """Yield the image file, unless it is a pipe, a socket or a device."""
    try:
        status = entry.stat()
    except OSError:  # a broken link, which is an error when the image is read
        yield ImageFile(path, 0, (0, 0), folder)
        return
    if stat.S_ISREG(status.st_mode):
        yield ImageFile(path, status.st_size, (status.st_mtime_ns, status.st_ino), folder)


def _by_name(entry: "os.DirEntry[str]") -> str:
    return entry.name
