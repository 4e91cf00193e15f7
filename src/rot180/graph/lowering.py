"""Lowers an exported program, node by node, to the steps and layers of a network."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from rot180.errors import Rot180Error
from rot180.graph.batch_axis import APART, FOLDED, BatchAxisRewriter
from rot180.graph.batch_axis_rules import BATCHED, BATCHED_RESULTS, ELEMENTWISE
from rot180.graph.custom_autograd import is_opaque, opaque_call
from rot180.graph.export_errors import advice_for_detectors
from rot180.graph.fusion import fuse_normalisation, fuse_padding
from rot180.graph.layers import find_layers, without_unused_steps
from rot180.graph.lowerings import LOWERINGS
from rot180.graph.lowerings.by_autograd import CHOICES, IMAGE_BY_IMAGE, by_autograd, plain_name
from rot180.graph.lowerings.fx_call import FxCall, Lowered, shape_of
from rot180.graph.lowerings.layout import SPLITS, item
from rot180.graph.lowerings.spatial import FIRST_OF_SEVERAL, MAP_CALLS
from rot180.graph.network import Network
from rot180.graph.nodes import arguments, in_module, is_item, module_path, tensors_of
from rot180.graph.operators.activations import Rectifier
from rot180.graph.operators.convolution import Linear
from rot180.graph.operators.fallback import (
    AutogradOp,
    CustomAutogradOp,
    DiscreteOp,
    GraphCall,
    UnknownOp,
    graph_call,
)
from rot180.graph.operators.folded import Folded
from rot180.graph.operators.layout import Relabelled
from rot180.graph.operators.operator import MAPS, Axes, Operator
from rot180.graph.steps import Step

aten = torch.ops.aten

_TOKENS: Axes = (-3, -2)
"""Rows and columns of tokens (1, t, c)."""

_SAME_POSITIONS = {aten.cat.default, *ELEMENTWISE}
"""Calls whose inputs have rows and columns at the same axes."""


class GraphLowering:
    """Lowers the nodes of one exported program to steps and layers.

    Args:
        program: the model, exported for one image.
        model: the model, whose modules name the layers.
        example: images (n, c, h, w).
        fixed_inputs: the values of the inputs other than the image, by their placeholder.

    Attributes:
        signature: the signature of the program.
        graph: the graph that is lowered; every value in it has a batch axis.
        step_of: for each node that depends on the image, the index of the step that gives its
            value; -1 for the image itself.
        steps: the steps so far.
    """

    def __init__(
        self,
        program: ExportedProgram,
        model: nn.Module,
        example: Tensor,
        fixed_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.example = model, example
        self.signature = program.graph_signature
        self._tensor_names: dict[str, str] = {  # of the model's own tensors, by their placeholder
            **self.signature.inputs_to_parameters,
            **self.signature.inputs_to_buffers,
            **self.signature.inputs_to_lifted_tensor_constants,
        }
        tensors = {**program.constants, **program.state_dict}
        self._constants: dict[str, Any] = {
            placeholder: tensors[name].detach().clone()
            for placeholder, name in self._tensor_names.items()
        }
        self._constants |= fixed_inputs or {}
        self._check_shapes(program)
        self.graph = BatchAxisRewriter(program.graph, set(self._constants)).graph
        self.step_of: dict[fx.Node, int] = {}
        self.steps: list[Step] = []
        self._tuple_calls: dict[fx.Node, FxCall] = {}  # calls with several outputs
        self._token_maps: dict[fx.Node, int] = {}  # steps that give tokens as maps of one row
        self._guessed: set[int] = set()  # steps whose rows and columns are a guess

    def _check_shapes(self, program: ExportedProgram) -> None:
        """Refuse a value whose shape depends on the values of the image."""
        for node in program.graph.nodes:
            sizes = [size for tensor in tensors_of(node) for size in tensor.shape]
            if not all(isinstance(size, int) for size in sizes):
                advice = advice_for_detectors(self.model) or (
                    "Compute with whole maps, and choose with torch.where."
                )
                raise Rot180Error(
                    f"The shape of a result of {node.target}{in_module(node)} depends on the "
                    f"values of the image; such a model cannot be captured. {advice}"
                )

    def lower(self) -> Network:
        """Lower the whole program.

        Raises:
            Rot180Error: the model changes itself, draws random numbers, or its output does not
                depend on the image.
        """
        for name in self.signature.buffers_to_mutate.values():
            raise Rot180Error(
                f"The model changes its own '{name}' while it runs, and cannot be captured."
            )
        for node in self.graph.nodes:
            if node.op == "placeholder" and node.name not in self._constants:
                self.step_of[node] = -1
            elif node.op == "call_function":
                self._lower_node(node)
        by_name = {node.name: index for node, index in self.step_of.items()}
        tensor_nodes = {
            node.name for node in self.graph.nodes if isinstance(node.meta.get("val"), Tensor)
        }
        names = [name for name in self.signature.user_outputs if name in tensor_nodes]
        numbers = [n for n, name in enumerate(names) if by_name.get(str(name), -1) >= 0]
        outputs = tuple(by_name[str(names[n])] for n in numbers)
        if not outputs:
            raise Rot180Error("The model's output does not depend on the image.")
        channels, height, width = self.example.shape[1:]
        network = Network(
            tuple(self.steps),
            outputs,
            {},
            (channels, height, width),
            self.example.dtype,
            self.example.device,
            output_numbers=tuple(numbers),
        )
        weight_steps = {
            node: self._token_maps.get(node, index) for node, index in self.step_of.items()
        }
        layers = {
            layer.name: layer
            for layer in find_layers(network, self.model, weight_steps, self._tensor_names)
        }
        return without_unused_steps(replace(network, layers=layers, _cache={}))

    def _lower_node(self, node: fx.Node) -> None:
        """Lower a call to steps, to a constant, or to another name of an earlier step."""
        if self._draws(node):
            raise Rot180Error(
                f"The model draws random numbers ({node.target}{in_module(node)}) although it was "
                "put into evaluation mode. Where it calls F.dropout, pass training=self.training."
            )
        inputs = self._inputs(node)
        if not inputs:
            with torch.no_grad():
                self._constants[node.name] = self._compute(node)
            return
        if not node.users:
            return  # a check of its input, or a value that is not used
        if isinstance(node.meta.get("val"), tuple | list):
            self._tuple_calls[node] = self._fx_call(node, inputs)
            return
        self._relabel_inputs(node, inputs)
        lowered = fuse_padding(self.lower_call(node), self.steps, self.step_of)
        if fuse_normalisation(node, lowered, self.steps, self.step_of):
            return
        sources = tuple(self.step_of[source] for source in lowered.inputs)
        if not lowered.operators:
            self.step_of[node] = sources[0]
            return
        if self._lower_on_tokens(node, lowered):
            return
        for operator in lowered.operators[:-1]:
            self._append(f"{node.name}_{len(self.steps)}", operator, sources, None, node)
            sources = (len(self.steps) - 1,)
        self.step_of[node] = len(self.steps)
        self._append(node.name, lowered.operators[-1], sources, shape_of(node)[1:], node)

    def _lower_on_tokens(self, node: fx.Node, lowered: Lowered) -> bool:
        """Lower a fully connected layer of tokens (t, c) to one of a map of one row (1, t, c).

        Its neurons are the features of that map. A rectifier that follows acts on the map, too.

        Returns:
            Whether the call was such a layer or rectifier.
        """
        operator, (source, *_) = lowered.operators[0], lowered.inputs
        if len(lowered.operators) > 1 or len(shape_of(node)) != 3:
            return False
        if isinstance(operator, Rectifier) and source in self._token_maps:
            index = self._token_maps[source]
        elif isinstance(operator, Linear) and self._axes(source) is None:
            tokens = shape_of(source)[1:]
            index = len(self.steps)
            self._append(
                f"{node.name}_tokens",
                Relabelled(_TOKENS, tokens, (1, *tokens)),
                (self.step_of[source],),
                (1, *tokens),
                node,
            )
            operator = replace(operator, map_axes=_TOKENS)
        else:
            return False
        after = shape_of(node)[1:]
        self._token_maps[node] = len(self.steps)
        self._append(node.name, operator, (index,), (1, *after), node)
        self.step_of[node] = len(self.steps)
        back = Relabelled(None, (1, *after), after)
        self._append(f"{node.name}_back", back, (self._token_maps[node],), after, node)
        return True

    def _relabel_inputs(self, node: fx.Node, inputs: tuple[fx.Node, ...]) -> None:
        """Correct the axes of rows and columns of a call's inputs, where the call tells them."""
        ranks = {len(shape_of(source)) for source in inputs}
        if node.target in MAP_CALLS and len(inputs) == 1:
            if ranks <= {4, 5}:  # the fifth axis is that of maps that are folded into the batch
                self._relabel(node, inputs[0], MAPS)
        elif node.target is aten.linear.default and len(inputs) == 1 and ranks == {4}:
            if self.step_of[inputs[0]] in self._guessed and self._axes(inputs[0]) == MAPS:
                self._relabel(node, inputs[0], (-3, -2))
        elif len(inputs) > 1 and node.target in _SAME_POSITIONS and len(ranks) == 1:
            known = [source for source in inputs if self.step_of[source] not in self._guessed]
            wanted = next((axes for one in known or inputs if (axes := self._axes(one))), None)
            for source in inputs:
                if wanted is not None:
                    self._relabel(node, source, wanted)

    def _relabel(self, node: fx.Node, source: fx.Node, wanted: Axes) -> None:
        """Insert a step between a call and one of its inputs that sets rows and columns."""
        if self._axes(source) == wanted:
            return
        with self.graph.inserting_before(node):
            between = self.graph.call_function(aten.alias.default, (source,))
        between.meta = dict(source.meta)
        node.replace_input_with(source, between)
        self.step_of[between] = len(self.steps)
        shape = shape_of(source)[1:]
        relabelled = Relabelled(wanted, shape, shape)
        self._append(between.name, relabelled, (self.step_of[source],), shape, node)

    def _inputs(self, node: fx.Node) -> tuple[fx.Node, ...]:
        """Return the arguments of a call that depend on the image."""
        return tuple(filter(self._depends_on_image, node.all_input_nodes))

    def _draws(self, node: fx.Node) -> bool:
        """Say whether a call draws random numbers; some calls do only in training."""
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
        """Add a step of a call; its shape is computed unless the graph knows it."""
        input_axes = tuple(self.steps[index].axes if index >= 0 else MAPS for index in sources)
        if shape is None:
            shape = operator.output_shape(self._shape(sources[0]))
        axes = operator.output_axes(input_axes)
        if isinstance(operator, Relabelled):
            self.steps.append(Step(name, operator, sources, shape, axes, module_path(node)))
            return
        guessed = any(index in self._guessed for index in sources)
        if axes is None and not operator.local and not isinstance(operator, Linear):
            of_same_shape = [
                of_input
                for of_input, source in zip(input_axes, sources, strict=True)
                if of_input is not None and self._shape(source) == shape
            ]
            axes = of_same_shape[0] if of_same_shape else MAPS if len(shape) == 3 else None
            guessed = guessed or not of_same_shape
        if guessed and axes is not None:
            self._guessed.add(len(self.steps))
        self.steps.append(Step(name, operator, sources, shape, axes, module_path(node)))

    def _shape(self, index: int) -> tuple[int, ...]:
        return self.steps[index].shape if index >= 0 else tuple(self.example.shape[1:])

    def lower_call(self, node: fx.Node) -> Lowered:
        """Return what a call is lowered to; its inputs have been lowered before."""
        inputs = self._inputs(node)
        lowered: Any
        if FOLDED in node.meta:
            lowered = self._lower_folded(node)
        elif is_item(node):
            lowered = self._lower_item(node)
        else:
            call = self._fx_call(node, inputs)
            known = IMAGE_BY_IMAGE if APART in node.meta else LOWERINGS
            lowering = known.get(node.target)
            if call.is_complex() and node.target in ELEMENTWISE:
                lowering = by_autograd
            lowered = None if lowering is None else lowering(call)
            if lowered is None:
                lowered = self._unlisted(node, node, call.run)
        if isinstance(lowered, Operator):
            lowered = Lowered((lowered,), inputs)
        return lowered if lowered.inputs else Lowered(lowered.operators, inputs)

    def _unlisted(self, node: fx.Node, source: fx.Node, run: GraphCall) -> Operator:
        """Return the operator of a call that no lowering takes.

        Args:
            node: the call, or one of its outputs.
            source: the call.
            run: makes the call.
        """
        value = node.meta["val"]
        if is_opaque(source.target):
            call = opaque_call(cast(int, source.args[1]))
            return CustomAutogradOp(
                replace(run, target=call, name=call.kind.__name__),
                call.kind.__name__,
                in_module(source),
            )
        if isinstance(value, Tensor) and not (value.is_floating_point() or value.is_complex()):
            return DiscreteOp(run, str(source.target))
        return UnknownOp(run, str(source.target), in_module(source))

    def _lower_item(self, node: fx.Node) -> Lowered:
        """Lower one of several outputs of a call."""
        source, number = cast(tuple[fx.Node, int], node.args)
        call = self._tuple_calls[source]
        lowered: Any = None
        if source.target in SPLITS and APART not in source.meta:
            lowered = item(call, call, number)
        elif source.target in FIRST_OF_SEVERAL and number == 0 and APART not in source.meta:
            lowered = self._lower_folded(source) if FOLDED in source.meta else None
            lowered = lowered or LOWERINGS[source.target](call)
        if lowered is None:
            run = self._graph_call(source, call.inputs, shape_of(node)[1:], number)
            lowered = self._unlisted(node, source, run)
            if source.target in CHOICES and isinstance(lowered, UnknownOp):
                lowered = AutogradOp(run, plain_name(source.target))
        if isinstance(lowered, Operator):
            lowered = Lowered((lowered,), call.inputs)
        return cast(Lowered, lowered if lowered.inputs else Lowered(lowered.operators, call.inputs))

    def _lower_folded(self, node: fx.Node) -> Lowered:
        """Lower a call on several maps for each image by what it does to one of them."""
        (source,) = self._inputs(node)
        scratch, count = fx.Graph(), node.meta[FOLDED]
        maps = scratch.placeholder("maps")
        maps.meta["val"] = source.meta["val"][0, :1]
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs),
            lambda argument: maps if argument is source else self._constants[argument.name],
        )
        call_node = scratch.call_function(node.target, args, kwargs)  # type: ignore[arg-type]
        values = node.meta["val"]
        values = values if isinstance(values, list | tuple) else [values]
        call_node.meta = {**node.meta, "val": values[0][0, :1]}
        del call_node.meta[FOLDED]
        axes = self._axes(source)
        run = graph_call(call_node, (maps,), {}, None, tuple(call_node.meta["val"].shape[1:]))
        call = FxCall(
            call_node,
            self._arguments(call_node),
            (maps,),
            lambda _: axes,
            run,
            lambda argument: argument is maps,
            self._constant,
        )
        lowering = LOWERINGS.get(node.target)
        lowered = None if lowering is None else lowering(call)
        if isinstance(lowered, Operator):
            lowered = Lowered((lowered,), (maps,))
        if lowered is None:
            lowered = Lowered((self._unlisted(call_node, call_node, run),), (maps,))
        return Lowered(tuple(Folded(each, count) for each in lowered.operators), (source,))

    def _graph_call(
        self,
        node: fx.Node,
        inputs: tuple[fx.Node, ...],
        output: tuple[int, ...],
        item: int | None = None,
    ) -> GraphCall:
        """Return a call that runs as it stands, for many images at once where that is right."""
        apart = node.meta.get(APART)
        shapes: tuple[tuple[int, ...], ...] | None
        if apart is not None:
            shapes = tuple(apart[source.name] for source in inputs)
        elif node.target in BATCHED or (
            node.target in BATCHED_RESULTS and len(inputs) == len(node.all_input_nodes)
        ):
            shapes = None
        else:
            shapes = tuple(shape_of(source) for source in inputs)
        return graph_call(node, inputs, self._constants, shapes, output, item)

    def _fx_call(self, node: fx.Node, inputs: tuple[fx.Node, ...]) -> FxCall:
        given = self._arguments(node) if hasattr(node.target, "_schema") else {}
        run = self._graph_call(node, inputs, shape_of(node)[1:])
        depends = self._depends_on_image
        return FxCall(node, given, inputs, self._axes, run, depends, self._constant)

    def _constant(self, node: fx.Node) -> Any:
        return self._constants[node.name]

    def _depends_on_image(self, node: fx.Node) -> bool:
        return node in self.step_of or node in self._tuple_calls

    def _axes(self, node: fx.Node) -> Axes | None:
        index = self.step_of[node]
        return self.steps[index].axes if index >= 0 else MAPS

    def _arguments(self, node: fx.Node) -> dict[str, Any]:
        """Return the arguments of a call by name, with constants in place of their nodes."""
        return fx.node.map_arg(
            arguments(node), lambda argument: self._constants.get(argument.name, argument)
        )

    def _compute(self, node: fx.Node) -> Any:
        """Make a call that has constant arguments only."""
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs), lambda argument: self._constants[argument.name]
        )
        return node.target(*args, **kwargs)  # type: ignore[operator]
