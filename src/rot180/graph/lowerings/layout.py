"""Lowerings of calls that move, choose, join or repeat numbers without computing anything."""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from rot180.graph.lowerings.by_autograd import RESHAPES, by_autograd
from rot180.graph.lowerings.fx_call import IDENTITY, FxCall, Lowered, Lowering, shape_of
from rot180.graph.lowerings.spatial import separable
from rot180.graph.operators.layout import Channels, Concatenation, Permute, Reshape
from rot180.graph.operators.operator import Operator
from rot180.graph.operators.pooling import SeparableLinear
from rot180.graph.operators.reductions import Expansion

aten = torch.ops.aten


def _select(call: FxCall, axis: int, positions: list[int], source: fx.Node) -> "Lowered | None":
    """Lower a choice of positions along an axis other than the batch axis."""
    sizes = shape_of(source)
    size, rank = sizes[axis], len(sizes)
    if positions == list(range(size)):
        return Lowered((), (source,))
    if axis == 0 or not positions:
        return None
    if call.is_map(source) and axis > 1:
        matrix = torch.eye(size, dtype=torch.float64)[positions]
        pairs = (matrix, None) if axis == 2 else (None, matrix)
        return Lowered((SeparableLinear("slice", *pairs),), (source,))
    return Lowered((Channels(tuple(positions), size, axis - rank, call.axes(source)),), (source,))


def _select_one(call: FxCall, axis: int, position: int, source: fx.Node) -> "Lowered | None":
    """Lower the choice of one position along an axis, which the output no longer has."""
    lowered = _select(call, axis, [position], source)
    if lowered is None:
        return None
    sizes = list(shape_of(source)[1:])
    sizes[axis - 1] = 1
    after = (*sizes[: axis - 1], *sizes[axis:])
    dropped = Reshape(tuple(sizes), after, call.axes(source))
    return Lowered((*lowered.operators, dropped), (source,))


def select(call: FxCall) -> "Operator | Lowered | None":
    """Lower ``x[:, k]``."""
    sizes = shape_of(call.source)
    axis = call["dim"] % len(sizes)
    return _select_one(call, axis, call["index"] % sizes[axis], call.source)


def slice_(call: FxCall) -> "Operator | Lowered | None":
    """Lower ``x[..., a:b:c, ...]``."""
    axis = call["dim"] % len(call.shape)
    positions = range(shape_of(call.source)[axis])[call["start"] : call["end"] : call["step"]]
    return _select(call, axis, list(positions), call.source) or by_autograd(call)


def flip(call: FxCall) -> "Operator | Lowered | None":
    """Lower a mirror image."""
    return _each_axis(call, call["dims"], lambda n, size: list(range(size))[::-1], call.source)


def roll(call: FxCall) -> "Operator | Lowered | None":
    """Lower a circular shift."""
    shifts = call["shifts"]
    return _each_axis(
        call,
        call["dims"],
        lambda n, size: [(k - shifts[n]) % size for k in range(size)],
        call.source,
    )


def _each_axis(
    call: FxCall, axes: list[int], positions: Callable[[int, int], list[int]], source: fx.Node
) -> "Operator | Lowered | None":
    rank = len(shape_of(source))
    operators: list[Operator] = []
    for n, axis in enumerate(axes):
        size = shape_of(source)[axis]
        lowered = _select(call, axis % rank, positions(n, size), source)
        if lowered is None:
            return by_autograd(call)
        operators += lowered.operators
    return Lowered(tuple(operators), call.inputs)


def repeat(call: FxCall) -> "Operator | Lowered | None":
    """Lower maps that are repeated side by side."""
    times = call["repeats"]
    if len(times) != len(shape_of(call.source)) or times[0] != 1:
        return by_autograd(call)
    axes = [axis for axis, count in enumerate(times) if count != 1]
    return _each_axis(call, axes, lambda n, size: [*range(size)] * times[axes[n]], call.source)


def index(call: FxCall) -> "Operator | Lowered | None":
    """Lower a constant index along one axis; other constant indices are left to autograd."""
    indices = call["indices"]
    if any(isinstance(one, fx.Node) for one in indices):
        return None
    chosen = [axis for axis, one in enumerate(indices) if one is not None]
    if len(chosen) == 1 and indices[chosen[0]].ndim == 1:
        (axis,) = chosen
        taken, size = indices[axis], shape_of(call.source)[axis]
        taken = taken.nonzero().flatten() if taken.dtype == torch.bool else taken
        positions = [int(one) % size for one in taken]
        return _select(call, axis, positions, call.source) or by_autograd(call)
    return by_autograd(call)


def expand(call: FxCall) -> "Operator | Lowered | None":
    """Lower a broadcast, such as that of one position over a map."""
    before, after = shape_of(call.source), call.shape
    if before == after:
        return IDENTITY
    if len(before) != len(after) or before[0] != after[0]:
        return None
    if call.is_map() and before[:2] == after[:2]:
        return separable(call, "spread", lambda axis, x: x.expand(-1, -1, after[axis + 2], -1))
    return Expansion(before[1:], after[1:], call.axes(call.source))


def concatenation(call: FxCall) -> "Operator | Lowered | None":
    """Lower ``torch.cat`` of inputs and constants."""
    terms = call["tensors"]
    inputs = [term for term in terms if isinstance(term, fx.Node)]
    rank = len(call.shape)
    axis = call.get("dim", 0) % rank
    map_axes = {call.axes(term) for term in inputs}
    if axis == 0 or len(map_axes) != 1:
        return None
    sizes = tuple(
        shape_of(term)[axis] if isinstance(term, fx.Node) else term.shape[axis] for term in terms
    )
    constants = None
    if len(inputs) < len(terms):
        constants = tuple(None if isinstance(term, fx.Node) else term[0] for term in terms)
    joined = Concatenation(axis - rank, sizes, map_axes.pop(), constants)
    return Lowered((joined,), tuple(inputs))


def permute(call: FxCall) -> Operator | None:
    """Lower another order of axes, if the batch axis stays the first."""
    rank = len(call.shape)
    if call.target is aten.permute.default:
        order = [axis % rank for axis in call["dims"]]
    else:
        order = list(range(rank))
        first, second = call["dim0"] % rank, call["dim1"] % rank
        order[first], order[second] = second, first
    return Permute(tuple(order), call.axes(call.source)) if order[0] == 0 else None


def reshape(call: FxCall) -> "Operator | Lowered | None":
    """Lower a change of shape, if the batch axis stays as it is."""
    before, after = shape_of(call.source), call.shape
    if before == after:
        return IDENTITY
    if before[0] != after[0]:
        return None
    return Reshape(before[1:], after[1:], call.axes(call.source))


def item(call: FxCall, split: FxCall, number: int) -> "Operator | Lowered | None":
    """Lower one output of a call that splits a value."""
    source, axis = split["self"], split.get("dim", 0)
    size, axis = shape_of(source)[axis], axis % len(shape_of(source))
    if split.target is aten.split_with_sizes.default:
        sizes = list(split["split_sizes"])
    elif split.target is aten.unbind.int:
        return _select_one(call, axis, number % size, source)
    else:
        each = split["split_size"]
        sizes = [each] * (size // each) + [size % each]
    start = sum(sizes[:number])
    return _select(call, axis, list(range(start, start + sizes[number])), source)


SPLITS = {
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.unbind.int,
}
"""Operators with several outputs, each of which is a choice of positions."""

LAYOUT: dict[Any, Lowering] = {
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
"""ATen operator -> its lowering."""
