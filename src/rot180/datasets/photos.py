"""The data set that needs no download: 32 x 32 tiles cut from the photographs in scikit-image.

Each photograph is divided into 6 x 6 blocks, and six of them are held out for the test images. No
two of these are in the same row, column or diagonal, like six queens on a chessboard, so that they
cover border and centre alike and do not touch. A test tile lies inside one of these blocks, a train
tile outside all of them, and a tile is made from the pixels of its box only. So no pixel of a
photograph is in both splits.

Boxes are cut at several scales and averaged down to 32 x 32. Boxes with little contrast (sky, the
black around a retina) are left out.
"""

from collections.abc import Sequence
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from rot180.datasets.arrays import ArrayDataset
from rot180.datasets.cache import Write, get_or_build
from rot180.datasets.decode import decode
from rot180.datasets.fingerprints import combine, file_fingerprint
from rot180.errors import Rot180Error

TILE = 32
PER_CLASS = {"train": 1000, "test": 200}
PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "galaxies": "hubble_deep_field.jpg",
    "tissue": "ihc.png",
    "motorcycle": "motorcycle_left.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}
CLASSES = tuple(PHOTOGRAPHS)
# Number of blocks in each direction, and the column of the test block in each row of blocks.
GRID = 6
TEST_COLUMNS = (1, 3, 5, 0, 2, 4)
# Sides of the boxes in source pixels; a photograph uses those that fit into its blocks.
SIDES = (32, 48, 64, 96, 128)
# Number of boxes that are drawn for each one that is used.
DRAWN = 3
SEED = 180
# Part of the name of the cached arrays. Raise it when the tiles change.
VERSION = "1"

Boxes = Int64[np.ndarray, "n 4"]


class Photos(ArrayDataset):
    """Tiles cut from photographs; tile i is of class ``i % 8``.

    Attributes:
        boxes: (n, 4), int64, top, left, bottom, right of each tile's box in its photograph, in
            source pixels, bottom and right exclusive.
    """

    def __init__(
        self, images: UInt8[np.ndarray, "n 32 32 3"], boxes: Boxes, split: str, fingerprint: str
    ) -> None:
        super().__init__(
            images,
            np.arange(len(images), dtype=np.int64) % len(CLASSES),
            CLASSES,
            name="photos",
            split=split,
            describe=partial(_describe, boxes),
            fingerprint=fingerprint,
        )
        self.boxes = boxes


def _describe(boxes: Boxes, index: int) -> str:
    top, left, bottom, right = boxes[index]
    name = CLASSES[index % len(CLASSES)]
    return f"photo {name}, rows {top}-{bottom}, columns {left}-{right}"


def open_photos(split: str) -> Photos:
    """Return the tiles of a split, 8000 in ``train`` and 1600 in ``test``, from the cache if there.

    Raises:
        Rot180Error: a photograph is missing.
    """
    paths = photograph_paths()
    key = combine([VERSION, split, *(file_fingerprint(path) for path in paths)])
    parts = ("train", "test") if split == "all" else (split,)
    count = len(CLASSES) * sum(PER_CLASS[part] for part in parts)

    def build(write: Write) -> dict[str, Any]:
        photographs = [decode(path.read_bytes(), str(path)) for path in paths]
        boxes: list[list[int]] = []
        for part in parts:
            boxes_of = [_draw_boxes(photo, n, part) for n, photo in enumerate(photographs)]
            # Interleaved: one tile of each class, then the next of each.
            for box_per_class in np.stack(boxes_of, axis=1):
                pairs = zip(photographs, box_per_class, strict=True)
                write(np.stack([tile(photo, box) for photo, box in pairs]))
                boxes += box_per_class.tolist()
        return {"boxes": boxes}

    images, notes = get_or_build(f"photos-{split}-{key}", (count, TILE, TILE, 3), build)
    boxes = np.array(notes["boxes"], dtype=np.int64).reshape(-1, 4)
    return Photos(images, boxes, split, key)


def photograph_paths() -> list[Path]:
    """Return the paths of the eight photographs, in the order of the classes.

    Raises:
        Rot180Error: scikit-image or one of its photographs is missing.
    """
    try:
        from skimage import data_dir  # type: ignore[attr-defined]
    except ImportError as error:
        raise Rot180Error(
            "The data set 'photos' is cut from photographs in scikit-image, which cannot be "
            f"imported ({error}): run pip install scikit-image, or name another data set."
        ) from error
    directory = Path(data_dir)
    paths = [directory / file for file in PHOTOGRAPHS.values()]
    for path in paths:
        if not path.is_file():
            raise Rot180Error(
                f"The data set 'photos' needs the photograph {path}, which this scikit-image "
                "lacks: install scikit-image from PyPI, or name another data set."
            )
    return paths


def held_out_blocks(height: int, width: int) -> Boxes:
    """Return the six blocks of a photograph that are held out for test tiles."""
    rows = [height * number // GRID for number in range(GRID + 1)]
    columns = [width * number // GRID for number in range(GRID + 1)]
    blocks = [
        (rows[row], columns[column], rows[row + 1], columns[column + 1])
        for row, column in enumerate(TEST_COLUMNS)
    ]
    return np.array(blocks, dtype=np.int64)


def tile(
    photo: UInt8[np.ndarray, "h w 3"], box: Int64[np.ndarray, " 4"]
) -> UInt8[np.ndarray, "t t 3"]:
    """Average a square box down to 32 x 32, in whole numbers (the same on every machine).

    If the side is not a multiple of 32, the pixels are repeated until it is, which makes the
    average over areas exact.
    """
    top, left, bottom, right = box
    side = int(bottom - top)
    repeated, window = TILE // gcd(side, TILE), side // gcd(side, TILE)
    pixels = photo[top:bottom, left:right].astype(np.int64)
    pixels = pixels.repeat(repeated, axis=0).repeat(repeated, axis=1)
    sums = pixels.reshape(TILE, window, TILE, window, 3).sum(axis=(1, 3))
    area = window * window
    rounded: UInt8[np.ndarray, "t t 3"] = ((2 * sums + area) // (2 * area)).astype(np.uint8)
    return rounded


def _draw_boxes(photo: UInt8[np.ndarray, "h w c"], number: int, part: str) -> Boxes:
    """Draw boxes of a photograph and split at random; return those with the most contrast."""
    height, width = photo.shape[:2]
    blocks = held_out_blocks(height, width)
    smallest = int(np.minimum(blocks[:, 2] - blocks[:, 0], blocks[:, 3] - blocks[:, 1]).min())
    sides = [side for side in SIDES if side <= smallest]
    rng = np.random.Generator(np.random.PCG64([SEED, number, list(PER_CLASS).index(part)]))
    wanted = PER_CLASS[part]
    drawn = np.empty((0, 4), dtype=np.int64)
    while len(drawn) < DRAWN * wanted:
        if part == "train":
            more = _random_boxes(np.array([[0, 0, height, width]]), sides, rng, DRAWN * wanted)
            more = more[~_overlaps(more, blocks)]
        else:
            more = _random_boxes(blocks, sides, rng, DRAWN * wanted)
        drawn = _without_duplicates(np.concatenate([drawn, more]))
    drawn = drawn[: DRAWN * wanted]
    contrast = _contrast(photo, drawn)
    # The order stays that of drawing, so that the first tiles are as mixed as all.
    boxes: Boxes = drawn[np.sort(np.argsort(-contrast, kind="stable")[:wanted])]
    return boxes


def _random_boxes(
    areas: Int64[np.ndarray, "a 4"], sides: Sequence[int], rng: np.random.Generator, count: int
) -> Boxes:
    """Return random square boxes, each inside one of the areas."""
    top, left, bottom, right = areas[rng.integers(len(areas), size=count)].T
    side = np.array(sides)[rng.integers(len(sides), size=count)]
    y = rng.integers(top, bottom - side + 1)
    x = rng.integers(left, right - side + 1)
    return np.stack([y, x, y + side, x + side], axis=1).astype(np.int64)


def _overlaps(boxes: Boxes, blocks: Int64[np.ndarray, "b 4"]) -> Bool[np.ndarray, " n"]:
    """Return which boxes share a pixel with any of the blocks."""
    box, block = boxes[:, None, :], blocks[None, :, :]
    rows = (box[..., 0] < block[..., 2]) & (block[..., 0] < box[..., 2])
    columns = (box[..., 1] < block[..., 3]) & (block[..., 1] < box[..., 3])
    return np.asarray((rows & columns).any(axis=1))


def _without_duplicates(boxes: Boxes) -> Int64[np.ndarray, "k 4"]:
    _, first = np.unique(boxes, axis=0, return_index=True)
    return boxes[np.sort(first)]


def _contrast(photo: UInt8[np.ndarray, "h w 3"], boxes: Boxes) -> Float64[np.ndarray, " n"]:
    """Return the standard deviation of luminance in grey levels, the median over four quarters.

    The median ignores a single edge between two flat areas, which makes a large deviation on the
    whole box. The sums come from integral images in whole numbers, so they are exact and fast.
    """
    luma = photo.astype(np.int64) @ np.array([299, 587, 114])  # thousandths of a grey level
    sums, squares = (
        np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
        for values in (luma, luma * luma)
    )
    top, left = boxes[:, 0], boxes[:, 1]
    half = (boxes[:, 2] - top) // 2
    deviations = []
    for y, x in ((top, left), (top, left + half), (top + half, left), (top + half, left + half)):
        area = half * half
        total, square = (
            table[y + half, x + half] - table[y, x + half] - table[y + half, x] + table[y, x]
            for table in (sums, squares)
        )
        deviations.append(np.sqrt(area * square - total * total) / area / 1000)
    return np.asarray(np.median(deviations, axis=0))
