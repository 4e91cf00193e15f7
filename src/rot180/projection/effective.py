"""Effective receptive fields: the region that holds most of a projection.

The theoretical receptive field of a deep unit is the whole image, yet few of its pixels matter (Luo
et al., Understanding the effective receptive field, NeurIPS 2016). Here it is measured for one unit
on one image: the smallest square around the centre of the projection's energy that holds a stated
share of it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rot180.graph.box import Box

SHARE = 0.8
"""Of the energy, which is the sum of the squares of the signal over the colours."""


LARGE_FIELD = 64
"""Side of a receptive field, in pixels, from which on it matters that it is not all used: smaller
ones are shown whole."""


def effective_box(signal: Float[Tensor, "c h w"], field: Box, share: float = SHARE) -> Box:
    """Return the smallest square that holds a share of a signal's energy, in pixels of the image.

    It lies around the energy's centre of mass and inside the receptive field: near its edge it is
    moved inwards, and a field that is not square bounds its longer side.

    Args:
        signal: on the receptive field.
        field: the receptive field.
        share: of the energy, from 0 to 1.

    Returns:
        The box; the field itself where there is no signal.
    """
    energy = signal.double().square().sum(0)
    total = float(energy.sum())
    if not total > 0:
        return field
    height, width = energy.shape
    rows, columns = energy.sum(1), energy.sum(0)
    y = float((rows * torch.arange(height, device=energy.device)).sum()) / total
    x = float((columns * torch.arange(width, device=energy.device)).sum()) / total
    sums = torch.zeros(height + 1, width + 1, dtype=energy.dtype)
    sums[1:, 1:] = energy.cumsum(0).cumsum(1).cpu()

    def square(side: int) -> Box:
        high, wide = min(side, height), min(side, width)
        top = min(max(round(y + 0.5 - high / 2), 0), height - high)
        left = min(max(round(x + 0.5 - wide / 2), 0), width - wide)
        return Box(top, left, top + high, left + wide)

    def held(box: Box) -> float:
        corners = sums[box.bottom, box.right] - sums[box.top, box.right]
        return float(corners - sums[box.bottom, box.left] + sums[box.top, box.left])

    low, high = 1, max(height, width)
    while low < high:
        middle = (low + high) // 2
        if held(square(middle)) >= share * total * (1 - 1e-9):
            high = middle
        else:
            low = middle + 1
    found = square(low)
    return Box(
        field.top + found.top,
        field.left + found.left,
        field.top + found.bottom,
        field.left + found.right,
    )
