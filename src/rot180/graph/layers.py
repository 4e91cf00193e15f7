"""Finds the layers among the steps of a network and names them after the model's modules."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import fx, nn

from rot180.graph.box import COLUMNS, ROWS
from rot180.graph.network import Layer, Network
from rot180.graph.nodes import module_path
from rot180.graph.operators.activations import Rectifier
from rot180.graph.operators.convolution import LayerOperator, Linear
from rot180.graph.operators.operator import MAPS

aten = torch.ops.aten

_LAYER_CALLS = (
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv_transpose2d.input,
    aten.linear.default,
)
"""Calls that a layer begins with."""


def find_layers(
    network: Network,
    model: nn.Module,
    weight_steps: Mapping[fx.Node, int],
    tensor_names: Mapping[str, str],
) -> Iterator[Layer]:
    """Yield the layers; a module that is used again is named with the number of the use.

    Args:
        network: the steps, without layers.
        model: the model, whose modules name the layers.
        weight_steps: the index of the step that each call became.
        tensor_names: names of the model's own tensors by their placeholder.
    """
    uses: dict[str, int] = {}
    users: dict[int, list[int]] = {}
    for index, step in enumerate(network.steps):
        for source in step.inputs:
            users.setdefault(source, []).append(index)
    for node, index in weight_steps.items():
        operator = network.steps[index].operator if index >= 0 else None
        if node.target not in _LAYER_CALLS or not isinstance(operator, LayerOperator):
            continue
        step = network.steps[index]
        vector, last = len(step.shape) == 1, len(step.shape) == 3 and step.axes == (-3, -2)
        if isinstance(operator, Linear) and not (vector or last):
            continue  # of a sequence of tokens, or along rows or columns
        name = _layer_name(node, model, tensor_names)
        uses[name] = uses.get(name, 0) + 1
        if uses[name] > 1:
            name = f"{name}:{uses[name]}"
        yield _layer(network, name, index, *_output_step(network, index, users))


def _layer_name(node: fx.Node, model: nn.Module, tensor_names: Mapping[str, str]) -> str:
    """Return the path of the module that is the convolution, else that of its kernel."""
    path = module_path(node)
    try:
        if isinstance(model.get_submodule(path), nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            return path
    except AttributeError:
        pass
    kernel = node.args[1]
    name = tensor_names.get(kernel.name, "") if isinstance(kernel, fx.Node) else ""
    return name.removesuffix(".weight") or path or node.name


def _output_step(network: Network, index: int, users: Mapping[int, list[int]]) -> tuple[int, str]:
    """Return the index of the step whose output the feature maps are, and the rectifier's name.

    That is the rectifier which directly follows the convolution, if there is one. It is looked for
    among the steps and not in the graph: several calls of a rectifier that is written out take the
    convolution's result, but only one step does.
    """
    if index in network.outputs:
        return index, ""
    needed = set(network.ancestors(*network.outputs))
    followers = [user for user in users.get(index, ()) if user in needed]
    operator = network.steps[followers[0]].operator if len(followers) == 1 else None
    return (followers[0], operator.name) if isinstance(operator, Rectifier) else (index, "")


def _layer(
    network: Network, name: str, weight_step: int, output_step: int, rectifier: str
) -> Layer:
    step = network.steps[output_step]
    channels = step.shape[-1] if step.axes != MAPS else step.shape[0]
    field, stride = network.interior_field(output_step)
    last = step.operator
    return Layer(
        name,
        network.steps[weight_step].operator.kind,
        channels,
        network.axis_size(output_step, ROWS),
        network.axis_size(output_step, COLUMNS),
        field,
        stride,
        rectifier,
        weight_step,
        output_step,
        step.axes,
        output_step != weight_step and isinstance(last, Rectifier) and last.saturates,
    )


def without_unused_steps(network: Network) -> Network:
    """Return the network without the steps that neither its outputs nor its layers depend on."""
    needed = network.ancestors(
        *network.outputs, *(one.output_step for one in network.layers.values())
    )
    renumbered = {old: new for new, old in enumerate(needed)} | {-1: -1}
    if len(needed) == len(network.steps):
        return network
    steps = tuple(
        replace(step, inputs=tuple(renumbered[source] for source in step.inputs))
        for step in (network.steps[index] for index in needed)
    )
    layers = {
        name: replace(
            layer,
            weight_step=renumbered[layer.weight_step],
            output_step=renumbered[layer.output_step],
        )
        for name, layer in network.layers.items()
    }
    outputs = tuple(renumbered[index] for index in network.outputs)
    return replace(network, steps=steps, layers=layers, outputs=outputs, _cache={})
