"""Gives every value of an exported graph a leading axis for the images.

A model is exported for one image, so that the number of images stands in no argument of its calls.
The network that is made of the graph takes any number of images, and each goes through it as the
one image did. For that, every value needs an axis of its own for the images, and it comes first:

- A value whose first axis has size 1 has it already: (1, c, h, w), say.
- Any other value gets a new one. The windows of a Swin block (windows, tokens, c), the heads of an
  attention (3, 1, heads, tokens, c) or a stack of two maps (2, 1, c, h, w) become
  (1, windows, tokens, c), (1, 3, 1, heads, tokens, c) and (1, 2, 1, c, h, w).

Calls on such values count their axes from one place further on. For an operator that is listed in
``_RULES``, the call is written anew with its arguments shifted. A convolution, a pooling or a
normalisation of several maps for each image, (m, c, h, w), takes them as a batch ("folded"). Every
other call stays as it was exported, and is made image by image ("apart").
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

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
        if node.target in _FILLED and (filled := _filled(node)) is not None:
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
        elif (write := _RULES.get(node.target)) is not None and write(self, node):
            return
        else:
            self._apart(node)

    def _is_irregular(self, node: fx.Node) -> bool:
        """Say whether a value lacks its axis for the images, or the call works along that axis."""
        values = [*self._results(node), node]
        if not all(leads(one) for value in values for one in tensors_of(value)):
            return True
        if node.target in _RANKED:
            return len({_rank(one) for one in values}) > 1
        if node.target is aten.mm.default:
            return len(values) > 2
        if node.target is aten.permute.default:
            return bool(arguments(node)["dims"][0] % _rank(node))
        if node.target is aten.index.Tensor:
            indices = node.args[1]
            assert isinstance(indices, list | tuple)
            return indices[0] is not None or not _is_run(indices)
        along = _AXES.get(node.target)
        return along is not None and 0 in self._axes_of(node, *along)

    def _results(self, node: fx.Node) -> list[fx.Node]:
        return [one for one in node.all_input_nodes if one in self.of_the_image]

    def _axes_of(self, node: fx.Node, *names: str) -> list[int]:
        """Return the axes that a call names, counted from the front; all, where it names none."""
        given = arguments(node)
        joined = given.get("tensors")
        rank = _rank(joined[0] if joined else given["self"])
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


def tensors_of(node: fx.Node) -> list[Tensor]:
    """Return what a node gives: one tensor, or those of several that are used."""
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        used = {one.args[1] for one in node.users}
        value = [one for place, one in enumerate(value) if place in used]
    else:
        value = [value]
    return [one for one in value if isinstance(one, Tensor)]


def shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's value."""
    return tuple(node.meta["val"].shape)


def _rank(node: fx.Node) -> int:
    values = tensors_of(node)
    return values[0].ndim if values else 0


def leads(value: "fx.Node | Tensor") -> bool:
    """Say whether the first axis of a value has size 1."""
    sizes = value.shape if isinstance(value, Tensor) else shape(value)
    return len(sizes) > 0 and sizes[0] == 1


def arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a call by name, those that it leaves out included."""
    given: dict[str, Any] = {}
    for place, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if place < len(node.args):
            given[argument.name] = node.args[place]
        else:
            given[argument.name] = node.kwargs.get(argument.name, argument.default_value)
    return given


def _positional(node: fx.Node, given: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments by name as those of a call: positional ones, and keywords."""
    args, kwargs = [], {}
    for argument in node.target._schema.arguments:  # type: ignore[union-attr]
        if argument.kwarg_only:
            kwargs[argument.name] = given[argument.name]
        else:
            args.append(given[argument.name])
    return args, kwargs


Rule = Callable[[Rewriting, fx.Node], bool]


def _shifted(value: Any) -> Any:
    """Return an axis, or several, one place further on; those counted from the end stay."""
    if isinstance(value, list | tuple):
        return [_shifted(one) for one in value]
    return value + 1 if isinstance(value, int) and value >= 0 else value


def _along(*names: str, source: str = "self") -> Rule:
    """Return the rule of a call on one value that names axes."""

    def write(to: Rewriting, node: fx.Node) -> bool:
        given = arguments(node)
        if to.others(node, given[source]):
            return False
        rank = _rank(given[source])
        for one in names:
            if given[one] is None or given[one] == []:
                given[one] = list(range(1, rank + 1))
            else:
                given[one] = _shifted(given[one])
        given[source] = to.lift(given[source])
        return to.write(node, node.target, *_positional(node, given))

    return write


def _permute(to: Rewriting, node: fx.Node) -> bool:
    given = arguments(node)
    rank = _rank(given["self"])
    order = [0, *(axis % rank + 1 for axis in given["dims"])]
    return to.write(node, aten.permute.default, (to.lift(given["self"]), order))


def _transpose(to: Rewriting, node: fx.Node) -> bool:
    given = arguments(node)
    rank = _rank(given["self"])
    axes = [given[name] % rank + 1 for name in ("dim0", "dim1")]
    return to.write(node, aten.transpose.int, (to.lift(given["self"]), *axes))


def _reshape(to: Rewriting, node: fx.Node) -> bool:
    """Change the shape of a value, whether or not it has its axis for the images."""
    source = arguments(node)["self"]
    to.nodes[node] = found = to._made(
        node, node.name, aten.reshape.default, (to.nodes[source], [*_whole(node)])
    )
    found.meta["val"] = node.meta["val"].reshape(_whole(node))
    return True


def _whole(node: fx.Node) -> tuple[int, ...]:
    return shape(node) if leads(node) else (1, *shape(node))


def _expand(to: Rewriting, node: fx.Node) -> bool:
    source = arguments(node)["self"]
    whole = [1, *shape(node)]
    return to.write(node, aten.expand.default, (to.lift(source, len(shape(node))), whole))


def _repeat(to: Rewriting, node: fx.Node) -> bool:
    given = arguments(node)
    repeats = [1, *given["repeats"]]
    source = to.lift(given["self"], len(given["repeats"]))
    return to.write(node, aten.repeat.default, (source, repeats))


def _joined(to: Rewriting, node: fx.Node) -> bool:
    """Write ``cat`` on lifted values; constants among the terms are lifted, too."""
    given = arguments(node)
    terms = [one for one in given["tensors"] if shape(one) != (0,)]
    axis = given["dim"] % _rank(terms[0]) + 1
    return to.write(node, aten.cat.default, ([to.lift(one) for one in terms], axis))


def _stacked(to: Rewriting, node: fx.Node) -> bool:
    """Write ``stack`` as ``cat`` along a new axis."""
    given = arguments(node)
    rank = _rank(node)
    axis = given["dim"] % rank + 1
    return to.write(
        node,
        aten.cat.default,
        ([to.with_axis(one, axis, number) for number, one in enumerate(given["tensors"])], axis),
    )


def _index(to: Rewriting, node: fx.Node) -> bool:
    given = arguments(node)
    if to.others(node, given["self"]) or not _is_run(given["indices"]):
        return False
    return to.write(node, node.target, (to.lift(given["self"]), [None, *given["indices"]]))


def _is_run(indices: Sequence[Any]) -> bool:
    """Say whether the axes that are indexed follow one another; else the result's come first."""
    chosen = [axis for axis, one in enumerate(indices) if one is not None]
    return chosen == list(range(chosen[0], chosen[-1] + 1))


def _elementwise(to: Rewriting, node: fx.Node) -> bool:
    """Write a call on numbers at the same place; the shorter of several values is spread."""
    rank = _rank(node)

    args, kwargs = fx.node.map_arg(
        (node.args, node.kwargs),
        lambda one: to.lift(one, rank) if one in to.of_the_image else one,
    )
    return to.write(node, node.target, args, kwargs)


def _matmul(to: Rewriting, node: fx.Node) -> bool:
    """Write a product of matrices, whatever axes are in front of theirs."""
    given = arguments(node)
    terms = [given["self"], given["mat2" if "mat2" in given else "other"]]
    if min(map(_rank, terms)) < 2:
        return False
    rank = max(map(_rank, terms))
    return to.write(node, aten.matmul.default, [to.lift(one, rank) for one in terms])


def _attention(to: Rewriting, node: fx.Node) -> bool:
    given = arguments(node)
    terms = (given["query"], given["key"], given["value"])
    return all(one in to.of_the_image for one in terms) and _elementwise(to, node)


def _total(to: Rewriting, node: fx.Node) -> bool:
    """Write the sum or the mean of a whole value."""
    source = arguments(node)["self"]
    target = aten.sum.dim_IntList if node.target is aten.sum.default else aten.mean.dim
    axes = list(range(1, _rank(source) + 1))
    return to.write(node, target, (to.lift(source), axes))


def _of_maps(name: str = "input", rank: int = 4) -> Rule:
    """Return the rule of a call on maps: one map is lifted, several are taken as a batch."""

    def write(to: Rewriting, node: fx.Node) -> bool:
        given = arguments(node)
        source = given[name]
        if to.others(node, source):
            return False
        if _rank(source) == rank - 1:
            given[name] = to.lift(source)
            return to.write(node, node.target, *_positional(node, given))
        return _rank(source) == rank and not leads(source) and to.fold(node, source)

    return write


def _normalised(to: Rewriting, node: fx.Node) -> bool:
    """Take a normalisation of several samples for each image as one of a batch."""
    source = arguments(node)["input"]
    return not to.others(node, source) and not leads(source) and to.fold(node, source)


_FILLED: dict[Any, float | None] = {
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
    value, kind = _FILLED[node.target], node.meta["val"]
    if value is None:
        value = arguments(node)["fill_value"]
    if not isinstance(value, int | float | bool):
        return None
    return ([*kind.shape], value), {"dtype": kind.dtype, "device": kind.device}


_UNARY = (
    *("neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "square", "log1p", "expm1"),
    *("sin", "cos", "tan", "atan", "sinh", "cosh", "tanh", "erf", "sigmoid", "log_sigmoid"),
    *("relu", "relu6", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "softplus", "elu"),
    *("selu", "celu", "leaky_relu", "rrelu", "hardtanh", "threshold", "softshrink", "hardshrink"),
    *("clamp", "clamp_min", "clamp_max", "sign", "floor", "ceil", "round", "trunc", "frac"),
    *("clone", "alias", "detach", "_to_copy", "to", "contiguous", "dropout", "feature_dropout"),
    *("logical_not", "bitwise_not", "isnan", "isinf", "isfinite"),
)
_BINARY = (
    *("add", "sub", "rsub", "mul", "div", "pow", "maximum", "minimum", "max", "min", "atan2"),
    *("where", "gt", "ge", "lt", "le", "eq", "ne", "logical_and", "logical_or"),
    *("addcmul", "addcdiv", "lerp", "remainder", "fmod", "copy"),
)


def _overloads(names: Sequence[str]) -> list[Any]:
    found = []
    for name in names:
        packet = getattr(aten, name, None)
        if packet is not None:
            found += [getattr(packet, one) for one in packet.overloads() if "out" not in one]
    return found


def _takes_axis(target: Any) -> bool:
    return any(one.name in ("dim", "keepdim") for one in target._schema.arguments)


ELEMENTWISE = frozenset(
    one
    for one in _overloads([*_UNARY, *_BINARY])
    if not _takes_axis(one) and one not in (aten.max.default, aten.min.default)
)
"""Calls on numbers at the same place."""

_AXES: dict[Any, tuple[str, ...]] = {
    aten.permute.default: ("dims",),
    aten.transpose.int: ("dim0", "dim1"),
    aten.cat.default: ("dim",),
    aten.unbind.int: ("dim",),
    aten.split.Tensor: ("dim",),
    aten.split_with_sizes.default: ("dim",),
    aten.chunk.default: ("dim",),
    aten.select.int: ("dim",),
    aten.slice.Tensor: ("dim",),
    aten.narrow.default: ("dim",),
    aten.index_select.default: ("dim",),
    aten.flip.default: ("dims",),
    aten.roll.default: ("dims",),
    aten.softmax.int: ("dim",),
    aten.log_softmax.int: ("dim",),
    aten.sum.dim_IntList: ("dim",),
    aten.mean.dim: ("dim",),
    aten.amax.default: ("dim",),
    aten.amin.default: ("dim",),
    aten.var.correction: ("dim",),
    aten.std.correction: ("dim",),
    aten.var_mean.correction: ("dim",),
    aten.std_mean.correction: ("dim",),
    aten.logsumexp.default: ("dim",),
    aten.max.dim: ("dim",),
    aten.min.dim: ("dim",),
    aten.topk.default: ("dim",),
    aten.sort.default: ("dim",),
    aten.sort.stable: ("dim",),
    aten.argmax.default: ("dim",),
    aten.argmin.default: ("dim",),
    aten.cumsum.default: ("dim",),
    aten.cumprod.default: ("dim",),
    aten.prod.dim_int: ("dim",),
    aten.linalg_vector_norm.default: ("dim",),
    aten.glu.default: ("dim",),
    aten.gather.default: ("dim",),
    aten.repeat_interleave.self_int: ("dim",),
}
"""Calls that name axes, and the arguments that do."""

_RANKED = {aten.matmul.default, aten.expand.default, aten.repeat.default, *ELEMENTWISE}
"""Calls that spread values: their axes for the images lie at the same place only where all values
have the same number of axes."""

BATCHED = frozenset({*_AXES, *ELEMENTWISE} - {aten.gather.default}) | {
    aten.alias.default,
    aten.matmul.default,
    aten.linear.default,
    aten.conv1d.default,
    aten.avg_pool3d.default,
    aten.repeat.default,
    aten.index.Tensor,
    aten.im2col.default,
    aten.col2im.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
}
"""Calls that do to several images at once, one behind the other along the first axis, what they do
to one, given that all else they take is a number or the same for all images."""

BATCHED_RESULTS = frozenset(
    {aten.bmm.default, aten.scaled_dot_product_attention.default, aten.max_unpool2d.default}
)
"""Calls of which the same holds where all that they take depends on the image."""

_RULES: dict[Any, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **{target: _along(*names) for target, names in _AXES.items()},
    aten.transpose.int: _transpose,
    aten.permute.default: _permute,
    aten.stack.default: _stacked,
    aten.cat.default: _joined,
    aten.expand.default: _expand,
    aten.repeat.default: _repeat,
    aten.index.Tensor: _index,
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten.bmm.default: _matmul,
    aten.scaled_dot_product_attention.default: _attention,
    aten.sum.default: _total,
    aten.mean.default: _total,
    aten.linear.default: _along(source="input"),
    aten.layer_norm.default: _along(source="input"),
    aten.rms_norm.default: _along(source="input"),
    aten.pad.default: _along(),
    aten.pixel_shuffle.default: _along(),
    aten.pixel_unshuffle.default: _along(),
    aten.group_norm.default: _normalised,
    aten.instance_norm.default: _normalised,
    aten._native_batch_norm_legit_no_training.default: _normalised,
    aten.conv2d.default: _of_maps(),
    aten.conv2d.padding: _of_maps(),
    aten.conv_transpose2d.input: _of_maps(),
    aten.conv1d.default: _of_maps(rank=3),
    aten.conv1d.padding: _of_maps(rank=3),
    aten.max_pool2d.default: _of_maps("self"),
    aten.max_pool2d_with_indices.default: _of_maps("self"),
    aten.avg_pool2d.default: _of_maps("self"),
    aten.adaptive_avg_pool2d.default: _of_maps("self"),
    aten._adaptive_avg_pool2d.default: _of_maps("self"),
    aten.adaptive_max_pool2d.default: _of_maps("self"),
    aten.upsample_nearest2d.vec: _of_maps(),
    aten._upsample_nearest_exact2d.vec: _of_maps(),
    aten.upsample_bilinear2d.vec: _of_maps(),
    aten._upsample_bilinear2d_aa.vec: _of_maps(),
    aten.upsample_bicubic2d.vec: _of_maps(),
    aten._upsample_bicubic2d_aa.vec: _of_maps(),
    **dict.fromkeys(
        (
            aten.view.default,
            aten.reshape.default,
            aten._unsafe_view.default,
            aten._reshape_copy.default,
            aten.flatten.using_ints,
            aten.unflatten.int,
            aten.squeeze.dim,
            aten.squeeze.dims,
            aten.squeeze.default,
            aten.unsqueeze.default,
        ),
        _reshape,
    ),
}
"""Call -> how it is written on lifted values."""
