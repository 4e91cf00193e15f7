"""Normalisations: PyTorch's own, of maps, tokens and vectors, and written by hand."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campaign.constructs.writing import Net, between, net


class FrozenNorm(nn.Module):
    """Batch normalisation whose statistics are buffers, as detectors have it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.3), ("bias", 0.2), ("mean", 0.1), ("var", 0.8)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.var + 1e-5).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.mean * scale)[:, None, None]


class LayerNorm2d(nn.LayerNorm):
    """Over channels of maps, written with permute."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


def by_hand(m: Net, z: Tensor) -> Tensor:
    mean = z.mean(1, keepdim=True)
    variance = (z - mean).pow(2).mean(1, keepdim=True)
    return (z - mean) / torch.sqrt(variance + 1e-6) * m.gain


def standardised(m: Net, z: Tensor) -> Tensor:
    w = m.kernel
    w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
    return F.conv2d(z, w, padding=1)


def gain() -> nn.Parameter:
    return nn.Parameter(torch.randn(1, 8, 1, 1))


def tokens(z: Tensor) -> Tensor:
    return z.flatten(2).transpose(1, 2)


CASES = [
    between("batch norm", lambda m, z: F.relu(m.norm(z)), norm=lambda: nn.BatchNorm2d(8)),
    between(
        "batch norm that counts batches",
        lambda m, z: F.relu(m.norm(z)),
        norm=lambda: nn.BatchNorm2d(8, momentum=None),
    ),
    between(
        "batch norm without statistics",
        lambda m, z: F.relu(m.norm(z)),
        norm=lambda: nn.BatchNorm2d(8, track_running_stats=False),
    ),
    net(
        "batch norm of vectors",
        lambda m, x: m.last(F.relu(m.norm(m.head(F.relu(m.first(x)).mean((2, 3)))))),
        first=lambda: nn.Conv2d(3, 8, 3),
        head=lambda: nn.Linear(8, 6),
        norm=lambda: nn.BatchNorm1d(6),
        last=lambda: nn.Linear(6, 4),
    ),
    between(
        "batch norm of tokens",
        lambda m, z: m.norm(z.flatten(2)).view_as(z),
        norm=lambda: nn.BatchNorm1d(8),
    ),
    net(
        "batch norm, then one token",
        lambda m, x: m.head(tokens(m.norm(m.first(x)))[:, 3]),
        (3, 7, 7),
        first=lambda: nn.Conv2d(3, 8, 1),
        norm=lambda: nn.BatchNorm2d(8),
        head=lambda: nn.Linear(8, 5),
    ),
    net(
        "instance norm, then one token",
        lambda m, x: m.head(tokens(m.norm(m.first(x)))[:, 3]),
        (3, 7, 7),
        first=lambda: nn.Conv2d(3, 8, 1),
        norm=lambda: nn.InstanceNorm2d(8),
        head=lambda: nn.Linear(8, 5),
    ),
    between(
        "batch norm of transposed maps",
        lambda m, z: m.norm(z.transpose(1, 2)).transpose(1, 2),
        norm=lambda: nn.BatchNorm2d(16),
    ),
    between("frozen batch norm", lambda m, z: F.relu(m.norm(z)), norm=lambda: FrozenNorm(8)),
    between("sync batch norm", lambda m, z: m.norm(z), norm=lambda: nn.SyncBatchNorm(8)),
    between("instance norm", lambda m, z: m.norm(F.relu(z)), norm=lambda: nn.InstanceNorm2d(8)),
    between(
        "instance norm, affine, last",
        lambda m, z: F.relu(m.norm(z)),
        norm=lambda: nn.InstanceNorm2d(8, affine=True),
    ),
    between(
        "instance norm with statistics",
        lambda m, z: F.relu(m.norm(z)),
        norm=lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    ),
    between(
        "instance norm, channels last",
        lambda m, z: m.norm(z.contiguous(memory_format=torch.channels_last)),
        norm=lambda: nn.InstanceNorm2d(8),
    ),
    between("group norm", lambda m, z: F.relu(m.norm(z)), norm=lambda: nn.GroupNorm(2, 8)),
    between("group norm of one group", lambda m, z: m.norm(z), norm=lambda: nn.GroupNorm(1, 8)),
    between("layer norm of maps", lambda m, z: m.norm(z), norm=lambda: LayerNorm2d(8)),
    between(
        "layer norm of whole maps", lambda m, z: m.norm(z), norm=lambda: nn.LayerNorm([8, 16, 16])
    ),
    between("layer norm over columns", lambda m, z: m.norm(z), norm=lambda: nn.LayerNorm(16)),
    between(
        "layer norm of NHWC",
        lambda m, z: m.norm(z.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        norm=lambda: nn.LayerNorm(8),
    ),
    between(
        "RMS norm",
        lambda m, z: m.norm(z.movedim(1, -1)).movedim(-1, 1),
        norm=lambda: nn.RMSNorm(8),
    ),
    between("RMS norm over columns", lambda m, z: F.rms_norm(z, (16,))),
    between("a norm by hand", by_hand, gain=gain),
    between("local response norm", lambda m, z: F.local_response_norm(F.relu(z), 5)),
    between("F.normalize", lambda m, z: F.normalize(z, dim=1)),
    between("divided by its own norm", lambda m, z: z / (z.norm(dim=(2, 3), keepdim=True) + 1e-3)),
    between(
        "global response norm",
        lambda m, z: (
            z + m.gain * z * (g := z.norm(2, (2, 3), True)) / (g.mean(1, keepdim=True) + 1e-6)
        ),
        gain=gain,
    ),
    between(
        "var_mean", lambda m, z: (z - (p := torch.var_mean(z, (2, 3), keepdim=True))[1]) / p[0]
    ),
    between("softmax of channels", lambda m, z: z.softmax(1)),
    between("log_softmax of maps", lambda m, z: z.flatten(2).log_softmax(-1).view_as(z)),
    between(
        "standardised kernels",
        standardised,
        kernel=lambda: nn.Parameter(torch.randn(8, 8, 3, 3)),
    ),
]
