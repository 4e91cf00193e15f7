"""Each linear step satisfies <Ax, y> = <x, A'y>; windows are filled exactly."""

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from rot180.graph.boxes import Box, Window
from rot180.graph.operators import BatchNorm, Convolution, Linear, MaxPool, Reshape
from rot180.projection.rules import Rules, repeated, to_switches
from tests.models import image, relative_error

sizes = st.integers(1, 9)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def adjoint_error(forward, backward, x: Tensor) -> float:
    """Return the difference of <Ax, y> and <x, A'y>, over the sum of the products' sizes."""
    ax = forward(x)
    y = image(*ax.shape, seed=7)
    back = backward(y)
    assert back.shape == x.shape
    there, here = (ax * y), (x * back)
    return float((there.sum() - here.sum()).abs() / (there.abs().sum() + here.abs().sum() + 1e-300))


@settings(max_examples=80, deadline=None)
@given(
    kernel=pairs,
    stride=pairs,
    dilation=pairs,
    before=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    more=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    groups=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
def test_convolution(kernel, stride, dilation, before, more, size, groups, seed) -> None:
    after = (before[0] + more[0], before[1] + more[1])
    for side in (0, 1):
        assume(size[side] + before[side] + after[side] > dilation[side] * (kernel[side] - 1))
    step = Convolution(
        image(8, 4 // groups, *kernel, seed=seed), None, stride, before, after, dilation, groups
    )
    x = image(2, 4, *size, seed=seed + 1)
    _, kept = step.forward(x)
    assert (
        adjoint_error(lambda a: step.forward(a)[0], lambda s: step.backward(s, kept, Rules())[0], x)
        < 1e-14
    )


def test_batch_norm_without_its_offset_linear_and_reshape() -> None:
    scale, mean = image(5, seed=1), image(5, seed=2)
    norm = BatchNorm(scale, None, torch.zeros_like(mean), mean.abs() + 0.1, 1e-5)
    linear = Linear(image(7, 5, seed=3), None)
    reshape = Reshape((20,))
    maps, vectors = image(2, 5, 2, 2), image(2, 5)
    for step, x in ((norm, maps), (linear, vectors), (reshape, maps)):
        kept = step.forward(x)[1]

        def forward(a: Tensor, step=step) -> Tensor:
            out = step.forward(a)[0]
            return out[0] if isinstance(out, tuple) else out

        def backward(s: Tensor, step=step, kept=kept) -> Tensor:
            return step.backward(s, kept, Rules())[0]

        assert adjoint_error(forward, backward, x) < 1e-14


@st.composite
def pools(draw) -> tuple[MaxPool, tuple[int, int]]:
    kernel = draw(pairs)
    stride = draw(pairs)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = draw(st.tuples(st.integers(5, 11), st.integers(5, 11)))
    return MaxPool(Window(kernel, stride, padding, (1, 1)), draw(st.booleans())), size


@settings(max_examples=80, deadline=None)
@given(drawn=pools(), seed=st.integers(0, 99))
def test_unpooling_by_switches_is_the_gradient_of_max_pooling(drawn, seed) -> None:
    pool, size = drawn
    x = image(2, 3, *size, seed=seed).requires_grad_()
    pooled, (switches, shape) = pool.forward(x)
    signal = image(*pooled.shape, seed=seed + 1)
    (wanted,) = torch.autograd.grad(pooled, x, signal)
    assert relative_error(to_switches(signal, switches, shape), wanted) < 1e-14


@settings(max_examples=80, deadline=None)
@given(drawn=pools(), seed=st.integers(0, 99))
def test_unpooling_by_repetition_is_the_adjoint_of_the_sum_over_windows(drawn, seed) -> None:
    pool, size = drawn
    x = image(2, 3, *size, seed=seed)
    pooled, (_, shape) = pool.forward(x)
    h, w = pooled.shape[-2:]

    def summed(a: Tensor) -> Tensor:
        (kh, kw), (sy, sx), (py, px), _ = pool.window
        padded = F.pad(a, (px, px + sx * w + kw, py, py + sy * h + kh))
        rows = [
            [padded[..., y * sy : y * sy + kh, x * sx : x * sx + kw] for x in range(w)]
            for y in range(h)
        ]
        return torch.stack(
            [torch.stack([one.sum((-2, -1)) for one in row], -1) for row in rows], -2
        )

    assert adjoint_error(summed, lambda s: repeated(s, pool, shape), x) < 1e-14


@settings(deadline=None)
@given(height=sizes, width=sizes, k=st.integers(1, 4))
def test_repetition_fills_windows_that_do_not_overlap_exactly(height, width, k) -> None:
    assume(height >= k and width >= k)
    x = image(1, 2, height, width)
    pool = MaxPool(Window((k, k), (k, k), (0, 0), (1, 1)), False)
    pooled, (_, shape) = pool.forward(x)
    filled = repeated(pooled, pool, shape)
    rows, columns = k * (height // k), k * (width // k)
    blocks = pooled.repeat_interleave(k, -2).repeat_interleave(k, -1)
    assert torch.equal(filled[..., :rows, :columns], blocks)
    assert not filled[..., rows:, :].any()
    assert not filled[..., columns:].any()


@settings(deadline=None)
@given(
    kernel=pairs,
    stride=pairs,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=pairs,
    unit=st.tuples(st.integers(0, 2), st.integers(0, 2)),
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
    y, x_ = unit
    box = window.reach(Box(y, x_, y + 1, x_ + 1)).clipped(size, size)
    low, high = touched.amin(0).tolist(), touched.amax(0).tolist()
    # With a dilation the first taps may fall on padding, so the box may begin before them.
    assert box.top <= low[0] < box.top + dilation[0]
    assert box.left <= low[1] < box.left + dilation[1]
    assert box.bottom - dilation[0] <= high[0] < box.bottom
    assert box.right - dilation[1] <= high[1] < box.right
