"""A network remembers much of what it was asked for, and not without limit."""

import pytest
import torch

from rot180.graph import network as networks
from rot180.projection.project import project
from tests.atlas.scans import small_network


@pytest.mark.slow
def test_what_is_forgotten_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_CACHE_SIZE", 12)
    network = small_network(seed=5)
    image = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0))
    places = [(y, x) for y in range(4) for x in range(4)]
    first = [project(network, image, "two", 1, one).full() for one in places]
    assert len(network._cache) <= 20  # beside 16 positions there are their rows and columns
    again = [project(network, image, "two", 1, one).full() for one in reversed(places)]
    assert len(network._cache) <= 20  # beside 16 positions there are their rows and columns
    for one, other in zip(first, reversed(again), strict=True):
        assert torch.equal(one, other)
