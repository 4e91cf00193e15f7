"""Lowerings of averaging and padding along any axes, as local response norm does over channels.

For rows and columns of maps (n, c, h, w), those in :mod:`rot180.graph.lowerings.spatial` are used,
whose operators work on regions.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rot180.graph.lowerings.fx_call import FxCall, Lowered, is_floating, shape_of
from rot180.graph.operators.operator import Operator
from rot180.graph.operators.pooling import AxisLinear, as_matrix

aten = torch.ops.aten

_LARGEST = 4096
"""Positions along an axis for which a matrix is made: 128 MB."""


def _along_axes(
    call: FxCall, name: str, along: Mapping[int, Callable[[Tensor], Tensor]], fill: float = 0.0
) -> Lowered | None:
    """Lower a call that is one linear map along each of some axes.

    Args:
        call: the call.
        name: name of the operator.
        along: for each axis, counted from the end, what the call does to maps x (n, 1, size, 1).
        fill: the value of positions that take no input.
    """
    shape, map_axes = shape_of(call.source), call.axes(call.source)
    if not is_floating(call.source) or any(
        shape[axis] > _LARGEST or axis == -len(shape) for axis in along
    ):
        return None
    operators = [
        AxisLinear(name, as_matrix(linear_map, shape[axis]), axis, map_axes, fill)
        for axis, linear_map in along.items()
    ]
    return Lowered(tuple[Operator, ...](operators), call.inputs)


def windows(call: FxCall, count: int) -> Callable[[int, Tensor], Tensor]:
    """Return what average pooling over so many axes does along each of them, counted from 0.

    The number of terms that it divides by is a product of the numbers along each axis, too.
    """
    kernel, stride, padding = _settings(call, count)
    divisor = call["divisor_override"]

    def along(axis: int, x: Tensor) -> Tensor:
        return F.avg_pool2d(
            x,
            (kernel[axis], 1),
            (stride[axis], 1),
            (padding[axis], 0),
            call["ceil_mode"],
            call["count_include_pad"],
            None if divisor is None else (divisor if axis == count - 1 else 1),
        )

    return along


def _settings(call: FxCall, count: int) -> tuple[list[int], ...]:
    """Return the windows' sizes, strides and padding; a missing stride is the window's size."""
    given = (call["kernel_size"], call.get("stride") or call["kernel_size"], call["padding"])
    return tuple(_of_axes(value, count) for value in given)


def _of_axes(value: Any, count: int) -> list[int]:
    """Return one number for each axis, for an argument that may be one number for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def averaged_axes(call: FxCall) -> Lowered | None:
    """Lower average pooling over the last two or three axes."""
    count = 3 if call.target is aten.avg_pool3d.default else 2
    along, divisor = windows(call, count), call["divisor_override"]
    axes = {}
    for axis, window in enumerate(zip(*_settings(call, count), strict=True)):
        if window != (1, 1, 0) or (divisor is not None and axis == count - 1):
            axes[axis - count] = partial(along, axis)
    return _along_axes(call, "average pooling", axes)


def padded_axes(call: FxCall, amounts: list[int], mode: str, value: float) -> Lowered | None:
    """Lower padding axis by axis, the last one first."""

    def along(first: int, x: Tensor) -> Tensor:
        sizes = [0, 0, *amounts[first : first + 2]]
        return F.pad(x, sizes, mode) if mode != "constant" else F.pad(x, sizes)

    axes = {
        -1 - first // 2: partial(along, first)
        for first in range(0, len(amounts), 2)
        if any(amounts[first : first + 2])
    }
    return _along_axes(call, f"{mode} padding", axes, value)
