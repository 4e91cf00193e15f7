"""The features of a scan, numbered through all layers, and their scales."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from rot180.errors import Rot180Error

_MOST_POSITIONS = 4
_MOST_PRODUCTS = 2**20
"""Upper bound of a layer's sampled positions times the square of its features: within it, what an
image adds to the correlations costs little beside the network."""

_MOST_CORRELATED = 4096
"""Correlations are not computed for layers with more features: they would dominate the file."""


@dataclass(frozen=True)
class LayerSlice:
    """One layer in a scan.

    Attributes:
        name: of the layer.
        channels, height, width: of its maps.
        scale: a power of two, about the layer's largest activation. Summands are rounded to
            multiples of a tiny part of it, so that sums are exact whatever their order.
    """

    name: str
    channels: int
    height: int
    width: int
    scale: float = 1.0

    @property
    def sample_grid(self) -> tuple[int, int]:
        """Rows and columns of the grid in which positions are sampled on each image."""
        side = _MOST_POSITIONS
        while side > 1 and side**2 * self.channels**2 > _MOST_PRODUCTS:
            side //= 2
        return min(side, self.height), min(side, self.width)

    @property
    def is_correlated(self) -> bool:
        """Whether the features are correlated with each other."""
        return self.channels <= _MOST_CORRELATED

    def sample_positions(self, numbers: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, "n s"]:
        """Return the positions, y times width plus x, that are sampled on images of these numbers.

        The map is cut into the cells of ``sample_grid``, and one position is sampled in each: at
        the same place within every cell of an image, and at another place on the next image. So
        each position is sampled equally often. The places follow the additive sequence of Roberts
        (2018), whose points lie evenly in the square.
        """
        rows, columns = self.sample_grid
        uy, ux = ((0.5 + numbers * step) % 1.0 for step in (0.7548776662466927, 0.5698402909980532))
        y = np.floor((np.arange(rows) + uy[:, None]) * self.height / rows).astype(np.int64)
        x = np.floor((np.arange(columns) + ux[:, None]) * self.width / columns).astype(np.int64)
        y, x = np.minimum(y, self.height - 1), np.minimum(x, self.width - 1)
        return (y[:, :, None] * self.width + x[:, None, :]).reshape(len(numbers), -1)


@dataclass(frozen=True)
class FeatureIndex:
    """The layers of a scan, and the numbers of their features through all layers.

    Attributes:
        layers: the layers.
        classes: number of classes of the images.
        colours: number of channels of the images: 3, or 1 for brightness alone.
        examples: number of strongest images stored for each feature.
        sample: number of images whose peaks are stored for all features.
    """

    layers: tuple[LayerSlice, ...]
    classes: int = 0
    colours: int = 3
    examples: int = 9
    sample: int = 1000

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Number of the first feature of each layer; at the end, the number of all features."""
        return (0, *np.cumsum([one.channels for one in self.layers]).tolist())

    @property
    def features(self) -> int:
        """Number of features in all layers."""
        return self.starts[-1]

    def slice_of(self, layer: int) -> slice:
        """Return the features of a layer."""
        return slice(self.starts[layer], self.starts[layer + 1])

    @cached_property
    def scales(self) -> Float64[np.ndarray, " f"]:
        """The scale of each feature's layer."""
        return self.per_feature([one.scale for one in self.layers])

    def per_feature(self, values: Sequence[float]) -> Float64[np.ndarray, " f"]:
        """Repeat a value of each layer for each of its features."""
        return np.repeat(np.asarray(values, np.float64), [one.channels for one in self.layers])

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        parts = [[p.name, p.channels, p.height, p.width, p.scale] for p in self.layers]
        return {
            "layers": parts,
            "classes": self.classes,
            "colours": self.colours,
            "examples": self.examples,
            "sample": self.sample,
        }

    @classmethod
    def from_json(cls, given: Any) -> "FeatureIndex":
        """Return what :meth:`to_json` described.

        Raises:
            Rot180Error: the description is damaged.
        """
        try:
            parts = tuple(
                LayerSlice(str(name), int(channels), int(height), int(width), float(scale))
                for name, channels, height, width, scale in given["layers"]
            )
            names = ("classes", "colours", "examples", "sample")
            classes, colours, examples, sample = (int(given[name]) for name in names)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise Rot180Error(f"The atlas' index of features is damaged ({error!r}).") from error
        sizes = [size for one in parts for size in (one.channels, one.height, one.width)]
        if (
            not parts
            or min(sizes) < 1
            or not (classes >= 0 and colours in (1, 3) and examples >= 1 and sample >= 0)
            or not all(np.isfinite(one.scale) and one.scale > 0 for one in parts)
            or sum(one.channels for one in parts) > 2**31
        ):
            raise Rot180Error("The atlas' index of features is damaged: it holds impossible sizes.")
        return cls(parts, classes, colours, examples, sample)


def scale_of(largest: float) -> float:
    """Return the smallest power of two that is no less than a layer's largest activation."""
    if not largest > 0:
        return 1.0
    mantissa, exponent = np.frexp(largest)
    return float(np.ldexp(1.0, int(exponent) - (mantissa == 0.5)))
