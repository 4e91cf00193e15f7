"""``rot180.open``: an atlas as Python sees it.

An atlas may come from anywhere, so everything in it is checked when it is read: the tables must be
those of this version, names and numbers of the right kind and in range, pictures of the right size.
Nothing in it is executed.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float16, UInt8

from rot180.atlas import html, methods
from rot180.atlas.accumulator import ScanState
from rot180.atlas.arrow import read_table
from rot180.atlas.feature import AtlasLayer, Feature, is_number
from rot180.atlas.feature_index import FeatureIndex
from rot180.atlas.file import (
    DAMAGED,
    check_pages,
    is_curable,
    open_readonly,
    read_error,
    reason_of,
)
from rot180.atlas.imaging import header_size
from rot180.atlas.saved_state import restore_state
from rot180.datasets import BadImage, decode, resize_and_crop
from rot180.errors import Rot180Error, as_int, suggest
from rot180.titles import feature_label, feature_title

_LARGEST_SIDE, _MOST_IMAGES = 2**20, 2**53
"""Of pictures, in pixels, and in a data set: no network takes larger ones, no float counts more."""

_LARGEST_PICTURE, _BYTES_A_PIXEL, _BYTES_BESIDE = 2**26, 16, 2**16
"""What the file of a picture may have in bytes: in all, and by the pixels that it has to hold.
Without any compression it would be 8 a pixel at most."""

_DEEPEST = 16
"""Levels of lists in what an atlas says of itself."""


class Picture(NamedTuple):
    """An image of the atlas.

    Attributes:
        number: in the data set.
        name: what the data set calls it.
        label: number of its class, or None.
        pixels: (h, w, c), 0 to 255, as the network takes them before normalisation; None where the
            atlas holds no pictures.
    """

    number: int
    name: str
    label: int | None
    pixels: UInt8[np.ndarray, "h w c"] | None


class Atlas(Mapping[str, AtlasLayer]):
    """What a scan of a network over a data set found: ``atlas["features.28"][5].examples``.

    It is a mapping from the names of layers to them. The file is opened read-only; closing it, or
    leaving a ``with`` block, frees it.

    Attributes:
        path: of the file.
        faithfulness: by the layer's name which method's pictures are the most faithful there, as
            the scan measured it; empty where it did not.
        about: what it says about itself: model, data, versions, times.
        layers: by name, in the order of the network.
        classes: names of the classes of the data set.
        folders: names of their folders, where these are other words; else empty.
        outputs: names of the network's outputs, which are the features of ``output_layer``; empty
            where they are not known.
        output_layer: name of that layer; "" likewise.
        class_images: number of scanned images of each class.
        images: number of images of the whole data set.
        size: (height, width) of the images as the network takes them, in pixels.
        channels: of these images, 3 or 1.
        finished: whether the scan that made it is over.
        complete: whether it covers the whole data set.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._connection = path, connection
        # One query at a time: SQLite, which holds its own lock, calls Python back as it counts
        # steps, and Python, which holds its lock, waits for SQLite's in a second query.
        self._one_query = RLock()
        self.metadata: dict[str, Any] = {}
        for key, value in self.rows("SELECT key, value FROM metadata"):
            try:
                self.metadata[key] = json.loads(value)
            except (TypeError, ValueError, RecursionError) as error:
                raise self.damaged("metadata") from error
            self.check(_is_shallow(self.metadata[key], _DEEPEST), "metadata")
        try:
            self.index = FeatureIndex.from_json(self.metadata.get("index"))
        except Rot180Error as error:
            raise self.damaged("metadata.index") from error
        found = [AtlasLayer(self, row) for row in self.rows("SELECT * FROM layer ORDER BY number")]
        self.layers: dict[str, AtlasLayer] = {one.name: one for one in found}
        told = [(one.name, one.channels, one.height, one.width) for one in found]
        parts = [(one.name, one.channels, one.height, one.width) for one in self.index.layers]
        self.check(told == parts, "layer")
        ((count, last),) = self.rows("SELECT COUNT(*), MAX(id) FROM feature")
        self.check(
            (count, last) == (self.index.features, self.index.features - 1),
            "feature",
        )
        classes = self.rows("SELECT number, name, images FROM class ORDER BY number")
        self.check(len(classes) == self.index.classes, "class")
        self.check([one[0] for one in classes] == list(range(len(classes))), "class")
        self.check(all(isinstance(one[1], str) for one in classes), "class")
        self.check(all(isinstance(one[2], int) and one[2] >= 0 for one in classes), "class")
        self.classes: tuple[str, ...] = tuple(one[1] for one in classes)
        self.class_images: tuple[int, ...] = tuple(one[2] for one in classes)
        self.folders: tuple[str, ...] = self._names(self.metadata.get("folders", []), "folders")
        self.check(len(self.folders) in (0, len(self.classes)), "metadata.folders")
        self.output_layer, self.outputs = self._read_outputs()
        try:
            self.faithfulness = methods.stored_measurements(self.metadata, self.layers)
        except Rot180Error as error:
            raise self.damaged("metadata.methods") from error
        self.images: int = self.metadata.get("images", -1)
        counted = isinstance(self.images, int) and 0 <= self.images <= _MOST_IMAGES
        self.check(counted, "metadata.images")
        self.progress = self._read_progress()
        given = self.metadata.get("network", {})
        shape = given.get("input") if isinstance(given, dict) else None
        shape = shape if isinstance(shape, list) else []
        whole = all(isinstance(n, int) and 0 < n <= _LARGEST_SIDE for n in shape)
        self.check(len(shape) == 3 and whole and shape[0] in (1, 3), "metadata.network")
        self.size: tuple[int, int] = (shape[1], shape[2])
        self.channels: int = shape[0]

    def __getitem__(self, name: str) -> AtlasLayer:
        self.layer_index(name)
        return self.layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __contains__(self, name: object) -> bool:
        return name in self.layers

    def __enter__(self) -> "Atlas":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._one_query:
            self._connection.close()

    def _repr_html_(self) -> str:
        return html.atlas_html(self)

    def __repr__(self) -> str:
        return (
            f"<atlas {self.path}: {self.index.features} features of {len(self)} layers over "
            f"{self.scanned} of {self.images} images>"
        )

    @property
    def finished(self) -> bool:
        """Whether the scan that made it is over, pictures included."""
        return "finished" in self.metadata

    @property
    def complete(self) -> bool:
        """Whether it covers the whole data set."""
        return [(first, after) for first, _, after in self.progress] == [(0, self.images)]

    @property
    def scanned(self) -> int:
        """How many images it covers, those that could not be read included."""
        return sum(after - first for first, _, after in self.progress)

    @property
    def seconds(self) -> float:
        """How long the scan took, all its runs and parts together."""
        found = self.metadata.get("seconds", 0.0)
        self.check(is_number(found), "metadata.seconds")
        return float(found)

    @property
    def model(self) -> str:
        """How the model was named; "" where it was not."""
        return str(self.metadata.get("model", ""))

    @property
    def weights(self) -> str:
        """Name of the file of the model's weights; "" where none was given."""
        found = self.metadata.get("weights", "")
        return found if isinstance(found, str) else ""

    def name_of(self, layer: str, channel: int) -> str:
        """Return the class whose score a feature is; "" for any other feature."""
        names = self.names_of(layer)
        if not names:
            return ""
        inside = isinstance(channel, int) and 0 <= channel < len(names)
        self.check(inside, "feature.channel")
        return names[channel]

    def names_of(self, layer: str) -> tuple[str, ...]:
        """Return the classes whose scores a layer's features are; empty for any other layer."""
        return self.outputs if layer == self.output_layer else ()

    def title(self, layer: str, channel: int) -> str:
        """Return what a feature is called: "fc · tench (0)", or "conv1, feature 3"."""
        return feature_title(layer, channel, self.name_of(layer, channel))

    def label(self, layer: str, channel: int) -> str:
        """Return what a feature is called where its layer is known: "tench (0)", or "3"."""
        return feature_label(channel, self.name_of(layer, channel))

    @property
    def data(self) -> str:
        """The name of the data set and its split."""
        found = self.metadata.get("data")
        found = found if isinstance(found, dict) else {}
        return f"{found.get('name', 'unknown data')} ({found.get('split', 'all')})"

    def layer_index(self, layer: str) -> int:
        """Return the number of a layer.

        Raises:
            Rot180Error: there is none of this name.
        """
        if layer not in self.layers:
            raise Rot180Error(
                f"There is no layer '{layer}' in {self.path}. It has: "
                f"{suggest(self.layers, str(layer))}."
            )
        return list(self.layers).index(layer)

    @property
    def connections(self) -> list[tuple[int, int]] | None:
        """The pairs of layers, by their numbers, of which one feeds the other; -1 is the image.

        None where the atlas does not say.
        """
        given = self.metadata["network"].get("connections")
        if given is None:
            return None
        self.check(isinstance(given, list), "metadata.network")
        for one in given:
            self.check(isinstance(one, list) and len(one) == 2, "metadata.network")
            whole = all(isinstance(n, int) and not isinstance(n, bool) for n in one)
            inside = whole and -1 <= one[0] < len(self) and 0 <= one[1] < len(self)
            self.check(inside, "metadata.network")
        return [(source, target) for source, target in given]

    def features(self) -> Iterator[Feature]:
        """Give all features of all layers."""
        for layer in self.layers.values():
            yield from layer

    def picture(self, image: int) -> Picture:
        """Return an image that is an example of some feature.

        Raises:
            Rot180Error: it is no example, or its picture is damaged.
        """
        number = as_int(image, "The number of an image")
        name, label = self.image_info(number)
        data = self.picture_file(number)
        return Picture(number, name, label, None if data is None else self._decoded(number, data))

    def picture_file(self, number: int) -> bytes | None:
        """Return the file of an image's picture, which is of the right size by its header.

        None where the atlas holds no picture of it. Nothing large is read before its size is known.

        Raises:
            Rot180Error: there is no such image, or its picture is damaged.
        """
        found = self.rows(
            "SELECT typeof(picture), length(picture) FROM image WHERE number = ?", number
        )
        self.check(len(found) == 1, "image")
        ((kind, length),) = found
        if kind == "null":
            return None
        most = _BYTES_BESIDE + _BYTES_A_PIXEL * self.size[0] * self.size[1]
        good = kind == "blob" and length <= min(most, _LARGEST_PICTURE)
        self.check(good, "image.picture")
        data: bytes
        ((data,),) = self.rows("SELECT picture FROM image WHERE number = ?", number)
        try:
            told = header_size(data)
        except Rot180Error as error:
            raise self.damaged("image.picture") from error
        self.check(told == self.size, "image.picture")
        return data

    def _decoded(self, number: int, data: bytes) -> UInt8[np.ndarray, "h w c"]:
        try:
            pixels = decode(data, f"image {number} of {self.path}")
        except BadImage as error:
            raise self.damaged("image.picture") from error
        self.check(pixels.shape[:2] == self.size, "image.picture")
        return resize_and_crop(
            pixels, self.size, self.channels
        )  # WebP stores grey as three channels

    def image_info(self, image: int) -> tuple[str, int | None]:
        """Return the name and the class of an image that is an example of some feature.

        Raises:
            Rot180Error: it is no example.
        """
        found = self.rows("SELECT name, class FROM image WHERE number = ?", image)
        if not found:
            raise Rot180Error(
                f"Image {image} is no example of any feature, so {self.path} does not hold it."
            )
        ((name, label),) = found
        known = label is None or (isinstance(label, int) and 0 <= label < len(self.classes))
        self.check(isinstance(name, str) and known, "image")
        return name, label

    @property
    def skipped(self) -> list[tuple[int, str, str]]:
        """The images that could not be read, each as (number, name, what was wrong)."""
        found = self.rows("SELECT image, name, reason FROM skipped ORDER BY image")
        for _, *words in found:
            self.check(all(isinstance(one, str) for one in words), "skipped")
        return found

    def table(self, name: str, kind: str = "arrow") -> Any:
        """Return a table as pyarrow's, or as a data frame of pandas.

        Features are named by layer and channel instead of their number.

        Args:
            name: "layer", "feature", "example", "histogram", "class_response", "correlation",
                "class", "image" (without pictures) or "skipped".
            kind: "arrow" or "pandas".

        Raises:
            Rot180Error: there is no such table or kind, or pandas is not installed.
        """
        return read_table(self, name, kind)

    def sample(self, layer: str) -> tuple[list[int], Float16[np.ndarray, "images channels"]]:
        """Return what atlases are compared by.

        Returns:
            The numbers of the sampled images, and the largest activation of each of the layer's
            features on each of them, in units of the layer's scale (table ``sample``).

        Raises:
            Rot180Error: there is no such layer, or the file is damaged.
        """
        part = self[layer]
        numbers = [n for (n,) in self.rows("SELECT image FROM sample_image ORDER BY position")]
        self.check(all(isinstance(n, int) for n in numbers), "sample_image")
        found = self.rows("SELECT peaks FROM sample WHERE layer = ?", layer)
        self.check(len(found) == 1 and isinstance(found[0][0], bytes), "sample")
        ((data,),) = found
        self.check(len(data) == 2 * len(numbers) * len(part), "sample")
        peaks = np.frombuffer(data, "<f2").reshape(len(numbers), len(part))
        self.check(bool(np.isfinite(peaks).all()), "sample")
        return numbers, peaks.astype(np.float16)

    def _names(self, given: Any, what: str) -> tuple[str, ...]:
        """Check that these are names."""
        good = isinstance(given, list) and all(isinstance(one, str) for one in given)
        self.check(good, f"metadata.{what}")
        return tuple(given)

    def _read_outputs(self) -> tuple[str, tuple[str, ...]]:
        given = self.metadata.get("outputs")
        if given is None:
            return "", ()
        layer = given.get("layer") if isinstance(given, dict) else None
        if not isinstance(layer, str) or layer not in self.layers:
            raise self.damaged("metadata.outputs")
        names = self._names(given.get("names"), "outputs")
        self.check(len(names) == len(self.layers[layer]), "metadata.outputs")
        return layer, names

    def _read_progress(self) -> list[tuple[int, int, int]]:
        found = self.rows("SELECT first, stop, next FROM progress ORDER BY first")
        for one in found:
            self.check(all(isinstance(n, int) for n in one), "progress")
            self.check(0 <= one[0] <= one[2] <= one[1] <= self.images, "progress")
        self.check(all(one[1] <= two[0] for one, two in pairwise(found)), "progress")
        return found

    def state(self) -> ScanState:
        """Return the running state of a scan that is not complete.

        Raises:
            Rot180Error: the scan is complete and holds none, or it is damaged.
        """
        self.rows("BEGIN")  # both as of one moment, if another process is writing
        try:
            self.progress = self._read_progress()
            rows = self.rows("SELECT name, type, shape, numbers FROM state")
        finally:
            with self._one_query:
                self._connection.rollback()
        if not rows:
            raise Rot180Error(
                f"{self.path} holds no state to continue from: it covers its whole data set, or "
                "another process has just finished it."
            )
        return restore_state(self, rows)

    def check_pages(self) -> None:
        """See that every page and row of the file is where it should be; all of it is read.

        Raises:
            Rot180Error: the file is damaged.
        """
        with self._one_query:
            check_pages(self.path, self._connection)

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Return what a query finds.

        Raises:
            Rot180Error: the file is closed, damaged, or being written to.
        """
        try:
            with self._one_query:
                return self._connection.execute(query, values).fetchall()
        except (*DAMAGED, OverflowError) as error:
            if "closed" in str(error):
                raise Rot180Error(f"{self.path} was closed; open it again.") from error
            name = getattr(error, "sqlite_errorname", "")
            if name == "SQLITE_READONLY":
                raise Rot180Error(f"{self.path} is read-only: no query changes it.") from error
            if name == "SQLITE_ERROR":
                raise Rot180Error(
                    f"{self.path} cannot answer a query: it asks for what no atlas has, or the "
                    "atlas is damaged."
                ) from error
            if is_curable(error):
                raise read_error(self.path, error) from error
            raise Rot180Error(f"{self.path} is damaged ({reason_of(error)}).") from error

    def check(self, good: bool, what: str) -> None:
        """Raise Rot180Error unless what was read is as it should be."""
        if not good:
            raise self.damaged(what)

    def damaged(self, what: str) -> Rot180Error:
        """Return the error that says so."""
        return Rot180Error(f"{self.path} is damaged: its {what} holds what it should not.")


def _is_shallow(value: Any, levels: int) -> bool:
    """Say whether a value of JSON has no more than so many levels of lists in one another."""
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return True
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in inner)


def open_atlas(path: Any) -> Atlas:
    """Open an atlas that ``rot180 scan`` made; it is not changed.

    Raises:
        Rot180Error: there is no such file, it is no atlas, one of another version, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise Rot180Error(
            f"There is no atlas at {path}: check the path, or make one with 'rot180 scan'."
        )
    connection = open_readonly(path)
    try:
        return Atlas(path, connection)
    except BaseException:
        connection.close()
        raise
