"""A projection of a feature or a unit to pixels, and several of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rot180.graph.box import Box
from rot180.projection.effective import SHARE, effective_box
from rot180.projection.imaging import encode_png, grid, signed_to_rgb, upscale
from rot180.projection.rules import Rules


@dataclass(frozen=True)
class Projection:
    """A feature, or one unit of it, projected back to the pixels of one image.

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

    def effective_box(self, share: float = SHARE) -> Box:
        """Return the smallest square that holds a share of the signal's energy.

        See ``rot180.projection.effective``.
        """
        return effective_box(self.pixels, self.box, share)

    def picture(self, scale: float | None = None) -> np.ndarray:
        """Return the pixels in the box as a picture (h, w, 3), uint8, zero being mid-grey.

        ``scale`` is shown as white; without it, the 99.5th percentile of the absolute values.

        A unit that sees nothing but padding has an empty box; then it is the whole image.
        """
        shown = self.pixels if self.pixels.numel() else self.full()
        return signed_to_rgb(shown.float().cpu().numpy(), scale)

    def __repr__(self) -> str:
        what = "whole map" if self.position is None else f"unit {self.position}"
        rules = f"{self.rules.method}, {self.rules.unpooling}"
        return (
            f"Projection({self.layer}, feature {self.channel}, {what}, "
            f"activation {self.activation:.4g}, {rules}, box {tuple(self.box)})"
        )

    def _repr_png_(self) -> bytes:
        picture = self.picture()
        return encode_png(upscale(picture, max(1, 256 // max(picture.shape[:2]))))


@dataclass(frozen=True)
class Projections(Sequence[Projection]):
    """Projections of several features or images, in order.

    Attributes:
        items: all of them, the features of the first image first.
        shape: (images,), (features,) or (images, features).
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
        """Return all of them at the size of the image, ``(*shape, c, height, width)``."""
        stacked = torch.stack([one.full() for one in self.items])
        return stacked.reshape(*self.shape, *stacked.shape[1:])

    def _repr_png_(self) -> bytes:
        pictures = [signed_to_rgb(one.full().float().cpu().numpy()) for one in self.items]
        columns = self.shape[-1] if len(self.shape) == 2 else round(np.ceil(np.sqrt(2 * len(self))))
        factor = max(1, min(4, 1024 // (columns * pictures[0].shape[1])))
        return encode_png(grid([upscale(one, factor) for one in pictures], columns))
