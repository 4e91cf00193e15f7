"""Augmentation: random changes that do not change the class, drawn for each image of a batch."""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from rot180.training.recipe import Recipe

_GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness (ITU-R BT.601)."""


def shift_and_flip(
    images: UInt8[Tensor, "n h w c"], recipe: Recipe, generator: torch.Generator
) -> UInt8[Tensor, "n h w c"]:
    """Mirror half of the images, and shift each; pixels from outside repeat the edge."""
    if not recipe.shift and not recipe.flip:
        return images
    n, h, w, _ = images.shape
    k = recipe.shift
    dy = torch.randint(-k, k + 1, (n, 1, 1), generator=generator)
    dx = torch.randint(-k, k + 1, (n, 1, 1), generator=generator)
    rows = (torch.arange(h).view(1, h, 1) + dy).clamp(0, h - 1)
    columns = (torch.arange(w).view(1, 1, w) + dx).clamp(0, w - 1)
    if recipe.flip:
        mirror = torch.rand(n, 1, 1, generator=generator) < 0.5
        columns = torch.where(mirror, w - 1 - columns, columns)
    return images[torch.arange(n).view(n, 1, 1), rows, columns]


def jitter_colour(
    images: Float[Tensor, "n h w c"], recipe: Recipe, generator: torch.Generator
) -> Float[Tensor, "n h w c"]:
    """Rotate the colours of each image around the grey axis, and make some images grey.

    A rotation preserves red + green + blue of every pixel; one of 120 degrees turns red to green.
    """
    n, channels = images.shape[0], images.shape[3]
    if channels != 3 or (not recipe.grey and not recipe.hue):
        return images
    angle = (torch.rand(n, 1, 1, generator=generator) * 2 - 1) * math.radians(recipe.hue)
    third = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    matrix = angle.cos() * (torch.eye(3) - third) + third + angle.sin() * cross
    grey = torch.rand(n, 1, 1, generator=generator) < recipe.grey
    matrix = torch.where(grey, torch.tensor(_GREY).expand(3, 3), matrix)
    return torch.einsum("nij,nhwj->nhwi", matrix.to(images), images)
