"""Calls that average or pad along any axes: windows over channels, as local response norm has.

Where the values are maps (n, c, h, w), rows and columns are read in
:mod:`rot180.graph.lowerings.spatial`, which takes parts of them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rot180.graph.lowerings.fx_call import Call, Found, is_floating, shape_of
from rot180.graph.operators.operator import Operator
from rot180.graph.operators.pooling import Along, matrix_of

aten = torch.ops.aten

_LARGEST = 4096
"""Positions along an axis for which a matrix is made: 128 MB."""


def _along_axes(
    call: Call, name: str, along: Mapping[int, Callable[[Tensor], Tensor]], fill: float = 0.0
) -> Found | None:
    """Read a call that is one linear map along each of these axes, counted from the end.

    Each is given by what it does to maps x (n, 1, size, 1).
    """
    shape, where = shape_of(call.source), call.axes(call.source)
    if not is_floating(call.source) or any(
        shape[axis] > _LARGEST or axis == -len(shape) for axis in along
    ):
        return None
    operators = [
        Along(name, matrix_of(one, shape[axis]), axis, where, fill) for axis, one in along.items()
    ]
    return Found(tuple[Operator, ...](operators), call.results)


def windows(call: Call, count: int) -> Callable[[int, Tensor], Tensor]:
    """Return what average pooling over so many axes does along each of them, the first being 0.

    The number of terms that it divides by is a product of those along each axis, too.
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


def _settings(call: Call, count: int) -> tuple[list[int], ...]:
    """Return the windows' size, stride and padding; a missing stride is the window's size."""
    given = (call["kernel_size"], call.get("stride") or call["kernel_size"], call["padding"])
    return tuple(_of_axes(one, count) for one in given)


def _of_axes(value: Any, count: int) -> list[int]:
    """Return one number for each axis for what PyTorch lets one write as one for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def averaged_axes(call: Call) -> Found | None:
    """Read average pooling over the last two or three axes."""
    count = 3 if call.target is aten.avg_pool3d.default else 2
    along, divisor = windows(call, count), call["divisor_override"]
    taken = {}
    for axis, window in enumerate(zip(*_settings(call, count), strict=True)):
        if window != (1, 1, 0) or (divisor is not None and axis == count - 1):
            taken[axis - count] = partial(along, axis)
    return _along_axes(call, "average pooling", taken)


def padded_axes(call: Call, amounts: list[int], mode: str, value: float) -> Found | None:
    """Read padding axis by axis, the last one first."""

    def along(place: int, x: Tensor) -> Tensor:
        sizes = [0, 0, *amounts[place : place + 2]]
        return F.pad(x, sizes, mode) if mode != "constant" else F.pad(x, sizes)

    taken = {
        -1 - place // 2: partial(along, place)
        for place in range(0, len(amounts), 2)
        if any(amounts[place : place + 2])
    }
    return _along_axes(call, f"{mode} padding", taken, value)
