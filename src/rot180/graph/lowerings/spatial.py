"""Calls on windows, rows and columns of maps: pooling, means, interpolation, padding."""

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
from rot180.graph.lowerings.fx_call import SAME, Call, Found, Reader, shape_of
from rot180.graph.operators.layout import Channels, Reshape
from rot180.graph.operators.operator import MAPS, Operator
from rot180.graph.operators.pooling import AdaptiveMaxPool, MaxPool, Separable, matrix_of
from rot180.graph.operators.reductions import Largest, Total

aten = torch.ops.aten


def max_pool(call: Call) -> Operator | None:
    """Read max pooling of batches of maps."""
    return MaxPool.read(call.given) if call.is_map() else None


def adaptive_max_pool(call: Call) -> Operator | None:
    """Read adaptive max pooling; where all windows have one size, as any other."""
    size, out = shape_of(call.source)[2:], call["output_size"]
    if not call.is_map():
        return None
    if any(one % two for one, two in zip(size, out, strict=True)):
        return AdaptiveMaxPool((size[0], size[1]), (out[0], out[1]))
    kernel = (size[0] // out[0], size[1] // out[1])
    return MaxPool(Window(kernel, kernel, (0, 0), (1, 1)))


def separable(
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
    return separable(call, "average pooling", windows(call, 2))


def adaptive_average_pool(call: Call) -> Found | None:
    """Read adaptive average pooling."""
    out = call["output_size"]
    return separable(
        call,
        "average pooling",
        lambda axis, x: F.adaptive_avg_pool2d(x, (out[axis], 1)),
    )


def total(call: Call) -> "Operator | Found | None":
    """Read the sum or the mean along axes; of rows and columns of maps by a matrix each."""
    before = shape_of(call.source)
    rank, means = len(before), call.target is aten.mean.dim
    axes = tuple(sorted(one % rank - rank for one in call["dim"] or range(rank)))
    if call.get("dtype") is not None or -rank in axes:
        return by_autograd(call)
    keeps = bool(call.get("keepdim"))
    if call.is_map() and set(axes) <= set(MAPS):
        found = separable(
            call,
            "mean" if means else "sum along axes",
            lambda axis, x: (
                (x.mean(2, keepdim=True) if means else x.sum(2, keepdim=True))
                if axis - 2 in axes
                else x
            ),
        )
        assert found is not None
        return found if keeps else _dropped(found, before, axes, call)
    size = prod(before[axis] for axis in axes)
    factor = 1 / size if means else 1.0
    return Total(before[1:], axes, keeps, call.axes(call.source), factor)


def _dropped(found: Found, before: tuple[int, ...], axes: tuple[int, ...], call: Call) -> Found:
    """Drop axes that have size 1 after what was found."""
    kept = list(before)
    for axis in axes:
        kept[axis] = 1
    where = call.axes(call.source)
    return Found((*found.operators, Reshape(tuple(kept[1:]), call.shape[1:], where)), call.results)


def largest(call: Call) -> "Operator | Found | None":
    """Read the largest value along an axis, or of whole maps: a max pooling, where it is one."""
    before = shape_of(call.source)
    rank, given = len(before), call["dim"]
    given = [given] if isinstance(given, int) else list(given) or list(range(rank))
    axes = tuple(sorted(one % rank - rank for one in given))
    keeps = bool(call.get("keepdim"))
    if call.is_map() and set(axes) <= set(MAPS):
        kernel = tuple(before[axis] if axis in axes else 1 for axis in MAPS)
        found = Found((MaxPool(Window(kernel, kernel, (0, 0), (1, 1))),), call.results)  # type: ignore[arg-type]
        return found if keeps else _dropped(found, before, axes, call)
    if len(axes) == 1 and -rank not in axes:
        return Largest(axes[0], keeps, call.axes(call.source))
    return by_autograd(call)


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

    return separable(call, "interpolation", along)


def pad(call: Call) -> "Operator | Found | None":
    """Read padding with a constant, by reflection, circular, or by repeating the border."""
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

    found = separable(call, f"{mode} padding", along, value)
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


FIRST_OF_SEVERAL = {
    aten._native_batch_norm_legit_no_training.default,
    aten.max_pool2d_with_indices.default,
    aten.adaptive_max_pool2d.default,
    aten.max.dim,
}
"""Operators with several outputs, of which the first is read as their only one."""

OF_MAPS = {
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
"""Calls whose input has rows and columns as its last axes, whatever it was before."""

SPATIAL: dict[Any, Reader] = {
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
"""Operator of the captured graph -> how it is read."""
