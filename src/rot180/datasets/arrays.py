"""A data set in one array: from the user, or decoded from another data set."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from rot180.datasets.base import check_index, check_split, numbered_classes, portable
from rot180.datasets.class_names import ClassFile
from rot180.datasets.fingerprints import combine
from rot180.errors import Rot180Error
from rot180.visible import valid_name


class ArrayDataset:
    """Images of one size in one array, possibly memory-mapped.

    Attributes:
        images: (n, h, w, c), uint8, c = 1 or 3.
        labels: (n,), int64, indices into ``classes``, -1 for an image without a class; or None.
        bad: (description, reason) of each image of the original data set that is broken.
        sources: (n,), int64, index of each image in the original data set.
        name, split, classes, fingerprint: as for every ``Dataset``.
        folders, class_file: class folders of the original data set, and the file that names them.
    """

    folders: tuple[str, ...] = ()
    class_file: ClassFile | None = None

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int64[np.ndarray, " n"] | None
    sources: Int64[np.ndarray, " n"]

    def __init__(
        self,
        images: Any,
        labels: Any = None,
        classes: Sequence[str] = (),
        *,
        name: str = "arrays",
        split: str = "all",
        describe: Callable[[int], str] | None = None,
        sources: Int64[np.ndarray, " n"] | None = None,
        bad: Sequence[tuple[str, str]] = (),
        fingerprint: str | None = None,
        names: Callable[[int], str] | None = None,
    ) -> None:
        """Create a data set on the given arrays, without copying them.

        Args:
            images: array (n, h, w, c) of uint8 with c = 1 or 3.
            labels: n whole numbers from 0 on, or -1 for an image without a class; or None.
            classes: class names by label; ``class 0``, ``class 1``, … by default.
            name: name of the data in captions.
            split: ``train``, ``test`` or ``all``.
            describe: returns the description of an image, given its index in the *original* data
                set (``sources``).
            sources: index of each image in the original data set; 0, 1, 2, … by default.
            bad: (description, reason) of images that are left out.
            fingerprint: computed from the content by default, which is read once.
            names: returns the name of an image within its data set, for the same index; derived
                from ``describe`` by default.

        Raises:
            Rot180Error: a wrong dtype, shape, length or label.
        """
        self.images = _checked_images(images)
        count = len(self.images)
        self.labels = None if labels is None else _checked_labels(labels, count, len(classes))
        if self.labels is not None and not classes:
            classes = numbered_classes(int(self.labels.max(initial=-1)) + 1)
        self.classes = _valid(classes)
        self.name = name
        self.split = check_split(split)
        self.bad = tuple(bad)
        self.sources = np.arange(count, dtype=np.int64) if sources is None else sources
        if len(self.sources) != count:
            raise Rot180Error(f"There are {count} images but {len(self.sources)} sources.")
        self._describe, self._names = describe, names
        self.fingerprint = fingerprint if fingerprint is not None else self._content_fingerprint()

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        n, h, w, c = self.images.shape
        return f"<{self.name}, {self.split}: {n} images of {h} x {w} x {c}>"

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Return an image, 0 to 255; a view into ``images``."""
        return np.asarray(self.images[check_index(index, len(self))])

    def label(self, index: int) -> int | None:
        """Return the class of an image; None if it has none."""
        check_index(index, len(self))
        if self.labels is None or self.labels[index] < 0:
            return None
        return int(self.labels[index])

    def describe(self, index: int) -> str:
        """Return which image this is, for people."""
        source = int(self.sources[check_index(index, len(self))])
        if self._describe is None:
            return f"{self.name}, image {source}"
        return self._describe(source)

    def image_name(self, index: int) -> str:
        """Return the name of an image within its data set; see ``base.image_name``."""
        source = int(self.sources[check_index(index, len(self))])
        return portable(self.describe(index) if self._names is None else self._names(source))

    def _content_fingerprint(self) -> str:
        labels = b"none" if self.labels is None else self.labels.tobytes()
        head = (str(self.images.shape), "\n".join(self.classes), self.split, labels)
        # Image by image, so that a memory-mapped array is never in memory as a whole.
        return combine(chain(head, (image.tobytes() for image in self.images)))


def _valid(names: Sequence[str]) -> tuple[str, ...]:
    """Return names that UTF-8 can encode; the names of data sets from files already are."""
    if any("\ud800" <= character <= "\udfff" for name in names for character in name):
        return tuple(map(valid_name, names))
    return tuple(names)


def _checked_images(images: Any) -> UInt8[np.ndarray, "n h w c"]:
    if not isinstance(images, np.ndarray):
        raise Rot180Error(
            f"The images are {type(images).__name__}, not a NumPy array: "
            "give an array (n, h, w, c) of uint8."
        )
    if images.dtype != np.uint8:
        raise Rot180Error(
            f"The images are {images.dtype}, not uint8: give values from 0 to 255, for example "
            "(images * 255).round().astype('uint8') where they run from 0 to 1."
        )
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise Rot180Error(
            f"The images have shape {images.shape}, not (n, h, w, c) with c = 1 or 3: "
            "channels come last; add the axis of a single channel with images[..., None]."
        )
    return images


def _checked_labels(labels: Any, images: int, classes: int) -> Int64[np.ndarray, " n"]:
    array = np.asarray(labels)
    if array.ndim != 1 or not (array.dtype.kind in "iu" or array.size == 0):
        raise Rot180Error(
            f"The labels have shape {array.shape} and type {array.dtype}: "
            "give one whole number for each image."
        )
    if len(array) != images:
        raise Rot180Error(f"There are {images} images but {len(array)} labels: give one each.")
    wide = array.astype(np.int64)
    wrong = wide[(wide < -1) | ((wide >= classes) if classes else False)]
    if wrong.size:
        top = f"{classes - 1} (there are {classes} classes)" if classes else "the last class"
        raise Rot180Error(
            f"The label {wrong[0]} is out of range: labels run from 0 to {top}, "
            "and -1 marks an image without one."
        )
    return wide
