"""Models that fail for one image alone: what they compute for each of several is captured."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rot180
from rot180 import Rot180Error
from tests.differences import check_gradient, maps_of
from tests.models import image, seeded


class Squeezing(nn.Module):
    """Two convolutions and a fully connected layer, and a forward pass as it is given."""

    def __init__(self, forward: Callable[["Squeezing", Tensor], Tensor]) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.b = nn.Conv2d(4, 5, 3, padding=1)
        self.c = nn.Linear(5, 2)
        self.written = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def _of_means(s: Squeezing, x: Tensor) -> Tensor:
    y = s.b(F.relu(s.norm(s.a(x)), inplace=True)).mean((2, 3), keepdim=True).squeeze()
    return s.c(y).log_softmax(dim=1)


def _with_the_number_of_images(s: Squeezing, x: Tensor) -> Tensor:
    y = s.b(F.relu(s.norm(s.a(x)))).squeeze().permute(0, 2, 3, 1)
    return s.c(y.reshape(x.shape[0] * 64, 5)).view(x.shape[0], 64, 2).mean(1)


def _with_an_assertion(s: Squeezing, x: Tensor) -> Tensor:
    y = F.adaptive_avg_pool2d(s.b(F.relu(s.norm(s.a(x)))), 1).squeeze()
    assert y.shape[0] == x.shape[0]
    return s.c(y).softmax(1) * (x.shape[0] / x.size(0))


@pytest.mark.slow
@pytest.mark.parametrize("forward", [_of_means, _with_the_number_of_images, _with_an_assertion])
def test_each_image_goes_through_as_it_does_beside_others(
    forward: Callable[[Squeezing, Tensor], Tensor],
) -> None:
    model = seeded(Squeezing, forward)
    with pytest.raises((IndexError, RuntimeError, AssertionError)):
        model(image(1, 3, 8, 8))
    net = rot180.capture(model, image(1, 3, 8, 8))
    assert net.error < 1e-12
    assert list(net.layers) == ["a", "b", "c"]
    images = image(3, 3, 8, 8, seed=2)
    assert torch.allclose(
        rot180.model_outputs(net, images)[0], model(images), rtol=1e-12, atol=1e-12
    )

    def of_b(at: Tensor) -> Tensor:
        return maps_of(model, model.b, torch.stack([at, at]))[0, 2]

    for one in images:
        projection = rot180.project(net, one, "b", 2, method="gradient")
        check_gradient(projection, of_b, one)
        score = rot180.project(net, one, "c", 1, method="guided")
        assert score.full().abs().max() > 0


def test_a_model_that_fails_for_several_too_is_told_where() -> None:
    model = Squeezing(lambda s, x: s.c(s.a(x)))
    with pytest.raises(Rot180Error, match="must have same reduction dim"):
        rot180.capture(model, image(1, 3, 8, 8).float())


@pytest.mark.slow
def test_a_model_that_mixes_images_is_refused_though_it_needs_several() -> None:
    def mixing(s: Squeezing, x: Tensor) -> Tensor:
        return s.c((s.b(s.a(x)).mean((2, 3), keepdim=True).squeeze() - x.mean()).cumsum(1))

    model = seeded(Squeezing, mixing)
    with pytest.raises(Rot180Error, match="mixes the images of a batch"):
        rot180.capture(model, image(1, 3, 8, 8))
