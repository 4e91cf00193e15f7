"""A unit carried back over whole maps: what every local way has to be equal to."""

import torch
from torch import Tensor

import rot180
from rot180.graph.operators.operator import Kept
from rot180.projection.backward import carried_back
from rot180.projection.rules import Rules


@torch.no_grad()
def over_whole_maps(
    net: rot180.Network,
    image: Tensor,
    layer: str,
    channel: int,
    position: tuple[int, int],
    rules: Rules,
) -> Tensor:
    """Return the projection (c, h, w) of one unit; below its layer every step is on whole maps."""
    place, opened = net.layer(layer), rot180.open_image(net, image)
    chosen, aim = slice(channel, channel + 1), net.aim(place, None, rules.backward)
    maps = opened.maps(place)[:, chosen]
    signal = torch.zeros_like(maps)
    signal[..., *position] = maps[..., *position]
    if place.rectified:
        rectifier = net.steps[place.step].operator.of_channels(chosen)
        inputs = ()
        if rectifier.looks_at(rules.backward).inputs:
            inputs = (place.as_maps(opened.value(net.steps[place.step].inputs[0]))[:, chosen],)
        (signal,) = rectifier.backward(signal, Kept(inputs, maps), rules, aim.part)
    back = carried_back(
        aim.plan,
        net.operator(place).units_back(signal, chosen, aim.part),
        lambda work: opened.kept(aim.plan, work, rules.backward, [0], [(aim.rows, aim.columns)]),
        rules,
    )
    found = image.new_zeros(image.shape)
    if back is not None:
        top, left, bottom, right = aim.box
        found[:, top:bottom, left:right] = back[0]
    return found
