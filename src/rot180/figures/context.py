"""The inputs of the figures: a network, a data set, and one of its images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from rot180.datasets import ArrayDataset
from rot180.errors import Rot180Error, suggest
from rot180.graph.forward_pass import feature_maps
from rot180.graph.network import Layer, Network
from rot180.models.model import Model
from rot180.projection.imaging import Picture
from rot180.projection.project import project
from rot180.projection.result import Projections
from rot180.projection.rules import Rules


@dataclass
class FigureContext:
    """A network, and the images that the figures show.

    Attributes:
        model: the network and its preprocessing.
        data: images of the size that the network takes.
        image: number of the image that most figures show.
        many: number of images on the sheets of many images.
        batch: maximal number of images in the large batch.
        method, unpool: see :func:`rot180.project`.

    Raises:
        Rot180Error: the image, the method or the unpooling does not exist.
    """

    model: Model
    data: ArrayDataset
    image: int = 0
    many: int = 24
    batch: int = 1000
    method: str = "deconvnet"
    unpool: str = "switches"

    def __post_init__(self) -> None:
        Rules(self.method, self.unpool)  # so that errors come before the first figure
        if not 0 <= self.image < len(self.data):
            raise Rot180Error(
                f"There is no image {self.image}: the data set has {len(self.data)} images, 0 to "
                f"{len(self.data) - 1}."
            )

    @property
    def network(self) -> Network:
        """The captured network."""
        return self.model.network()

    def layer(self, number: int) -> Layer:
        """Return the first (0) or second (1) convolution."""
        return list(self.network.layers.values())[number]

    @cached_property
    def large_batch(self) -> list[int]:
        """The numbers of the images of the large batch."""
        return list(range(min(self.batch, len(self.data))))

    def inputs(self, images: Sequence[int]) -> Float[Tensor, "n c h w"]:
        """Return images as input of the network."""
        return self.model.prepare(self.data.images[list(images)])

    def maps(self, layer: Layer, images: Sequence[int]) -> Float[np.ndarray, "n c h w"]:
        """Return the feature maps of a layer for images; they are computed in batches."""
        parts = [
            feature_maps(self.network, self.inputs(images[first : first + 250]), layer.name).cpu()
            for first in range(0, len(images), 250)
        ]
        return torch.cat(parts).numpy()

    def projections(
        self, layer: Layer, images: Sequence[int], channel: int | None
    ) -> list[Float[np.ndarray, "c h w"]]:
        """Return whole-map projections: of one feature for each image, or of all for one image."""
        found = project(
            self.network,
            self.inputs(images),
            layer.name,
            channel,
            method=self.method,
            unpool=self.unpool,
        )
        assert isinstance(found, Projections)
        return [one.full().cpu().numpy() for one in found]

    def picture(self, image: int) -> Picture:
        """Return an image in colour, as 8-bit values."""
        values: UInt8[np.ndarray, "h w c"] = np.asarray(self.data.images[image])
        return values if values.shape[-1] == 3 else values.repeat(3, axis=-1)

    def label(self, image: int) -> str:
        """Return the name of an image's class; without classes its number or its file."""
        number = self.data.label(image)
        if number is not None:
            return self.data.classes[number]
        return self.data.describe(image) if len(self.data) == 1 else f"image {image}"

    @property
    def method_caption(self) -> str:
        """The method and unpooling in words, for captions."""
        return describe_method(self.method, self.unpool)

    @property
    def source_caption(self) -> str:
        """The network and the images in words, for captions."""
        return f"{self.model.caption}; images of {self.data.name}"


def describe_method(method: str, unpool: str) -> str:
    """Return a method and an unpooling in words."""
    return f"method {method.replace('_', ' ')}, unpooling by {unpool}"


def most_colourful(data: ArrayDataset, among: int = 50) -> int:
    """Return the number of the image, of the first ones, that has the most different colours.

    An image with few colours excites few features.
    """
    return int(np.argmax([colour_entropy(image) for image in data.images[:among]]))


def colour_entropy(image: UInt8[np.ndarray, "h w c"]) -> float:
    """Return the entropy of an image's colours, in nats, with eight steps in each channel."""
    _, counts = np.unique(image.reshape(-1, image.shape[-1]) // 32, axis=0, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


def first_of_class(data: ArrayDataset, name: str) -> int:
    """Return the number of the first image of a class.

    Raises:
        Rot180Error: there is no such class, or no image of it.
    """
    if name not in data.classes and name in data.folders:
        name = data.classes[data.folders.index(name)]
    if name not in data.classes:
        if not data.classes:
            raise Rot180Error(f"The images of {data.name} have no classes.")
        raise Rot180Error(
            f"There is no class '{name}' in {data.name}. There are: {suggest(data.classes, name)}."
        )
    assert data.labels is not None
    found = np.flatnonzero(data.labels == data.classes.index(name))
    if not len(found):
        raise Rot180Error(f"There is no image of the class '{name}' among these.")
    return int(found[0])
