"""The smallest square around a projection's centre that holds most of its energy."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from rot180.graph.box import Box
from rot180.projection.effective import effective_box


def energy_in(signal: torch.Tensor, field: Box, box: Box) -> float:
    rows = slice(box.top - field.top, box.bottom - field.top)
    columns = slice(box.left - field.left, box.right - field.left)
    return float(signal[:, rows, columns].square().sum() / signal.square().sum())


def test_of_one_pixel_it_is_that_pixel() -> None:
    signal = torch.zeros(3, 20, 30)
    signal[1, 4, 7] = -2.0
    assert effective_box(signal, Box(100, 50, 120, 80)) == (104, 57, 105, 58)


def test_of_nothing_it_is_the_whole_field() -> None:
    field = Box(2, 3, 7, 9)
    assert effective_box(torch.zeros(3, 5, 6), field) == field


def test_of_an_even_square_it_has_that_share_of_the_area() -> None:
    box = effective_box(torch.ones(1, 100, 100), Box(0, 0, 100, 100), share=0.81)
    assert (box.height, box.width) == (90, 90)
    assert (box.top, box.left) == (5, 5)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from([0.5, 0.8, 0.95]),
)
def test_it_holds_the_share_and_one_pixel_less_does_not(
    seed: int, height: int, width: int, share: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    signal = torch.randn(3, height, width, generator=generator).double() ** 3
    field = Box(5, 9, 5 + height, 9 + width)
    box = effective_box(signal, field, share)
    assert field.top <= box.top < box.bottom <= field.bottom
    assert field.left <= box.left < box.right <= field.right
    assert energy_in(signal, field, box) >= share - 1e-8
    side = max(box.height, box.width)
    assert (box.height, box.width) == (min(side, height), min(side, width))
    if side > 1:
        energy = signal.square().sum(0)
        y = float((energy.sum(1) * torch.arange(height)).sum() / energy.sum())
        x = float((energy.sum(0) * torch.arange(width)).sum() / energy.sum())
        high, wide = min(side - 1, height), min(side - 1, width)
        top = field.top + min(max(round(y + 0.5 - high / 2), 0), height - high)
        left = field.left + min(max(round(x + 0.5 - wide / 2), 0), width - wide)
        smaller = Box(top, left, top + high, left + wide)
        assert energy_in(signal, field, smaller) < share + 1e-9
