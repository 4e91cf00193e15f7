"""The way back: a signal at a layer goes through the steps in reverse order to the pixels."""

import torch
from jaxtyping import Float
from torch import Tensor

from rot180.graph.network import ForwardPass, Layer, Network
from rot180.projection.rules import Rules


@torch.no_grad()
def carried_back(
    network: Network,
    layer: Layer,
    passed: ForwardPass,
    signal: Float[Tensor, "k c h w"],
    rules: Rules,
) -> Float[Tensor, "k channels height width"]:
    """Carry signals at a layer's features back to the pixels of the network's input.

    Where steps branch, the signals of the branches add (each step's linear part is transposed).

    Args:
        network: the captured network.
        layer: where the signals start.
        passed: the forward pass that they go back through, of k images, or of one for all of them.
        signal: one map of the whole layer for each signal, in the units of its activations.
        rules: what happens at rectifiers and maxima.
    """
    waiting: dict[int, Tensor] = {layer.step: signal}
    for place in reversed(network.needed(layer.step)):
        arrived = waiting.pop(place, None)
        if arrived is None:
            continue
        step = network.steps[place]
        found = step.operator.backward(arrived, passed.kept[place], rules)
        for source, part in zip(step.inputs, found, strict=True):
            if part is not None:
                waiting[source] = waiting[source] + part if source in waiting else part
    nothing = signal.new_zeros(len(signal), *network.input_shape)
    return waiting.get(-1, nothing)
