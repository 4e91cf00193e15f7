"""Poolings, maxima, sorting and choosing."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campaign.constructs.writing import Net, between, net


def unpooled(m: Net, z: Tensor) -> Tensor:
    pooled, places = F.max_pool2d(F.relu(z), 2, return_indices=True)
    return F.max_unpool2d(m.mid(pooled), places, 2)


def spatial_gate(m: Net, z: Tensor) -> Tensor:
    """Return CBAM's gate, with max(x, 1)[0]."""
    seen = torch.cat([torch.max(z, 1)[0].unsqueeze(1), torch.mean(z, 1).unsqueeze(1)], 1)
    return z * torch.sigmoid(m.gate(seen))


def best(m: Net, z: Tensor) -> Tensor:
    values, _ = z.flatten(2).topk(16, -1)
    return values.view(len(z), 8, 4, 4)


def softened(m: Net, z: Tensor) -> Tensor:
    """Return soft-argmax: where a map is large, on average."""
    weights = z.flatten(2).softmax(-1)
    places = torch.linspace(-1, 1, weights.shape[-1], dtype=z.dtype)
    return z * (weights * places).sum(-1)[..., None, None]


CASES = [
    between("max pooling", lambda m, z: F.max_pool2d(F.relu(z), 2)),
    between("max pooling, overlapping", lambda m, z: F.max_pool2d(z, 3, 2, 1)),
    between(
        "max pooling, ceil", lambda m, z: F.max_pool2d(z, 3, 2, ceil_mode=True), shape=(3, 14, 17)
    ),
    between("max pooling, dilated", lambda m, z: F.max_pool2d(z, 3, 1, dilation=2)),
    between("adaptive max pooling that divides", lambda m, z: F.adaptive_max_pool2d(z, (4, 8))),
    between("adaptive max pooling that does not", lambda m, z: F.adaptive_max_pool2d(z, 5)),
    between("adaptive average that does not divide", lambda m, z: F.adaptive_avg_pool2d(z, (5, 3))),
    between("average, padding not counted", lambda m, z: F.avg_pool2d(z, 3, 2, 1, True, False)),
    between("LPPool", lambda m, z: F.lp_pool2d(F.relu(z), 2, 2)),
    between("LPPool without zeros", lambda m, z: F.lp_pool2d(z.abs() + 0.1, 3, 2)),
    between(
        "generalised mean (GeM)", lambda m, z: F.avg_pool2d(z.clamp(min=1e-6).pow(3), 2).pow(1 / 3)
    ),
    between(
        "blurred pooling",
        lambda m, z: F.conv2d(F.pad(z, (1, 1, 1, 1), "reflect"), m.kernel, stride=2, groups=8),
        kernel=lambda: nn.Parameter(torch.rand(8, 1, 3, 3), requires_grad=False),
    ),
    between(
        "fractional max pooling",
        lambda m, z: F.fractional_max_pool2d(
            z, 2, output_size=8, _random_samples=torch.full((len(z), 8, 2), 0.3, dtype=z.dtype)
        ),
    ),
    between("MaxUnpool", unpooled, mid=lambda: nn.Conv2d(8, 8, 3, padding=1)),
    between("max(x, dim)[0]", spatial_gate, gate=lambda: nn.Conv2d(2, 1, 7, padding=3)),
    between("amax", lambda m, z: z - z.amax(1, keepdim=True)),
    between(
        "max over all", lambda m, z: z / (1 + z.abs().flatten(1).max(1).values[:, None, None, None])
    ),
    between("min(x, dim)", lambda m, z: z - z.min(3, keepdim=True).values),
    between("median", lambda m, z: z - z.median(1, keepdim=True).values),
    between("topk", best),
    between("sort", lambda m, z: z.sort(1, descending=True)[0]),
    between("cummax", lambda m, z: z.cummax(3).values),
    between("cumsum", lambda m, z: z.cumsum(2) / 4),
    between("cumprod", lambda m, z: z.tanh().cumprod(1)),
    between("argmax as a weight", lambda m, z: z * z.argmax(1, keepdim=True)),
    between("gather by argmax", lambda m, z: z + z.gather(1, z.argmax(1, keepdim=True))),
    between("one-hot of argmax", lambda m, z: z * F.one_hot(z.argmax(1), 8).movedim(-1, 1)),
    between("soft-argmax", softened),
    between("stack, then max", lambda m, z: torch.stack([z, z.flip(1), -z]).max(0).values),
    between("stack(...).sum(0)", lambda m, z: torch.stack([z, F.relu(z)]).sum(dim=0)),
    between("stack, then mean(0)", lambda m, z: torch.stack([z, z.roll(1, 2), z * z], 0).mean(0)),
    between(
        "stack on a new axis", lambda m, z: torch.stack([z, F.relu(z)], 2).flatten(1, 2), after=16
    ),
    between("std of maps", lambda m, z: z / (z.std((2, 3), keepdim=True) + 0.1)),
    between(
        "max pooling 1-D of rows",
        lambda m, z: F.max_pool1d(z.flatten(1, 2), 2).unflatten(1, (8, 16)),
    ),
    net(
        "max over places, then a head",
        lambda m, x: m.head(m.first(x).flatten(2).max(-1)[0]),
        first=lambda: nn.Conv2d(3, 8, 3),
        head=lambda: nn.Linear(8, 5),
    ),
    net(
        "max pooling 3-D",
        lambda m, x: m.last(F.max_pool3d(F.relu(m.first(x))[:, None], (2, 2, 2))[:, 0]),
        first=lambda: nn.Conv2d(3, 8, 3, padding=1),
        last=lambda: nn.Conv2d(4, 4, 3),
    ),
]
