"""Lowerings of pooling, means, interpolation and padding of maps."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rot180.graph.box import Window
from rot180.graph.lowerings.axes import averaged_axes, padded_axes, windows
from rot180.graph.lowerings.by_autograd import by_autograd
from rot180.graph.lowerings.fx_call import IDENTITY, FxCall, Lowered, Lowering, shape_of
from rot180.graph.operators.layout import Channels, Reshape
from rot180.graph.operators.operator import MAPS, Operator
from rot180.graph.operators.pooling import AdaptiveMaxPool, MaxPool, SeparableLinear, as_matrix
from rot180.graph.operators.reductions import Largest, Total

aten = torch.ops.aten


def max_pool(call: FxCall) -> Operator | None:
    """Lower max pooling of batches of maps."""
    return MaxPool.read(call.arguments) if call.is_map() else None


def adaptive_max_pool(call: FxCall) -> Operator | None:
    """Lower adaptive max pooling; with windows of one size it is max pooling."""
    size, out = shape_of(call.source)[2:], call["output_size"]
    if not call.is_map():
        return None
    if any(before % after for before, after in zip(size, out, strict=True)):
        return AdaptiveMaxPool((size[0], size[1]), (out[0], out[1]))
    kernel = (size[0] // out[0], size[1] // out[1])
    return MaxPool(Window(kernel, kernel, (0, 0), (1, 1)))


def separable(
    call: FxCall, name: str, along: Callable[[int, Tensor], Tensor], fill: float = 0.0
) -> Lowered | None:
    """Lower a separable linear call.

    Args:
        call: the call.
        name: name of the operator.
        along: ``along(axis, x)`` returns what the call does along one axis to maps (n, 1, size, 1).
        fill: the value of positions that take no input.
    """
    if not call.is_map():
        return None
    matrices: list[Tensor | None] = []
    for axis, size in enumerate(shape_of(call.source)[2:]):
        matrix = as_matrix(lambda x, axis=axis: along(axis, x), size)
        same = matrix.shape[0] == size and torch.equal(matrix, torch.eye(size).to(matrix))
        matrices.append(None if same else matrix)
    if matrices == [None, None]:
        return IDENTITY
    return Lowered((SeparableLinear(name, matrices[0], matrices[1], fill),), call.inputs)


def average_pool(call: FxCall) -> Lowered | None:
    """Lower average pooling of maps, or along other axes."""
    if not call.is_map():
        return averaged_axes(call)
    return separable(call, "average pooling", windows(call, 2))


def adaptive_average_pool(call: FxCall) -> Lowered | None:
    """Lower adaptive average pooling."""
    out = call["output_size"]
    return separable(
        call,
        "average pooling",
        lambda axis, x: F.adaptive_avg_pool2d(x, (out[axis], 1)),
    )


def total(call: FxCall) -> "Operator | Lowered | None":
    """Lower the sum or the mean along axes; for rows and columns of maps by a matrix each."""
    before = shape_of(call.source)
    rank, means = len(before), call.target is aten.mean.dim
    axes = tuple(sorted(one % rank - rank for one in call["dim"] or range(rank)))
    if call.get("dtype") is not None or -rank in axes:
        return by_autograd(call)
    keeps = bool(call.get("keepdim"))
    if call.is_map() and set(axes) <= set(MAPS):
        lowered = separable(
            call,
            "mean" if means else "sum along axes",
            lambda axis, x: (
                (x.mean(2, keepdim=True) if means else x.sum(2, keepdim=True))
                if axis - 2 in axes
                else x
            ),
        )
        assert lowered is not None
        return lowered if keeps else _dropped(lowered, before, axes, call)
    size = prod(before[axis] for axis in axes)
    factor = 1 / size if means else 1.0
    return Total(before[1:], axes, keeps, call.axes(call.source), factor)


def _dropped(
    lowered: Lowered, before: tuple[int, ...], axes: tuple[int, ...], call: FxCall
) -> Lowered:
    """Return what was lowered, followed by dropping axes of size 1."""
    sizes = list(before)
    for axis in axes:
        sizes[axis] = 1
    map_axes = call.axes(call.source)
    return Lowered(
        (*lowered.operators, Reshape(tuple(sizes[1:]), call.shape[1:], map_axes)), call.inputs
    )


def largest(call: FxCall) -> "Operator | Lowered | None":
    """Lower the largest value along an axis; along rows and columns it is a max pooling."""
    before = shape_of(call.source)
    rank, given = len(before), call["dim"]
    given = [given] if isinstance(given, int) else list(given) or list(range(rank))
    axes = tuple(sorted(one % rank - rank for one in given))
    keeps = bool(call.get("keepdim"))
    if call.is_map() and set(axes) <= set(MAPS):
        kernel = tuple(before[axis] if axis in axes else 1 for axis in MAPS)
        lowered = Lowered((MaxPool(Window(kernel, kernel, (0, 0), (1, 1))),), call.inputs)  # type: ignore[arg-type]
        return lowered if keeps else _dropped(lowered, before, axes, call)
    if len(axes) == 1 and -rank not in axes:
        return Largest(axes[0], keeps, call.axes(call.source))
    return by_autograd(call)


def interpolate(call: FxCall) -> Lowered | None:
    """Lower resizing by the nearest, bilinear or bicubic rule, with or without antialiasing."""
    size, factors = call.get("output_size"), call.get("scale_factors")

    def along(axis: int, x: Tensor) -> Tensor:
        given = {
            **call.arguments,
            "input": x.expand(-1, -1, -1, 2),  # some rules take no map of one column
            "output_size": None if size is None else [size[axis], 2],
            "scale_factors": None if factors is None else [factors[axis], 1.0],
        }
        lowered: Tensor = call.target(**given)
        return lowered[..., :1]

    return separable(call, "interpolation", along)


def pad(call: FxCall) -> "Operator | Lowered | None":
    """Lower padding with a constant, by reflection, circular, or by repeating the border."""
    amounts, mode, value = list(call["pad"]), call["mode"], call.get("value") or 0.0
    while len(amounts) > 2 and not any(amounts[-2:]):
        amounts = amounts[:-2]  # nothing is added along these axes
    channels = amounts[4:6]
    if not call.is_map():
        return padded_axes(call, amounts, mode, value)
    if len(amounts) > 6 or (any(channels) and (mode != "constant" or value)):
        return None
    sides = (amounts[2:4] or [0, 0], amounts[:2])

    def along(axis: int, x: Tensor) -> Tensor:
        sizes = [0, 0, *sides[axis]]
        return F.pad(x, sizes, mode) if mode != "constant" else F.pad(x, sizes)

    lowered = separable(call, f"{mode} padding", along, value)
    if lowered is None:
        return None
    if not any(channels):
        zeros = mode == "constant" and not value and min(amounts) >= 0
        if zeros and lowered.operators:
            (whole,) = lowered.operators
            assert isinstance(whole, SeparableLinear)
            lowered = Lowered((replace(whole, zeros=(sides[0][0], sides[1][0])),), lowered.inputs)
        return lowered
    count = shape_of(call.source)[1]
    chosen = [-1] * max(channels[0], 0)
    chosen += range(max(-channels[0], 0), count - max(-channels[1], 0))
    more = Channels((*chosen, *[-1] * max(channels[1], 0)), count)
    return Lowered((*lowered.operators, more), call.inputs)


FIRST_OF_SEVERAL = {
    aten._native_batch_norm_legit_no_training.default,
    aten.max_pool2d_with_indices.default,
    aten.adaptive_max_pool2d.default,
    aten.max.dim,
}
"""Operators with several outputs that are lowered as if the first was the only one."""

MAP_CALLS = {
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv_transpose2d.input,
    aten.max_pool2d.default,
    aten.max_pool2d_with_indices.default,
    aten.adaptive_max_pool2d.default,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool2d.default,
    aten._adaptive_avg_pool2d.default,
    aten.upsample_nearest2d.vec,
    aten._upsample_nearest_exact2d.vec,
    aten.upsample_bilinear2d.vec,
    aten._upsample_bilinear2d_aa.vec,
    aten.upsample_bicubic2d.vec,
    aten._upsample_bicubic2d_aa.vec,
}
"""Calls that take the last axes of their input as rows and columns, whatever these were before."""

SPATIAL: dict[Any, Lowering] = {
    aten.max_pool2d.default: max_pool,
    aten.max_pool2d_with_indices.default: max_pool,
    aten.adaptive_max_pool2d.default: adaptive_max_pool,
    aten.avg_pool2d.default: average_pool,
    aten.avg_pool3d.default: averaged_axes,
    aten.adaptive_avg_pool2d.default: adaptive_average_pool,
    aten._adaptive_avg_pool2d.default: adaptive_average_pool,
    aten.mean.dim: total,
    aten.sum.dim_IntList: total,
    aten.max.dim: largest,
    aten.amax.default: largest,
    aten.upsample_nearest2d.vec: interpolate,
    aten._upsample_nearest_exact2d.vec: interpolate,
    aten.upsample_bilinear2d.vec: interpolate,
    aten._upsample_bilinear2d_aa.vec: interpolate,
    aten.upsample_bicubic2d.vec: interpolate,
    aten._upsample_bicubic2d_aa.vec: interpolate,
    aten.pad.default: pad,
}
"""ATen operator -> its lowering."""
