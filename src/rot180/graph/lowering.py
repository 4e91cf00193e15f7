"""Reads an exported program node by node into steps, and names its layers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from rot180.errors import Rot180Error
from rot180.graph.batch_axis import APART, FOLDED, Rewriting
from rot180.graph.batch_axis_rules import BATCHED, BATCHED_RESULTS, ELEMENTWISE
from rot180.graph.custom_autograd import is_kept, kept_call
from rot180.graph.export_errors import for_detectors
from rot180.graph.fusion import fuse_normalisation, fuse_padding
from rot180.graph.layers import find_layers, without_unused_steps
from rot180.graph.lowerings import TABLE
from rot180.graph.lowerings.by_autograd import CHOICES, SMOOTH, by_autograd, plain_name
from rot180.graph.lowerings.fx_call import Call, Found, shape_of
from rot180.graph.lowerings.layout import SPLITS, item
from rot180.graph.lowerings.spatial import FIRST_OF_SEVERAL, OF_MAPS
from rot180.graph.network import Network
from rot180.graph.nodes import arguments, in_module, is_item, module_path, tensors_of
from rot180.graph.operators.activations import Rectifier
from rot180.graph.operators.convolution import (
    Linear,
)
from rot180.graph.operators.fallback import (
    Derived,
    Discrete,
    GraphCall,
    OwnDerivative,
    Unlisted,
    graph_call,
)
from rot180.graph.operators.folded import Folded
from rot180.graph.operators.layout import Relabelled
from rot180.graph.operators.operator import MAPS, Axes, Operator
from rot180.graph.steps import Step

aten = torch.ops.aten

_TOKENS: Axes = (-3, -2)
"""Rows and columns of tokens (1, t, c)."""

TOGETHER = {aten.cat.default, *ELEMENTWISE}
"""Calls on values that lie at the same place."""


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
                    f"The shape of a result of {node.target}{in_module(node)} depends on the "
                    f"values of the image; such a model cannot be captured. {advice}"
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
        weight_steps = {node: self.tokens.get(node, index) for node, index in self.index.items()}
        layers = {
            layer.name: layer for layer in find_layers(bare, self.model, weight_steps, self.names)
        }
        return without_unused_steps(replace(bare, layers=layers, _cache={}))

    def _tensor_names(self) -> set[str]:
        return {node.name for node in self.graph.nodes if isinstance(node.meta.get("val"), Tensor)}

    def _read(self, node: fx.Node) -> None:
        """Read a call: into steps, into a constant, or as another name of an earlier step."""
        if self._draws(node):
            raise Rot180Error(
                f"The model draws random numbers ({node.target}{in_module(node)}) although it was "
                "put into evaluation mode. Where it calls F.dropout, pass training=self.training."
            )
        results = self._results(node)
        if not results:
            with torch.no_grad():
                self.constants[node.name] = self._call(node, {})
            return
        if not node.users:
            return  # a check of its input, or what is not used
        if isinstance(node.meta.get("val"), tuple | list):
            self.splits[node] = self._as_call(node, results)
            return
        self._relabel(node, results)
        found = fuse_padding(self.found(node), self.steps, self.index)
        if fuse_normalisation(node, found, self.steps, self.index):
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
        elif is_item(node):
            found = self._item(node)
        else:
            call = self._as_call(node, results)
            read = TABLE.get(node.target) if APART not in node.meta else SMOOTH.get(node.target)
            if call.is_complex() and node.target in ELEMENTWISE:
                read = by_autograd
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
                in_module(source),
            )
        if isinstance(value, Tensor) and not (value.is_floating_point() or value.is_complex()):
            return Discrete(run, str(source.target))
        return Unlisted(run, str(source.target), in_module(source))

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
                found = Derived(run, plain_name(source.target))
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
