"""Rectifiers, many of them written by hand; ``spelled`` says which of PyTorch's own each is."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from campaign.cases import Case
from campaign.constructs.writing import between

Function = Callable[[Tensor], Tensor]


def gelu_by_tanh(z: Tensor) -> Tensor:
    return 0.5 * z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * torch.pow(z, 3))))


def case(name: str, written: Function, spelled: Function | None = None) -> Case:
    """Return the function between two convolutions, twice: a rule shows at the second only."""
    like = spelled or written
    return between(
        name,
        lambda m, z: m.mid(written(z)).add(written(z)),
        spelled=lambda m, z: m.mid(like(z)).add(like(z)),
        mid=lambda: torch.nn.Conv2d(8, 8, 3, padding=1),
    )


WRITTEN: dict[str, tuple[Function, Function | None]] = {
    "x * relu6(x + 3) / 6": (lambda z: z * F.relu6(z + 3) / 6, F.hardswish),
    "x * (relu6(x + 3) / 6)": (lambda z: z * (F.relu6(z + 3.0) / 6.0), F.hardswish),
    "x * clamp(x + 3, 0, 6) / 6": (lambda z: z * (z + 3).clamp(0, 6).div(6), F.hardswish),
    "x * sigmoid(1.702 x)": (
        lambda z: z * torch.sigmoid(1.702 * z),
        lambda z: F.silu(1.702 * z) / 1.702,
    ),
    "x * sigmoid(x)": (lambda z: z * torch.sigmoid(z), F.silu),
    "x / (1 + exp(-x))": (lambda z: z / (1 + torch.exp(-z)), F.silu),
    "x * (x > 0)": (lambda z: z * (z > 0), F.relu),
    "x * (x > 0).float()": (lambda z: z * (z > 0).to(z.dtype), F.relu),
    "where(x > 0, x, 0)": (lambda z: torch.where(z > 0, z, torch.zeros_like(z)), F.relu),
    "where(x > 0, x, 0.1 x)": (
        lambda z: torch.where(z > 0, z, 0.1 * z),
        lambda z: F.leaky_relu(z, 0.1),
    ),
    "max(x, 0.1 x)": (lambda z: torch.max(z, 0.1 * z), lambda z: F.leaky_relu(z, 0.1)),
    "maximum(x, 0)": (lambda z: torch.maximum(z, torch.zeros_like(z)), F.relu),
    "(x + abs x) / 2": (lambda z: (z + z.abs()) / 2, F.relu),
    "x - min(x, 0)": (lambda z: z - z.clamp(max=0), F.relu),
    "masked_fill(x < 0, 0)": (lambda z: z.masked_fill(z < 0, 0), F.relu),
    "x[x < 0] = 0": (lambda z: (z := z.clone()).__setitem__(z < 0, 0) or z, F.relu),
    "relu(x) - 0.2 relu(-x)": (lambda z: F.relu(z) - 0.2 * F.relu(-z), None),
    "GELU by erf": (lambda z: z * 0.5 * (1 + torch.erf(z / math.sqrt(2))), F.gelu),
    "GELU by tanh": (gelu_by_tanh, lambda z: F.gelu(z, approximate="tanh")),
    "x * tanh(softplus(x))": (lambda z: z * torch.tanh(F.softplus(z)), F.mish),
    "log(1 + exp(x))": (lambda z: torch.log(1 + torch.exp(z)), F.softplus),
    "log1p(exp(x))": (lambda z: z.exp().log1p(), F.softplus),
    "relu(x) ** 2": (lambda z: F.relu(z) ** 2, None),
    "threshold(0.1, 0)": (lambda z: F.threshold(z, 0.1, 0), None),
    "clamp(min=1e-6)": (lambda z: z.clamp(min=1e-6), None),
    "clamp(min=0, max=1)": (lambda z: z.clamp(0, 1), None),
    "hardtanh(0, 6)": (lambda z: F.hardtanh(4 * z, 0, 6), None),
    "rrelu": (F.rrelu, None),
    "PReLU by hand": (
        lambda z: F.relu(z) + 0.25 * (z - z.abs()) * 0.5,
        lambda z: F.leaky_relu(z, 0.25),
    ),
    "ELU by hand": (lambda z: torch.where(z > 0, z, torch.exp(z) - 1), F.elu),
    "CReLU": (lambda z: torch.cat([F.relu(z), F.relu(-z)], 1)[:, 4:12], None),
}

CASES = [case(name, *both) for name, both in WRITTEN.items()]
