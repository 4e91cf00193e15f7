"""What other tools say of one unit: asked as their documentation says, for the comparison page.

The page and its test (``tests/docs/test_comparison.py``) share it. A unit is ``(channel, y, x)`` of
the output of a module; every answer is that of a signal of 1 at the unit, at the size of the image.
"""

import warnings
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HAVE_ZENNIT = find_spec("zennit") is not None
"""Whether zennit is installed; the ``bench`` extra brings it (with zennit-crp)."""

Unit = tuple[int, int, int]


class WithFunctions(nn.Module):
    """The two-layer network with the same weights, its rectifiers called as functions."""

    def __init__(self, twin: nn.Module) -> None:
        super().__init__()
        self.conv1, self.pool1 = twin.conv1, twin.pool1
        self.conv2, self.pool2, self.head = twin.conv2, twin.pool2, twin.head

    def forward(self, x: Tensor) -> Tensor:
        """Compute the scores."""
        x = self.pool1(F.relu(self.conv1(x)))
        x = self.pool2(F.relu(self.conv2(x)))
        return self.head(x.flatten(1))


def by_captum(model: nn.Module, module: str, x: Tensor, unit: Unit, method: str) -> Tensor:
    """Return Captum's neuron attribution."""
    with warnings.catch_warnings(action="ignore"):  # it says that it sets hooks
        import captum.attr

        tool = {
            "deconvnet": captum.attr.NeuronDeconvolution,
            "guided": captum.attr.NeuronGuidedBackprop,
            "gradient": captum.attr.NeuronGradient,
        }[method]
        return tool(model, model.get_submodule(module)).attribute(x[None].clone(), unit)[0]


def by_zennit(model: nn.Module, module: str, x: Tensor, unit: Unit, method: str) -> Tensor:
    """Return the gradient of the unit under zennit's composite."""
    from zennit.composites import DeconvNet, GuidedBackprop

    composite = {"deconvnet": DeconvNet, "guided": GuidedBackprop}[method]()
    outputs: list[Tensor] = []
    pixels = x[None].clone().requires_grad_()
    handle = model.get_submodule(module).register_forward_hook(lambda *a: outputs.append(a[2]))
    try:
        with composite.context(model) as changed:
            changed(pixels)
            (signal,) = torch.autograd.grad(outputs[0][(0, *unit)], pixels)
    finally:
        handle.remove()
    return signal[0]


def apart(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference over the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())
