"""Square crops of the photographs that come with installed packages, for large networks.

They need no download, but they are few: a dozen photographs, and each gives many crops that
overlap. That is enough to see what features respond to, and not enough to measure how a network
does. Pictures that are drawn, or that science made (tissue, a retina, the sky), are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import ceil
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from rot180.datasets.arrays import ArrayDataset
from rot180.datasets.decode import decode_file, fitted
from rot180.errors import Rot180Error

SHARES = (1.0, 0.75, 0.5)
"""Sides of the crops, as shares of the shorter side of their photograph."""
_STEP = 2 / 3
"""Neighbouring crops of one size are at most this share of their side apart."""


@dataclass(frozen=True)
class Photograph:
    """A photograph in a package.

    Attributes:
        name: what is on it, which is the class of its crops.
        package: the package's name as it is imported.
        file: its path within the package.
    """

    name: str
    package: str
    file: str

    @property
    def path(self) -> Path | None:
        """Where it lies; None if the package is not installed or comes without it."""
        found = find_spec(self.package)
        if found is None or not found.submodule_search_locations:
            return None
        path = Path(found.submodule_search_locations[0], self.file)
        return path if path.is_file() else None


PHOTOGRAPHS = (
    Photograph("astronaut", "skimage", "data/astronaut.png"),
    Photograph("bricks", "skimage", "data/brick.png"),
    Photograph("cameraman", "skimage", "data/camera.png"),
    Photograph("cat", "skimage", "data/chelsea.png"),
    Photograph("clock", "skimage", "data/clock_motion.png"),
    Photograph("coffee", "skimage", "data/coffee.png"),
    Photograph("coins", "skimage", "data/coins.png"),
    Photograph("grass", "skimage", "data/grass.png"),
    Photograph("gravel", "skimage", "data/gravel.png"),
    Photograph("motorcycle", "skimage", "data/motorcycle_left.png"),
    Photograph("rocket", "skimage", "data/rocket.jpg"),
    Photograph("officer", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    Photograph("palace", "sklearn", "datasets/images/china.jpg"),
    Photograph("flower", "sklearn", "datasets/images/flower.jpg"),
)
"""All that are looked for; scikit-learn's two only show where it is installed."""


def open_crops(size: tuple[int, int]) -> ArrayDataset:
    """Return the crops of all photographs that are installed, one photograph after the other.

    Args:
        size: (height, width) in pixels that each crop is brought to.

    Returns:
        Colour images; grey photographs have three equal channels. The classes are the photographs.

    Raises:
        Rot180Error: none of the photographs is installed.
    """
    here = [(one, path) for one in PHOTOGRAPHS if (path := one.path) is not None]
    if not here:
        packages = ", ".join(sorted({one.package for one in PHOTOGRAPHS}))
        raise Rot180Error(
            f"None of the photographs that crops are cut from is installed (in {packages}): "
            "run pip install scikit-image."
        )
    images, labels, places = [], [], []
    for label, (photograph, path) in enumerate(here):
        pixels = decode_file(path)
        for box in crop_boxes(*pixels.shape[:2]):
            top, left, bottom, right = box.tolist()
            images.append(fitted(pixels[top:bottom, left:right], size, 3))
            labels.append(label)
            places.append(f"{photograph.name}, rows {top}-{bottom}, columns {left}-{right}")
    return ArrayDataset(
        np.stack(images),
        np.array(labels, dtype=np.int64),
        [photograph.name for photograph, _ in here],
        name=f"crops of {len(here)} photographs",
        where=partial(list.__getitem__, places),
    )


def crop_boxes(height: int, width: int) -> Int64[np.ndarray, "n 4"]:
    """Return the squares that are cut from a photograph, the largest first.

    Returns:
        (n, 4): top, left, bottom, right of each in pixels, bottom and right exclusive. Those of
        one size cover the photograph from border to border, and overlap.
    """
    boxes = [
        (top, left, top + side, left + side)
        for side in (int(min(height, width) * share) for share in SHARES)
        for top in _starts(height, side)
        for left in _starts(width, side)
    ]
    return np.array(boxes, dtype=np.int64)


def _starts(extent: int, side: int) -> Iterator[int]:
    """Yield where crops of a side begin along an axis: evenly, from border to border."""
    room = extent - side
    gaps = ceil(room / (_STEP * side))
    for number in range(gaps + 1):
        yield room * number // max(gaps, 1)
