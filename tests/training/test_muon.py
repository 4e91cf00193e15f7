"""The steps of Muon are orthogonal matrices of the size of the learning rate."""

import pytest
import torch

from rot180.training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(32, 75), (64, 800), (75, 32), (5, 5)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalise(matrix)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    exact = left @ right
    alignment = (found * exact).sum() / (found.norm() * exact.norm())
    assert alignment > 0.98


def test_a_step_has_the_size_that_the_rate_says() -> None:
    kernel = torch.nn.Parameter(torch.zeros(8, 3, 5, 5).to(memory_format=torch.channels_last))
    kernel.grad = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 1e-4
    Muon([kernel], lr=0.1).step()
    size = torch.linalg.svdvals(kernel.detach().flatten(1))
    assert (size > 0.05).all()
    assert (size < 0.13).all()
    assert (kernel.detach() * kernel.grad).sum() < 0  # downhill
