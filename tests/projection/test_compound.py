"""Image times gradient and squared SmoothGrad, beside autograd; local and whole give the same."""

import pytest
import torch
from torch import Tensor, nn

import rot180
from rot180.projection.compound import NOISE, SAMPLES
from tests.models import image, relative_error, seeded

COMPOUND = ("gradient_times_image", "smoothgrad_squared")


def made() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU6()
    )


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return seeded(made).double()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return image(2, 3, 16, 16, seed=3).double()


@pytest.fixture(scope="module")
def net(model: nn.Module, images: Tensor) -> rot180.Network:
    return rot180.capture(model, images)


def gradient(model: nn.Module, x: Tensor, channel: int, place: tuple[int, int] | None) -> Tensor:
    """The derivative of the values before the last rectifier, weighted by the clean activations."""
    x = x.clone().requires_grad_()
    z = model[:4](x)[0, channel]
    weights = gradient.weights if place is None else gradient.weights[place]
    (found,) = torch.autograd.grad((z if place is None else z[place]), x, weights)
    return found[0]


@pytest.mark.parametrize("place", [(0, 0), (2, 3), None])
@pytest.mark.parametrize("number", [0, 1])
def test_they_are_what_autograd_gives(
    model: nn.Module,
    net: rot180.Network,
    images: Tensor,
    place: tuple[int, int] | None,
    number: int,
) -> None:
    x, channel = images[number : number + 1], 2
    gradient.weights = model(x)[0, channel].detach()
    found = rot180.project(net, images, "3", channel, place, method="gradient_times_image")[number]
    assert relative_error(found.full(), x[0] * gradient(model, x, channel, place)) < 1e-12
    noise = torch.Generator().manual_seed(180)
    squares = torch.zeros_like(x[0])
    for _ in range(SAMPLES):
        e = torch.randn(1, *x.shape[1:], generator=noise).double()
        noisy = x + NOISE * (x.max() - x.min()) * e
        squares += gradient(model, noisy, channel, place) ** 2 / SAMPLES
    found = rot180.project(net, images, "3", channel, place, method="smoothgrad_squared")[number]
    squares = squares.mean(0, keepdim=True).expand_as(squares)  # an energy has no colour
    assert relative_error(found.full(), squares) < 1e-12
    assert found.rules.method == "smoothgrad_squared"


@pytest.mark.parametrize("method", COMPOUND)
def test_a_unit_is_the_same_by_every_way(net: rot180.Network, images: Tensor, method: str) -> None:
    place = (1, 4)
    local = rot180.project(net, images[1], "3", 1, place, method=method)
    opened = rot180.project(net, rot180.open_image(net, images[1]), "3", 1, place, method=method)
    (listed,) = rot180.project_units(net, images, [(1, "3", 1, place)], method=method)
    for other in (opened, listed):
        assert other.box == local.box
        assert other.activation == pytest.approx(local.activation, rel=1e-12)
        assert relative_error(other.pixels, local.pixels) < 1e-12
