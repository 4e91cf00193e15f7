"""How far a feature can be explained by colour alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from rot180.atlas.describe import describe_colour
from rot180.atlas.map_summary import integral_images, local_colours
from rot180.graph.network import Layer, Network
from rot180.graph.receptive_field import receptive_fields


@dataclass(frozen=True)
class ColourResponse:
    """A linear model of a feature's map: activation = offset + sum of coefficient x mean colour.

    Attributes:
        coefficients: activation for each channel going from 0 to 255 under the receptive field,
            the other channels fixed.
        explained: R^2, the share of the map's variance that the model explains; 0 for a flat map.
    """

    coefficients: tuple[float, ...]
    explained: float

    def words(self) -> str:
        """Say the strongest effects in words: "more with green, less with blue"."""
        return describe_colour(self.coefficients)


def colour_response(
    network: Network,
    layer: Layer,
    images: UInt8[np.ndarray, "n height width c"],
    maps: Float[np.ndarray, "n h w"],
) -> ColourResponse:
    """Fit a feature's maps to the mean colour under each unit's receptive field (least squares).

    Args:
        network: where the layer is.
        layer: whose feature it is.
        images: the images as 8-bit values.
        maps: the feature's map on each image.
    """
    means = local_means(network, layer, images)
    inputs = means.reshape(-1, means.shape[-1]) / 255
    target = maps.reshape(-1).astype(np.float64)
    design = np.column_stack([inputs, np.ones(len(inputs))])
    solution, *_ = np.linalg.lstsq(design, target, rcond=None)
    variance = float(np.mean((target - target.mean()) ** 2))
    residual = float(np.mean((target - design @ solution) ** 2))
    explained = max(0.0, 1 - residual / variance) if variance > 0 else 0.0
    return ColourResponse(tuple(solution[:-1].tolist()), explained)


def local_means(
    network: Network, layer: Layer, images: UInt8[np.ndarray, "n height width c"]
) -> Float[np.ndarray, "n h w c"]:
    """Return the mean colour under the receptive field of each unit, cut to the image; 0 to 255."""
    positions = np.tile(np.arange(layer.height * layer.width), (len(images), 1))
    fields = receptive_fields(network, [layer])[layer.name]
    means = 255 * local_colours(integral_images(images), positions, *fields)
    return means.reshape(len(images), layer.height, layer.width, -1)
