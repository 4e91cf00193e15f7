"""What the page on other tools says of those that can be run: where they agree, and where not.

Captum comes with the ``test`` extra. zennit comes with ``bench``; without it its cases are skipped.
"""

from collections.abc import Callable

import pytest
import torch
from others import HAVE_ZENNIT, WithFunctions, apart, by_captum, by_zennit
from torch import Tensor, nn

import rot180
from tests.models import Functional, TwoConvolutions, image, seeded

pytestmark = pytest.mark.slow

Tool = Callable[[nn.Module, str, Tensor, tuple[int, int, int], str], Tensor]
needs_zennit = pytest.mark.skipif(
    not HAVE_ZENNIT, reason="zennit is not installed (pip install zennit; the bench extra)"
)
TOOLS = [by_captum, pytest.param(by_zennit, marks=needs_zennit)]


def shipped() -> tuple[nn.Module, Tensor]:
    """Return the shipped network, whose rectifiers are modules, and a photograph."""
    trained = rot180.load("two-layer")
    photograph = rot180.open_dataset("photos", "test").image(1)
    return trained.model.double().eval(), trained.prepare(photograph).double()


def asked(model: nn.Module, x: Tensor, tool: Tool, method: str) -> tuple[float, float, Tensor]:
    """Return a tool's distance from the projection and from the gradient, and the projection."""
    net = rot180.capture(model, x[None])
    p, gradient = (
        rot180.project(net, x, "conv2", 1, "peak", method=one) for one in (method, "gradient")
    )
    answer = tool(model, "conv2", x, (1, *p.position), method) * p.activation
    return apart(p.full(), answer), apart(gradient.full(), answer), p.full()


@pytest.mark.parametrize("method", ["deconvnet", "guided"])
@pytest.mark.parametrize("tool", TOOLS)
def test_where_rectifiers_are_modules_all_agree(tool: Tool, method: str) -> None:
    for model, x in (shipped(), (seeded(TwoConvolutions), image(3, 12, 12))):
        ours, plain, _ = asked(model, x, tool, method)
        assert ours < 1e-12
        assert plain > 0.05


@pytest.mark.parametrize("method", ["deconvnet", "guided"])
@pytest.mark.parametrize("tool", TOOLS)
def test_where_they_are_functions_the_others_give_the_plain_gradient(
    tool: Tool, method: str
) -> None:
    twin, x = shipped()
    small = seeded(TwoConvolutions)
    for modules, functions, pixels in (
        (twin, WithFunctions(twin), x),
        (small, Functional(small, ("functional", "functional")), image(3, 12, 12)),
    ):
        ours, plain, found = asked(functions, pixels, tool, method)
        assert plain < 1e-12
        assert ours > 0.05
        assert torch.equal(found, asked(modules, pixels, tool, method)[2])


def test_the_gradient_is_the_same_for_all() -> None:
    model, x = shipped()
    net = rot180.capture(model, x[None])
    p = rot180.project(net, x, "conv2", 40, "peak", method="gradient")
    answer = by_captum(model, "conv2", x, (40, *p.position), "gradient")
    assert apart(p.full(), answer * p.activation) < 1e-12


def test_googlenet_and_inception_of_torchvision_have_no_rectifier_that_is_a_module() -> None:
    import torchvision

    for name in ("googlenet", "inception_v3"):
        with torch.device("meta"):
            model = torchvision.models.get_model(name, weights=None, init_weights=False)
        aux = [one for one, _ in model.named_children() if one.lower().startswith("aux")]
        found = [
            one
            for one, module in model.named_modules()
            if isinstance(module, nn.ReLU) and not one.startswith(tuple(aux))
        ]
        assert found == []
