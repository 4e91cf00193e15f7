"""The gradient by central differences of the user's own model: it shares nothing with autograd."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

import rot180

STEP = 1e-6


def maps_of(model: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """Return what a module of a model gives, on the way of a forward pass."""
    found: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, inputs, output: found.append(output))
    try:
        with torch.no_grad():
            model(images)
    finally:
        handle.remove()
    return found[0]


def directional(
    activations: Callable[[Tensor], Tensor],
    image: Tensor,
    along: Tensor,
    before: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """Return d/dh of <a(image), z(image + h along)>, what the gradient method projects on.

    ``before`` gives z, the values before the layer's rectifier; None: it has none, or one that
    passes what fires.
    """
    here, z = activations(image), before or activations
    moved = z(image + STEP * along) - z(image - STEP * along)
    return float((here * moved).sum()) / (2 * STEP)


def check_gradient(
    projection: rot180.Projection,
    activations: Callable[[Tensor], Tensor],
    image: Tensor,
    tolerance: float = 1e-6,
    before: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Compare a projection by the gradient with differences along random directions.

    Args:
        projection: of one image.
        activations: gives the activations that were projected, for an image (c, h, w).
        image: the image (c, h, w), in float64.
        tolerance: relative to the length of the projection.
        before: gives the values before the layer's rectifier; see :func:`directional`.
    """
    generator = torch.Generator().manual_seed(1)
    full = projection.full()
    for _ in range(3):
        along = torch.randn(image.shape, generator=generator, dtype=image.dtype)
        # a part of the direction is the projection itself, so that little noise is compared
        along = along / along.norm() + full / full.norm().clamp(min=1e-30)
        wanted = directional(activations, image, along, before)
        assert abs(float((full * along).sum()) - wanted) <= tolerance * float(full.norm()) + 1e-9
