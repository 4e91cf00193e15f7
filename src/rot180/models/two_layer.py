"""The reference network: two convolutions, each rectified and pooled, and a fully connected end."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rot180 import equations
from rot180.errors import Rot180Error


class TwoLayer(nn.Module):
    """Two 5x5 convolutions (32 and 64 features), ReLU and 2x2 max pooling after each, a softmax.

    The convolutions keep the size ('same' padding), each pooling halves it. The network returns
    the scores before the softmax. With ``hidden`` there is a fully connected layer of that many
    neurons (ReLU, dropout 0.5) before the last one.

    Args:
        classes: number of scores.
        channels: number of channels of the images, 1 or 3.
        size: (height, width) of the images, at least 5 each.
        hidden: number of neurons of the hidden layer; 0 for none.

    Raises:
        Rot180Error: an argument is out of range.
    """

    def __init__(
        self,
        classes: int = 10,
        channels: int = 3,
        size: tuple[int, int] = (32, 32),
        hidden: int = 0,
    ) -> None:
        super().__init__()
        if min(size) < 5:
            raise Rot180Error(
                f"The images are {size[0]}x{size[1]}; the network needs 5x5 at least."
            )
        if channels not in (1, 3):
            raise Rot180Error(f"The network takes images of 1 or 3 channels, not {channels}.")
        if not 0 <= hidden <= 2**20:
            raise Rot180Error(f"The hidden layer cannot have {hidden} neurons.")
        if max(size) > 2**12:
            raise Rot180Error(f"The images are {size[0]}x{size[1]}; at most 4096x4096 are taken.")
        if classes < 2:
            raise Rot180Error(f"A classifier needs two classes at least; there are {classes}.")
        self.conv1 = nn.Conv2d(channels, 32, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(32, 64, 5, padding=2)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        flat = 64 * (size[0] // 4) * (size[1] // 4)
        self.hidden = (
            nn.Sequential(nn.Linear(flat, hidden), nn.ReLU(), nn.Dropout(0.5)) if hidden else None
        )
        self.head = nn.Linear(hidden or flat, classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the scores of each class."""
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = torch.flatten(x, 1)
        if self.hidden is not None:
            x = self.hidden(x)
        scores: Tensor = self.head(x)
        return scores


def equations_network(model: TwoLayer, smoothing: float = 0.0) -> equations.Network:
    """Return the two-layer network in NumPy. It shares its weights with the model.

    A change to the weights of one changes the other. Layers have the names of the model's modules.

    Args:
        model: the network in PyTorch.
        smoothing: share of the target that the cost spreads over all classes.

    Raises:
        Rot180Error: the model is not on the CPU.
    """
    device = model.conv1.weight.device
    if device.type != "cpu":
        raise Rot180Error(f"The equations are computed on the processor, not on '{device}'.")
    first, second = model.conv1, model.conv2
    layers: dict[str, equations.Layer] = {
        "conv1": equations.Convolution(first.in_channels, first.out_channels, 5, padding=2),
        "relu1": equations.ReLU(),
        "pool1": equations.MaxPool(2),
        "conv2": equations.Convolution(second.in_channels, second.out_channels, 5, padding=2),
        "relu2": equations.ReLU(),
        "pool2": equations.MaxPool(2),
        "flatten": equations.Flatten(),
    }
    if model.hidden is not None:
        neurons, inputs = model.get_parameter("hidden.0.weight").shape
        layers["hidden.0"] = equations.Dense(inputs, neurons)
        layers["hidden.1"] = equations.ReLU()
        layers["hidden.2"] = equations.Dropout(0.5)
    layers["head"] = equations.Dense(model.head.in_features, model.head.out_features)
    for name, layer in layers.items():
        if layer.weights:
            module = model.get_submodule(name)
            layer.weights = {"w": _shared(module.weight), "b": _shared(module.bias)}
    return equations.Network(layers, equations.SoftmaxCrossEntropy(smoothing))


def _shared(parameter: Any) -> np.ndarray:
    """Return a parameter as an array that shares its memory; kernels are stored channels last."""
    if parameter.ndim == 4:
        parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    values: np.ndarray = parameter.detach().numpy()
    return values
