"""Operators on parts of their maps, alone or several in a row, and networks of them."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from rot180.graph.box import Box, Window
from rot180.graph.network import Layer, Network
from rot180.graph.operators.arithmetic import Sum
from rot180.graph.operators.convolution import Convolution, TransposedConvolution
from rot180.graph.operators.fallback import Derived
from rot180.graph.operators.layout import Concatenation
from rot180.graph.operators.operator import MAPS, Axes, Operator, Part
from rot180.graph.operators.pooling import MaxPool, Separable
from rot180.graph.plan import Plan, cut_of
from rot180.graph.span_trace import trace
from rot180.graph.steps import Step


def part_of(operator: Operator, size: tuple[int, int], out: tuple[int, int], box: Box) -> Part:
    """Return the part of an operator on maps of a size that gives a box of its output."""
    step = Step("alone", operator, (-1,), (1, *out), MAPS)
    rows, columns = (
        trace([step], lambda place, axis=axis: (size, out)[place + 1][axis], [0], {0: span}, axis)
        for axis, span in enumerate((box.rows, box.columns))
    )
    return Plan([step], [0], 0, rows, columns, "gradient").works[0].part


def taken(maps: Tensor, box: Box, axes: Axes = MAPS) -> Tensor:
    """Cut a box out of maps."""
    return maps[cut_of(axes, box.rows, box.columns)]


def laid(signal: Tensor, box: Box, size: tuple[int, int], axes: Axes = MAPS) -> Tensor:
    """Lay a signal on a box of maps of a size, zeros around it."""
    shape = list(signal.shape)
    shape[axes[0]], shape[axes[1]] = size
    maps = signal.new_zeros(shape)
    maps[cut_of(axes, box.rows, box.columns)] = signal
    return maps


@st.composite
def boxes(draw, size: tuple[int, int]) -> Box:
    """Draw a box in maps of a size: a unit, all of them, or anything between."""
    top, left = (draw(st.integers(0, one - 1)) for one in size)
    bottom, right = draw(st.integers(top + 1, size[0])), draw(st.integers(left + 1, size[1]))
    return draw(
        st.sampled_from([Box(top, left, bottom, right), Box(top, left, top + 1, left + 1)])
        | st.just(Box(0, 0, *size))
    )


def inner_product_error(ax: Tensor, y: Tensor, x: Tensor, back: Tensor) -> float:
    """Return the difference of <Ax, y> and <x, A'y>, over the sum of the products' sizes."""
    assert back.shape == x.shape
    assert ax.shape == y.shape
    there, here = (ax * y), (x * back)
    return float((there.sum() - here.sum()).abs() / (there.abs().sum() + here.abs().sum() + 1e-300))


def rounding(found: Tensor, wanted: Tensor, among: Tensor) -> float:
    """Return the largest difference over the largest of the values that these are among."""
    assert found.shape == wanted.shape
    if not found.numel():
        return 0.0
    return float((found - wanted).abs().max() / among.abs().max().clamp(min=1e-300))


KINDS = ["convolution", "pooling", "transposed", "matrix", "two", "two", "whole"]


@st.composite
def graphs(draw) -> Network:
    """Draw a network of steps that look, along the rows, wherever they like; each is a layer."""
    steps: list[Step] = []
    heights = [draw(st.integers(1, 12))]

    def append(operator: Operator, sources: tuple[int, ...], height: int) -> None:
        steps.append(Step(f"s{len(steps)}", operator, sources, (1, height, 2), MAPS))
        heights.append(height)

    for _ in range(draw(st.integers(2, 8))):
        source = draw(st.integers(-1, len(steps) - 1))
        size, kind = heights[source + 1], draw(st.sampled_from(KINDS))
        kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        stride, extent = draw(st.integers(1, 4)), dilation * (kernel - 1) + 1
        weight = torch.ones(1, 1, kernel, 1)
        given = (stride, 1), (draw(st.integers(0, 4)), 0)
        out = (size + 2 * given[1][0] - extent) // stride + 1
        spread = (size - 1) * stride - 2 * given[1][0] + extent
        if kind == "convolution" and out > 0:
            append(Convolution(weight, None, *given, (dilation, 1), 1), (source,), out)
        elif kind == "pooling" and out > 0:
            append(MaxPool(Window((kernel, 1), *given, (dilation, 1))), (source,), out)
        elif kind == "transposed" and 0 < spread < 30:
            one = TransposedConvolution(weight, None, *given, 1, (dilation, 1))
            append(one, (source,), spread)
        elif kind == "matrix":
            rows = draw(st.lists(st.integers(0, 2**size - 1), min_size=1, max_size=12))
            matrix = torch.tensor([[row >> y & 1 for y in range(size)] for row in rows])
            append(Separable("any", matrix.double(), None), (source,), len(rows))
        elif kind == "two" and len(steps) > 1:
            other = draw(st.integers(-1, len(steps) - 1))
            both = size, heights[other + 1]
            if min(both) == 1 or both[0] == both[1]:
                shapes = tuple((1, one, 2) for one in both)
                append(Sum(None, shapes, MAPS, (1.0, 1.0)), (source, other), max(both))
            elif sum(both) < 30:
                append(Concatenation(-2, both), (source, other), sum(both))
        elif kind == "whole":
            append(Derived(torch.sort, "sort"), (source,), size)
    layers = {
        step.name: Layer(step.name, "", 1, step.shape[1], 2, (1, 1), (1, 1), "", place, place)
        for place, step in enumerate(steps)
    }
    shape = (1, heights[0], 2)
    return Network(
        tuple(steps), (len(steps) - 1,), layers, shape, torch.float32, torch.device("cpu")
    )
