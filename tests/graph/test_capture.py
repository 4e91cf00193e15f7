"""A model becomes a list of steps that computes the same, and is left as it was."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rot180
from rot180 import Rot180Error
from rot180.models.two_layer import TwoLayer
from rot180.projection.rules import WAYS_BACK
from tests.models import Functional, TwoConvolutions, Varied, image, relative_error, seeded
from tests.reference import Reference


@pytest.mark.slow
def test_the_layers_of_the_reference_network() -> None:
    layers = rot180.capture(TwoLayer(), torch.zeros(1, 3, 32, 32)).layers
    assert list(layers) == ["conv1", "conv2", "head"]
    first, second, third = layers.values()
    assert (first.channels, first.height, first.width) == (32, 32, 32)
    assert (first.receptive_field, first.stride, first.rectified) == ((5, 5), (1, 1), True)
    assert (second.channels, second.height, second.width) == (64, 16, 16)
    assert (second.receptive_field, second.stride, second.rectified) == ((14, 14), (2, 2), True)
    assert (third.channels, third.height, third.width) == (10, 1, 1)
    assert (third.receptive_field, third.stride, third.rectified) == ((32, 32), (0, 0), False)
    assert [one.kind for one in layers.values()] == ["convolution", "convolution", "linear"]
    assert [one.rectifier for one in layers.values()] == ["ReLU", "ReLU", ""]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "size"), [(TwoConvolutions, (12, 12)), (Varied, (21, 26))])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_steps_reproduce_the_model_for_any_batch(model, size, batch: int) -> None:
    model = seeded(model)
    net = rot180.capture(model, image(1, 3, *size))
    x = image(batch, 3, *size, seed=3)
    assert relative_error(rot180.model_outputs(net, x)[0], model(x)) < 1e-13


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_model_in_training_mode_is_captured_as_in_evaluation() -> None:
    model, x = seeded(Varied), image(1, 3, 21, 26)
    expected = model(x)
    net = rot180.capture(model.train(), x)
    assert relative_error(rot180.model_outputs(net, x)[0], expected) < 1e-13


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


@pytest.mark.slow
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
    here, there = rot180.feature_maps(net, x, name), rot180.feature_maps(net, changed, name)
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


class _Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.conv(x)


class Written(nn.Module):
    """Convolutions a (3 to 4 features), b and c (4 to 4), and a forward pass as it is given."""

    def __init__(self, forward: Callable[["Written", Tensor], Tensor]) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.c = nn.Conv2d(4, 4, 3, padding=1)
        self.gain = nn.Parameter(torch.full((4, 1, 1), 1.5))
        self.written = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def _norms(model: Written) -> Written:
    for one in (model.b, model.c):
        nn.utils.parametrizations.weight_norm(one)
    return model


PLAIN = Written(lambda s, x: s.c(F.relu(s.b(F.relu(s.a(x))))))
STYLES: dict[str, Callable[[Written, Tensor], Tensor]] = {
    "residual": lambda s, x: s.c(F.relu(s.b(F.relu(s.a(x))) + s.a(x))),
    "constant added": lambda s, x: s.c(F.relu(s.b(F.relu(s.a(x)) + torch.tensor(0.5)))),
    "parameter added": lambda s, x: s.c(F.relu(s.b(F.relu(s.a(x)) + s.gain))),
    "kernel computed": lambda s, x: s.c(
        F.relu(F.conv2d(F.relu(s.a(x)), s.b.weight * s.gain.mean()))
    ),
    "bias computed": lambda s, x: s.c(F.relu(F.conv2d(F.relu(s.a(x)), s.b.weight, s.b.bias * 2))),
    "clip": lambda s, x: s.c(s.b(s.a(x).clip(min=0)).clamp(0, torch.inf)),
    "threshold": lambda s, x: s.c(F.threshold(s.b(torch.relu(s.a(x))), 0, 0)),
    "pool with indices": lambda s, x: s.c(F.max_pool2d(F.relu(s.a(x)), 2, return_indices=True)[0]),
    "input changed in place": lambda s, x: s.c(F.relu(s.a(x.add_(0.5)))),
    "squeezed": lambda s, x: s.c(F.relu(s.a(x)).unsqueeze(2).squeeze(2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_styles_of_writing(style: str) -> None:
    """Deconvnet equals autograd through a model whose rectifiers have the deconvnet's rule."""
    model, x = seeded(Written, STYLES[style]), image(2, 3, 8, 8)
    before = x.clone()
    net = rot180.capture(model, x)
    assert torch.equal(x, before)
    name = list(net.layers)[-1]
    for n in (1, 2, 4):
        images = image(n, 3, 8, 8, seed=n)
        assert relative_error(rot180.model_outputs(net, images)[0], model(images.clone())) < 1e-12
        for method in ("gradient", "deconvnet"):
            found = rot180.project(net, images, name, method=method).full()
            for channel in range(4):
                wanted = by_autograd(model, images, channel, method)
                assert relative_error(found[:, channel], wanted) < 1e-12


class _Deconvnet(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, signal: Tensor) -> Tensor:
        return signal.clamp(min=0)


def by_autograd(model: Written, images: Tensor, channel: int, method: str) -> Tensor:
    """Carry the last convolution's feature back with autograd, under either rule."""
    pixels = images.clone().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        if method == "deconvnet":
            patch.setattr(F, "relu", _Deconvnet.apply)
            patch.setattr(torch, "relu", _Deconvnet.apply)
            patch.setattr(F, "threshold", lambda z, *_: _Deconvnet.apply(z))
            patch.setattr(Tensor, "clip", lambda z, min: _Deconvnet.apply(z))
            patch.setattr(Tensor, "clamp", _clamp_of(Tensor.clamp))
        maps = model(pixels * 1)[:, channel]
    (found,) = torch.autograd.grad((maps * maps.detach()).sum(), pixels)
    return found


def _clamp_of(clamp):
    def patched(z: Tensor, low=None, high=None, **named: float) -> Tensor:
        return clamp(z, **named) if named else _Deconvnet.apply(z)

    return patched


def test_tied_convolutions_keep_their_own_names() -> None:
    model = seeded(Written, lambda s, x: s.c(F.relu(s.b(F.relu(s.a(x))))))
    model.c.weight = model.b.weight
    net = rot180.capture(model, image(1, 3, 8, 8))
    assert list(net.layers) == ["a", "b", "c"]
    x = image(1, 3, 8, 8)
    assert (
        relative_error(rot180.feature_maps(net, x, "b"), F.relu(model.b(F.relu(model.a(x)))))
        < 1e-13
    )


def test_weight_normalisation_is_computed_once() -> None:
    model = _norms(seeded(Written, lambda s, x: s.c(F.relu(s.b(F.relu(s.a(x)))))))
    net = rot180.capture(model, image(1, 3, 8, 8))
    assert list(net.layers) == ["a", "b", "c"]
    found = rot180.project(net, image(2, 3, 8, 8), "c", 1, method="gradient").full()
    wanted = by_autograd(model, image(2, 3, 8, 8), 1, "gradient")
    assert relative_error(found, wanted) < 1e-12


def test_a_detached_result_takes_no_gradient_and_no_other_method() -> None:
    model = seeded(Written, lambda s, x: s.c(F.relu(s.a(x)) + F.relu(s.b(s.a(x))).detach()))
    net, x = rot180.capture(model, image(1, 3, 8, 8)), image(2, 3, 8, 8)
    found = rot180.project(net, x, "c", 0, method="gradient").full()
    assert relative_error(found, by_autograd(model, x, 0, "gradient")) < 1e-12
    with pytest.raises(Rot180Error, match=r"calls detach\(\)"):
        rot180.project(net, x, "c", 0, method="deconvnet")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda s, x: s.c(s.a(x) * (s.a(x) > 0)), "'deconvnet' is not defined"),
        (
            lambda s, x: s.c(torch.special.i0(s.a(x))),
            r"'deconvnet' is not defined .* aten\.special_i0",
        ),
    ],
)
def test_deconvnet_refuses_what_it_has_no_rule_for(forward, words: str) -> None:
    net = rot180.capture(seeded(Written, forward), image(1, 3, 8, 8))
    with pytest.raises(Rot180Error, match=words):
        rot180.project(net, image(3, 8, 8), "c", 0, method="deconvnet")


@pytest.mark.slow
@pytest.mark.parametrize("method", WAYS_BACK)
@pytest.mark.parametrize(
    "forward",
    [
        lambda s, x: s.c(s.a(x) + s.a(x).split(4, 1)[0]),
        lambda s, x: s.c(torch.cat(s.a(x).chunk(2, 1), 1)),
        lambda s, x: s.c(F.leaky_relu(s.a(x), 0.1)),
        lambda s, x: s.c(s.a(x).clamp(0, 6)),
        lambda s, x: s.c(F.gelu(s.a(x)) * 2),
    ],
)
def test_parts_of_maps_and_kin_of_relu_have_every_method(forward, method: str) -> None:
    model, x = seeded(Written, forward), image(2, 3, 8, 8)
    net, reference = rot180.capture(model, x), Reference(model, x)
    for channel in range(4):
        _, wanted = reference.project(x, net.steps[-1].name, (slice(None), channel), method)
        found = rot180.project(net, x, "c", channel, method=method)
        assert relative_error(found.full(), wanted) < 1e-12


@pytest.mark.slow
def test_a_sum_sees_what_its_terms_see() -> None:
    model = seeded(Written, lambda s, x: s.c(F.relu(s.b(F.relu(s.a(x))) + s.a(x))))
    layers = rot180.capture(model, image(1, 3, 32, 32)).layers
    assert layers["c"].receptive_field == (7, 7)
    assert layers["c"].stride == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("function", [torch.special.i0, torch.sin, lambda z: F.gelu(z) * 2])
def test_an_operator_has_its_gradient_whether_it_is_listed_or_not(function) -> None:
    model, x = seeded(Written, lambda s, x: s.b(function(s.a(x)))), image(1, 3, 9, 9)
    net = rot180.capture(model, x)
    pixels = x.clone().requires_grad_()
    maps = model(pixels)[0, 2]
    (wanted,) = torch.autograd.grad((maps * maps.detach()).sum(), pixels)
    found = rot180.project(net, x[0], "b", 2, method="gradient")
    assert relative_error(found.full(), wanted[0]) < 1e-13
    many = rot180.project(net, x[0], "b", method="gradient").full()
    assert relative_error(many[2], wanted[0]) < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (_Choosing(), "cannot be captured: torch.export stopped"),
        (_Dreaming(), "draws random numbers"),
        (Written(lambda s, x: s.a(x) + 1e-6 * torch.randn_like(s.a(x))), "draws random numbers"),
        (_Counting(), "changes its own 'calls'"),
        (Written(lambda s, x: s.a.weight), "does not depend on the image"),
        (Written(lambda s, x: s.a(x.reshape(3, 3, 8, 8))), "torch.export stopped at .*reshape"),
        (Written(lambda s, x: s.a(x) - s.a(x).mean((0, 2, 3), keepdim=True)), "mixes the images"),
        (nn.LazyConv2d(4, 3), "has no values yet"),
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


@pytest.mark.parametrize(
    "example",
    [
        torch.zeros(3, 12, 12),
        torch.zeros(1, 3, 12, 12).byte(),
        torch.zeros(0, 3, 12, 12),
    ],
)
def test_an_example_that_is_no_batch_of_images_is_refused(example: Tensor) -> None:
    with pytest.raises(Rot180Error, match="capture needs a batch of normalised images"):
        rot180.capture(TwoConvolutions(), example)


@pytest.mark.slow
def test_the_network_is_the_model_as_it_was_when_it_was_captured() -> None:
    model = Functional(seeded(TwoConvolutions), ("functional", "inplace"))
    net = rot180.capture(model, image(1, 3, 12, 12))
    before = rot180.feature_maps(net, image(3, 12, 12), "conv1")
    with torch.no_grad():
        model.conv1.weight.mul_(2)
        model.conv1.bias.mul_(2)
    assert torch.equal(rot180.feature_maps(net, image(3, 12, 12), "conv1"), before)
    again = rot180.capture(model, image(1, 3, 12, 12))
    assert relative_error(rot180.feature_maps(again, image(3, 12, 12), "conv1"), 2 * before) < 1e-13
