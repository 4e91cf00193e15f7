"""Many units at once: those that lie in the same way at the border go through as one batch.

A unit costs what its receptive field costs. Its signal starts inside the layer's own convolution:
one feature takes one kernel, so neither pass touches the others there.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from math import isfinite
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rot180.errors import Rot180Error
from rot180.graph.box import Box
from rot180.graph.forward_pass import ForwardPass, explain_not_finite
from rot180.graph.network import Layer, Network, UnitPlan, check_finite
from rot180.graph.operators.activations import Rectifier
from rot180.graph.operators.convolution import ChannelIndex
from rot180.graph.operators.operator import Saved
from rot180.graph.plan import PlannedStep
from rot180.projection.backward import backward_pass
from rot180.projection.result import Projection
from rot180.projection.rules import Rules

_VALUES = 2**22
"""Largest number of values in one tensor of a batch of units: what the processor's cache holds."""


class UnitRequest(NamedTuple):
    """A unit, or (position None) a whole map, of one of the images at hand."""

    image: int
    layer: Layer
    channel: int
    position: tuple[int, int] | None


def crop_box(images: Tensor, box: Box) -> Tensor:
    """Return a box of images (n, c, h, w); it is no copy."""
    return images[:, :, box.top : box.bottom, box.left : box.right]


def crop_from(images: Tensor) -> Callable[[int, Box], Tensor]:
    """Return what cuts a box out of one of some images (n, c, h, w), as a batch of one."""

    def cut(image: int, box: Box) -> Tensor:
        return crop_box(images[image : image + 1], box)

    return cut


@torch.no_grad()
def backproject_crops(
    network: Network,
    requests: Sequence[UnitRequest],
    cut: Callable[[int, Box], Tensor],
    rules: Rules,
    signals: Sequence[Tensor] | None = None,
) -> list[Projection]:
    """Carry units back, each from its receptive field alone.

    Args:
        network: the network.
        requests: the units.
        cut: ``cut(image, box)`` gives the box of an image as a batch of one.
        rules: of the backward pass.
        signals: the one (1, 1, 1) that each begins with; None: its activation.

    Returns:
        The projections, in the order of the requests.
    """
    aims = [network.unit_plan(one.layer, one.position, rules.backward) for one in requests]
    found: list[Projection | None] = [None] * len(requests)
    for group in _groups(aims):
        number: dict[tuple[int, Box], int] = {}
        for n in group:
            number.setdefault((requests[n].image, aims[n].box), len(number))
        which = [number[requests[n].image, aims[n].box] for n in group]
        pieces = [cut(*one) for one in number]
        patch = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        check_finite(patch)
        aim, channels = aims[group[0]], [requests[n].channel for n in group]
        start = None if signals is None else torch.stack([signals[n] for n in group])
        activations, pixels = _from_patches(network, aim, patch, which, channels, rules, start)
        if not all(map(isfinite, activations)):
            whole = cut(requests[group[0]].image, Box(0, 0, *network.input_shape[1:]))
            raise Rot180Error(explain_not_finite(network, whole, aim.layer.output_step))
        for n, activation, signal in zip(group, activations, pixels, strict=True):
            found[n] = _projection(network, aims[n], requests[n], signal, activation, rules)
    return [one for one in found if one is not None]


def _from_patches(
    network: Network,
    aim: UnitPlan,
    patches: Tensor,
    which: list[int],
    channels: list[int],
    rules: Rules,
    start: Tensor | None,
) -> tuple[list[float], Tensor]:
    """Return activation and signal of each unit; ``which`` of the patches it looks at."""
    values, switches = aim.plan.run(patches)
    index = _index(channels, network.device)
    one_each = which == list(range(len(patches)))
    gather = None if one_each or len(patches) == 1 else torch.tensor(which, device=network.device)

    def each(value: Tensor | None) -> Tensor | None:
        return value if gather is None or value is None else value[gather]

    below = each(values[aim.plan.target])
    assert below is not None
    below = below if aim.crop is None else below[aim.crop]
    if len(below) == 1:  # the same unit may be asked for several times
        below = below.expand(len(channels), *below.shape[1:])
    operator, rectifier = network.operator(aim.layer), _rectifier(network, aim.layer, index)
    z = operator.forward_units(below, index, aim.region)
    a = z if rectifier is None else rectifier.forward((z,), aim.region)[0]

    def kept(work: PlannedStep) -> Saved:
        found = aim.plan.saved_for(work, rules.backward, values, switches)
        if gather is None:
            return found
        return Saved(
            tuple(one[gather] for one in found.inputs), each(found.output), each(found.switches)
        )

    start = a if start is None else start
    return a.flatten().tolist(), _to_pixels(network, aim, index, start, kept, rules)


@torch.no_grad()
def strengths_of_crops(
    network: Network, aim: UnitPlan, patches: Float[Tensor, "n c h w"], channel: int
) -> list[float]:
    """Return the value of a unit, before its layer's rectifier, on patches of its receptive field.

    Args:
        network: the network.
        aim: of the unit.
        patches: normalised, of the size of the receptive field.
        channel: the unit's feature.
    """
    below = aim.plan.run(patches)[0][aim.plan.target]
    below = below if aim.crop is None else below[aim.crop]
    index = slice(channel, channel + 1)
    values = network.operator(aim.layer).forward_units(below, index, aim.region)
    return [float(one) for one in values.flatten().tolist()]


@torch.no_grad()
def backproject_activations(
    network: Network,
    passed: ForwardPass,
    requests: Sequence[UnitRequest],
    rules: Rules,
    signals: Sequence[Tensor] | None = None,
) -> list[Projection]:
    """Carry units or whole maps back from what a forward pass of whole images left.

    They come in the order of the requests. ``signals`` are those (1, h, w) that they begin
    with; None: their activations.
    """
    aims = [network.unit_plan(one.layer, one.position, rules.backward) for one in requests]
    found: list[Projection | None] = [None] * len(requests)
    for group in _groups(aims):
        these = [requests[n] for n in group]
        aim, layer = aims[group[0]], these[0].layer
        index = _index([one.channel for one in these], network.device)
        images = [one.image for one in these]
        starts = [(aims[n].row_starts, aims[n].column_starts) for n in group]
        a = _units_of(passed.maps(layer), these)

        def kept(
            work: PlannedStep,
            aim: UnitPlan = aim,
            images: list[int] = images,
            starts: list[tuple[dict[int, int], dict[int, int]]] = starts,
        ) -> Saved:
            return passed.saved(aim.plan, work, rules.backward, images, starts)

        start = a if signals is None else torch.stack([signals[n] for n in group])
        pixels = _to_pixels(network, aim, index, start, kept, rules)
        strongest = a.flatten(1).amax(1) if a.shape[-2:].numel() > 1 else a.flatten()
        for n, value, signal in zip(group, strongest.tolist(), pixels, strict=True):
            found[n] = _projection(network, aims[n], requests[n], signal, value, rules)
    return [one for one in found if one is not None]


def _index(channels: list[int], device: torch.device) -> ChannelIndex:
    """Return channels as an index; one channel as a slice, which is no copy."""
    first = channels[0]
    if all(one == first for one in channels):
        return slice(first, first + 1)
    return torch.tensor(channels, device=device)


def _units_of(maps: Tensor, requests: Sequence[UnitRequest]) -> Tensor:
    """Return what is asked for of maps (n, c, h, w): (k, 1, h, w), or (k, 1, 1, 1) of units."""
    chosen = []
    for image, _, channel, position in requests:
        found = maps[image : image + 1, channel : channel + 1]
        if position is not None:
            y, x = position
            found = found[:, :, y : y + 1, x : x + 1]
        chosen.append(found)
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen)


def _groups(aims: Sequence[UnitPlan]) -> list[list[int]]:
    """Return the numbers of the units that share a plan, in portions that fit into memory."""
    if len(aims) == 1:
        return [[0]]
    sharing: dict[int, list[int]] = {}
    for n, aim in enumerate(aims):
        sharing.setdefault(id(aim.plan), []).append(n)
    portions = []
    for same in sharing.values():
        aim = aims[same[0]]
        height, width = aim.region.needs[0].height, aim.region.needs[0].width
        start = aim.layer.channels * height * width
        size = max(1, _VALUES // max(aim.plan.largest, start, 1))
        rest = iter(same)
        while portion := list(islice(rest, size)):
            portions.append(portion)
    return portions


def _rectifier(network: Network, layer: Layer, channels: ChannelIndex) -> Rectifier | None:
    """Return the rectifier at the end of a layer, for these channels."""
    if layer.output_step == layer.weight_step:
        return None
    operator = network.steps[layer.output_step].operator
    assert isinstance(operator, Rectifier)
    return operator.of_channels(channels)


def _to_pixels(
    network: Network,
    aim: UnitPlan,
    index: ChannelIndex,
    activations: Tensor,
    kept: Callable[[PlannedStep], Saved],
    rules: Rules,
) -> Tensor:
    """Carry k units or maps of a layer back, starting before the layer's own rectifier.

    The signal there is the activation, after the rectifier. What a rectifier with an upper limit
    cuts off is nothing that the pixels did; its derivative of 0 would leave the picture empty.

    Args:
        network, aim: what they are parts of.
        index: their features.
        activations: of the units or maps, (k, 1, h, w).
        kept: gives what the forward pass left for a step below the layer.
        rules: of the backward pass.
    """
    back = None
    if aim.region.needs[0].height and aim.region.needs[0].width:  # else it sees nothing but padding
        back = network.operator(aim.layer).backward_units(activations, index, aim.region)
        if aim.crop is not None:
            back = aim.plan.scatter(back, aim.plan.target, aim.crop)
    pixels = backward_pass(aim.plan, back, kept, rules)
    if pixels is not None:
        return pixels
    return activations.new_zeros(len(activations), network.input_shape[0], *aim.plan.size(-1))


def _projection(
    network: Network,
    aim: UnitPlan,
    request: UnitRequest,
    signal: Tensor,
    activation: float,
    rules: Rules,
) -> Projection:
    size = network.input_shape[1:]
    pixels, box = signal, aim.box
    if request.position is None and (box.height, box.width) != size:
        pixels = signal.new_zeros(len(signal), *size)  # the windows leave a border out
        pixels[:, box.top : box.bottom, box.left : box.right] = signal
        box = Box(0, 0, *size)
    return Projection(
        pixels, box, size, request.layer.name, request.channel, request.position, activation, rules
    )
