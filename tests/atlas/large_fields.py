"""A small network whose units see much of the image, and images for it."""

import numpy as np
import torch
from torch import nn

from rot180.models.model import Model
from tests.atlas.scans import pictures

SIDE = 96


def large_pictures(count: int) -> np.ndarray:
    return np.kron(pictures(count), np.ones((1, 8, 8, 1), np.uint8))


def large_model() -> Model:
    """A network whose first layer sees little and whose others see 69 pixels, and all."""
    torch.manual_seed(4)
    layers = [nn.Conv2d(3, 6, 5, 4, 2), nn.ReLU(), nn.Conv2d(6, 5, 17, padding=8), nn.ReLU6()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)]
    net = nn.Sequential(*layers, *head).eval()
    return Model(net, (), (0.5, 0.4, 0.45), (0.25, 0.2, 0.3), (SIDE, SIDE), name="large")
