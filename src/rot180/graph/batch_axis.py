"""Gives every value of an exported graph a batch axis in front.

A model is exported for one image, so that no argument of a call contains the number of images. The
network that the graph becomes takes any number of images and treats each as the one image. For
that, every value needs a batch axis of its own, and it comes first:

- A value whose first axis has size 1 has it already, as (1, c, h, w) does.
- Any other value gets a new one. The windows of a Swin block (windows, tokens, c), the heads of an
  attention (3, 1, heads, tokens, c) or a stack of two maps (2, 1, c, h, w) become
  (1, windows, tokens, c), (1, 3, 1, heads, tokens, c) and (1, 2, 1, c, h, w).

In calls on values with a new axis, the numbers of axes are larger by one. If
:mod:`rot180.graph.batch_axis_rules` has a rule for the operator, the call is written anew with
shifted arguments. A convolution, a pooling or a normalisation of several maps for each image,
(m, c, h, w), takes them as a batch ("folded"). Every other call stays as it was exported and is
made image by image ("apart").
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from rot180.graph.batch_axis_rules import AXES, RANKED, RULES, is_run
from rot180.graph.nodes import arguments, leads, rank_of, shape, tensors_of

aten = torch.ops.aten

FOLDED, APART = "folded", "apart"
"""Keys in a node's ``meta``: the number of maps for each image, and the shapes of its tensor
arguments in the call as it was exported."""


class BatchAxisRewriter:
    """Writes the nodes of one graph, in order, to another in which values have a batch axis.

    Args:
        graph: the graph of an export for one image.
        constants: names of its placeholders other than the image.

    Attributes:
        graph: the new graph, in which calls keep their names.
        nodes: the new node of each old one.
        of_the_image: the old nodes that depend on the image.
    """

    def __init__(self, graph: fx.Graph, constants: set[str]) -> None:
        self.graph = fx.Graph()
        self.nodes: dict[fx.Node, fx.Node] = {}
        self._constants = constants
        self.of_the_image: set[fx.Node] = set()
        self._lifted: dict[tuple[fx.Node, int], fx.Node] = {}
        for node in graph.nodes:
            if node.op == "placeholder":
                self._copy(node)
                if node.name not in constants:
                    self.of_the_image.add(node)
            elif node.op == "call_function":
                self._call(node)
            else:
                self._copy(node)

    def _copy(self, node: fx.Node) -> fx.Node:
        new = self.graph.node_copy(node, self.nodes.__getitem__)
        self.nodes[node] = new
        return new

    def _call(self, node: fx.Node) -> None:
        if "val" not in node.meta and not node.users:
            return  # an assertion about the type of a value
        if node.target in FILL_VALUES and (filled := _filled(node)) is not None:
            new = self._create(node, node.name, aten.full.default, filled[0], filled[1])
            new.meta["val"] = node.meta["val"]
            self.nodes[node] = new
            return
        if self.of_the_image.isdisjoint(node.all_input_nodes):
            self._copy(node)
            return
        self.of_the_image.add(node)
        if getattr(node.target, "__name__", "") == "getitem":
            self._item(node)
        elif node.target is not aten.stack.default and not self._is_irregular(node):
            self._copy(node)
        elif (rule := RULES.get(node.target)) is not None and rule(self, node):
            return
        else:
            self._apart(node)

    def _is_irregular(self, node: fx.Node) -> bool:
        """Say whether a value lacks its batch axis, or the call works along that axis."""
        values = [*self._inputs(node), node]
        if not all(leads(tensor) for value in values for tensor in tensors_of(value)):
            return True
        if node.target in RANKED:
            return len({rank_of(value) for value in values}) > 1
        if node.target is aten.mm.default:
            return len(values) > 2
        if node.target is aten.permute.default:
            return bool(arguments(node)["dims"][0] % rank_of(node))
        if node.target is aten.index.Tensor:
            indices = node.args[1]
            assert isinstance(indices, list | tuple)
            return indices[0] is not None or not is_run(indices)
        axis_names = AXES.get(node.target)
        return axis_names is not None and 0 in self._axes_of(node, *axis_names)

    def _inputs(self, node: fx.Node) -> list[fx.Node]:
        return [source for source in node.all_input_nodes if source in self.of_the_image]

    def _axes_of(self, node: fx.Node, *names: str) -> list[int]:
        """Return the axes that a call names, counted from the front; all if it names none."""
        given = arguments(node)
        tensors = given.get("tensors")
        rank = rank_of(tensors[0] if tensors else given["self"])
        found: list[int] = []
        for name in names:
            axes = given[name]
            if axes is None or axes == []:
                return list(range(rank))
            found += [axis % max(rank, 1) for axis in ([axes] if isinstance(axes, int) else axes)]
        return found

    def _item(self, node: fx.Node) -> None:
        """Write one of several outputs; those of a call that was written anew have a new axis."""
        source, number = node.args
        assert isinstance(source, fx.Node)
        new = self.nodes[source]
        if not new.meta.get("shifted"):
            self._copy(node)
            if APART in new.meta and not leads(node):
                self.nodes[node].meta = {**node.meta, "val": node.meta["val"][None]}
            return
        name = node.name if not leads(node) else f"{node.name}_shifted"
        output = self._create(node, name, node.target, (new, number))
        self._put(node, output)

    def others(self, node: fx.Node, source: fx.Node) -> list[fx.Node]:
        """Return the arguments of a call, other than one, that depend on the image."""
        return [argument for argument in self._inputs(node) if argument is not source]

    def _apart(self, node: fx.Node) -> None:
        """Copy a call as it was exported, to be made image by image."""
        new = self._copy(node)
        shapes = {self.nodes[source].name: shape(source) for source in self._inputs(node)}
        new.meta = {**node.meta, APART: shapes}
        if isinstance(node.meta["val"], Tensor) and not leads(node):
            new.meta["val"] = node.meta["val"][None]

    def _create(
        self,
        node: fx.Node,
        name: str,
        target: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None = None,
    ) -> fx.Node:
        """Append a call that replaces an old one, or a part of it."""
        args, kwargs = fx.node.map_arg(
            (tuple(args), kwargs or {}),
            lambda argument: argument if argument.graph is self.graph else self.nodes[argument],
        )
        new = self.graph.create_node("call_function", target, args, kwargs, name)
        new.meta = {key: value for key, value in node.meta.items() if key != "val"}
        return new

    def lift(self, node: fx.Node, rank: int | None = None) -> fx.Node:
        """Return a value with a batch axis in front, and axes of size 1 up to a rank."""
        sizes = shape(node)
        rank = len(sizes) if rank is None else rank
        whole = (1, *[1] * (rank - len(sizes)), *sizes)
        new = self.nodes[node]
        if shape(new) == whole:
            return new
        if (node, rank) not in self._lifted:
            name = f"{node.name}_lifted"
            lifted = self._create(node, name, aten.reshape.default, (new, [*whole]))
            lifted.meta["val"] = node.meta["val"].reshape(whole)
            self._lifted[node, rank] = lifted
        return self._lifted[node, rank]

    def with_axis(self, node: fx.Node, axis: int, number: int) -> fx.Node:
        """Return a lifted value with one more axis of size 1."""
        lifted = self.lift(node)
        sizes = [*shape(lifted)]
        sizes.insert(axis, 1)
        name = f"{node.name}_{number}"
        new = self._create(node, name, aten.reshape.default, (lifted, sizes))
        new.meta["val"] = lifted.meta["val"].reshape(sizes)
        return new

    def write(
        self, node: fx.Node, target: Any, args: Sequence[Any], kwargs: dict[str, Any] | None = None
    ) -> bool:
        """Append a call on lifted values, and drop the new axis of its output if it has one."""
        several = not isinstance(node.meta["val"], Tensor)
        name = f"{node.name}_shifted" if not several and leads(node) else node.name
        new = self._create(node, name, target, args, kwargs)
        if several:
            new.meta |= {"shifted": True, "val": [output[None] for output in node.meta["val"]]}
            self.nodes[node] = new
        else:
            self._put(node, new)
        return True

    def _put(self, node: fx.Node, new: fx.Node) -> None:
        new.meta["val"] = node.meta["val"][None]
        if leads(node):
            new = self._create(node, node.name, aten.reshape.default, (new, [*shape(node)]))
            new.meta["val"] = node.meta["val"]
        self.nodes[node] = new

    def fold(self, node: fx.Node, source: fx.Node) -> bool:
        """Copy a call on several maps for each image, to take them as a batch."""
        new = self._copy(node)
        new.meta = {**node.meta, FOLDED: shape(source)[0]}
        if isinstance(node.meta["val"], Tensor):
            new.meta["val"] = node.meta["val"][None]
        else:
            new.meta |= {"val": [output[None] for output in node.meta["val"]], "shifted": True}
        return True


FILL_VALUES: dict[Any, float | None] = {
    aten.zeros_like.default: 0,
    aten.ones_like.default: 1,
    aten.full_like.default: None,
    aten.new_zeros.default: 0,
    aten.new_ones.default: 1,
    aten.new_full.default: None,
    aten.empty_like.default: 0,
    aten.new_empty.default: 0,
}
"""Calls that use only the shape, type or device of a value, and what they fill a new one with;
None: an argument says."""


def _filled(node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the arguments of an equal call of ``full``; None if the number is computed."""
    value, tensor = FILL_VALUES[node.target], node.meta["val"]
    if value is None:
        value = arguments(node)["fill_value"]
    if not isinstance(value, int | float | bool):
        return None
    return ([*tensor.shape], value), {"dtype": tensor.dtype, "device": tensor.device}
