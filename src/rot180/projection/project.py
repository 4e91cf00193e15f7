"""``rot180.project``: which pixels made a feature fire."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rot180.errors import Rot180Error, whole_number
from rot180.graph.boxes import Box
from rot180.graph.network import ForwardPass, Layer, Network
from rot180.projection.backward import carried_back
from rot180.projection.pictures import enlarged, grid, png, signed_picture
from rot180.projection.rules import Rules

Position = tuple[int, int] | str | None
"""None: the whole map; "peak": its strongest unit; or (y, x)."""

_MEMORY = 2**26
"""Largest number of values in one tensor of a backward pass; larger batches go in parts."""


@dataclass(frozen=True)
class Projection:
    """A feature, or one unit of it, carried back to the pixels of one image.

    Attributes:
        pixels: the signal (c, h, w) inside ``box``, in the units of the network's normalised input.
        box: the part of the image that it covers: the unit's receptive field, or the whole image.
        image_size: (height, width) of the image.
        layer: name of the layer.
        channel: number of the feature.
        position: (y, x) of the unit on the feature's map; None for the whole map.
        activation: the unit's activation; for a whole map the largest one on it.
        rules: the method and the unpooling.
    """

    pixels: Float[Tensor, "c h w"]
    box: Box
    image_size: tuple[int, int]
    layer: str
    channel: int
    position: tuple[int, int] | None
    activation: float
    rules: Rules

    def full(self) -> Float[Tensor, "c height width"]:
        """Return the signal at the size of the image, zero outside the box."""
        signal = self.pixels.new_zeros(len(self.pixels), *self.image_size)
        top, left, bottom, right = self.box
        signal[:, top:bottom, left:right] = self.pixels
        return signal

    def picture(self, scale: float | None = None) -> np.ndarray:
        """Return the pixels in the box as a picture (h, w, 3), uint8, zero being mid-grey.

        A unit that sees nothing but padding has an empty box; then it is the whole image.
        """
        shown = self.pixels if self.pixels.numel() else self.full()
        return signed_picture(shown.float().cpu().numpy(), scale)

    def __repr__(self) -> str:
        what = "whole map" if self.position is None else f"unit {self.position}"
        rules = f"{self.rules.method}, {self.rules.unpooling}"
        return (
            f"Projection({self.layer}, feature {self.channel}, {what}, "
            f"activation {self.activation:.4g}, {rules}, box {tuple(self.box)})"
        )

    def _repr_png_(self) -> bytes:
        picture = self.picture()
        return png(enlarged(picture, max(1, 256 // max(picture.shape[:2]))))


@dataclass(frozen=True)
class Projections(Sequence[Projection]):
    """Projections of several features or images, in order.

    ``shape`` is (images,), (features,) or (images, features); the sequence runs over all of them,
    the features of the first image first.
    """

    items: tuple[Projection, ...]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Projection]:
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> Projection: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Projection]: ...
    def __getitem__(self, index: int | slice) -> Projection | Sequence[Projection]:
        return self.items[index]

    def full(self) -> Float[Tensor, "..."]:
        """Return all of them at the size of the image: (*shape, c, height, width)."""
        stacked = torch.stack([one.full() for one in self.items])
        return stacked.reshape(*self.shape, *stacked.shape[1:])

    def _repr_png_(self) -> bytes:
        pictures = [signed_picture(one.full().float().cpu().numpy()) for one in self.items]
        columns = self.shape[-1] if len(self.shape) == 2 else round(np.ceil(np.sqrt(2 * len(self))))
        factor = max(1, min(4, 1024 // (columns * pictures[0].shape[1])))
        return png(grid([enlarged(one, factor) for one in pictures], columns))


@overload
def project(
    network: Network,
    image: Tensor,
    layer: str,
    channel: int,
    position: Position = None,
    method: str = "deconvnet",
    unpool: str = "switches",
) -> Projection: ...
@overload
def project(
    network: Network,
    image: Tensor,
    layer: str,
    channel: int | Sequence[int] | None = None,
    position: Position = None,
    method: str = "deconvnet",
    unpool: str = "switches",
) -> Projection | Projections: ...
def project(
    network: Network,
    image: Any,
    layer: str,
    channel: Any = None,
    position: Any = None,
    method: str = "deconvnet",
    unpool: str = "switches",
) -> Projection | Projections:
    """Carry a feature back to the pixels that made it fire.

    The image goes forward to the layer. There the feature's map, or one position of it, is kept and
    all else set to zero; that signal (the activations themselves, not ones) goes back through the
    same network with every step reversed. Biases take no part.

    Args:
        network: from :func:`rot180.capture`.
        image: a normalised image (c, h, w), or a batch (n, c, h, w).
        layer: name of a layer of the network.
        channel: the feature; several; or None for all features of the layer.
        position: None for the whole feature map, "peak" for its strongest unit (the first of equal
            ones, row by row), or (y, x).
        method: "deconvnet", "gradient" or "guided"; see :mod:`rot180.projection.rules`.
        unpool: "switches" or "repeat".

    Returns:
        A :class:`Projection` for one image and one feature, else :class:`Projections`. They are
        made in batches: the forward pass runs once for an image.

    Raises:
        Rot180Error: the layer, feature, position, method or unpooling does not exist, or the image
            is not of the size that the network was captured for.

    Source: Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.
    """
    rules = Rules(method, unpool)
    place = network.layer(layer)
    batch = network.batch(image)
    if len(batch) == 0:
        raise Rot180Error("The batch holds no image.")
    single = channel is not None and np.ndim(channel) == 0
    wanted = range(place.channels) if channel is None else [channel] if single else channel
    chosen = [network.checked_channel(place, one) for one in wanted]
    if not chosen:
        raise Rot180Error("No feature is chosen; channel=None stands for all of them.")
    position = _checked_position(place, position)

    largest = max(prod(network.steps[one].shape) for one in network.needed(place.step))
    part = max(1, _MEMORY // max(largest, prod(network.input_shape)))
    found: list[Projection] = []
    for images in torch.split(batch, part):
        passed = network.forward(images, place)
        # One feature of all these images goes in one backward pass, or all features of one image.
        units = [(n, one) for one in chosen for n in range(len(images))]
        size = len(images) if len(images) > 1 else part
        parts = [units[first : first + size] for first in range(0, len(units), size)]
        these = [
            one for each in parts for one in _carried(network, place, passed, each, position, rules)
        ]
        # They came feature by feature, and are handed on image by image.
        found += [one for n in range(len(images)) for one in these[n :: len(images)]]
    if image.ndim == 3 and single:
        return found[0]
    shape = (len(batch),) * (image.ndim == 4) + (len(chosen),) * (not single)
    return Projections(tuple(found), shape)


def _kept(
    maps: Float[Tensor, "k h w"], position: Position
) -> tuple[Float[Tensor, "k h w"], list[tuple[int, int] | None]]:
    """Set all but the chosen position of each map to zero."""
    if position is None:
        return maps, [None] * len(maps)
    if position == "peak":
        flat = maps.flatten(1).argmax(dim=1).tolist()
        positions = [divmod(one, maps.shape[-1]) for one in flat]
    else:
        positions = [position] * len(maps)
    kept = torch.zeros_like(maps)
    for one, (y, x) in enumerate(positions):
        kept[one, y, x] = maps[one, y, x]
    return kept, list(positions)


def _carried(
    network: Network,
    layer: Layer,
    passed: ForwardPass,
    units: list[tuple[int, int]],
    position: Position,
    rules: Rules,
) -> list[Projection]:
    """Carry back, in one pass, (image, channel) pairs: each image once, or all of one image."""
    images, channels = (list(one) for one in zip(*units, strict=True))
    kept, positions = _kept(passed.maps[images, channels], position)
    signal = passed.maps.new_zeros(len(units), *passed.maps.shape[1:])
    signal[range(len(units)), channels] = kept
    pixels = carried_back(network, layer, passed, signal, rules)
    height, width = network.input_shape[1:]
    results = []
    for one, (channel, position) in enumerate(zip(channels, positions, strict=True)):
        box, activation = Box(0, 0, height, width), kept[one].max()
        if position is not None:
            box, activation = network.receptive_field(layer, position), kept[one][position]
        inside = pixels[one, :, box.top : box.bottom, box.left : box.right]
        results.append(
            Projection(
                inside,
                box,
                (height, width),
                layer.name,
                channel,
                position,
                float(activation),
                rules,
            )
        )
    return results


def _checked_position(layer: Layer, position: Any) -> Position:
    if position is None or (isinstance(position, str) and position == "peak"):
        return position
    if isinstance(position, str) or np.shape(position) != (2,):
        raise Rot180Error(f"A position is None, 'peak' or (y, x); this one is {position!r}.")
    y, x = (whole_number(one, "A coordinate of a position") for one in position)
    if not (0 <= y < layer.height and 0 <= x < layer.width):
        raise Rot180Error(
            f"The position {(y, x)} lies outside the maps of layer '{layer.name}', which have "
            f"{layer.height} rows and {layer.width} columns: y goes from 0 to {layer.height - 1}, "
            f"x from 0 to {layer.width - 1}."
        )
    return y, x
