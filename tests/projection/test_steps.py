"""What the rules do at a maximum and at a rectifier, on whole maps and on parts of them."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from rot180.graph.box import Box, Window
from rot180.graph.operators.pooling import MaxPool
from rot180.projection.rules import WAYS_BACK, Rules, repeated, to_switches
from tests.graph.regions import boxes, inner_product_error, laid, part_of, taken
from tests.models import image, relative_error
from tests.reference import sums_over_windows

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def pools(draw) -> tuple[MaxPool, tuple[int, int], tuple[int, int], bool]:
    kernel, stride, dilation = draw(pairs), draw(pairs), draw(pairs)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = draw(st.tuples(st.integers(5, 11), st.integers(5, 11)))
    ceil = draw(st.booleans())
    for n, k, p, d in zip(size, kernel, padding, dilation, strict=True):
        assume(d * (k - 1) < n + 2 * p)
    out = F.max_pool2d(torch.zeros(1, 1, *size), kernel, stride, padding, dilation, ceil).shape
    return MaxPool(Window(kernel, stride, padding, dilation)), size, tuple(out[-2:]), ceil


def pooled_by_pytorch(x: Tensor, pool: MaxPool, ceil: bool) -> Tensor:
    return F.max_pool2d(x, *pool.window, ceil)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(drawn=pools(), seed=st.integers(0, 99), data=st.data())
def test_unpooling_by_switches_is_the_gradient_of_max_pooling(drawn, seed, data) -> None:
    pool, size, out, ceil = drawn
    x = image(2, 3, *size, seed=seed).requires_grad_()
    wanted_maxima = pooled_by_pytorch(x, pool, ceil)
    for box in (Box(0, 0, *out), data.draw(boxes(out))):
        part = part_of(pool, size, out, box)
        (need,) = part.needs
        pooled, switches = pool.forward((taken(x.detach(), need),), part)
        assert torch.equal(pooled, taken(wanted_maxima, box))
        signal = image(*pooled.shape, seed=seed + 1)
        (wanted,) = torch.autograd.grad(wanted_maxima, x, laid(signal, box, out), retain_graph=True)
        assert relative_error(laid(to_switches(signal, switches, need), need, size), wanted) < 1e-14
        found = Rules().unpool(signal, switches, pool, part)
        assert relative_error(laid(found, need, size), wanted) < 1e-14


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(drawn=pools(), seed=st.integers(0, 99), data=st.data())
def test_unpooling_by_repetition_is_the_adjoint_of_the_sum_over_windows(drawn, seed, data) -> None:
    pool, size, out, _ = drawn
    x = image(2, 3, *size, seed=seed)
    sums = sums_over_windows(x, *pool.window, out)
    for box in (Box(0, 0, *out), data.draw(boxes(out))):
        part = part_of(pool, size, out, box)
        (need,) = part.needs
        signal = image(2, 3, box.height, box.width, seed=seed + 1)
        filled = repeated(signal, pool, part)
        back = laid(filled, need, size)
        assert inner_product_error(taken(sums, box), signal, x, back) < 1e-14
        switches = pool.forward((taken(x, need),), part)[1]
        assert torch.equal(Rules(unpooling="repeat").unpool(signal, switches, pool, part), filled)


@pytest.mark.slow
@settings(deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), k=st.integers(1, 4))
def test_repetition_fills_windows_that_do_not_overlap_exactly(height, width, k) -> None:
    assume(height >= k and width >= k)
    x = image(1, 2, height, width)
    pool = MaxPool(Window((k, k), (k, k), (0, 0), (1, 1)))
    out = (height // k, width // k)
    part = part_of(pool, (height, width), out, Box(0, 0, *out))
    (need,) = part.needs
    assert need == (0, 0, k * out[0], k * out[1])
    pooled, _ = pool.forward((taken(x, need),), part)
    filled = laid(repeated(pooled, pool, part), need, (height, width))
    rows, columns = need.height, need.width
    blocks = pooled.repeat_interleave(k, -2).repeat_interleave(k, -1)
    assert torch.equal(filled[..., :rows, :columns], blocks)
    assert not filled[..., rows:, :].any()
    assert not filled[..., columns:].any()


@pytest.mark.parametrize("spare", [False, True])
@pytest.mark.parametrize("method", WAYS_BACK)
def test_what_a_signal_becomes_at_a_rectifier(method: str, spare: bool) -> None:
    signal, slope = image(50, seed=1), image(50, seed=2)
    given = signal.clone()
    found = Rules(method).rectify(given, lambda s: s * slope, spare)
    wanted = {
        "deconvnet": signal.clamp(min=0),
        "gradient": signal * slope,
        "guided": signal.clamp(min=0) * slope,
    }[method]
    assert torch.equal(found, wanted)
    assert spare or torch.equal(given, signal)


@pytest.mark.parametrize("kernel", [2, 3])
def test_a_tie_goes_to_the_first_position_row_by_row(kernel: int) -> None:
    pool = MaxPool(Window((kernel, kernel), (2, 2), (kernel // 2,) * 2, (1, 1)))
    x = torch.zeros(1, 1, 6, 6)
    x[0, 0, 3, 4] = x[0, 0, 4, 3] = 1
    out = tuple(F.max_pool2d(x, kernel, 2, kernel // 2).shape[-2:])
    for laid_out in (x, x.contiguous(memory_format=torch.channels_last)):
        part = part_of(pool, (6, 6), out, Box(0, 0, *out))
        _, switches = pool.forward((laid_out,), part)
        _, wanted = F.max_pool2d(x, kernel, 2, kernel // 2, return_indices=True)
        assert torch.equal(switches, wanted)
