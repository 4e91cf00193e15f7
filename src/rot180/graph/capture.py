"""From a PyTorch model to a :class:`Network`: export it, read each operator, name the layers."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from rot180.errors import Rot180Error
from rot180.graph.boxes import Box
from rot180.graph.network import Layer, Network, Step
from rot180.graph.operators import (
    BatchNorm,
    Convolution,
    Operator,
    Pass,
    Rectifier,
    Unlisted,
)
from rot180.graph.table import RESHAPES, TABLE, per_image

_BATCH = 3
"""Batch that is exported; no values are computed for it. Not 1, which PyTorch treats specially."""


def capture(model: nn.Module, example: Tensor) -> Network:
    """Capture a model for projection: its operators as a list of steps.

    The model is exported with ``torch.export`` in evaluation mode, from a copy of its modules that
    shares its parameters; the model itself is neither changed nor switched to another mode. It is
    checked that the steps reproduce the model's own output for the example.

    Args:
        model: takes one batch of images and returns one tensor.
        example: a batch of normalised images (n, c, h, w), on the model's device; its size is
            the one that the network is captured for.

    Raises:
        Rot180Error: the example is not a batch of images; the model cannot be exported, holds
            weights that are not finite, or is not reproduced by its steps.
    """
    if example.ndim != 4 or not example.is_floating_point():
        raise Rot180Error(
            f"capture needs a batch of normalised images (n, channels, height, width) as example; "
            f"this one has shape {tuple(example.shape)} and holds {example.dtype} values."
        )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Rot180Error(f"The model's '{name}' holds values that are infinite or NaN.")
    twin = _evaluating_twin(model)
    network = _Reading(_export(twin, example), example).network()
    with torch.no_grad():
        _check_reproduced(network, example, twin(example))
    return network


def _evaluating_twin(model: nn.Module) -> nn.Module:
    """Copy the modules, share the tensors, switch the copy to evaluation."""
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return copy.deepcopy(model, shared).eval()


def _export(model: nn.Module, example: Tensor) -> ExportedProgram:
    """Export with operators that change nothing in place, whatever the model's author wrote."""
    batch = example[:1].detach().expand(_BATCH, *example.shape[1:])
    try:
        with torch.no_grad():
            program = torch.export.export(model, (batch,)).run_decompositions({})
            return cast(ExportedProgram, program)
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise Rot180Error(
            f"The model cannot be captured: torch.export stopped with {type(error).__name__}: "
            f"{first.strip()} Its forward method must take one batch of images and must not decide "
            "anything by the values in it."
        ) from error


class _Reading:
    """Reads the nodes of one exported program into steps and layers."""

    def __init__(self, program: ExportedProgram, example: Tensor) -> None:
        self.graph, self.example = program.graph, example
        signature = program.graph_signature
        self.names: dict[str, str] = {  # of the model's own tensors, by their placeholder
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        known = {**program.constants, **program.state_dict}
        self.tensors = {place: known[name].detach() for place, name in self.names.items()}
        self.index: dict[fx.Node, int] = {}
        self.steps: list[Step] = []

    def network(self) -> Network:
        """Read everything."""
        outputs: tuple[int, ...] = ()
        for node in self.graph.nodes:
            if node.op == "placeholder" and node.name not in self.names:
                self.index[node] = -1
            elif node.op == "call_function":
                self.index[node] = len(self.steps)
                self.steps.append(self._step(node))
            elif node.op == "output":
                outputs = tuple(self.index[one] for one in node.args[0] if one in self.index)
        channels, height, width = self.example.shape[1:]
        bare = Network(
            tuple(self.steps),
            outputs,
            {},
            (channels, height, width),
            self.example.dtype,
            self.example.device,
        )
        return replace(bare, layers={layer.name: layer for layer in self._layers(bare)})

    def _step(self, node: fx.Node) -> Step:
        operator = self._operator(node)
        sources = [one for one in node.all_input_nodes if one in self.index]
        value = node.meta.get("val")
        shape = tuple(value.shape[1:]) if isinstance(value, Tensor) else ()
        return Step(node.name, operator, tuple(self.index[one] for one in sources), shape)

    def _operator(self, node: fx.Node) -> Operator:
        if getattr(node.target, "__name__", "") == "getitem":
            return Pass("item", item=int(node.args[1]))  # type: ignore[arg-type]
        read = TABLE.get(node.target)
        operator: Operator | None = None
        if read is not None:
            operator = read(self._arguments(node))
        elif node.target in RESHAPES and isinstance(node.args[0], fx.Node):
            shapes = [tuple(one.meta["val"].shape) for one in (node.args[0], node)]
            operator = per_image(*shapes)
        return operator or self._unlisted(node)

    def _arguments(self, node: fx.Node) -> dict[str, Any]:
        """Return the arguments of a call by name, the model's tensors in place of their nodes."""
        given: dict[str, Any] = {}
        for place, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
            if place < len(node.args):
                given[argument.name] = node.args[place]
            else:
                given[argument.name] = node.kwargs.get(argument.name, argument.default_value)
        return fx.node.map_arg(given, self._own)

    def _own(self, node: fx.Node) -> Any:
        return self.tensors.get(node.name, node)

    def _unlisted(self, node: fx.Node) -> Unlisted:
        """Wrap any other operator as a function of the results that it takes."""
        sources = [one for one in node.all_input_nodes if one in self.index]
        target: Callable[..., Any] = node.target  # type: ignore[assignment]

        def call(*inputs: Tensor) -> Any:
            values = dict(zip(sources, inputs, strict=True))
            args, kwargs = fx.node.map_arg(
                (node.args, node.kwargs), lambda one: values.get(one, self._own(one))
            )
            return target(*args, **kwargs)

        return Unlisted(call, str(node.target), self._where(node))

    def _where(self, node: fx.Node) -> str:
        path = _module_path(node)
        return f" in {path}" if path else ""

    def _layers(self, network: Network) -> Iterator[Layer]:
        """Yield the convolutions, named by where the model keeps their kernel."""
        taken: dict[str, int] = {}
        for node, place in self.index.items():
            if place < 0 or not isinstance(self.steps[place].operator, Convolution):
                continue
            kernel = node.args[1]
            assert isinstance(kernel, fx.Node)
            name = self.names[kernel.name].removesuffix(".weight")
            taken[name] = taken.get(name, 0) + 1
            if taken[name] > 1:  # the same module called again: a layer of its own
                name = f"{name}:{taken[name]}"
            yield _layer(network, name, *self._feature(node))

    def _feature(self, node: fx.Node) -> tuple[int, bool]:
        """Go on from a convolution over the normalisation and rectifier that directly follow it.

        Returns the place of the step whose output the features are, and whether it is rectified.
        """
        normalised = False
        while len(node.users) == 1:
            (follower,) = node.users
            operator = self.steps[self.index[follower]].operator if follower in self.index else None
            if isinstance(operator, Rectifier):
                return self.index[follower], True
            if isinstance(operator, BatchNorm) and not normalised:
                normalised = True
            elif not isinstance(operator, Pass):
                break
            node = follower
        return self.index[node], False


def _module_path(node: fx.Node) -> str:
    """Return the path, in the user's model, of the module whose forward method made this call."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return str(paths[-1]) if paths else ""


def _layer(network: Network, name: str, place: int, rectified: bool) -> Layer:
    channels, height, width = network.steps[place].shape
    first = network.region(Box(0, 0, 1, 1), place, clip=False)
    next_ = network.region(Box(1, 1, 2, 2), place, clip=False)
    return Layer(
        name,
        channels,
        height,
        width,
        (first.height, first.width),
        (next_.top - first.top, next_.left - first.left),
        rectified,
        place,
    )


def _check_reproduced(network: Network, example: Tensor, expected: Any) -> None:
    """Compare the captured network's outputs with the model's own."""
    wanted = [leaf for leaf in tree_leaves(expected) if isinstance(leaf, Tensor)]
    found = network.outputs_for(example)
    if len(found) != len(wanted) or not all(map(_close, found, wanted)):
        raise Rot180Error(
            "The captured network does not reproduce the model's own output for the example. "
            "A model that draws random numbers or changes itself while it runs cannot be captured."
        )


def _close(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape:
        return False
    precision = torch.finfo(wanted.dtype).eps if wanted.is_floating_point() else 0.0
    tolerance = 1e3 * precision * max(1.0, float(wanted.abs().max()))
    return torch.allclose(found, wanted, rtol=0, atol=tolerance, equal_nan=True)
