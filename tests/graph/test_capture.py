"""A model becomes a list of steps that computes the same, and is left as it was."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rot180
from rot180 import Rot180Error
from rot180.networks.two_layer import TwoLayer
from tests.models import Functional, TwoConvolutions, Varied, image, relative_error, seeded


def test_the_layers_of_the_reference_network() -> None:
    layers = rot180.capture(TwoLayer(), torch.zeros(1, 3, 32, 32)).layers
    assert list(layers) == ["conv1", "conv2"]
    first, second = layers.values()
    assert (first.channels, first.height, first.width) == (32, 32, 32)
    assert (first.receptive_field, first.stride, first.rectified) == ((5, 5), (1, 1), True)
    assert (second.channels, second.height, second.width) == (64, 16, 16)
    assert (second.receptive_field, second.stride, second.rectified) == ((14, 14), (2, 2), True)


@pytest.mark.parametrize(("model", "size"), [(TwoConvolutions, (12, 12)), (Varied, (21, 26))])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_steps_reproduce_the_model_for_any_batch(model, size, batch: int) -> None:
    model = seeded(model)
    net = rot180.capture(model, image(1, 3, *size))
    x = image(batch, 3, *size, seed=3)
    assert relative_error(net.outputs_for(x)[0], model(x)) < 1e-13


def test_the_model_is_left_as_it_was() -> None:
    model = seeded(Varied).train()
    before = copy.deepcopy(model.state_dict())
    modules = [str(one) for one in model.modules()]
    net = rot180.capture(model, image(1, 3, 21, 26))
    for method in ("deconvnet", "gradient", "guided"):
        rot180.project(net, image(3, 21, 26), "body.4", method=method)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [str(one) for one in model.modules()] == modules
    assert all(one.training for one in model.modules())
    assert not any(one._forward_hooks or one._backward_hooks for one in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_in_training_mode_is_captured_as_in_evaluation() -> None:
    model, x = seeded(Varied), image(1, 3, 21, 26)
    expected = model(x)
    net = rot180.capture(model.train(), x)
    assert relative_error(net.outputs_for(x)[0], expected) < 1e-13


class _Kernels(nn.Module):
    """Convolutions that are no modules, and one module that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(image(4, 3, 3, 3))
        self.again = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.again(F.relu(self.again(F.relu(F.conv2d(x, self.kernel)))))


def test_layers_are_named_by_where_the_model_keeps_the_kernel() -> None:
    net = rot180.capture(seeded(_Kernels), image(1, 3, 8, 8))
    assert list(net.layers) == ["kernel", "again", "again:2"]
    assert [one.rectified for one in net.layers.values()] == [True, True, False]


@pytest.mark.parametrize("name", ["stem.0", "body.0", "body.4"])
@pytest.mark.parametrize("corner", [True, False])
def test_a_receptive_field_holds_all_pixels_that_change_the_unit(name: str, corner: bool) -> None:
    model = seeded(Varied)
    net = rot180.capture(model, image(1, 3, 21, 26))
    layer = net.layers[name]
    unit = (0, 0) if corner else (layer.height // 2, layer.width // 2)
    top, left, bottom, right = net.receptive_field(layer, unit)
    x = image(3, 21, 26)
    outside = torch.ones(21, 26, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    changed = torch.where(outside, image(3, 21, 26, seed=9), x)
    here, there = net.maps(x, name), net.maps(changed, name)
    assert torch.equal(here[:, :, *unit], there[:, :, *unit])
    assert outside.any() or name == "body.4"


class _Choosing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class _Dreaming(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x), 0.5)


class _Smooth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.gelu(self.first(x)) * 2)


def test_an_operator_that_is_not_listed_has_its_gradient_but_no_other_method() -> None:
    model, x = seeded(_Smooth), image(1, 3, 9, 9)
    net = rot180.capture(model, x)
    pixels = x.clone().requires_grad_()
    maps = model(pixels)[0, 2]
    (wanted,) = torch.autograd.grad((maps * maps.detach()).sum(), pixels)
    found = rot180.project(net, x[0], "second", 2, method="gradient")
    assert relative_error(found.full(), wanted[0]) < 1e-13
    many = rot180.project(net, x[0], "second", method="gradient").full()
    assert relative_error(many[2], wanted[0]) < 1e-13
    with pytest.raises(Rot180Error, match=r"'deconvnet' is not defined .*(gelu|mul)"):
        rot180.project(net, x[0], "second", 2)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (_Choosing(), "cannot be captured: torch.export stopped"),
        (_Dreaming(), "draws random numbers"),
    ],
)
def test_what_cannot_be_captured_is_refused_in_a_sentence(model: nn.Module, words: str) -> None:
    with pytest.raises(Rot180Error, match=words):
        rot180.capture(model.double(), image(1, 3, 8, 8))


def test_weights_that_are_not_numbers_are_refused() -> None:
    model = TwoConvolutions()
    model.conv2.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(Rot180Error, match=r"'conv2.weight' holds .* NaN"):
        rot180.capture(model, torch.zeros(1, 3, 12, 12))


@pytest.mark.parametrize("example", [torch.zeros(3, 12, 12), torch.zeros(1, 3, 12, 12).byte()])
def test_an_example_that_is_no_batch_of_images_is_refused(example: Tensor) -> None:
    with pytest.raises(Rot180Error, match="capture needs a batch of normalised images"):
        rot180.capture(TwoConvolutions(), example)


def test_the_network_follows_the_models_own_weights() -> None:
    model = Functional(seeded(TwoConvolutions), ("functional", "inplace"))
    net = rot180.capture(model, image(1, 3, 12, 12))
    before = net.maps(image(3, 12, 12), "conv1")
    with torch.no_grad():
        model.conv1.weight.mul_(2)
        model.conv1.bias.mul_(2)
    assert relative_error(net.maps(image(3, 12, 12), "conv1"), 2 * before) < 1e-13
