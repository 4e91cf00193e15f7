"""Operators on parts of their maps, alone or several in a row."""

from hypothesis import strategies as st
from torch import Tensor

from rot180.graph.boxes import Box
from rot180.graph.geometry import Step, trace
from rot180.graph.operators.base import MAPS, Axes, Operator, Part
from rot180.graph.plan import Plan, cut_of


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
