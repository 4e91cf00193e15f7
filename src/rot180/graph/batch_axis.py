"""Gives every value of an exported graph a leading axis for the images.

A model is exported for one image, so that the number of images stands in no argument of its calls.
The network that is made of the graph takes any number of images, and each goes through it as the
one image did. For that, every value needs an axis of its own for the images, and it comes first:

- A value whose first axis has size 1 has it already: (1, c, h, w), say.
- Any other value gets a new one. The windows of a Swin block (windows, tokens, c), the heads of an
  attention (3, 1, heads, tokens, c) or a stack of two maps (2, 1, c, h, w) become
  (1, windows, tokens, c), (1, 3, 1, heads, tokens, c) and (1, 2, 1, c, h, w).

Calls on such values count their axes from one place further on. For an operator that is listed in
:mod:`rot180.graph.batch_axis_rules`, the call is written anew with its arguments shifted. A
convolution, a pooling or a normalisation of several maps for each image, (m, c, h, w), takes them
as a batch ("folded"). Every other call stays as it was exported, and is made image by image
("apart").
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from rot180.graph.batch_axis_rules import AXES, RANKED, RULES, is_run
from rot180.graph.nodes import arguments, leads, rank_of, shape, tensors_of

aten = torch.ops.aten

FOLDED, APART = "folded", "apart"
"""Keys in a node's ``meta``: the number of maps for each image; the shapes that its tensor
arguments have in the call as it was exported."""


class Rewriting:
    """Writes the nodes of one graph, in order, into another.

    Args:
        graph: of an export for one image.
        constants: the names of its placeholders that are not the image.

    Attributes:
        graph: the new graph; its calls have the names that they had.
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
        found = self.graph.node_copy(node, self.nodes.__getitem__)
        self.nodes[node] = found
        return found

    def _call(self, node: fx.Node) -> None:
        if "val" not in node.meta and not node.users:
            return  # an assertion, of the type of a value, that is exported with the calls
        if node.target in FILLED and (filled := _filled(node)) is not None:
            self.nodes[node] = self._made(node, node.name, aten.full.default, filled[0], filled[1])
            self.nodes[node].meta["val"] = node.meta["val"]
            return
        if not any(one in self.of_the_image for one in node.all_input_nodes):
            self._copy(node)
            return
        self.of_the_image.add(node)
        if getattr(node.target, "__name__", "") == "getitem":
            self._item(node)
        elif node.target is not aten.stack.default and not self._is_irregular(node):
            self._copy(node)
        elif (write := RULES.get(node.target)) is not None and write(self, node):
            return
        else:
            self._apart(node)

    def _is_irregular(self, node: fx.Node) -> bool:
        """Say whether a value lacks its axis for the images, or the call works along that axis."""
        values = [*self._results(node), node]
        if not all(leads(one) for value in values for one in tensors_of(value)):
            return True
        if node.target in RANKED:
            return len({rank_of(one) for one in values}) > 1
        if node.target is aten.mm.default:
            return len(values) > 2
        if node.target is aten.permute.default:
            return bool(arguments(node)["dims"][0] % rank_of(node))
        if node.target is aten.index.Tensor:
            indices = node.args[1]
            assert isinstance(indices, list | tuple)
            return indices[0] is not None or not is_run(indices)
        along = AXES.get(node.target)
        return along is not None and 0 in self._axes_of(node, *along)

    def _results(self, node: fx.Node) -> list[fx.Node]:
        return [one for one in node.all_input_nodes if one in self.of_the_image]

    def _axes_of(self, node: fx.Node, *names: str) -> list[int]:
        """Return the axes that a call names, counted from the front; all, where it names none."""
        given = arguments(node)
        joined = given.get("tensors")
        rank = rank_of(joined[0] if joined else given["self"])
        found: list[int] = []
        for name in names:
            axes = given[name]
            if axes is None or axes == []:
                return list(range(rank))
            found += [axis % max(rank, 1) for axis in ([axes] if isinstance(axes, int) else axes)]
        return found

    def _item(self, node: fx.Node) -> None:
        """Take one of several outputs; a call that was written anew gives them shifted."""
        source, place = node.args
        assert isinstance(source, fx.Node)
        new = self.nodes[source]
        if not new.meta.get("shifted"):
            self._copy(node)
            if APART in new.meta and not leads(node):
                self.nodes[node].meta = {**node.meta, "val": node.meta["val"][None]}
            return
        name = node.name if not leads(node) else f"{node.name}_shifted"
        taken = self._made(node, name, node.target, (new, place))
        self._put(node, taken)

    def others(self, node: fx.Node, source: fx.Node) -> list[fx.Node]:
        """Return what else a call takes that depends on the image."""
        return [one for one in self._results(node) if one is not source]

    def _apart(self, node: fx.Node) -> None:
        """Leave a call as it was exported, to be made image by image."""
        found = self._copy(node)
        shapes = {self.nodes[one].name: shape(one) for one in self._results(node)}
        found.meta = {**node.meta, APART: shapes}
        if isinstance(node.meta["val"], Tensor) and not leads(node):
            found.meta["val"] = node.meta["val"][None]

    def _made(
        self,
        node: fx.Node,
        name: str,
        target: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None = None,
    ) -> fx.Node:
        """Append a call that stands for (a part of) an old one."""
        args, kwargs = fx.node.map_arg(
            (tuple(args), kwargs or {}),
            lambda one: one if one.graph is self.graph else self.nodes[one],
        )
        found = self.graph.create_node("call_function", target, args, kwargs, name)
        found.meta = {key: one for key, one in node.meta.items() if key != "val"}
        return found

    def lift(self, node: fx.Node, rank: int | None = None) -> fx.Node:
        """Return a value with its new axis in front; shorter ones get axes of size 1 to a rank."""
        sizes = shape(node)
        rank = len(sizes) if rank is None else rank
        whole = (1, *[1] * (rank - len(sizes)), *sizes)
        new = self.nodes[node]
        if shape(new) == whole:
            return new
        if (node, rank) not in self._lifted:
            found = self._made(node, f"{node.name}_lifted", aten.reshape.default, (new, [*whole]))
            found.meta["val"] = node.meta["val"].reshape(whole)
            self._lifted[node, rank] = found
        return self._lifted[node, rank]

    def with_axis(self, node: fx.Node, axis: int, number: int) -> fx.Node:
        """Return a lifted value with one more axis of size 1."""
        lifted = self.lift(node)
        sizes = [*shape(lifted)]
        sizes.insert(axis, 1)
        name = f"{node.name}_{number}"
        found = self._made(node, name, aten.reshape.default, (lifted, sizes))
        found.meta["val"] = lifted.meta["val"].reshape(sizes)
        return found

    def write(
        self, node: fx.Node, target: Any, args: Sequence[Any], kwargs: dict[str, Any] | None = None
    ) -> bool:
        """Append a call on lifted values, and take its new axis off where there is one already."""
        several = not isinstance(node.meta["val"], Tensor)
        name = f"{node.name}_shifted" if not several and leads(node) else node.name
        found = self._made(node, name, target, args, kwargs)
        if several:
            found.meta |= {"shifted": True, "val": [one[None] for one in node.meta["val"]]}
            self.nodes[node] = found
        else:
            self._put(node, found)
        return True

    def _put(self, node: fx.Node, found: fx.Node) -> None:
        found.meta["val"] = node.meta["val"][None]
        if leads(node):
            found = self._made(node, node.name, aten.reshape.default, (found, [*shape(node)]))
            found.meta["val"] = node.meta["val"]
        self.nodes[node] = found

    def fold(self, node: fx.Node, source: fx.Node) -> bool:
        """Copy a call on several maps for each image."""
        found = self._copy(node)
        found.meta = {**node.meta, FOLDED: shape(source)[0]}
        if isinstance(node.meta["val"], Tensor):
            found.meta["val"] = node.meta["val"][None]
        else:
            found.meta |= {"val": [one[None] for one in node.meta["val"]], "shifted": True}
        return True


FILLED: dict[Any, float | None] = {
    aten.zeros_like.default: 0,
    aten.ones_like.default: 1,
    aten.full_like.default: None,
    aten.new_zeros.default: 0,
    aten.new_ones.default: 1,
    aten.new_full.default: None,
    aten.empty_like.default: 0,
    aten.new_empty.default: 0,
}
"""Calls that take of a value its shape, type or device only: what they fill a new one with."""


def _filled(node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the arguments of ``full`` that make the same; None if the number is computed."""
    value, kind = FILLED[node.target], node.meta["val"]
    if value is None:
        value = arguments(node)["fill_value"]
    if not isinstance(value, int | float | bool):
        return None
    return ([*kind.shape], value), {"dtype": kind.dtype, "device": kind.device}
