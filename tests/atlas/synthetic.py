"""Activations made up by chance, and what a scan would take from them, by NumPy alone.

An independent witness for the compiled loops: positions are looked up one by one, colours averaged
over slices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rot180.atlas.feature_index import FeatureIndex, LayerSlice
from rot180.atlas.map_summary import MapSummary
from rot180.atlas.observation import BatchObservation
from rot180.atlas.tables import ReceptiveFields

SMALL = (
    LayerSlice("a", 3, 7, 6, 4.0),
    LayerSlice("b", 1, 1, 1, 0.5),
    LayerSlice("c", 2, 3, 2, 1.0),
)
"""Few features, a map of a single position, and maps smaller than the grid of samples."""

WIDE = (*SMALL, LayerSlice("d", 257, 9, 5, 2.0), LayerSlice("e", 513, 5, 4, 1.0))
"""And layers of so many features that fewer positions of them are sampled."""

CLASSES = 4
SIDE = 12
"""Rows and columns of the pictures."""


@dataclass(frozen=True)
class Images:
    """A data set, as a network sees it.

    Attributes:
        index: features of the scan.
        labels: -1 to CLASSES - 1.
        pictures: (n, SIDE, SIDE, colours), bytes.
        maps: for each layer (n, c, h, w), float32.
        fields: the receptive fields of each layer.
    """

    index: FeatureIndex
    labels: np.ndarray
    pictures: np.ndarray
    maps: tuple[np.ndarray, ...]
    fields: dict[str, ReceptiveFields]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def peaks(self) -> np.ndarray:
        """The largest activation of each feature on each image (n, features)."""
        return np.concatenate([one.max((2, 3)) for one in self.maps], axis=1)

    def observed(self) -> BatchObservation:
        """What all images show."""
        numbers = np.arange(len(self))
        samples, colours = [], []
        for part, maps in zip(self.index.layers, self.maps, strict=True):
            positions = part.sample_positions(numbers)
            y, x = np.divmod(positions, part.width)
            samples.append(maps[numbers[:, None], :, y, x])
            colours.append(local_means(self.pictures, positions, self.fields[part.name]))
        return BatchObservation(
            numbers, self.labels, summary_of(self.maps), tuple(samples), tuple(colours)
        )


def summary_of(maps: Sequence[np.ndarray]) -> MapSummary:
    """The summary of the maps of all layers."""
    flat = [one.reshape(*one.shape[:2], -1) for one in maps]
    return MapSummary(
        np.concatenate([one.max(2) for one in flat], axis=1).astype(np.float32),
        np.concatenate([one.argmax(2) for one in flat], axis=1),
        np.concatenate([one.astype(np.float64).mean(2) for one in flat], axis=1),
        np.concatenate([(one > 0).sum(2) for one in flat], axis=1),
        np.concatenate([one.max(2) for one in flat], axis=1).astype(np.float32),
    )


def local_means(pictures: np.ndarray, positions: np.ndarray, fields: ReceptiveFields) -> np.ndarray:
    """The mean colour, from 0 to 1, that each of some positions (n, s) sees."""
    found = np.empty((*positions.shape, pictures.shape[3]))
    for i, j in np.ndindex(positions.shape):
        y, x = divmod(int(positions[i, j]), len(fields.columns))
        rows, columns = slice(*fields.rows[y]), slice(*fields.columns[x])
        found[i, j] = pictures[i, rows, columns].mean((0, 1)) / 255
    return found


def spans(places: int) -> np.ndarray:
    """What each row or column of a map sees of pictures: its share, and a pixel on either side."""
    start = np.arange(places) * SIDE // places
    stop = np.arange(1, places + 1) * SIDE // places
    return np.stack([np.maximum(start - 1, 0), np.minimum(stop + 1, SIDE)], axis=1)


def fields_of(parts: Sequence[LayerSlice]) -> dict[str, ReceptiveFields]:
    return {one.name: ReceptiveFields(spans(one.height), spans(one.width)) for one in parts}


def drawn(
    images: int,
    seed: int = 0,
    parts: Sequence[LayerSlice] = SMALL,
    *,
    ties: bool = False,
    colours: int = 3,
    examples: int = 3,
    sample: int = 8,
) -> Images:
    """Draw images of which some have no class, and activations about as large as the scales.

    With ``ties`` activations are a few whole numbers, so that equal peaks abound.
    """
    rng = np.random.default_rng(seed)
    maps = []
    for part in parts:
        shape = (images, part.channels, part.height, part.width)
        values = rng.integers(-2, 3, shape) / 4 if ties else rng.normal(0.0, 0.3, shape)
        maps.append((values * part.scale).astype(np.float32))
    return Images(
        FeatureIndex(tuple(parts), CLASSES, colours, examples, sample),
        rng.integers(-1, CLASSES, images),
        rng.integers(0, 256, (images, SIDE, SIDE, colours), dtype=np.uint8),
        tuple(maps),
        fields_of(parts),
    )


def pixels(images: int, seed: int = 0, colours: int = 3, grey: bool = False) -> np.ndarray:
    """Draw pictures; grey ones have equal channels."""
    rng = np.random.default_rng(seed)
    if grey:
        return np.repeat(rng.integers(0, 256, (images, SIDE, SIDE, 1), np.uint8), colours, axis=3)
    return rng.integers(0, 256, (images, SIDE, SIDE, colours), np.uint8)


def planted(
    maps: np.ndarray, scale: float, pictures: np.ndarray | None = None, labels: np.ndarray = None
) -> Images:
    """Make images of one layer whose features are given as maps (n, c, h, w).

    Maps as large as the pictures see a pixel at each position.
    """
    n, channels, height, width = maps.shape
    part = LayerSlice("planted", channels, height, width, scale)
    whole = (height, width) == (SIDE, SIDE)
    pictures = pixels(n) if pictures is None else pictures
    own = np.stack([np.arange(SIDE), np.arange(SIDE) + 1], axis=1)
    return Images(
        FeatureIndex((part,), CLASSES, pictures.shape[3]),
        np.full(n, -1) if labels is None else labels,
        pictures,
        (maps.astype(np.float32),),
        {"planted": ReceptiveFields(own, own)} if whole else fields_of([part]),
    )


def take(observed: BatchObservation, which: Sequence[int]) -> BatchObservation:
    """Some of the images, in this order."""
    at = np.asarray(which, np.int64)
    return replace(
        observed,
        numbers=observed.numbers[at],
        labels=observed.labels[at],
        summary=MapSummary(*(one[at] for one in observed.summary)),
        samples=tuple(one[at] for one in observed.samples),
        colours=tuple(one[at] for one in observed.colours),
    )
