"""Measures the faithfulness of the methods during a scan, and reads it from an atlas.

The images are some of the data set's own, evenly spaced and the same in every part of a scan, so
that parts agree. What was found stands under ``about.methods``: for each layer which method marks
the pixels that its units need, how well, and how large its effective receptive fields are.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rot180.datasets import BadImage, Dataset, resize_and_crop
from rot180.errors import Rot180Error
from rot180.graph.network import Layer, Network
from rot180.projection.automatic import measure_layers, use_sample
from rot180.projection.faithfulness import Faithfulness

KEY = "methods"
"""The key of the measurements in the metadata."""

IMAGES, LAYERS = 8, 12
"""Number of test images, and maximal number of tested layers; the other layers take the measurement
of the nearest tested one."""


def test_images(
    data: Dataset, size: tuple[int, int], channels: int
) -> UInt8[np.ndarray, "n h w c"] | None:
    """Return some images of a data set that can be read, or None if there are none."""
    found: dict[int, np.ndarray] = {}
    for turn in range(IMAGES):
        first = (2 * turn + 1) * len(data) // (2 * IMAGES)
        for number in range(first, min(first + IMAGES, len(data))):
            if number in found:
                continue
            try:
                found[number] = resize_and_crop(data.image(number), size, channels)
            except BadImage:
                continue
            break
    return np.stack(list(found.values())) if found else None


def measure_methods(
    network: Network,
    layers: list[Layer],
    data: Dataset,
    size: tuple[int, int],
    prepare: Callable[[np.ndarray], Any],
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Measure the methods on images of a data set; return the metadata for the atlas."""
    images = test_images(data, size, network.input_shape[0])
    if images is None or not LAYERS:
        return {}
    use_sample(network, prepare(images))
    found = measure_layers(network, layers, LAYERS, progress)
    return {KEY: {name: one.as_numbers() for name, one in found.items()}}


def stored_measurements(
    about: Mapping[str, Any], layers: Mapping[str, Any]
) -> dict[str, Faithfulness]:
    """Return the measurements in the metadata of an atlas.

    Raises:
        Rot180Error: they are damaged.
    """
    given = about.get(KEY, {})
    if not isinstance(given, dict) or not set(given) <= set(layers):
        raise Rot180Error("The measurements of methods are of other layers.")
    return {name: Faithfulness.from_numbers(one) for name, one in given.items()}
