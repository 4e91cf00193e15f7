"""The projection equals independent computations: kernels laid by hand, autograd, Captum."""

import copy

import captum.attr
import pytest
import torch
from torch import Tensor, nn

import rot180
from rot180.projection.rules import WAYS_BACK
from tests.models import Functional, TwoConvolutions, Varied, image, relative_error, seeded

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}

NETWORKS = {
    "two convolutions": (TwoConvolutions, (3, 12, 12), {"conv1": "relu1", "conv2": "relu2"}),
    "varied": (Varied, (3, 21, 26), {"stem.0": "stem.2", "body.0": "body.2", "body.4": "body.5"}),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[int, ...], dict[str, str]]:
    model, shape, layers = NETWORKS[request.param]
    return seeded(model), shape, layers


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_of_one_convolution_it_is_the_activation_times_the_kernel(dtype: torch.dtype) -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, (5, 3), stride=(2, 1)), nn.ReLU()))
    model = model.to(dtype)
    x = image(3, 16, 14).to(dtype)
    net = rot180.capture(model, x[None])
    maps = rot180.feature_maps(net, x, "0")[0]
    fired = (maps > 0).nonzero().tolist()
    assert len(fired) > 100
    for channel, y, x_ in fired[::7]:
        p = rot180.project(net, x, "0", channel, (y, x_), method="deconvnet")
        assert p.box == (2 * y, x_, 2 * y + 5, x_ + 3)
        wanted = maps[channel, y, x_] * model[0].weight[channel].detach()
        lost = float(maps.max() / maps[channel, y, x_])  # digits of a small remainder of a sum
        assert relative_error(p.pixels, wanted) < TOLERANCE[dtype] * lost


@pytest.mark.slow
@pytest.mark.parametrize("unit", [None, "peak", (0, 0), (1, 2)])
def test_gradient_equals_autograd(network, unit) -> None:
    model, shape, layers = network
    x = image(*shape)
    net = rot180.capture(model, x[None])
    for layer, module in layers.items():
        for channel in range(net.layers[layer].channels):
            p = rot180.project(net, x, layer, channel, unit, method="gradient")
            assert relative_error(p.full(), _by_autograd(model, module, x, channel, p)) < 1e-12


def _by_autograd(model, module: str, x: Tensor, channel: int, p: rot180.Projection) -> Tensor:
    found: list[Tensor] = []
    handle = model.get_submodule(module).register_forward_hook(lambda *a: found.append(a[2]))
    pixels = x[None].clone().requires_grad_()
    model(pixels)
    handle.remove()
    maps = found[0][0, channel]
    kept = maps if p.position is None else maps[p.position]
    (gradient,) = torch.autograd.grad((kept * kept.detach()).sum(), pixels)
    return gradient[0]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("method", ["deconvnet", "guided"])
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
def test_equals_captum(network, method: str, dtype: torch.dtype) -> None:
    model, shape, layers = network
    model, x = model.to(dtype), image(*shape).to(dtype)
    net = rot180.capture(model, x[None])
    for layer, module in layers.items():
        theirs = _captum(method, copy.deepcopy(model), module)
        for channel in range(net.layers[layer].channels):
            p = rot180.project(net, x, layer, channel, "peak", method=method)
            if p.activation == 0:
                assert not p.pixels.any()
                continue
            wanted = theirs.attribute(x[None], (channel, *p.position))[0] * p.activation
            assert relative_error(p.full(), wanted) < TOLERANCE[dtype]


def _captum(method: str, model: nn.Module, module: str):
    layer = model.get_submodule(module)
    if method == "guided":
        return captum.attr.NeuronGuidedBackprop(model, layer)
    return captum.attr.NeuronDeconvolution(model, layer)


@pytest.mark.slow
@pytest.mark.parametrize("method", WAYS_BACK)
@pytest.mark.parametrize(
    "rectify",
    [("functional", "inplace"), ("module", "module"), ("clamp", "clamp_min"), ("inplace", "clamp")],
)
def test_does_not_depend_on_how_the_rectifier_is_written(method: str, rectify) -> None:
    twin, x = seeded(TwoConvolutions), image(3, 12, 12)
    ours = rot180.capture(Functional(twin, rectify), x[None])
    plain = rot180.capture(twin, x[None])
    for layer in plain.layers:
        found = rot180.project(ours, x, layer, method=method).full()
        assert torch.equal(found, rot180.project(plain, x, layer, method=method).full())


def test_captum_gives_the_plain_gradient_where_the_rectifier_is_functional() -> None:
    """The case that rot180 must not share: were it to change, the documentation would be wrong."""
    model, x = Functional(seeded(TwoConvolutions), ("functional", "functional")), image(3, 12, 12)
    net = rot180.capture(model, x[None])
    p = rot180.project(net, x, "conv2", 1, "peak", method="deconvnet")
    gradient = rot180.project(net, x, "conv2", 1, "peak", method="gradient")
    theirs = captum.attr.NeuronDeconvolution(model, model.conv2).attribute(
        x[None], (1, *p.position)
    )
    assert relative_error(theirs[0] * p.activation, gradient.full()) < 1e-12
    assert relative_error(p.full(), gradient.full()) > 0.05
