"""Calls that move, choose, join or spread positions without computing anything from them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from rot180.graph.lowerings.by_autograd import RESHAPES, by_autograd
from rot180.graph.lowerings.fx_call import SAME, Call, Found, Reader, shape_of
from rot180.graph.lowerings.spatial import separable
from rot180.graph.operators.layout import Channels, Concatenation, Permute, Reshape
from rot180.graph.operators.operator import Operator
from rot180.graph.operators.pooling import Separable
from rot180.graph.operators.reductions import Expansion

aten = torch.ops.aten


def _chosen(call: Call, axis: int, places: list[int], source: fx.Node) -> "Found | None":
    """Read a choice of positions along an axis that is not that of the images."""
    sizes = shape_of(source)
    size, rank = sizes[axis], len(sizes)
    if places == list(range(size)):
        return Found((), (source,))
    if axis == 0 or not places:
        return None
    if call.is_map(source) and axis > 1:
        matrix = torch.eye(size, dtype=torch.float64)[places]
        pairs = (matrix, None) if axis == 2 else (None, matrix)
        return Found((Separable("slice", *pairs),), (source,))
    return Found((Channels(tuple(places), size, axis - rank, call.axes(source)),), (source,))


def _taken(call: Call, axis: int, place: int, source: fx.Node) -> "Found | None":
    """Read one position along an axis, which the result does not have any more."""
    found = _chosen(call, axis, [place], source)
    if found is None:
        return None
    sizes = list(shape_of(source)[1:])
    sizes[axis - 1] = 1
    after = (*sizes[: axis - 1], *sizes[axis:])
    dropped = Reshape(tuple(sizes), after, call.axes(source))
    return Found((*found.operators, dropped), (source,))


def select(call: Call) -> "Operator | Found | None":
    """Read ``x[:, k]``."""
    sizes = shape_of(call.source)
    axis = call["dim"] % len(sizes)
    return _taken(call, axis, call["index"] % sizes[axis], call.source)


def slice_(call: Call) -> "Operator | Found | None":
    """Read ``x[..., a:b:c, ...]``."""
    axis = call["dim"] % len(call.shape)
    places = range(shape_of(call.source)[axis])[call["start"] : call["end"] : call["step"]]
    return _chosen(call, axis, list(places), call.source) or by_autograd(call)


def flip(call: Call) -> "Operator | Found | None":
    """Read a mirror image."""
    return _each_axis(call, call["dims"], lambda n, size: list(range(size))[::-1], call.source)


def roll(call: Call) -> "Operator | Found | None":
    """Read a circular shift."""
    shifts = call["shifts"]
    return _each_axis(
        call,
        call["dims"],
        lambda n, size: [(k - shifts[n]) % size for k in range(size)],
        call.source,
    )


def _each_axis(
    call: Call, axes: list[int], places: Callable[[int, int], list[int]], source: fx.Node
) -> "Operator | Found | None":
    rank = len(shape_of(source))
    operators: list[Operator] = []
    for n, axis in enumerate(axes):
        size = shape_of(source)[axis]
        found = _chosen(call, axis % rank, places(n, size), source)
        if found is None:
            return by_autograd(call)
        operators += found.operators
    return Found(tuple(operators), call.results)


def repeat(call: Call) -> "Operator | Found | None":
    """Read maps that are repeated side by side."""
    times = call["repeats"]
    if len(times) != len(shape_of(call.source)) or times[0] != 1:
        return by_autograd(call)
    axes = [axis for axis, count in enumerate(times) if count != 1]
    return _each_axis(call, axes, lambda n, size: [*range(size)] * times[axes[n]], call.source)


def index(call: Call) -> "Operator | Found | None":
    """Read a constant choice of positions along one axis; other constant choices as they are."""
    indices = call["indices"]
    if any(isinstance(one, fx.Node) for one in indices):
        return None
    chosen = [axis for axis, one in enumerate(indices) if one is not None]
    if len(chosen) == 1 and indices[chosen[0]].ndim == 1:
        (axis,) = chosen
        taken, size = indices[axis], shape_of(call.source)[axis]
        taken = taken.nonzero().flatten() if taken.dtype == torch.bool else taken
        places = [int(one) % size for one in taken]
        return _chosen(call, axis, places, call.source) or by_autograd(call)
    return by_autograd(call)


def expand(call: Call) -> "Operator | Found | None":
    """Read one position or one row spread over a map."""
    before, after = shape_of(call.source), call.shape
    if before == after:
        return SAME
    if len(before) != len(after) or before[0] != after[0]:
        return None
    if call.is_map() and before[:2] == after[:2]:
        return separable(call, "spread", lambda axis, x: x.expand(-1, -1, after[axis + 2], -1))
    return Expansion(before[1:], after[1:], call.axes(call.source))


def concatenation(call: Call) -> "Operator | Found | None":
    """Read ``torch.cat`` of results and constants."""
    terms = call["tensors"]
    results = [one for one in terms if isinstance(one, fx.Node)]
    rank = len(call.shape)
    axis = call.get("dim", 0) % rank
    where = {call.axes(one) for one in results}
    if axis == 0 or len(where) != 1:
        return None
    sizes = tuple(
        shape_of(one)[axis] if isinstance(one, fx.Node) else one.shape[axis] for one in terms
    )
    constants = None
    if len(results) < len(terms):
        constants = tuple(None if isinstance(one, fx.Node) else one[0] for one in terms)
    found = Concatenation(axis - rank, sizes, where.pop(), constants)
    return Found((found,), tuple(results))


def permute(call: Call) -> Operator | None:
    """Read axes in another order, if each image stays by itself."""
    rank = len(call.shape)
    if call.target is aten.permute.default:
        order = [axis % rank for axis in call["dims"]]
    else:
        order = list(range(rank))
        one, two = call["dim0"] % rank, call["dim1"] % rank
        order[one], order[two] = two, one
    return Permute(tuple(order), call.axes(call.source)) if order[0] == 0 else None


def reshape(call: Call) -> "Operator | Found | None":
    """Read a change of shape that leaves each image of the batch by itself."""
    before, after = shape_of(call.source), call.shape
    if before == after:
        return SAME
    if before[0] != after[0]:
        return None
    return Reshape(before[1:], after[1:], call.axes(call.source))


def item(call: Call, split: Call, place: int) -> "Operator | Found | None":
    """Read one part of a split result."""
    source, axis = split["self"], split.get("dim", 0)
    size, axis = shape_of(source)[axis], axis % len(shape_of(source))
    if split.target is aten.split_with_sizes.default:
        sizes = list(split["split_sizes"])
    elif split.target is aten.unbind.int:
        return _taken(call, axis, place % size, source)
    else:
        each = split["split_size"]
        sizes = [each] * (size // each) + [size % each]
    start = sum(sizes[:place])
    return _chosen(call, axis, list(range(start, start + sizes[place])), source)


SPLITS = {
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.unbind.int,
}
"""Operators with several outputs, each of which is a choice of positions."""

LAYOUT: dict[Any, Reader] = {
    aten.select.int: select,
    aten.repeat.default: repeat,
    aten.slice.Tensor: slice_,
    aten.flip.default: flip,
    aten.roll.default: roll,
    aten.index.Tensor: index,
    aten.expand.default: expand,
    aten.cat.default: concatenation,
    aten.permute.default: permute,
    aten.transpose.int: permute,
    **dict.fromkeys(RESHAPES, reshape),
}
"""Operator of the captured graph -> how it is read."""
