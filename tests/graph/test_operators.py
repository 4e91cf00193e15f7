"""Each linear step satisfies <Ax, y> = <x, A'y>, and a part of it is that part of the whole."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from rot180.graph.box import COLUMNS, ROWS, Box, Span, Window
from rot180.graph.operators.arithmetic import Product, Sum
from rot180.graph.operators.convolution import (
    BatchNorm,
    Convolution,
    Linear,
    TransposedConvolution,
)
from rot180.graph.operators.layout import Channels, Concatenation, Permute, Reshape
from rot180.graph.operators.operator import MAPS, NO_PADDING, Operator, Region, Saved
from rot180.graph.operators.pooling import AxisLinear, SeparableLinear, as_matrix
from rot180.projection.rules import Rules
from tests.graph.regions import boxes, inner_product_error, laid, part_of, rounding, taken
from tests.models import image, relative_error

EXACT = 1e-13
RULES = Rules()
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
upto2 = st.tuples(st.integers(0, 2), st.integers(0, 2))
sizes = st.tuples(st.integers(5, 12), st.integers(5, 12))
seeds = st.integers(0, 99)


def whole_of(operator: Operator, x: Tensor, out: tuple[int, int]) -> tuple[Region, Tensor]:
    """Return the part of whole maps, and the output there."""
    part = part_of(operator, size_of(x), out, Box(0, 0, *out))
    return part, operator.forward((taken(x, part.needs[0]),), part)[0]


def size_of(maps: Tensor) -> tuple[int, int]:
    return maps.shape[-2], maps.shape[-1]


def check_linear(operator: Operator, x: Tensor, out: tuple[int, int], box: Box) -> None:
    """Check that the backward pass is the transpose, on whole maps and on a part of them."""
    size = size_of(x)
    whole, z = whole_of(operator, x, out)
    assert size_of(z) == out
    _, offset = whole_of(operator, torch.zeros_like(x), out)
    y = image(*z.shape, seed=7)
    (back,) = operator.backward(y, Saved(), RULES, whole)
    back = laid(back, whole.needs[0], size)
    assert inner_product_error(z - offset, y, x, back) < EXACT

    part = part_of(operator, size, out, box)
    (need,) = part.needs
    assume(need.height and need.width)  # a plan leaves out what sees nothing of the image
    a = taken(x, need)
    here = operator.forward((a,), part)[0]
    assert rounding(here, taken(z, box), z) < EXACT
    (there,) = operator.backward(taken(y, box), Saved(), RULES, part)
    assert there.shape == a.shape
    (wanted,) = operator.backward(laid(taken(y, box), box, out), Saved(), RULES, whole)
    assert rounding(laid(there, need, size), laid(wanted, whole.needs[0], size), back) < EXACT


def norm_of(channels: int, seed: int) -> BatchNorm:
    weight, bias, mean, spread = image(4, channels, seed=seed)
    return BatchNorm(weight, bias, mean, spread.abs() + 0.1, 1e-5)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    kernel=pairs,
    stride=pairs,
    dilation=pairs,
    before=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    more=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    size=sizes,
    groups=st.sampled_from([1, 2, 4]),
    biased=st.booleans(),
    normalised=st.booleans(),
    seed=seeds,
    data=st.data(),
)
def test_convolution(
    kernel, stride, dilation, before, more, size, groups, biased, normalised, seed, data
) -> None:
    after = (before[0] + more[0], before[1] + more[1])
    room = [
        size[side] + before[side] + after[side] - dilation[side] * (kernel[side] - 1) - 1
        for side in (0, 1)
    ]
    assume(min(room) >= 0)
    weight, bias = image(8, 4 // groups, *kernel, seed=seed), image(8, seed=seed + 2)
    norm = norm_of(8, seed + 3) if normalised else None
    step = Convolution(weight, bias if biased else None, stride, before, dilation, groups, norm)
    out = (room[0] // stride[0] + 1, room[1] // stride[1] + 1)
    x = image(2, 4, *size, seed=seed + 1)
    check_linear(step, x, out, data.draw(boxes(out)))
    _, z = whole_of(step, x, out)
    wide = F.pad(x, (before[1], after[1], before[0], after[0]))
    wanted = F.conv2d(wide, weight, step.bias, stride, 0, dilation, groups)
    if norm is not None:
        stored = (norm.mean, norm.variance, norm.weight, norm.bias)
        wanted = F.batch_norm(wanted, *stored, eps=norm.eps)
    assert relative_error(z, wanted) < EXACT
    check_units(step, x, z, data.draw(boxes(out)), data.draw(st.integers(0, 7)))


def check_units(step: Convolution, x: Tensor, z: Tensor, box: Box, channel: int) -> None:
    """Check the shorter ways of one unit of several features, and of one feature's map."""
    size, out = size_of(x), size_of(z)
    unit = Box(box.top, box.left, box.top + 1, box.left + 1)
    for chosen, k in ((slice(channel, channel + 1), 1), (torch.tensor([channel, 0, 5]), 3)):
        part = part_of(step, size, out, unit)
        found = step.forward_units(taken(x[:1], part.needs[0]), chosen, part)
        assert rounding(found, taken(z[:1], unit)[:, chosen].transpose(0, 1), z) < EXACT
        for which in (unit, box):
            part = part_of(step, size, out, which)
            signal = image(k, 1, which.height, which.width, seed=channel)
            spread = torch.zeros(k, 8, which.height, which.width, dtype=x.dtype)
            spread[torch.arange(k), torch.arange(8)[chosen]] = signal[:, 0]
            (wanted,) = step.backward(spread, Saved(), RULES, part)
            assert relative_error(step.backward_units(signal, chosen, part), wanted) < EXACT


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    kernel=pairs,
    stride=pairs,
    dilation=pairs,
    padding=upto2,
    more=upto2,
    size=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    groups=st.sampled_from([1, 2]),
    biased=st.booleans(),
    seed=seeds,
    data=st.data(),
)
def test_transposed_convolution(
    kernel, stride, dilation, padding, more, size, groups, biased, seed, data
) -> None:
    assume(all(m < max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)))
    weight = image(4, 6 // groups, *kernel, seed=seed)
    bias = image(6, seed=seed + 2) if biased else None
    x = image(2, 4, *size, seed=seed + 1)
    room = [
        (n - 1) * s - 2 * p + d * (k - 1) + m + 1
        for n, s, p, d, k, m in zip(size, stride, padding, dilation, kernel, more, strict=True)
    ]
    assume(min(room) >= 1)
    assume(all(s <= d * (k - 1) + 1 for k, s, d in zip(kernel, stride, dilation, strict=True)))
    step = TransposedConvolution(weight, bias, stride, padding, groups, dilation)
    out = (room[0], room[1])
    check_linear(step, x, out, data.draw(boxes(out)))
    wanted = F.conv_transpose2d(x, weight, bias, stride, padding, more, groups, dilation)
    assert relative_error(whole_of(step, x, out)[1], wanted) < EXACT


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    matrices=st.tuples(st.booleans(), st.booleans()),
    size=sizes,
    out=sizes,
    zeros=st.floats(0, 0.9),
    seed=seeds,
    data=st.data(),
)
def test_one_matrix_an_axis(matrices, size, out, zeros, seed, data) -> None:
    out = tuple(two if given else one for given, one, two in zip(matrices, size, out, strict=True))
    rows, columns = (
        image(two, one, seed=seed + n)
        * (torch.rand(two, one, generator=torch.Generator().manual_seed(seed)) > zeros)
        if given
        else None
        for n, (given, one, two) in enumerate(zip(matrices, size, out, strict=True))
    )
    x = image(2, 3, *size, seed=seed)
    check_linear(SeparableLinear("any", rows, columns), x, out, data.draw(boxes(out)))
    _, z = whole_of(SeparableLinear("any", rows, columns), x, out)
    left = torch.eye(size[0]).double() if rows is None else rows
    right = torch.eye(size[1]).double() if columns is None else columns
    assert relative_error(z, torch.einsum("yi,ncij,xj->ncyx", left, x, right)) < EXACT


def test_the_matrix_of_a_linear_call_holds_its_answers_to_unit_vectors() -> None:
    matrix = as_matrix(lambda x: F.avg_pool2d(x, (2, 1)), 4)
    assert matrix.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    axis=st.sampled_from([-3, -2, -1]),
    out=st.integers(1, 6),
    size=sizes,
    seed=seeds,
    data=st.data(),
)
def test_one_matrix_along_one_axis(axis, out, size, seed, data) -> None:
    shape = (4, *size)
    after = list(shape)
    after[axis] = out
    matrix, x = image(out, shape[axis], seed=seed), image(2, *shape, seed=seed)
    matrix[0] = 0
    whole = Box(0, 0, after[1], after[2])
    box = data.draw(boxes((after[1], after[2]))) if axis == -3 else whole
    for fill in (0.0, 1.5):
        step = AxisLinear("any", matrix, axis, fill=fill)
        assert step.output_shape(shape) == tuple(after)
        assert step.local == (axis == -3)
        check_linear(step, x, (after[1], after[2]), box)
        z = step.forward((x,), whole_of(step, x, (after[1], after[2]))[0])[0]
        wanted = torch.tensordot(x, matrix, ([axis], [1])).movedim(-1, axis)
        wanted.select(axis, 0).fill_(fill)
        assert relative_error(z, wanted) < EXACT


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(size=sizes, seed=seeds, data=st.data())
def test_steps_of_one_position(size, seed, data) -> None:
    box = data.draw(boxes(size))
    x = image(2, 4, *size, seed=seed)
    gain, shift = image(2, 4, 1, 1, seed=seed + 1)
    relief = image(1, *size, seed=seed + 2)
    shape = (4, *size)
    for step in (
        norm_of(4, seed),
        Product(gain, (shape,)),
        Product(relief, (shape,)),
        Product(2.5, (shape,), divides=True),
        Sum(shift, (shape,)),
        Sum(relief, (shape,), factors=(-0.5,)),
        Channels((2, 0, 0, -1, 3), 4),
        Channels((1, 2), 4),
    ):
        check_linear(step, x, size, box)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(size=sizes, seed=seeds, data=st.data())
def test_channels_last(size, seed, data) -> None:
    """Permute, then a linear layer at each position, and back: a convolution of 1 x 1."""
    box = data.draw(boxes(size))
    x, weight, bias = image(2, 4, *size, seed=seed), image(6, 4, seed=1), image(6, seed=2)
    there, linear, here = Permute((0, 2, 3, 1)), Linear(weight, bias, False), Permute((0, 3, 1, 2))
    assert there.output_axes((MAPS,)) == (-3, -2)
    assert linear.output_axes(((-3, -2),)) == (-3, -2)
    assert here.output_axes(((-3, -2),)) == MAPS
    for which in (box, Box(0, 0, *size)):
        part = Region(which, (which,), (NO_PADDING,))
        z = taken(x, which)
        for step in (there, linear, here):
            z = step.forward((z,), part)[0]
        signal = s = image(*z.shape, seed=3)
        for step in (here, linear, there):
            (s,) = step.backward(s, Saved(), RULES, part)
        same = Convolution(weight[..., None, None], bias, (1, 1), (0, 0), (1, 1), 1)
        assert relative_error(z, same.forward((taken(x, which),), part)[0]) < EXACT
        assert relative_error(s, same.backward(signal, Saved(), RULES, part)[0]) < EXACT
    unit = Region(Box(0, 0, 1, 1), (Box(0, 0, 1, 1),), (NO_PADDING,))
    several, a = torch.tensor([5, 1, 5]), x[:1, :, :1, :1].permute(0, 2, 3, 1)
    wanted = F.linear(a, weight, bias)[0, 0, 0, several]
    assert relative_error(linear.forward_units(a, several, unit).flatten(), wanted) < EXACT
    signal = image(3, 1, *size)
    wanted = signal.movedim(1, -1) * weight[several][:, None, None]
    assert relative_error(linear.backward_units(signal, several, unit), wanted) < EXACT


def test_linear_and_reshape_of_vectors() -> None:
    linear, reshape = Linear(image(7, 5, seed=3), None), Reshape((5, 2, 2), (20,))
    part = Region(Box(0, 0, 2, 2), (Box(0, 0, 2, 2),), (NO_PADDING,))
    for step, x in ((reshape, image(2, 5, 2, 2)), (linear, image(2, 5))):
        ax = step.forward((x,), part)[0]
        y = image(*ax.shape, seed=7)
        (back,) = step.backward(y, Saved(), RULES, part)
        assert inner_product_error(ax, y, x, back) < 1e-14
    assert not reshape.local
    assert linear.local


@settings(max_examples=40, deadline=None)
@given(
    shares=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    axis=st.sampled_from([-3, -2, -1]),
    seed=seeds,
    data=st.data(),
)
def test_concatenation(shares, axis, seed, data) -> None:
    """Each term gives, and takes back, the part of it that falls into the box."""
    terms = []
    for n, share in enumerate(shares):
        shape = [2, 3, 4, 5]
        shape[axis] = share
        terms.append(image(*shape, seed=seed + n))
    joined = torch.cat(terms, axis)
    box = data.draw(boxes(tuple(joined.shape[-2:])))
    step = Concatenation(axis, tuple(shares))
    needs = []
    for side, span in ((ROWS, box.rows), (COLUMNS, box.columns)):
        along = tuple(term.shape[side - 2] for term in terms)
        needs.append(step.input_span(side, span, along))
    cut = tuple(Box.of(*spans) for spans in zip(*needs, strict=True))
    part = Region(box, cut, (NO_PADDING,) * len(terms))
    given = tuple(taken(term, one) for term, one in zip(terms, cut, strict=True))
    here = step.forward(given, part)[0]
    assert torch.equal(here, taken(joined, box))
    back = step.backward(here, Saved(), RULES, part)
    assert all(map(torch.equal, back, given))


@pytest.mark.slow
@settings(deadline=None)
@given(
    kernel=pairs,
    stride=pairs,
    padding=upto2,
    dilation=pairs,
    unit=upto2,
)
def test_a_window_reaches_the_inputs_that_change_its_output(
    kernel, stride, padding, dilation, unit
) -> None:
    size = 9
    window = Window(kernel, stride, padding, dilation)
    x = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    z = F.conv2d(x, torch.ones(1, 1, *kernel, dtype=x.dtype), None, stride, padding, dilation)
    assume(unit[0] < z.shape[-2] and unit[1] < z.shape[-1])
    (reached,) = torch.autograd.grad(z[0, 0][unit], x)
    touched = reached[0, 0].nonzero()
    assume(len(touched))
    low, high = touched.amin(0).tolist(), touched.amax(0).tolist()
    for axis, place in enumerate(unit):
        span = window.input_span(axis, Span(place, place + 1)).clipped(size)
        # With a dilation the first taps may fall on padding, so the span may begin before them.
        assert span.start <= low[axis] < span.start + dilation[axis]
        assert span.stop - dilation[axis] <= high[axis] < span.stop


@given(start=st.integers(-9, 9), length=st.integers(0, 9), size=st.integers(0, 6))
def test_a_span_is_cut_to_what_lies_inside(start: int, length: int, size: int) -> None:
    span = Span(start, start + length)
    assert [*range(*span.clipped(size))] == [one for one in range(*span) if 0 <= one < size]


@given(ends=st.tuples(*[st.integers(0, 9)] * 4))
def test_spans_are_joined_by_the_smallest_around_both(ends) -> None:
    one, two = Span(*sorted(ends[:2])), Span(*sorted(ends[2:]))
    joined, inside = one.joined(two), {*range(*one), *range(*two)}
    assert joined.size == (max(inside) - min(inside) + 1 if inside else 0)
    assert inside <= {*range(*joined)}
