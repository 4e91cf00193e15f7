"""Calls that move, choose, join, spread or average positions of maps."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from rot180.graph.boxes import Window
from rot180.graph.operators.base import MAPS, Operator
from rot180.graph.operators.calls import Derived
from rot180.graph.operators.layout import Channels, Concatenation, Permute, Reshape
from rot180.graph.operators.pooling import MaxPool, Separable, matrix_of
from rot180.graph.table.along import averaged_axes, padded_axes, windows
from rot180.graph.table.call import Call, Found, Reader, shape_of

aten = torch.ops.aten
SAME = Found((), ())
"""What is found in a call that hands on its input."""


def max_pool(call: Call) -> Operator | None:
    """Read max pooling of batches of maps."""
    return MaxPool.read(call.given) if call.is_map() else None


def adaptive_max_pool(call: Call) -> Operator | None:
    """Read adaptive max pooling where the windows are all of one size."""
    size, out = shape_of(call.source)[2:], call["output_size"]
    if not call.is_map() or any(one % two for one, two in zip(size, out, strict=True)):
        return None
    kernel = (size[0] // out[0], size[1] // out[1])
    return MaxPool(Window(kernel, kernel, (0, 0), (1, 1)))


def _separable(
    call: Call, name: str, along: Callable[[int, Tensor], Tensor], fill: float = 0.0
) -> Found | None:
    """Read a separable linear call: ``along(axis, x)`` is what it does along one axis, to maps x
    (n, 1, size, 1).
    """
    if not call.is_map():
        return None
    matrices: list[Tensor | None] = []
    for axis, size in enumerate(shape_of(call.source)[2:]):
        matrix = matrix_of(lambda x, axis=axis: along(axis, x), size)
        same = matrix.shape[0] == size and torch.equal(matrix, torch.eye(size).to(matrix))
        matrices.append(None if same else matrix)
    if matrices == [None, None]:
        return SAME
    return Found((Separable(name, matrices[0], matrices[1], fill),), call.results)


def average_pool(call: Call) -> Found | None:
    """Read average pooling of maps, or along other axes."""
    if not call.is_map():
        return averaged_axes(call)
    return _separable(call, "average pooling", windows(call, 2))


def adaptive_average_pool(call: Call) -> Found | None:
    """Read adaptive average pooling."""
    out = call["output_size"]
    return _separable(
        call,
        "average pooling",
        lambda axis, x: F.adaptive_avg_pool2d(x, (out[axis], 1)),
    )


def mean(call: Call) -> "Operator | Found | None":
    """Read the mean over rows, columns, or both; over other axes by its derivative."""
    rank = len(shape_of(call.source))
    axes = {one % rank - 4 for one in call["dim"] or range(rank)}
    if not call.is_map() or not axes <= set(MAPS):
        return smooth(call)
    found = _separable(
        call,
        "mean",
        lambda axis, x: x.mean(2, keepdim=True) if axis - 2 in axes else x,
    )
    assert found is not None
    if call.get("keepdim"):
        return found
    channels, height, width = shape_of(call.source)[1:]
    kept = (channels, 1 if -2 in axes else height, 1 if -1 in axes else width)
    return Found((*found.operators, Reshape(kept, call.shape[1:])), call.results)


def interpolate(call: Call) -> Found | None:
    """Read resizing by the nearest, bilinear or bicubic rule, with or without antialiasing."""
    size, factors = call.get("output_size"), call.get("scale_factors")

    def along(axis: int, x: Tensor) -> Tensor:
        given = {
            **call.given,
            "input": x.expand(-1, -1, -1, 2),  # some rules take no map of one column
            "output_size": None if size is None else [size[axis], 2],
            "scale_factors": None if factors is None else [factors[axis], 1.0],
        }
        found: Tensor = call.target(**given)
        return found[..., :1]

    return _separable(call, "interpolation", along)


def pad(call: Call) -> "Operator | Found | None":
    """Read padding with a constant, by reflection, circular, or by repeating the border."""
    amounts, mode, value = list(call["pad"]), call["mode"], call.get("value") or 0.0
    channels = amounts[4:6]
    if not call.is_map():
        return padded_axes(call, amounts, mode, value)
    if len(amounts) > 6 or (any(channels) and (mode != "constant" or value)):
        return None
    sides = (amounts[2:4] or [0, 0], amounts[:2])

    def along(axis: int, x: Tensor) -> Tensor:
        sizes = [0, 0, *sides[axis]]
        return F.pad(x, sizes, mode) if mode != "constant" else F.pad(x, sizes)

    found = _separable(call, f"{mode} padding", along, value)
    if found is None:
        return None
    if not any(channels):
        zeros = mode == "constant" and not value and min(amounts) >= 0
        if zeros and found.operators:
            (whole,) = found.operators
            assert isinstance(whole, Separable)
            found = Found((replace(whole, zeros=(sides[0][0], sides[1][0])),), found.inputs)
        return found
    count = shape_of(call.source)[1]
    chosen = [-1] * max(channels[0], 0)
    chosen += range(max(-channels[0], 0), count - max(-channels[1], 0))
    more = Channels((*chosen, *[-1] * max(channels[1], 0)), count)
    return Found((*found.operators, more), call.results)


def _chosen(call: Call, axis: int, places: list[int], source: fx.Node) -> "Found | None":
    """Read a choice of positions along an axis of maps."""
    size = shape_of(source)[axis]
    if places == list(range(size)):
        return Found((), (source,))
    if not call.is_map(source) or axis == 0:
        return None
    if axis == 1:
        return Found((Channels(tuple(places), size),), (source,))
    matrix = torch.eye(size, dtype=torch.float64)[places]
    pairs = (matrix, None) if axis == 2 else (None, matrix)
    return Found((Separable("slice", *pairs),), (source,))


def slice_(call: Call) -> "Operator | Found | None":
    """Read ``x[..., a:b:c, ...]``."""
    axis = call["dim"] % len(call.shape)
    places = range(shape_of(call.source)[axis])[call["start"] : call["end"] : call["step"]]
    return _chosen(call, axis, list(places), call.source) or smooth(call)


def flip(call: Call) -> "Operator | Found | None":
    """Read a mirror image."""
    return _each_axis(call, call["dims"], lambda n, size: list(range(size))[::-1])


def roll(call: Call) -> "Operator | Found | None":
    """Read a circular shift."""
    shifts = call["shifts"]
    return _each_axis(
        call, call["dims"], lambda n, size: [(k - shifts[n]) % size for k in range(size)]
    )


def _each_axis(
    call: Call, axes: list[int], places: Callable[[int, int], list[int]]
) -> "Operator | Found | None":
    rank = len(call.shape)
    operators: list[Operator] = []
    for n, axis in enumerate(axes):
        size = call.shape[axis]
        found = _chosen(call, axis % rank, places(n, size), call.source)
        if found is None:
            return smooth(call)
        operators += found.operators
    return Found(tuple(operators), call.results)


def index(call: Call) -> "Operator | Found | None":
    """Read a constant choice of channels; other constant choices by their derivative."""
    indices = call["indices"]
    if any(isinstance(one, fx.Node) for one in indices):
        return None
    if len(indices) == 2 and indices[0] is None and indices[1].ndim == 1:
        size = shape_of(call.source)[1]
        places = (
            [int(one) % size for one in indices[1]] if not indices[1].is_floating_point() else []
        )
        found = _chosen(call, 1, places, call.source) if places else None
        if found is not None:
            return found
    return smooth(call)


def expand(call: Call) -> "Operator | Found | None":
    """Read one position or one row spread over a map."""
    before, after = shape_of(call.source), call.shape
    if before == after:
        return SAME
    if not call.is_map() or before[:2] != after[:2]:
        if len(before) != len(after) or before[0] != after[0]:
            return None
        return Derived(lambda x: x.expand(-1, *after[1:]), "spread")
    return _separable(call, "spread", lambda axis, x: x.expand(-1, -1, after[axis + 2], -1))


def concatenation(call: Call) -> "Operator | Found | None":
    """Read ``torch.cat`` of results; with constants among them it is not listed."""
    terms = call["tensors"]
    if not all(isinstance(one, fx.Node) for one in terms):
        return None
    rank = len(call.shape)
    axis = call.get("dim", 0) % rank
    where = {call.axes(one) for one in terms}
    if axis == 0 or len(where) != 1:
        return None
    sizes = tuple(shape_of(one)[axis] for one in terms)
    return Found((Concatenation(axis - rank, sizes, where.pop()),), tuple(terms))


def permute(call: Call) -> Operator | None:
    """Read axes in another order, if each image stays by itself."""
    rank = len(call.shape)
    if call.target is aten.permute.default:
        order = [axis % rank for axis in call["dims"]]
    else:
        order = list(range(rank))
        one, two = call["dim0"] % rank, call["dim1"] % rank
        order[one], order[two] = two, one
    return Permute(tuple(order), call.axes(call.source)) if order[0] == 0 else smooth(call)


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
        return Found((Derived(lambda x: x.select(axis, place), "unbind"),), (source,))
    else:
        each = split["split_size"]
        sizes = [each] * (size // each) + [size % each]
    start = sum(sizes[:place])
    found = _chosen(call, axis, list(range(start, start + sizes[place])), source)
    if found is not None:
        return found
    return Found((Derived(lambda x: x.narrow(axis, start, sizes[place]), "split"),), (source,))


def smooth(call: Call) -> Operator:
    """Read an operator that every method goes through by its derivative."""
    name = str(call.target).removeprefix("aten.").rsplit(".", 1)[0]
    return Derived(call.run, name.replace("_", " ").strip(), _at_each_position(call))


def _at_each_position(call: Call) -> bool:
    """Say whether a normalisation or softmax works along the channels only."""
    if len(call.results) != 1:
        return False
    where, rank = call.axes(call.source), len(call.shape)
    if where is None or shape_of(call.source) != call.shape:
        return False
    if call.target in (aten.softmax.int, aten.log_softmax.int):
        taken = {call["dim"] % rank - rank}
    else:
        return False
    return not taken & set(where)


SPLITS = {
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.unbind.int,
}
"""Operators with several outputs, each of which is a choice of positions."""

FIRST_OF_SEVERAL = {
    aten._native_batch_norm_legit_no_training.default,
    aten.max_pool2d_with_indices.default,
    aten.adaptive_max_pool2d.default,
}
"""Operators with several outputs, of which only the first is a result."""

_RESHAPES = (
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.squeeze.default,
    aten.unsqueeze.default,
)

_SMOOTH = (
    aten.softmax.int,
    aten.log_softmax.int,
    aten.matmul.default,
    aten.mm.default,
    aten.bmm.default,
    aten.einsum.default,
    aten.scaled_dot_product_attention.default,
    aten.linalg_vector_norm.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
    aten.im2col.default,
    aten.sum.dim_IntList,
    aten.stack.default,
    aten.select.int,
    aten.repeat.default,
    aten.repeat_interleave.self_int,
    aten.addcmul.default,
    aten.conv1d.default,
)

SHAPES: dict[Any, Reader] = {
    aten.max_pool2d.default: max_pool,
    aten.max_pool2d_with_indices.default: max_pool,
    aten.adaptive_max_pool2d.default: adaptive_max_pool,
    aten.avg_pool2d.default: average_pool,
    aten.avg_pool3d.default: averaged_axes,
    aten.adaptive_avg_pool2d.default: adaptive_average_pool,
    aten._adaptive_avg_pool2d.default: adaptive_average_pool,
    aten.mean.dim: mean,
    aten.upsample_nearest2d.vec: interpolate,
    aten._upsample_nearest_exact2d.vec: interpolate,
    aten.upsample_bilinear2d.vec: interpolate,
    aten._upsample_bilinear2d_aa.vec: interpolate,
    aten.upsample_bicubic2d.vec: interpolate,
    aten._upsample_bicubic2d_aa.vec: interpolate,
    aten.pad.default: pad,
    aten.slice.Tensor: slice_,
    aten.flip.default: flip,
    aten.roll.default: roll,
    aten.index.Tensor: index,
    aten.expand.default: expand,
    aten.cat.default: concatenation,
    aten.permute.default: permute,
    aten.transpose.int: permute,
    **dict.fromkeys(_RESHAPES, reshape),
    **dict.fromkeys(_SMOOTH, smooth),
}
"""Operator of the captured graph -> how it is read."""
