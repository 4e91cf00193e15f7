"""Methods that are made from gradients: image times gradient, and SmoothGrad's mean of squares.

=========================  ====================================================  ===================
method                     pixels, with g the projection by ``gradient``         source
=========================  ====================================================  ===================
``gradient_times_image``   x g, x being the normalised image                     Shrikumar et al.,
                                                                                 2016
``smoothgrad_squared``     mean of g(x + e)^2 over 4 images with normal noise    Smilkov et al.,
                           e, whose deviation is 0.15 of the range of x;         2017; squares:
                           every g starts with the activation on x itself        Hooker et al.,
                                                                                 NeurIPS 2019
=========================  ====================================================  ===================

The squares are averaged over the colours, too, and are the same in each: an energy has no colour.
The noise belongs to the position in the image and is the same in every call, so a unit's projection
from its receptive field alone equals that from the whole image, and a result can be repeated.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from rot180.graph.box import Box
from rot180.graph.forward_pass import ForwardPass
from rot180.graph.network import Network
from rot180.projection.batch import (
    UnitRequest,
    backproject_activations,
    backproject_crops,
    crop_box,
)
from rot180.projection.result import Projection
from rot180.projection.rules import Rules

SAMPLES, NOISE = 4, 0.15
"""How many noisy images SmoothGrad takes, and their noise as a share of the image's range."""


def project_from_crops(
    network: Network,
    requests: Sequence[UnitRequest],
    cut: Callable[[int, Box], Tensor],
    rules: Rules,
) -> list[Projection]:
    """Project units by any method, each from its receptive field alone.

    Arguments and result as for :func:`rot180.projection.batch.carried_from_patches`.
    """
    found = backproject_crops(network, requests, cut, rules)
    if rules.method == "gradient_times_image":
        pieces = [cut(one.image, p.box)[0] for one, p in zip(requests, found, strict=True)]
        return _times(found, pieces)
    if rules.method != "smoothgrad_squared":
        return found
    starts = [one.pixels.new_full((1, 1, 1), one.activation) for one in found]
    whole = Box(0, 0, *network.input_shape[1:])
    scales = {n: _scale(cut(n, whole)) for n in dict.fromkeys(one.image for one in requests)}

    def noisy(noise: Tensor) -> list[Projection]:
        def cut_noisy(image: int, box: Box) -> Tensor:
            return cut(image, box) + scales[image] * crop_box(noise, box)

        return backproject_crops(network, requests, cut_noisy, rules, starts)

    return _mean_of_squares(network, found, noisy)


def project_from_activations(
    network: Network, passed: ForwardPass, requests: Sequence[UnitRequest], rules: Rules
) -> list[Projection]:
    """Project units or whole maps by any method from a forward pass of whole images.

    Arguments and result as for :func:`rot180.projection.batch.carried`.
    """
    found = backproject_activations(network, passed, requests, rules)
    if rules.method == "gradient_times_image":
        pieces = [
            crop_box(passed.images[one.image : one.image + 1], p.box)[0]
            for one, p in zip(requests, found, strict=True)
        ]
        return _times(found, pieces)
    if rules.method != "smoothgrad_squared":
        return found
    starts = [_start(passed, one) for one in requests]
    scales = _scale(passed.images)
    held = frozenset(one.layer.output_step for one in requests)

    def noisy(noise: Tensor) -> list[Projection]:
        other = ForwardPass(network, passed.images + scales * noise, rules.backward, held)
        return backproject_activations(network, other, requests, rules, starts)

    return _mean_of_squares(network, found, noisy)


def _start(passed: ForwardPass, request: UnitRequest) -> Float[Tensor, "1 h w"]:
    found = passed.maps(request.layer)[request.image, request.channel][None]
    if request.position is None:
        return found
    y, x = request.position
    return found[:, y : y + 1, x : x + 1]


def _scale(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 1 1"]:
    """Return the deviation of the noise for each image."""
    flat = images.flatten(1)
    return (NOISE * (flat.amax(1) - flat.amin(1))).reshape(-1, 1, 1, 1)


def _times(found: Sequence[Projection], pieces: Sequence[Tensor]) -> list[Projection]:
    return [
        replace(one, pixels=one.pixels * piece) for one, piece in zip(found, pieces, strict=True)
    ]


def _mean_of_squares(
    network: Network,
    found: Sequence[Projection],
    noisy: Callable[[Tensor], list[Projection]],
) -> list[Projection]:
    total = [torch.zeros_like(one.pixels) for one in found]
    generator = torch.Generator().manual_seed(180)
    for _ in range(SAMPLES):
        noise = torch.randn(1, *network.input_shape, generator=generator)
        for mine, one in zip(total, noisy(noise.to(network.device, network.dtype)), strict=True):
            mine += one.pixels.square().mean(0, keepdim=True)
    return [replace(one, pixels=mine / SAMPLES) for one, mine in zip(found, total, strict=True)]
