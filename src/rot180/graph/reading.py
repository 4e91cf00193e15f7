"""Reads an exported program node by node into steps, and names its layers."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from rot180.errors import Rot180Error
from rot180.graph.boxes import COLUMNS, ROWS
from rot180.graph.geometry import Step
from rot180.graph.network import Layer, Network
from rot180.graph.operators.activations import Rectifier
from rot180.graph.operators.arithmetic import Broadcast, Product, Sum
from rot180.graph.operators.base import MAPS, Axes, Operator
from rot180.graph.operators.calls import Item, Unlisted
from rot180.graph.operators.convolution import Convolution, Linear
from rot180.graph.operators.normalisation import BatchNorm, FrozenNorm
from rot180.graph.operators.pooling import Separable
from rot180.graph.table import TABLE
from rot180.graph.table.call import Call, Found, shape_of
from rot180.graph.table.shapes import FIRST_OF_SEVERAL, SPLITS, item

aten = torch.ops.aten

_LAYERS = (aten.conv2d.default, aten.conv2d.padding, aten.linear.default)
"""Calls whose results are the layers of a network."""


class Reading:
    """Reads the nodes of one exported program into steps and layers."""

    def __init__(self, program: ExportedProgram, model: nn.Module, example: Tensor) -> None:
        self.graph, self.model, self.example = program.graph, model, example
        self.signature = program.graph_signature
        self.names: dict[str, str] = {  # of the model's own tensors, by their placeholder
            **self.signature.inputs_to_parameters,
            **self.signature.inputs_to_buffers,
            **self.signature.inputs_to_lifted_tensor_constants,
        }
        known = {**program.constants, **program.state_dict}
        self.constants: dict[str, Any] = {
            place: known[name].detach().clone() for place, name in self.names.items()
        }
        self.index: dict[fx.Node, int] = {}
        self.splits: dict[fx.Node, Call] = {}
        self.steps: list[Step] = []

    def network(self) -> Network:
        """Read everything."""
        for name in self.signature.buffers_to_mutate.values():
            raise Rot180Error(
                f"The model changes its own '{name}' while it runs, and cannot be captured."
            )
        for node in self.graph.nodes:
            if node.op == "placeholder" and node.name not in self.names:
                self.index[node] = -1
            elif node.op == "call_function":
                self._read(node)
        by_name = {node.name: place for node, place in self.index.items()}
        outputs = tuple(
            by_name[one] for one in self.signature.user_outputs if by_name.get(one, -1) >= 0
        )
        if not outputs:
            raise Rot180Error("The model's output does not depend on the image.")
        channels, height, width = self.example.shape[1:]
        bare = Network(
            tuple(self.steps),
            outputs,
            {},
            (channels, height, width),
            self.example.dtype,
            self.example.device,
        )
        return replace(bare, layers={one.name: one for one in self._layers(bare)}, _cache={})

    def _read(self, node: fx.Node) -> None:
        """Read a call: into steps, into a constant, or as another name of an earlier step."""
        if self._draws(node):
            raise Rot180Error(
                f"The model draws random numbers ({node.target}{where(node)}) although it was put "
                "into evaluation mode. Where it calls F.dropout, pass training=self.training."
            )
        results = self._results(node)
        if not results:
            with torch.no_grad():
                self.constants[node.name] = self._call(node, {})
            return
        if not all(isinstance(size, int) for size in shape_of(node)):
            raise Rot180Error(
                f"The shape of a result of {node.target}{where(node)} depends on the values of the "
                "image; such a model cannot be captured. Compute with whole maps, and choose with "
                "torch.where."
            )
        if not node.users:
            return  # a check of its input, or what is not used
        if node.target in SPLITS:
            self.splits[node] = self._as_call(node, results)
            return
        found = self._with_padding(self.found(node))
        if self._merged(node, found):
            return
        sources = tuple(self.index[one] for one in found.inputs)
        if not found.operators:
            self.index[node] = sources[0]
            return
        for operator in found.operators[:-1]:
            self._append(f"{node.name}_{len(self.steps)}", operator, sources, None, node)
            sources = (len(self.steps) - 1,)
        self.index[node] = len(self.steps)
        self._append(node.name, found.operators[-1], sources, shape_of(node)[1:], node)

    def _results(self, node: fx.Node) -> tuple[fx.Node, ...]:
        """Return the results that go into a call: what depends on the image."""
        return tuple(filter(self._of_the_image, node.all_input_nodes))

    def _draws(self, node: fx.Node) -> bool:
        """Say whether a call draws random numbers, which some do in training only."""
        if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
            return False
        given = self._arguments(node)
        training = given.get("train", given.get("training"))
        return training is not False and given.get("dropout_p") != 0

    def _append(
        self,
        name: str,
        operator: Operator,
        sources: tuple[int, ...],
        shape: tuple[int, ...] | None,
        node: fx.Node,
    ) -> None:
        """Add a step; the graph knows the shape of a call's last one only."""
        before = tuple(self.steps[one].axes if one >= 0 else MAPS for one in sources)
        if shape is None:
            shape = operator.shape_after(self._shape(sources[0]))
        axes = operator.axes(before)
        if axes is None and not operator.local and not isinstance(operator, Linear):
            kept = [
                one
                for one, source in zip(before, sources, strict=True)
                if one is not None and self._shape(source) == shape
            ]
            axes = kept[0] if kept else MAPS if len(shape) == 3 else None
        self.steps.append(Step(name, operator, sources, shape, axes, module_path(node)))

    def _shape(self, place: int) -> tuple[int, ...]:
        return self.steps[place].shape if place >= 0 else tuple(self.example.shape[1:])

    def found(self, node: fx.Node) -> Found:
        """Look a call up in the table; what goes into it has been read."""
        results = self._results(node)
        call = self._as_call(node, results)
        if _is_item(node):
            (source,), place = results, cast(int, node.args[1])
            if source in self.splits:
                found: Any = item(call, self.splits[source], place)
            elif source.target in FIRST_OF_SEVERAL and not self._is_unlisted(source):
                if place:
                    raise Rot180Error(
                        f"The model uses output {place} of {source.target}{where(source)} (the "
                        "indices of a pooling, say), which cannot be captured."
                    )
                return Found((), results)
            else:
                found = Item(place)
        else:
            read = TABLE.get(node.target)
            found = None if read is None else read(call)
        if found is None:
            found = Unlisted(call.run, str(node.target), where(node))
        if isinstance(found, Operator):
            found = Found((found,), results)
        return found if found.inputs else Found(found.operators, results)

    def _is_unlisted(self, node: fx.Node) -> bool:
        place = self.index[node]
        return place >= 0 and isinstance(self.steps[place].operator, Unlisted)

    def _merged(self, node: fx.Node, found: Found) -> bool:
        """Merge a normalisation into the convolution that it directly follows."""
        if len(found.operators) != 1 or len(found.inputs) != 1:
            return False
        (last,), (source,) = found.operators, found.inputs
        norm: BatchNorm | FrozenNorm | None = last if isinstance(last, BatchNorm) else None
        if isinstance(last, Sum) and self.index[source] >= 0:  # after a factor for each channel
            scaled = self.steps[self.index[source]]
            if _for_each_channel(scaled.operator, Product) and _for_each_channel(last, Sum):
                if len(source.users) != 1 or self.index[source] != len(self.steps) - 1:
                    return False
                assert isinstance(scaled.operator, Product)
                norm = FrozenNorm(scaled.operator.constant, last.constant)  # type: ignore[arg-type]
                between, source = source, source.all_input_nodes[0]
        place = self.index.get(source, -1)
        operator = self.steps[place].operator if place >= 0 else None
        if norm is None or not isinstance(operator, Convolution) or operator.norm:
            return False
        if len(source.users) != 1:
            return False
        if isinstance(norm, FrozenNorm):
            self.steps.pop()
            self.index[between] = place
        merged = replace(operator, norm=norm)
        self.steps[place] = replace(self.steps[place], name=node.name, operator=merged)
        self.index[node] = place
        return True

    def _with_padding(self, found: Found) -> Found:
        """Merge the zeros that a step of its own put around maps into the convolution of them."""
        operator = found.operators[0] if len(found.operators) == 1 else None
        if not isinstance(operator, Convolution):
            return found
        (source,) = found.inputs
        place = self.index[source]
        before = self.steps[place].operator if place >= 0 else None
        if not isinstance(before, Separable) or before.zeros is None:
            return found
        if len(source.users) != 1 or place != len(self.steps) - 1:
            return found
        (self.index[source],) = self.steps.pop().inputs
        top, left = before.zeros
        padded = replace(operator, before=(operator.before[0] + top, operator.before[1] + left))
        return Found((padded,), (source,))

    def _as_call(self, node: fx.Node, results: tuple[fx.Node, ...]) -> Call:
        def run(*values: Any) -> Any:
            return self._call(node, dict(zip(results, values, strict=True)))

        given = self._arguments(node) if hasattr(node.target, "_schema") else {}
        return Call(node, given, results, self._axes, run, self._of_the_image, self._constant)

    def _constant(self, node: fx.Node) -> Any:
        return self.constants[node.name]

    def _of_the_image(self, node: fx.Node) -> bool:
        return node in self.index or node in self.splits

    def _axes(self, node: fx.Node) -> Axes | None:
        place = self.index[node]
        return self.steps[place].axes if place >= 0 else MAPS

    def _arguments(self, node: fx.Node) -> dict[str, Any]:
        """Return the arguments of a call by name, constants in place of their nodes."""
        given: dict[str, Any] = {}
        for place, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
            if place < len(node.args):
                given[argument.name] = node.args[place]
            else:
                given[argument.name] = node.kwargs.get(argument.name, argument.default_value)
        return fx.node.map_arg(given, lambda one: self.constants.get(one.name, one))

    def _call(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        """Call the node's operator with these values, and constants for all else."""
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs),
            lambda one: values[one] if one in values else self.constants[one.name],
        )
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _layers(self, network: Network) -> Iterator[Layer]:
        """Yield the layers by name; one that is used again gets the number of its use."""
        taken: dict[str, int] = {}
        for node, place in self.index.items():
            operator = self.steps[place].operator if place >= 0 else None
            if node.target not in _LAYERS or not isinstance(operator, Convolution | Linear):
                continue
            step = self.steps[place]
            vector, last = len(step.shape) == 1, len(step.shape) == 3 and step.axes == (-3, -2)
            if isinstance(operator, Linear) and not (vector or last):
                continue  # of a sequence of tokens, or along rows or columns
            name = self._layer_name(node)
            taken[name] = taken.get(name, 0) + 1
            if taken[name] > 1:
                name = f"{name}:{taken[name]}"
            yield _layer(network, name, place, *self._feature(network, node))

    def _layer_name(self, node: fx.Node) -> str:
        """Return the path of the module that is the convolution; else where its kernel is kept."""
        path = module_path(node)
        try:
            if isinstance(self.model.get_submodule(path), nn.Conv2d | nn.Linear):
                return path
        except AttributeError:
            pass
        kernel = node.args[1]
        name = self.names.get(kernel.name, "") if isinstance(kernel, fx.Node) else ""
        return name.removesuffix(".weight") or path or node.name

    def _feature(self, network: Network, node: fx.Node) -> tuple[int, str]:
        """Go on from a convolution to the rectifier that directly follows it.

        Returns the place of the step whose output the features are, and the rectifier's name. The
        steps are asked, not the graph: of a rectifier that is written out, several calls take the
        convolution's result, but one step.
        """
        place = self.index[node]
        if place in network.outputs:
            return place, ""
        needed = network.needed(*network.outputs)
        followers = [one for one in needed if place in self.steps[one].inputs]
        operator = self.steps[followers[0]].operator if len(followers) == 1 else None
        return (followers[0], operator.name) if isinstance(operator, Rectifier) else (place, "")


def _for_each_channel(operator: Operator, kind: type[Broadcast]) -> bool:
    """Say whether an operator is a sum or product with a constant for each channel."""
    if not isinstance(operator, kind) or not isinstance(operator.constant, Tensor):
        return False
    plain = not (isinstance(operator, Product) and operator.divides)
    if isinstance(operator, Sum):
        plain = operator.factors == (1.0,)
    return plain and operator.constant.shape == (operator.shapes[0][0], 1, 1)


def _is_item(node: fx.Node) -> bool:
    return getattr(node.target, "__name__", "") == "getitem"


def module_path(node: fx.Node) -> str:
    """Return the path, in the user's model, of the module whose forward method made this call."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return str(paths[-1]) if paths else ""


def where(node: fx.Node) -> str:
    """Return the place of a call in the user's model in words, for messages."""
    path = module_path(node)
    return f" in {path}" if path else ""


def _layer(network: Network, name: str, linear: int, place: int, rectifier: str) -> Layer:
    step = network.steps[place]
    channels = step.shape[-1] if step.axes != MAPS else step.shape[0]
    field, stride = network.seen(place)
    return Layer(
        name,
        network.steps[linear].operator.kind,
        channels,
        network.size_of(place, ROWS),
        network.size_of(place, COLUMNS),
        field,
        stride,
        rectifier,
        linear,
        place,
        step.axes,
    )
