"""Square crops of the photographs that come with installed packages, for large networks.

They need no download, but they are few: a dozen photographs, each with many overlapping crops. That
is enough to see what features respond to, but not to measure the accuracy of a network. Drawings
and scientific images (tissue, a retina, the sky) are left out.
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
from rot180.datasets.decode import decode_file
from rot180.datasets.resize import resize_and_crop
from rot180.errors import Rot180Error

SHARES = (1.0, 0.75, 0.5)
"""Sides of the crops, as shares of the shorter side of their photograph."""
_STEP = 2 / 3
"""Maximal distance between neighbouring crops of one size, as a share of their side."""


@dataclass(frozen=True)
class Photograph:
    """A photograph in a package.

    Attributes:
        name: what it shows, which is the class of its crops.
        package: import name of the package.
        file: path within the package.
    """

    name: str
    package: str
    file: str

    @property
    def path(self) -> Path | None:
        """Path of the file; None if the package is not installed or lacks the photograph."""
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(spec.submodule_search_locations[0], self.file)
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
"""All photographs that are used if installed; two of them come with scikit-learn."""


def open_crops(size: tuple[int, int]) -> ArrayDataset:
    """Return the crops of all photographs that are installed, photograph by photograph.

    Args:
        size: (height, width) in pixels that each crop is resized to.

    Returns:
        Colour images; grey photographs have three equal channels. The classes are the photographs.

    Raises:
        Rot180Error: none of the photographs is installed.
    """
    installed = [(photo, path) for photo in PHOTOGRAPHS if (path := photo.path) is not None]
    if not installed:
        packages = ", ".join(sorted({photo.package for photo in PHOTOGRAPHS}))
        raise Rot180Error(
            f"None of the photographs that crops are cut from is installed (in {packages}): "
            "run pip install scikit-image."
        )
    images, labels, descriptions = [], [], []
    for label, (photograph, path) in enumerate(installed):
        pixels = decode_file(path)
        for box in crop_boxes(*pixels.shape[:2]):
            top, left, bottom, right = box.tolist()
            images.append(resize_and_crop(pixels[top:bottom, left:right], size, 3))
            labels.append(label)
            descriptions.append(f"{photograph.name}, rows {top}-{bottom}, columns {left}-{right}")
    return ArrayDataset(
        np.stack(images),
        np.array(labels, dtype=np.int64),
        [photograph.name for photograph, _ in installed],
        name=f"crops of {len(installed)} photographs",
        describe=partial(list.__getitem__, descriptions),
    )


def crop_boxes(height: int, width: int) -> Int64[np.ndarray, "n 4"]:
    """Return the boxes of the crops of a photograph, the largest first.

    Returns:
        (n, 4): top, left, bottom, right of each in pixels, bottom and right exclusive. Boxes of
        one size overlap and cover the photograph from border to border.
    """
    boxes = [
        (top, left, top + side, left + side)
        for side in (int(min(height, width) * share) for share in SHARES)
        for top in _starts(height, side)
        for left in _starts(width, side)
    ]
    return np.array(boxes, dtype=np.int64)


def _starts(extent: int, side: int) -> Iterator[int]:
    """Yield the starts of crops along an axis, evenly spaced from border to border."""
    last = extent - side
    gaps = ceil(last / (_STEP * side))
    for number in range(gaps + 1):
        yield last * number // max(gaps, 1)
