"""Rules for writing calls on values that have a new batch axis in front ("lifted").

Each rule appends to a :class:`~rot180.graph.batch_axis.BatchAxisRewriter` the call that does to
lifted values what a call of the exported graph does to the values without the axis. It returns
False if it cannot; then the call is made image by image.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from rot180.graph.nodes import arguments, leads, positional, rank_of, shape

if TYPE_CHECKING:
    from rot180.graph.batch_axis import BatchAxisRewriter

aten = torch.ops.aten

Rule = Callable[["BatchAxisRewriter", fx.Node], bool]


def _shifted(value: Any) -> Any:
    """Return an axis, or several, plus one; those counted from the end stay."""
    if isinstance(value, list | tuple):
        return [_shifted(axis) for axis in value]
    return value + 1 if isinstance(value, int) and value >= 0 else value


def _along(*names: str, source: str = "self") -> Rule:
    """Return the rule for calls on one value that name axes by these arguments."""

    def write(to: "BatchAxisRewriter", node: fx.Node) -> bool:
        given = arguments(node)
        if to.others(node, given[source]):
            return False
        rank = rank_of(given[source])
        for name in names:
            if given[name] is None or given[name] == []:
                given[name] = list(range(1, rank + 1))
            else:
                given[name] = _shifted(given[name])
        given[source] = to.lift(given[source])
        return to.write(node, node.target, *positional(node, given))

    return write


def _permute(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    given = arguments(node)
    rank = rank_of(given["self"])
    order = [0, *(axis % rank + 1 for axis in given["dims"])]
    return to.write(node, aten.permute.default, (to.lift(given["self"]), order))


def _transpose(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    given = arguments(node)
    rank = rank_of(given["self"])
    axes = [given[name] % rank + 1 for name in ("dim0", "dim1")]
    return to.write(node, aten.transpose.int, (to.lift(given["self"]), *axes))


def _reshape(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    """Write a change of shape, whether or not the value has its batch axis."""
    source = arguments(node)["self"]
    to.nodes[node] = new = to._create(
        node, node.name, aten.reshape.default, (to.nodes[source], [*_whole(node)])
    )
    new.meta["val"] = node.meta["val"].reshape(_whole(node))
    return True


def _whole(node: fx.Node) -> tuple[int, ...]:
    return shape(node) if leads(node) else (1, *shape(node))


def _expand(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    source = arguments(node)["self"]
    whole = [1, *shape(node)]
    return to.write(node, aten.expand.default, (to.lift(source, len(shape(node))), whole))


def _repeat(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    given = arguments(node)
    repeats = [1, *given["repeats"]]
    source = to.lift(given["self"], len(given["repeats"]))
    return to.write(node, aten.repeat.default, (source, repeats))


def _cat(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    """Write ``cat`` on lifted values; constants among the terms are lifted, too."""
    given = arguments(node)
    terms = [term for term in given["tensors"] if shape(term) != (0,)]
    axis = given["dim"] % rank_of(terms[0]) + 1
    return to.write(node, aten.cat.default, ([to.lift(term) for term in terms], axis))


def _stack(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    """Write ``stack`` as ``cat`` along a new axis."""
    given = arguments(node)
    rank = rank_of(node)
    axis = given["dim"] % rank + 1
    return to.write(
        node,
        aten.cat.default,
        ([to.with_axis(term, axis, number) for number, term in enumerate(given["tensors"])], axis),
    )


def _index(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    given = arguments(node)
    if to.others(node, given["self"]) or not is_run(given["indices"]):
        return False
    return to.write(node, node.target, (to.lift(given["self"]), [None, *given["indices"]]))


def is_run(indices: Sequence[Any]) -> bool:
    """Say whether the indexed axes follow one another; otherwise they come first in the output."""
    chosen = [axis for axis, index in enumerate(indices) if index is not None]
    return chosen == list(range(chosen[0], chosen[-1] + 1))


def _elementwise(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    """Write an elementwise call; values of fewer axes are broadcast."""
    rank = rank_of(node)

    args, kwargs = fx.node.map_arg(
        (node.args, node.kwargs),
        lambda value: to.lift(value, rank) if value in to.of_the_image else value,
    )
    return to.write(node, node.target, args, kwargs)


def _matmul(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    """Write a product of matrices, with any axes in front."""
    given = arguments(node)
    terms = [given["self"], given["mat2" if "mat2" in given else "other"]]
    if min(map(rank_of, terms)) < 2:
        return False
    rank = max(map(rank_of, terms))
    return to.write(node, aten.matmul.default, [to.lift(term, rank) for term in terms])


def _attention(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    given = arguments(node)
    terms = (given["query"], given["key"], given["value"])
    return all(term in to.of_the_image for term in terms) and _elementwise(to, node)


def _total(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    """Write the sum or the mean of all numbers of a value."""
    source = arguments(node)["self"]
    target = aten.sum.dim_IntList if node.target is aten.sum.default else aten.mean.dim
    axes = list(range(1, rank_of(source) + 1))
    return to.write(node, target, (to.lift(source), axes))


def _of_maps(name: str = "input", rank: int = 4) -> Rule:
    """Return the rule for calls on maps: one map is lifted, several are taken as a batch."""

    def write(to: "BatchAxisRewriter", node: fx.Node) -> bool:
        given = arguments(node)
        source = given[name]
        if to.others(node, source):
            return False
        if rank_of(source) == rank - 1:
            given[name] = to.lift(source)
            return to.write(node, node.target, *positional(node, given))
        return rank_of(source) == rank and not leads(source) and to.fold(node, source)

    return write


def _normalised(to: "BatchAxisRewriter", node: fx.Node) -> bool:
    """Write a normalisation of several samples for each image as one of a batch."""
    given = arguments(node)
    source = given["input"]
    if given.get("training"):
        return False
    return not to.others(node, source) and not leads(source) and to.fold(node, source)


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
            overloads = [overload for overload in packet.overloads() if "out" not in overload]
            found += [getattr(packet, overload) for overload in overloads]
    return found


def _takes_axis(target: Any) -> bool:
    return any(argument.name in ("dim", "keepdim") for argument in target._schema.arguments)


ELEMENTWISE = frozenset(
    target
    for target in _overloads([*_UNARY, *_BINARY])
    if not _takes_axis(target) and target not in (aten.max.default, aten.min.default)
)
"""Elementwise calls."""

AXES: dict[Any, tuple[str, ...]] = {
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
"""Calls that name axes, and the arguments that name them."""

RANKED = {aten.matmul.default, aten.expand.default, aten.repeat.default, *ELEMENTWISE}
"""Calls that broadcast: the batch axes of the values are the same axis only if all values have the
same number of axes."""

BATCHED = frozenset({*AXES, *ELEMENTWISE} - {aten.gather.default}) | {
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
"""Calls that treat several images along the first axis as they treat one, if their other arguments
are numbers or the same for all images."""

BATCHED_RESULTS = frozenset(
    {aten.bmm.default, aten.scaled_dot_product_attention.default, aten.max_unpool2d.default}
)
"""Calls that do so if all their arguments depend on the image."""

RULES: dict[Any, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **{target: _along(*names) for target, names in AXES.items()},
    aten.transpose.int: _transpose,
    aten.permute.default: _permute,
    aten.stack.default: _stack,
    aten.cat.default: _cat,
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
    aten.batch_norm.default: _normalised,
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
"""Operator -> the rule for its calls."""
