"""Reads an exported program node by node into steps, and names its layers."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from rot180.errors import Rot180Error
from rot180.graph.boxes import COLUMNS, ROWS
from rot180.graph.geometry import Step
from rot180.graph.lifting import BATCHED, BATCHED_RESULTS, ELEMENTWISE
from rot180.graph.network import Layer, Network
from rot180.graph.nodes import arguments, tensors_of
from rot180.graph.one_image import APART, FOLDED, Rewriting
from rot180.graph.operators.activations import Rectifier
from rot180.graph.operators.arithmetic import Broadcast, Product, Sum
from rot180.graph.operators.base import MAPS, Axes, Operator
from rot180.graph.operators.calls import (
    Derived,
    Discrete,
    GraphCall,
    OwnDerivative,
    Unlisted,
    graph_call,
)
from rot180.graph.operators.convolution import (
    Convolution,
    LayerOperator,
    Linear,
    TransposedConvolution,
)
from rot180.graph.operators.folded import Folded
from rot180.graph.operators.layout import Relabelled
from rot180.graph.operators.normalisation import BatchNorm, FrozenNorm
from rot180.graph.operators.pooling import Separable
from rot180.graph.own_derivative import is_kept, kept_call
from rot180.graph.refusal import for_detectors
from rot180.graph.table import TABLE
from rot180.graph.table.call import Call, Found, shape_of
from rot180.graph.table.shapes import (
    CHOICES,
    FIRST_OF_SEVERAL,
    OF_MAPS,
    SMOOTH,
    SPLITS,
    item,
    smooth,
)

aten = torch.ops.aten

_TOKENS: Axes = (-3, -2)
"""Rows and columns of tokens (1, t, c)."""

TOGETHER = {aten.cat.default, *ELEMENTWISE}
"""Calls on values that lie at the same place."""

_LAYERS = (
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv_transpose2d.input,
    aten.linear.default,
)
"""Calls whose results are the layers of a network."""

_MODULES = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""Modules that the layers are named after."""


class Reading:
    """Reads the nodes of one exported program into steps and layers.

    Args:
        program: the model, exported for one image.
        model: the model, whose modules name the layers.
        example: images (n, c, h, w).
        held: the inputs that are not the image, by the name of their placeholder.
    """

    def __init__(
        self,
        program: ExportedProgram,
        model: nn.Module,
        example: Tensor,
        held: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.example = model, example
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
        self.constants |= held or {}
        self._check_shapes(program)
        self.graph = Rewriting(program.graph, set(self.constants)).graph
        self.index: dict[fx.Node, int] = {}
        self.splits: dict[fx.Node, Call] = {}
        self.steps: list[Step] = []
        self.tokens: dict[fx.Node, int] = {}  # the steps that give tokens as maps of one row
        self.users: dict[int, list[int]] = {}  # the steps that take each step's output
        self.guessed: set[int] = set()  # the steps whose rows and columns are not known for sure

    def _check_shapes(self, program: ExportedProgram) -> None:
        """Refuse a result whose shape depends on the values of the image."""
        for node in program.graph.nodes:
            sizes = [size for one in tensors_of(node) for size in one.shape]
            if not all(isinstance(size, int) for size in sizes):
                advice = for_detectors(self.model) or (
                    "Compute with whole maps, and choose with torch.where."
                )
                raise Rot180Error(
                    f"The shape of a result of {node.target}{where(node)} depends on the values of "
                    f"the image; such a model cannot be captured. {advice}"
                )

    def network(self) -> Network:
        """Read everything."""
        for name in self.signature.buffers_to_mutate.values():
            raise Rot180Error(
                f"The model changes its own '{name}' while it runs, and cannot be captured."
            )
        for node in self.graph.nodes:
            if node.op == "placeholder" and node.name not in self.constants:
                self.index[node] = -1
            elif node.op == "call_function":
                self._read(node)
        by_name = {node.name: place for node, place in self.index.items()}
        tensors = [one for one in self.signature.user_outputs if one in self._tensor_names()]
        numbers = [n for n, one in enumerate(tensors) if by_name.get(str(one), -1) >= 0]
        outputs = tuple(by_name[str(tensors[n])] for n in numbers)
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
            output_numbers=tuple(numbers),
        )
        layers = {one.name: one for one in self._layers(bare)}
        return without_unused(replace(bare, layers=layers, _cache={}))

    def _tensor_names(self) -> set[str]:
        return {node.name for node in self.graph.nodes if isinstance(node.meta.get("val"), Tensor)}

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
        if not node.users:
            return  # a check of its input, or what is not used
        if _gives_several(node):
            self.splits[node] = self._as_call(node, results)
            return
        self._relabel(node, results)
        found = self._with_padding(self.found(node))
        if self._merged(node, found):
            return
        sources = tuple(self.index[one] for one in found.inputs)
        if not found.operators:
            self.index[node] = sources[0]
            return
        if self._on_tokens(node, found):
            return
        for operator in found.operators[:-1]:
            self._append(f"{node.name}_{len(self.steps)}", operator, sources, None, node)
            sources = (len(self.steps) - 1,)
        self.index[node] = len(self.steps)
        self._append(node.name, found.operators[-1], sources, shape_of(node)[1:], node)

    def _on_tokens(self, node: fx.Node, found: Found) -> bool:
        """Make a fully connected layer of tokens (t, c) one of a map with one row, (1, t, c).

        Its neurons are the features of that map. A rectifier that follows stays on the map.
        """
        operator, (source, *_) = found.operators[0], found.inputs
        if len(found.operators) > 1 or len(shape_of(node)) != 3:
            return False
        if isinstance(operator, Rectifier) and source in self.tokens:
            place = self.tokens[source]
        elif isinstance(operator, Linear) and self._axes(source) is None:
            tokens = shape_of(source)[1:]
            place = len(self.steps)
            self._append(
                f"{node.name}_tokens",
                Relabelled(_TOKENS, tokens, (1, *tokens)),
                (self.index[source],),
                (1, *tokens),
                node,
            )
            operator = replace(operator, where=_TOKENS)
        else:
            return False
        after = shape_of(node)[1:]
        self.tokens[node] = len(self.steps)
        self._append(node.name, operator, (place,), (1, *after), node)
        self.index[node] = len(self.steps)
        back = Relabelled(None, (1, *after), after)
        self._append(f"{node.name}_back", back, (self.tokens[node],), after, node)
        return True

    def _relabel(self, node: fx.Node, results: tuple[fx.Node, ...]) -> None:
        """Say where rows and columns are, where a call knows it and what was found does not."""
        ranks = {len(shape_of(one)) for one in results}
        if node.target in OF_MAPS and len(results) == 1:
            if ranks <= {4, 5}:  # a fifth axis: of maps that are folded into the batch
                self._relabel_one(node, results[0], MAPS)
        elif node.target is aten.linear.default and len(results) == 1 and ranks == {4}:
            place = self.index[results[0]]
            if place in self.guessed and self._axes(results[0]) == MAPS:
                self._relabel_one(node, results[0], (-3, -2))
        elif len(results) > 1 and node.target in TOGETHER and len(ranks) == 1:
            known = [one for one in results if self.index[one] not in self.guessed]
            wanted = next((found for one in known or results if (found := self._axes(one))), None)
            for one in results:
                if wanted is not None:
                    self._relabel_one(node, one, wanted)

    def _relabel_one(self, node: fx.Node, source: fx.Node, wanted: Axes) -> None:
        """Put a step between a call and one of its inputs that names rows and columns."""
        if self._axes(source) == wanted:
            return
        with self.graph.inserting_before(node):
            between = self.graph.call_function(aten.alias.default, (source,))
        between.meta = dict(source.meta)
        node.replace_input_with(source, between)
        self.index[between] = len(self.steps)
        shape = shape_of(source)[1:]
        relabelled = Relabelled(wanted, shape, shape)
        self._append(between.name, relabelled, (self.index[source],), shape, node)

    def _results(self, node: fx.Node) -> tuple[fx.Node, ...]:
        """Return the results that go into a call: what depends on the image."""
        return tuple(filter(self._of_the_image, node.all_input_nodes))

    def _draws(self, node: fx.Node) -> bool:
        """Say whether a call draws random numbers, which some do in training only."""
        if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
            return False
        given = self._arguments(node)
        training = given.get("train", given.get("training"))
        return training is not False and given.get("dropout_p", given.get("dropout")) != 0

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
        if isinstance(operator, Relabelled):
            self.steps.append(Step(name, operator, sources, shape, axes, module_path(node)))
            return
        unknown = any(one in self.guessed for one in sources)
        if axes is None and not operator.local and not isinstance(operator, Linear):
            kept = [
                one
                for one, source in zip(before, sources, strict=True)
                if one is not None and self._shape(source) == shape
            ]
            axes = kept[0] if kept else MAPS if len(shape) == 3 else None
            unknown = unknown or not kept
        if unknown and axes is not None:
            self.guessed.add(len(self.steps))
        self.steps.append(Step(name, operator, sources, shape, axes, module_path(node)))

    def _shape(self, place: int) -> tuple[int, ...]:
        return self.steps[place].shape if place >= 0 else tuple(self.example.shape[1:])

    def found(self, node: fx.Node) -> Found:
        """Look a call up in the table; what goes into it has been read."""
        results = self._results(node)
        found: Any
        if FOLDED in node.meta:
            found = self._folded(node)
        elif _is_item(node):
            found = self._item(node)
        else:
            call = self._as_call(node, results)
            read = TABLE.get(node.target) if APART not in node.meta else SMOOTH.get(node.target)
            if call.is_complex() and node.target in ELEMENTWISE:
                read = smooth
            found = None if read is None else read(call)
            if found is None:
                found = self._other(node, node, call.run)
        if isinstance(found, Operator):
            found = Found((found,), results)
        return found if found.inputs else Found(found.operators, results)

    def _other(self, node: fx.Node, source: fx.Node, run: GraphCall) -> Operator:
        """Return the operator of a call that the table lacks."""
        value = node.meta["val"]
        if is_kept(source.target):
            call = kept_call(cast(int, source.args[1]))
            return OwnDerivative(
                replace(run, target=call, name=call.kind.__name__),
                call.kind.__name__,
                where(source),
            )
        if isinstance(value, Tensor) and not (value.is_floating_point() or value.is_complex()):
            return Discrete(run, str(source.target))
        return Unlisted(run, str(source.target), where(source))

    def _item(self, node: fx.Node) -> Found:
        """Read one of several outputs of a call."""
        source, place = cast(tuple[fx.Node, int], node.args)
        call = self.splits[source]
        found: Any = None
        if source.target in SPLITS and APART not in source.meta:
            found = item(call, call, place)
        elif source.target in FIRST_OF_SEVERAL and place == 0 and APART not in source.meta:
            found = self._folded(source) if FOLDED in source.meta else None
            found = found or TABLE[source.target](call)
        if found is None:
            run = self._run(source, call.results, shape_of(node)[1:], place)
            found = self._other(node, source, run)
            if source.target in CHOICES and isinstance(found, Unlisted):
                found = Derived(run, _plain_name(source))
        if isinstance(found, Operator):
            found = Found((found,), call.results)
        return cast(Found, found if found.inputs else Found(found.operators, call.results))

    def _folded(self, node: fx.Node) -> Found | None:
        """Read a call on several maps for each image by what it does to one of them."""
        (result,) = self._results(node)
        scratch, count = fx.Graph(), node.meta[FOLDED]
        one = scratch.placeholder("maps")
        one.meta["val"] = result.meta["val"][0, :1]
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs),
            lambda arg: one if arg is result else self.constants[arg.name],
        )
        call = scratch.call_function(node.target, args, kwargs)  # type: ignore[arg-type]
        values = node.meta["val"]
        values = values if isinstance(values, list | tuple) else [values]
        call.meta = {**node.meta, "val": values[0][0, :1]}
        del call.meta[FOLDED]
        given = self._arguments(call)
        axes = self._axes(result)
        run = graph_call(call, (one,), {}, None, tuple(call.meta["val"].shape[1:]))
        read = TABLE.get(node.target)
        found = (
            None
            if read is None
            else read(
                Call(
                    call, given, (one,), lambda _: axes, run, lambda arg: arg is one, self._constant
                )
            )
        )
        if isinstance(found, Operator):
            found = Found((found,), (one,))
        if found is None:
            found = Found((self._other(call, call, run),), (one,))
        return Found(tuple(Folded(each, count) for each in found.operators), (result,))

    def _run(
        self,
        node: fx.Node,
        results: tuple[fx.Node, ...],
        output: tuple[int, ...],
        item: int | None = None,
    ) -> GraphCall:
        """Return a call as it stands; of many images at once, where it is known for such."""
        shapes = node.meta.get(APART)
        if shapes is not None:
            inputs = tuple(shapes[one.name] for one in results)
        elif node.target in BATCHED or (
            node.target in BATCHED_RESULTS and len(results) == len(node.all_input_nodes)
        ):
            inputs = None
        else:
            inputs = tuple(shape_of(one) for one in results)
        return graph_call(node, results, self.constants, inputs, output, item)

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
        if (
            norm is None
            or not isinstance(operator, Convolution | TransposedConvolution)
            or operator.norm
        ):
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
        given = self._arguments(node) if hasattr(node.target, "_schema") else {}
        run = self._run(node, results, shape_of(node)[1:])
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
        return fx.node.map_arg(arguments(node), lambda one: self.constants.get(one.name, one))

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
        for number, step in enumerate(self.steps):
            for source in step.inputs:
                self.users.setdefault(source, []).append(number)
        for node, index in self.index.items():
            place = self.tokens.get(node, index)
            operator = self.steps[place].operator if place >= 0 else None
            if node.target not in _LAYERS or not isinstance(operator, LayerOperator):
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
            if isinstance(
                self.model.get_submodule(path), nn.Conv2d | nn.ConvTranspose2d | nn.Linear
            ):
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
        place = self._place(node)
        if place in network.outputs:
            return place, ""
        needed = set(network.needed(*network.outputs))
        followers = [one for one in self.users.get(place, ()) if one in needed]
        operator = self.steps[followers[0]].operator if len(followers) == 1 else None
        return (followers[0], operator.name) if isinstance(operator, Rectifier) else (place, "")

    def _place(self, node: fx.Node) -> int:
        return self.tokens.get(node, self.index.get(node, -1))


def without_unused(network: Network) -> Network:
    """Return the network without the steps that neither its outputs nor its layers depend on."""
    needed = network.needed(*network.outputs, *(one.step for one in network.layers.values()))
    number = {place: n for n, place in enumerate(needed)} | {-1: -1}
    if len(needed) == len(network.steps):
        return network
    steps = tuple(
        replace(step, inputs=tuple(number[one] for one in step.inputs))
        for step in (network.steps[place] for place in needed)
    )
    layers = {
        name: replace(one, linear=number[one.linear], step=number[one.step])
        for name, one in network.layers.items()
    }
    outputs = tuple(number[one] for one in network.outputs)
    return replace(network, steps=steps, layers=layers, outputs=outputs, _cache={})


def _for_each_channel(operator: Operator, kind: type[Broadcast]) -> bool:
    """Say whether an operator is a sum or product with a constant for each channel."""
    if not isinstance(operator, kind) or not isinstance(operator.constant, Tensor):
        return False
    plain = not (isinstance(operator, Product) and operator.divides)
    if isinstance(operator, Sum):
        plain = operator.factors == (1.0,)
    return plain and operator.constant.shape == (operator.shapes[0][0], 1, 1)


def _gives_several(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), tuple | list)


def _plain_name(node: fx.Node) -> str:
    return str(node.target).removeprefix("aten.").rsplit(".", 1)[0].replace("_", " ")


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
    last = step.operator
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
        place != linear and isinstance(last, Rectifier) and last.saturates,
    )
