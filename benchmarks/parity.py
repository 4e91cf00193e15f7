"""How far rot180's projections are from Captum's and autograd's, on the shipped network.

For every feature of both layers, the unit at the peak: Captum's neuron attribution times the
activation, and autograd's gradient of the activation times the activation. The figure is the
largest difference over the largest value.

    python benchmarks/parity.py [--images 2]
"""

import argparse
import copy
import warnings

import captum.attr
import torch
from torch import Tensor

import rot180
from rot180.datasets import open_dataset

warnings.filterwarnings("ignore", category=UserWarning)
LAYERS = {"conv1": "relu1", "conv2": "relu2"}


def reference(method: str, model: torch.nn.Module, module: str, x: Tensor, unit: tuple) -> Tensor:
    """Return what the other tool gives for one unit and the activation 1."""
    layer = model.get_submodule(module)
    tools = {
        "deconvnet": captum.attr.NeuronDeconvolution,
        "gradient": captum.attr.NeuronGradient,
        "guided": captum.attr.NeuronGuidedBackprop,
    }
    return tools[method](model, layer).attribute(x[None].clone(), unit)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2)
    asked = parser.parse_args()
    shipped, photos = rot180.load("two-layer"), open_dataset("photos", "test")
    print(f"{'dtype':>8} {'layer':>6} {'method':>10} {'units':>6} {'largest relative error':>23}")
    for dtype in (torch.float32, torch.float64):
        model = copy.deepcopy(shipped.model).to(dtype)
        images = [shipped.prepare(photos.image(n)).to(dtype) for n in range(asked.images)]
        net = rot180.capture(model, images[0][None])
        for layer, module in LAYERS.items():
            for method in ("deconvnet", "gradient", "guided"):
                errors = []
                for x in images:
                    for p in rot180.project(net, x, layer, None, "peak", method):
                        if p.activation == 0:
                            continue
                        unit = (p.channel, *p.position)
                        wanted = reference(method, model, module, x, unit) * p.activation
                        largest = wanted.detach().abs().max()
                        errors.append(float((p.full() - wanted).detach().abs().max() / largest))
                name = str(dtype).removeprefix("torch.")
                print(f"{name:>8} {layer:>6} {method:>10} {len(errors):>6} {max(errors):>23.1e}")


if __name__ == "__main__":
    main()
