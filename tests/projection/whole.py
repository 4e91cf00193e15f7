"""A unit carried back over whole maps: what every local way has to be equal to."""

import torch
from torch import Tensor

import rot180
from rot180.graph.operators.operator import Saved
from rot180.projection.backward import backward_pass
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
    chosen, aim = slice(channel, channel + 1), net.unit_plan(place, None, rules.backward)
    maps = opened.maps(place)[:, chosen]
    signal = torch.zeros_like(maps)
    signal[..., *position] = maps[..., *position]
    if place.rectified:
        rectifier = net.steps[place.output_step].operator.of_channels(chosen)
        inputs = ()
        if rectifier.backward_needs(rules.backward).inputs:
            inputs = (
                place.as_maps(opened.output(net.steps[place.output_step].inputs[0]))[:, chosen],
            )
        (signal,) = rectifier.backward(signal, Saved(inputs, maps), rules, aim.region)
    back = backward_pass(
        aim.plan,
        net.operator(place).backward_units(signal, chosen, aim.region),
        lambda work: opened.saved(
            aim.plan, work, rules.backward, [0], [(aim.row_starts, aim.column_starts)]
        ),
        rules,
    )
    found = image.new_zeros(image.shape)
    if back is not None:
        top, left, bottom, right = aim.box
        found[:, top:bottom, left:right] = back[0]
    return found
