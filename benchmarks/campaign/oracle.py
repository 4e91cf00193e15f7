"""What the gradient is, by ways that share neither rot180's graph nor PyTorch's backward pass.

With a the maps of a layer and v a direction in the space of images, the projection P of some units
is their signal (their own activations) times the derivative, so that <P, v> is the sum of a t over
these units, where t = da/dv. One pass forward with dual numbers gives t for all units of all layers
at once. Where an operator knows no dual numbers, differences in two step sizes give it; where the
model defines a derivative of its own (a custom autograd function), autograd does.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from campaign.watching import Run, located

STEPS = (2e-6, 1e-6)
"""Small, so that few rectifiers turn on or off within a step; rounding leaves nine digits."""


class Tangents(NamedTuple):
    """A layer's maps for one image, and how they change along some directions.

    Attributes:
        maps: (c, h, w), as the model itself computes them.
        along: (directions, c, h, w).
        doubt: how far the two step sizes are apart, over the largest; 0 for dual numbers.
        how: "dual numbers", "differences" or "autograd".
    """

    maps: Tensor
    along: Tensor
    doubt: float
    how: str


def tangents(
    run: Run, image: Tensor, directions: Tensor, maps: Mapping[str, Tensor]
) -> dict[str, Tangents]:
    """Return the tangents of those layers whose maps the model computes; others are left out."""
    try:
        with sdpa_kernel(SDPBackend.MATH):  # the fast attention knows no dual numbers
            return _by_dual_numbers(run, image, directions, maps)
    except (NotImplementedError, RuntimeError):
        own = _defines_its_own(run, image)
    try:
        return (_by_autograd if own else by_differences)(run, image, directions, maps)
    except (NotImplementedError, RuntimeError):
        return by_differences(run, image, directions, maps)


def _defines_its_own(run: Run, image: Tensor) -> bool:
    """Say whether a custom autograd function stands on the way, whose derivative then counts."""
    nodes: list[Any] = []
    with torch.enable_grad():
        run(image.clone().requires_grad_(), lambda one: nodes.append(one.grad_fn))
    nodes += [below for one in nodes if one is not None for below, _ in one.next_functions]
    return any(isinstance(one, torch.autograd.function.BackwardCFunction) for one in nodes)


def lowest_precision(run: Run, image: Tensor, direction: Tensor) -> torch.dtype:
    """Return the coarsest of the numbers that the image goes through."""
    found = [image.dtype]

    def seen(one: Tensor) -> None:
        if forward_ad.unpack_dual(one).tangent is not None:
            found.append(one.dtype)

    try:
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            run(forward_ad.make_dual(image.clone(), direction), seen)
    except (NotImplementedError, RuntimeError):
        pass
    return min(found, key=lambda one: torch.finfo(one).bits)


def _by_dual_numbers(
    run: Run, image: Tensor, directions: Tensor, maps: Mapping[str, Tensor]
) -> dict[str, Tangents]:
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in maps}
    for number, direction in enumerate(directions):

        def seen(one: Tensor, number: int = number) -> None:
            primal, tangent = forward_ad.unpack_dual(one)
            for name, wanted in maps.items():
                order = located(primal, wanted) if len(found[name]) == number else None
                if order is not None:
                    along = torch.zeros_like(primal) if tangent is None else tangent
                    found[name].append((_taken(primal, order), _taken(along, order)))

        with torch.no_grad(), forward_ad.dual_level():
            run(forward_ad.make_dual(image.clone(), direction[None]), seen)
    return {
        name: Tangents(each[0][0], torch.stack([one for _, one in each]), 0.0, "dual numbers")
        for name, each in found.items()
        if len(each) == len(directions)
    }


def by_differences(
    run: Run, image: Tensor, directions: Tensor, maps: Mapping[str, Tensor]
) -> dict[str, Tangents]:
    """Return them by central differences; a second step size tells how good they are."""
    places: dict[str, tuple[int, Tensor]] = {}
    base: dict[str, Tensor] = {}
    count = 0

    def find(one: Tensor) -> None:
        nonlocal count
        for name, wanted in maps.items():
            order = located(one, wanted) if name not in places else None
            if order is not None:
                places[name], base[name] = (count, order), _taken(one, order)
        count += 1

    def at(x: Tensor) -> dict[str, Tensor]:
        kept, place = {}, 0

        def keep(one: Tensor) -> None:
            nonlocal place
            for name, (number, order) in places.items():
                if number == place:
                    kept[name] = _taken(one, order)
            place += 1

        with torch.no_grad():
            run(x, keep)
        return kept

    with torch.no_grad():
        run(image.clone(), find)
    slopes: list[list[dict[str, Tensor]]] = []
    for direction in directions:
        each = []
        for step in STEPS:
            after, before = (at(image + sign * step * direction) for sign in (1, -1))
            each.append({name: (after[name] - before[name]) / (2 * step) for name in places})
        slopes.append(each)
    found = {}
    for name, maps_of in base.items():
        coarse, fine = (torch.stack([each[k][name] for each in slopes]) for k in (0, 1))
        doubt = float((coarse - fine).abs().max() / fine.abs().max().clamp(min=1e-30))
        found[name] = Tangents(maps_of, fine, doubt, "differences")
    return found


def _by_autograd(
    run: Run, image: Tensor, directions: Tensor, maps: Mapping[str, Tensor]
) -> dict[str, Tangents]:
    """Return them by the derivative, along a signal u, of the gradient's product with v."""
    kept: dict[str, Tensor] = {}

    def seen(one: Tensor) -> None:
        for name, wanted in maps.items():
            order = located(one, wanted) if name not in kept else None
            if order is not None:
                kept[name] = one.reshape(-1)[order]

    pixels = image.clone().requires_grad_()
    with torch.enable_grad():
        run(pixels, seen)
    found = {}
    for name, value in kept.items():
        signal = torch.zeros_like(value, requires_grad=True)
        (back,) = torch.autograd.grad(
            value, pixels, signal, create_graph=True, retain_graph=True, materialize_grads=True
        )
        along = [
            torch.autograd.grad(
                (back * direction).sum(), signal, retain_graph=True, materialize_grads=True
            )[0]
            if back.requires_grad
            else torch.zeros_like(value)
            for direction in directions
        ]
        found[name] = Tangents(value.detach(), torch.stack(along), 0.0, "autograd")
    return found


def _taken(value: Tensor, order: Tensor) -> Tensor:
    return value.detach().reshape(-1)[order].clone()
