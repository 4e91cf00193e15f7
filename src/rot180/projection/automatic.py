"""``method="auto"``: the method whose pictures of a layer are the most faithful, by measurement.

For each layer that is asked for, the methods are tested once (see
:mod:`rot180.projection.faithfulness`) on a sample of images that belongs to the network, and the
result is kept with it. So the choice depends on the network and its sample alone, and not on the
image that is looked at or on what was asked before. Without a sample of its own a network is tested
on the eight photographs that come with scikit-image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rot180.datasets import decode, resize_and_crop
from rot180.datasets.photos import photograph_paths
from rot180.errors import Rot180Error
from rot180.graph.network import PREPARE, Layer, Network
from rot180.projection.batch import UnitRequest
from rot180.projection.effective import LARGE_FIELD
from rot180.projection.faithfulness import (
    Faithfulness,
    effective_side,
    faithfulness,
    strong_units,
    switched,
)
from rot180.projection.result import Projection
from rot180.projection.rules import AUTO, CANDIDATES, Rules
from rot180.projection.rules import rules as named_rules

MANY, LIGHT, HEAVY = 32, 8, 4
"""Units that are tested at a layer: whose units see few pixels; below which few products are
summed; and many."""

_HEAVY = 2**31
"""Products that are many."""

_MOST = 32
"""Images of a sample that are looked at."""


def use_sample(network: Any, images: Any) -> None:
    """Say on which images ``method="auto"`` tests the methods for a network.

    They should be like those that the network is used on. Eight are enough, 32 are looked at at
    most; what was measured on others before is forgotten.

    Args:
        network: from :func:`rot180.capture`.
        images: normalised, (n, c, h, w).

    Raises:
        Rot180Error: they are no such images.
    """
    if not isinstance(network, Network):
        raise Rot180Error(
            f"use_sample takes a network that rot180.capture returned, not "
            f"{type(network).__name__}."
        )
    batch = network.batch(images)
    if len(batch) == 0:
        raise Rot180Error("The sample holds no image.")
    prepare = network.measured.get(PREPARE)
    network.measured.clear()
    if prepare is not None:
        network.measured[PREPARE] = prepare
    network.measured[_SAMPLE] = batch[:_MOST].clone()


def sample_of(network: Network) -> Float[Tensor, "n c h w"]:
    """Return the images on which the methods are tested."""
    if _SAMPLE not in network.measured:
        network.measured[_SAMPLE] = _photographs(network)
    found: Tensor = network.measured[_SAMPLE]
    return found


_SAMPLE = "sample of images"


def _photographs(network: Network) -> Float[Tensor, "n c h w"]:
    """Return the photographs as the network takes them.

    Where nobody said how its images are normalised, every channel of the photographs together gets
    mean 0 and deviation 1. An image that has neither 1 nor 3 channels gets grey ones.
    """
    channels, *size = network.input_shape
    made = channels if channels in (1, 3) else 1
    pictures = np.stack(
        [
            resize_and_crop(decode(path.read_bytes(), str(path)), (size[0], size[1]), made)
            for path in photograph_paths()
        ]
    )
    prepare = network.measured.get(PREPARE)
    if prepare is not None and made == channels:
        return network.batch(prepare(pictures))
    values = torch.from_numpy(pictures).permute(0, 3, 1, 2).double()
    mean = values.mean((0, 2, 3), keepdim=True)
    values = (values - mean) / values.std((0, 2, 3), keepdim=True)
    return network.batch(values.expand(-1, channels, -1, -1))


def measure_layer(
    network: Network,
    layer: Layer,
    units: Sequence[UnitRequest] | None = None,
    methods: Sequence[str] = CANDIDATES,
) -> Faithfulness | None:
    """Test the methods at a layer, once; None where no unit of it fires on the sample.

    Args:
        network, layer: whose methods.
        units: strong units of the layer on the sample, if they are known.
        methods: to be tested.
    """
    key = ("faithfulness", layer.name)
    if key not in network.measured:
        images = sample_of(network)
        if units is None:
            units = strong_units(network, [layer], images, MANY)[layer.name]
        chosen = units[: _unit_count(network, layer)]
        network.measured[key] = faithfulness(network, layer, images, chosen, methods)
    found: Faithfulness | None = network.measured[key]
    return found


def _unit_count(network: Network, layer: Layer) -> int:
    """Return how many units of a layer are tested."""
    if network.macs(layer) >= _HEAVY:
        return HEAVY
    return MANY if max(layer.receptive_field) < LARGE_FIELD else LIGHT


def representatives(layers: Sequence[Layer], most: int) -> list[Layer]:
    """Return so many layers at most, evenly spaced, the last two among them."""
    if len(layers) <= most or most < 3:
        return list(layers)[-most:] if most else []
    places = np.linspace(0, len(layers) - 2, most - 1).round().astype(int)
    return [*(layers[place] for place in dict.fromkeys(places.tolist())), layers[-1]]


def measure_layers(
    network: Network,
    layers: Sequence[Layer],
    most: int,
    progress: Callable[[int, int], None] | None = None,
    methods: Sequence[str] = CANDIDATES,
) -> dict[str, Faithfulness]:
    """Test the methods at some of the layers; the others take what the nearest one found.

    The effective size is measured at each.

    Args:
        network, layers: the layers in their order.
        most: at how many layers to test.
        progress: called with how many of how many are done.
        methods: to be tested.

    Returns:
        By the layer's name; ``Faithfulness.layer`` says where it was measured. Empty where no unit
        fires on the sample.
    """
    images = sample_of(network)
    units = strong_units(network, layers, images, MANY)
    chosen = representatives(layers, most)
    found: dict[int, Faithfulness] = {}
    for done, layer in enumerate(chosen):
        one = measure_layer(network, layer, units[layer.name], methods)
        if one is not None:
            found[list(layers).index(layer)] = one
        if progress is not None:
            progress(done + 1, len(chosen))
    if not found:
        return {}
    everywhere = {}
    for n, layer in enumerate(layers):
        one = found[min(found, key=partial(_apart, n))]
        if one.layer != layer.name:
            side = effective_side(network, images, units[layer.name][:HEAVY], one.method)
            one = one if side is None else replace(one, effective=side)
        everywhere[layer.name] = one
    return everywhere


def _apart(one: int, other: int) -> int:
    return abs(one - other)


def use_measurements(network: Network, found: Mapping[str, Faithfulness]) -> None:
    """Let "auto" stand for what was measured before, as an atlas tells it."""
    for name, one in found.items():
        network.measured["faithfulness", name] = one


def best(network: Network, layer: Layer) -> str:
    """Return the method that "auto" stands for at a layer.

    Where nothing can be measured, it is the deconvnet if its pictures depend on the image there,
    else the gradient.
    """
    found = measure_layer(network, layer)
    if found is not None:
        return found.method
    return "deconvnet" if switched(network, layer) else "gradient"


def resolve_rules(network: Network, layer: Layer, method: Any, unpooling: Any) -> Rules:
    """Return the rules of a method at a layer; "auto" becomes the method that it stands for."""
    if isinstance(method, str) and method == AUTO:
        method = best(network, layer)
    return named_rules(method, unpooling)


def redraw_blank(
    network: Network,
    method: Any,
    unpooling: Any,
    projections: list[Projection],
    project: Callable[[list[int], Rules], list[Projection]],
) -> None:
    """Project anew, by the next best methods, what "auto" has left blank.

    A unit whose inputs a rectifier holds at their limits (ReLU6 at 6) has derivative 0, so the
    gradient and the guided method return nothing for it; the deconvnet does. ``rules`` of each
    projection names the method that made it.

    Args:
        network: the network.
        method, unpooling: as they were asked for; nothing is done unless the method is "auto".
        projections: of units or whole maps; blank ones are replaced in place.
        project: called with the numbers of projections and rules, returns these projections.
    """
    if not (isinstance(method, str) and method == AUTO):
        return
    tried: dict[int, set[str]] = {}
    while True:
        waiting: dict[str, list[int]] = {}
        for n, one in enumerate(projections):
            if not one.activation > 0 or not one.pixels.numel() or bool(one.pixels.any()):
                continue
            past = tried.setdefault(n, {one.rules.method})
            left = [name for name in _ranked(network, network.layer(one.layer)) if name not in past]
            if left:
                past.add(left[0])
                waiting.setdefault(left[0], []).append(n)
        if not waiting:
            return
        for name, numbers in waiting.items():
            try:
                anew = project(numbers, named_rules(name, unpooling))
            except Rot180Error:  # the method refuses a step of this network
                continue
            for n, one in zip(numbers, anew, strict=True):
                if bool(one.pixels.any()):
                    projections[n] = one


def _ranked(network: Network, layer: Layer) -> list[str]:
    """Return the candidates, the most faithful at a layer first."""
    found = measure_layer(network, layer)
    scores = {} if found is None else found.scores
    return sorted(CANDIDATES, key=lambda name: -scores[name].value if name in scores else 0.0)
