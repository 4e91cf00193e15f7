"""What ``units.py`` works on: untrained VGG-16 and ResNet-50, photographs, and their arithmetic."""

import copy

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from rot180.datasets.photos import photograph_paths

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation by which the images of torchvision's networks are normalised."""


def vgg16() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.vgg16().eval().requires_grad_(False)


def resnet50(image: Tensor) -> nn.Module:
    """Make a ResNet-50 that normalises as it finds this image; else its sums would grow."""
    torch.manual_seed(0)
    model = torchvision.models.resnet50().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all that it sees in training, here one image
    model.train()(image[None])
    return model.eval()


def not_in_place(model: nn.Module) -> nn.Module:
    """Copy a model, but not its weights, and let no rectifier of the copy work in place."""
    shared = copy.deepcopy(model, {id(one): one for one in model.parameters()})
    for module in shared.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return shared


def prepared(photo: Image.Image, size: int) -> Tensor:
    """Return a photograph (3, size, size) as the networks of torchvision take it.

    Noise of half a grey level is added: in areas of one colour all positions of a window are
    largest, and which of them rounding makes so differs from one way of multiplying to another.
    """
    pixels = np.asarray(photo.convert("RGB").resize((size, size)), dtype=np.float32)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, pixels.shape).astype(np.float32)
    pixels = (pixels + noise) / 255
    mean, deviation = IMAGENET
    values = (pixels - np.float32(mean)) / np.float32(deviation)
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()


def astronaut(size: int) -> Tensor:
    return prepared(Image.open(photograph_paths()[0]), size)


def crops(rng: np.random.Generator, count: int, size: int) -> Tensor:
    """Cut squares from the photographs in turn, anywhere and of any side from ``size`` up."""
    photos = [Image.open(path) for path in photograph_paths()]
    found = []
    for number in range(count):
        photo = photos[number % len(photos)]
        side = int(rng.integers(size, min(photo.size) + 1))
        left, top = (int(rng.integers(0, whole - side + 1)) for whole in photo.size)
        found.append(prepared(photo.crop((left, top, left + side, top + side)), size))
    return torch.stack(found)


def macs(model: nn.Module, layer: str, size: int, unit: bool) -> list[int]:
    """Return those of each convolution of VGG-16 up to a layer; its own, the last, for one channel.

    Of a unit in the middle: as many outputs of each as it depends on. All convolutions are 3x3
    with padding 1, all windows 2x2, images square: what holds for the rows holds for the columns.
    """
    chain = list(model.features[: int(layer.removeprefix("features.")) + 1])
    sides = [size]
    for module in chain:
        sides.append(sides[-1] // 2 if isinstance(module, nn.MaxPool2d) else sides[-1])
    low, high = (sides[-1] // 2, sides[-1] // 2 + 1) if unit else (0, sides[-1])
    counts = []
    for module, side in zip(reversed(chain), reversed(sides[:-1]), strict=True):
        if isinstance(module, nn.Conv2d):
            channels = module.out_channels if counts else 1
            counts.append((high - low) ** 2 * channels * module.weight[0].numel())
            low, high = max(low - 1, 0), min(high + 1, side)
        elif isinstance(module, nn.MaxPool2d):
            low, high = 2 * low, 2 * high
    return counts[::-1]


def captum_macs(model: nn.Module, layer: str, size: int) -> int:
    """Return those of a whole forward pass, and of the way back from all channels of a layer."""

    def up_to(name: str) -> int:
        *below, last = macs(model, name, size, unit=False)
        return sum(below) + last * model.get_submodule(name).out_channels

    linear = [one.weight.numel() for one in model.classifier if isinstance(one, nn.Linear)]
    return up_to("features.28") + sum(linear) + up_to(layer)
