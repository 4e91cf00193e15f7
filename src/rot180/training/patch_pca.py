"""Principal components of image patches, the initial kernels of the first layer."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

_PATCHES = 1_000_000
"""Approximate number of patches to use; the components hardly change with more."""


def principal_kernels(
    images: UInt8[np.ndarray, "n h w c"],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    count: int,
) -> Float[Tensor, "count c 5 5"]:
    """Return kernels that are the principal components of the images' 5x5 patches.

    The first half are the components with the largest variance, in descending order, as kernels of
    length one. The second half are their negatives, since a rectifier keeps one sign only.
    Components of photographs are brightness, opponent colours, and waves and edges of several
    directions.

    Args:
        images: 8-bit images, at least 5x5. Only the first are used, for about a million patches.
        mean, std: mean and standard deviation of each channel, for values from 0 to 1.
        count: number of kernels, an even number.
    """
    size = 5 * 5 * images.shape[-1]
    total, products, number = torch.zeros(size).double(), torch.zeros(size, size).double(), 0
    used = min(len(images), 1 + _PATCHES // (images.shape[1] * images.shape[2]))
    for image in images[:used]:
        values = torch.from_numpy(np.array(image)).double() / 255
        values = (values - torch.tensor(mean)) / torch.tensor(std)
        patches = values.unfold(0, 5, 1).unfold(1, 5, 1).flatten(0, 1).flatten(1)
        total += patches.sum(0)
        products += patches.T @ patches
        number += len(patches)
    covariance = products / number - torch.outer(total, total) / number**2
    _, components = torch.linalg.eigh(covariance)
    largest = components.T.flip(0)[: count // 2]
    kernels = torch.cat([largest, -largest]).reshape(count, images.shape[-1], 5, 5)
    return kernels.float()
