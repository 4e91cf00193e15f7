"""Other people's networks: captured, and projected as the reference does.

``benchmarks/models.py`` captures many more.
"""

import pytest
import torch
import torchvision
from torch import nn

import rot180
from rot180.graph.operators.fallback import AutogradOp, UnknownOp
from tests.models import image, relative_error
from tests.reference import Reference
from tests.zoo import EFFICIENTNET_LITE0, efficientnet_lite0

pytestmark = pytest.mark.slow

CLASSIFIERS = {
    "resnet18": 32,
    "shufflenet_v2_x0_5": 32,
}
SEGMENTATION = {"lraspp_mobilenet_v3_large": 32}


def made(name: str) -> nn.Module:
    """Make a model in float64 whose normalisations have something to do."""
    given = {"weights_backbone": None} if name in SEGMENTATION else {}
    if name in ("googlenet", "inception_v3"):
        given["init_weights"] = False
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, **given).double().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
    return model


@pytest.mark.parametrize(("name", "side"), (CLASSIFIERS | SEGMENTATION).items())
def test_a_network_of_torchvision(name: str, side: int) -> None:
    model, x = made(name), image(1, 3, side, side)
    net = rot180.capture(model, x)
    assert relative_error(rot180.model_outputs(net, x)[0], _first(model(x))) < 1e-11
    assert not [one for one in net.steps if isinstance(one.operator, UnknownOp | AutogradOp)]
    reference, layers = Reference(model, x), list(net.layers.values())
    for number, method in ((len(layers) // 3, "deconvnet"), (-2, "guided"), (-1, "gradient")):
        layer = layers[number]
        place = (layer.height // 2, layer.width - 1)
        channel = int(rot180.feature_maps(net, x, layer.name)[0, :, *place].argmax())
        index = (0, channel, *place) if layer.axes == (-2, -1) else (0, *place, channel)
        index = index if layer.axes else (0, channel)
        step = net.steps[layer.output_step].name
        activation, wanted = reference.project(x, step, index, method)
        for source in (x[0], rot180.open_image(net, x[0])):
            p = rot180.project(net, source, layer.name, channel, place, method)
            assert p.activation == pytest.approx(float(activation), rel=1e-9)
            assert relative_error(p.full(), wanted[0]) < 1e-12


def _first(output: object) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output["out"]


def test_efficientnet_lite0_with_its_weights() -> None:
    model, side = efficientnet_lite0(), EFFICIENTNET_LITE0["size"][0]
    x = image(1, 3, side, side).float()
    net = rot180.capture(model, x)
    report = rot180.report(net)
    assert report.rectifiers == {"ReLU6": 33}
    assert not report.fallbacks
    assert report.error < 1e-4
    assert report.adjoint_error < 1e-6
    opened = rot180.open_image(net, x[0])
    for name in ("_conv_stem", "_blocks.3._depthwise_conv", "_blocks.9._project_conv"):
        layer = net.layers[name]
        place = (layer.height // 2, layer.width // 2)
        channel = int(rot180.feature_maps(net, x, name)[0, :, *place].argmax())
        for method in ("deconvnet", "gradient", "guided"):
            cold = rot180.project(net, x[0], name, channel, place, method)
            kept = rot180.project(net, opened, name, channel, place, method)
            assert relative_error(cold.pixels, kept.pixels) < 1e-5
