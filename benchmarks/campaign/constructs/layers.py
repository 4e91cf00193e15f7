"""Kinds of layers: transposed, of one and three dimensions, dynamic, of other layouts."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from campaign.constructs.writing import Net, between, net


def conv(before: int = 8, after: int = 8, kernel: int = 3, **more: object) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, **{"padding": kernel // 2, **more})


def dynamic(m: Net, z: Tensor) -> Tensor:
    """Filter each image by kernels made from itself."""
    n = z.shape[0]
    kernels = m.make(z.mean((2, 3))).view(n * 8, 1, 3, 3)
    return F.conv2d(z.view(1, n * 8, *z.shape[2:]), kernels, padding=1, groups=n * 8).view_as(z)


def conditional(m: Net, z: Tensor) -> Tensor:
    """Return a mixture of kernels, with weights from the image (CondConv)."""
    n = z.shape[0]
    weights = torch.sigmoid(m.route(z.mean((2, 3))))
    kernels = (weights @ m.experts.flatten(1)).view(n * 8, 8, 3, 3)
    return F.conv2d(z.reshape(1, n * 8, *z.shape[2:]), kernels, padding=1, groups=n).view_as(z)


def involution(m: Net, z: Tensor) -> Tensor:
    n, c, h, w = z.shape
    kernels = m.make(z).view(n, 1, 9, h, w)
    return (F.unfold(z, 3, padding=1).view(n, c, 9, h, w) * kernels).sum(2)


def unfolded(m: Net, z: Tensor) -> Tensor:
    columns = F.unfold(z, 2, stride=2)
    return F.fold(columns * m.gain[:, None], (16, 16), 2, stride=2)


def local(m: Net, z: Tensor) -> Tensor:
    """Return a convolution by windows: unfold, then einsum."""
    patches = z.unfold(2, 3, 1).unfold(3, 3, 1)
    return torch.einsum("nchwij,dcij->ndhw", patches, m.kernel)


def tied(m: Net, x: Tensor) -> Tensor:
    hidden = F.relu(m.first(x))
    return F.conv_transpose2d(hidden, m.first.weight, padding=1)


def depth(m: Net, z: Tensor) -> Tensor:
    return F.relu(m.mid(z[:, None]))[:, 0]


def upsampled(**more: object):
    return lambda m, z: F.interpolate(F.relu(z), **more)


NHWC = "channels last"

CASES = [
    net(
        "generator of transposed convolutions",
        lambda m, x: torch.tanh(m.c(F.relu(m.norm(m.b(F.relu(m.a(x))))))),
        (16, 1, 1),
        a=lambda: nn.ConvTranspose2d(16, 8, 4, 1, 0),
        b=lambda: nn.ConvTranspose2d(8, 8, 4, 2, 1),
        norm=lambda: nn.BatchNorm2d(8),
        c=lambda: nn.ConvTranspose2d(8, 3, 4, 2, 1),
    ),
    between(
        "transposed convolution, groups, dilation",
        lambda m, z: F.relu(m.up(F.relu(z))),
        up=lambda: nn.ConvTranspose2d(8, 8, 3, 2, 1, 1, groups=2, dilation=2),
    ),
    between(
        "tied transposed convolution",
        lambda m, z: F.conv_transpose2d(m.mid(F.relu(z)), m.mid.weight),
        mid=lambda: nn.Conv2d(8, 8, 3),
    ),
    net(
        "Conv1d of squeezed rows",
        lambda m, x: m.last(F.relu(m.first(x.squeeze(2)))),
        (1, 1, 64),
        first=lambda: nn.Conv1d(1, 4, 5),
        last=lambda: nn.Conv1d(4, 2, 3),
    ),
    net(
        "Conv1d inside",
        lambda m, x: m.last(F.relu(m.mid(F.relu(m.first(x)).flatten(2)))),
        first=lambda: conv(3),
        mid=lambda: nn.Conv1d(8, 8, 3),
        last=lambda: nn.Conv1d(8, 4, 1),
    ),
    between(
        "Conv1d over channels (ECA)",
        lambda m, z: z * torch.sigmoid(m.mid(z.mean((2, 3))[:, None]))[:, 0, :, None, None],
        mid=lambda: nn.Conv1d(1, 1, 3, padding=1, bias=False),
    ),
    between("Conv3d inside", depth, mid=lambda: nn.Conv3d(1, 1, 3, padding=1)),
    net(
        "Conv3d first",
        lambda m, x: m.last(F.relu(m.first(x[:, None])).flatten(1, 2)),
        (3, 10, 10),
        first=lambda: nn.Conv3d(1, 4, (2, 3, 3)),
        last=lambda: nn.Conv2d(8, 4, 3),
    ),
    net(
        "convolutions in NHWC",
        lambda m, x: m.last(
            F.relu(m.mid(F.relu(m.first(x)).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)))
        ),
        first=lambda: conv(3),
        mid=lambda: conv(),
        last=lambda: conv(8, 4),
    ),
    net(
        "model in channels_last",
        lambda m, x: m.last(F.relu(m.first(x.contiguous(memory_format=torch.channels_last)))),
        first=lambda: conv(3).to(memory_format=torch.channels_last),
        last=lambda: conv(8, 4),
    ),
    net(
        "linear layers on NHWC",
        lambda m, x: m.head(F.gelu(m.more(m.first(x).permute(0, 2, 3, 1)))),
        first=lambda: conv(3),
        more=lambda: nn.Linear(8, 16),
        head=lambda: nn.Linear(16, 4),
    ),
    net(
        "linear layers on tokens",
        lambda m, x: m.head(F.gelu(m.more(m.first(x).flatten(2).transpose(1, 2)))),
        first=lambda: conv(3, 8, 4, stride=4, padding=0),
        more=lambda: nn.Linear(8, 16),
        head=lambda: nn.Linear(16, 4),
    ),
    net(
        "linear along columns",
        lambda m, x: m.last(m.mid(F.relu(m.first(x)))),
        first=lambda: conv(3),
        mid=lambda: nn.Linear(16, 12),
        last=lambda: conv(8, 4),
    ),
    net(
        "mixer",
        lambda m, x: (
            m.head((t := m.first(x).flatten(2)) + F.gelu(m.mix(t))).mean(1)
            if False
            else m.head((t + F.gelu(m.mix(t))).mean(2))
            if (t := m.first(x).flatten(2)) is not None
            else None
        ),
        first=lambda: conv(3, 8, 4, stride=4, padding=0),
        mix=lambda: nn.Linear(16, 16),
        head=lambda: nn.Linear(8, 5),
    ),
    net(
        "linear after matmul",
        lambda m, x: m.head(((t := m.first(x).flatten(2)) @ t.transpose(1, 2) / 16).flatten(1)),
        first=lambda: nn.Conv2d(3, 4, 3),
        head=lambda: nn.Linear(16, 5),
    ),
    net(
        "matmul as a layer",
        lambda m, x: torch.matmul(F.relu(m.first(x)).mean((2, 3)), m.w) + m.b,
        first=lambda: conv(3),
        w=lambda: nn.Parameter(torch.randn(8, 5)),
        b=lambda: nn.Parameter(torch.randn(5)),
    ),
    between(
        "einsum as a convolution",
        lambda m, z: torch.einsum("nchw,dc->ndhw", z, m.w),
        w=lambda: nn.Parameter(torch.randn(8, 8)),
    ),
    between("dynamic filters", dynamic, make=lambda: nn.Linear(8, 72)),
    between(
        "conditional convolution",
        conditional,
        route=lambda: nn.Linear(8, 3),
        experts=lambda: nn.Parameter(torch.randn(3, 8, 8, 3, 3) / 8),
    ),
    between("involution", involution, make=lambda: nn.Conv2d(8, 9, 1)),
    between("unfold and fold", unfolded, gain=lambda: nn.Parameter(torch.randn(32))),
    between(
        "overlapping fold", lambda m, z: F.fold(F.unfold(z, 3, padding=1), (16, 16), 3, padding=1)
    ),
    between(
        "tensor.unfold and einsum", local, kernel=lambda: nn.Parameter(torch.randn(8, 8, 3, 3))
    ),
    between("pixel shuffle", lambda m, z: F.pixel_shuffle(F.relu(z), 2), after=2),
    between("pixel unshuffle", lambda m, z: F.pixel_unshuffle(F.relu(z), 2), after=32),
    between("channel shuffle", lambda m, z: F.channel_shuffle(z, 4)),
    between(
        "space to depth by view",
        lambda m, z: z.view(-1, 8, 8, 2, 8, 2).permute(0, 1, 3, 5, 2, 4).reshape(-1, 32, 8, 8),
        after=32,
    ),
    between(
        "focus slices",
        lambda m, z: torch.cat([z[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1),
        after=32,
    ),
    between(
        "unbind and cat",
        lambda m, z: torch.stack([one * k for k, one in enumerate(z.unbind(1))], 1),
    ),
    between("chunk and swap", lambda m, z: torch.cat(z.chunk(4, 1)[::-1], 1)),
    between(
        "split by sizes",
        lambda m, z: torch.cat(
            [F.relu(p) if p.shape[1] == 3 else p for p in z.split([3, 5], 1)], 1
        ),
    ),
    between("index_select", lambda m, z: z.index_select(1, torch.tensor([3, 1, 1, 0])), after=4),
    between("fancy indexing", lambda m, z: z[:, [0, 2, 4]][:, :, ::2], after=3),
    between("roll and flip", lambda m, z: z.roll((1, -2), (2, 3)).flip(2)),
    between("tril", lambda m, z: torch.tril(z)),
    between(
        "pad modes",
        lambda m, z: F.pad(F.pad(z, (1, 2, 0, 1), "reflect"), (1, 0, 2, 1), "replicate"),
    ),
    between("circular padding", lambda m, z: m.mid(z), mid=lambda: conv(padding_mode="circular")),
    between(
        "strides, dilation, groups",
        lambda m, z: F.relu(m.mid(F.relu(z))),
        mid=lambda: conv(stride=(2, 3), dilation=2, groups=4, padding=(1, 3)),
    ),
    between(
        "same padding, even kernel",
        lambda m, z: m.mid(z),
        mid=lambda: (
            conv(8, 8, (2, 4), padding="same") if False else nn.Conv2d(8, 8, (2, 4), padding="same")
        ),
    ),
    between(
        "kernel larger than the image",
        lambda m, z: m.mid(z),
        shape=(3, 7, 7),
        mid=lambda: conv(8, 8, 11, padding=5),
    ),
    between(
        "1-pixel rows",
        lambda m, z: m.mid(F.relu(z)),
        shape=(3, 1, 24),
        mid=lambda: conv(8, 8, 3, padding=(1, 1)),
    ),
    between(
        "bilinear up, corners aligned",
        upsampled(scale_factor=2, mode="bilinear", align_corners=True),
    ),
    between("bilinear to a size", upsampled(size=(9, 23), mode="bilinear", align_corners=False)),
    between("bicubic, antialiased", upsampled(size=(9, 7), mode="bicubic", antialias=True)),
    between("nearest-exact", upsampled(scale_factor=1.5, mode="nearest-exact")),
    between("area", upsampled(size=(5, 5), mode="area")),
    between(
        "weight norm, old style", lambda m, z: m.mid(F.relu(z)), mid=lambda: weight_norm(conv())
    ),
    between(
        "spectral norm, old style", lambda m, z: m.mid(F.relu(z)), mid=lambda: spectral_norm(conv())
    ),
    between(
        "weight norm, parametrised",
        lambda m, z: m.mid(F.relu(z)),
        mid=lambda: parametrizations.weight_norm(conv()),
    ),
    between(
        "spectral norm, parametrised",
        lambda m, z: m.mid(F.relu(z)),
        mid=lambda: parametrizations.spectral_norm(conv()),
    ),
    between(
        "kernel masked (autoregressive)",
        lambda m, z: F.conv2d(z, m.mid.weight * m.mask, padding=1),
        mid=lambda: conv(),
        mask=lambda: nn.Parameter(torch.tril(torch.ones(3, 3)), requires_grad=False),
    ),
    between(
        "complex convolution by parts",
        lambda m, z: torch.cat([m.r(z[:, :4]) - m.i(z[:, 4:]), m.r(z[:, 4:]) + m.i(z[:, :4])], 1),
        r=lambda: conv(4, 4),
        i=lambda: conv(4, 4),
    ),
    between(
        "lazy convolution",
        lambda m, z: m.mid(F.relu(z)),
        mid=lambda: _run_once(nn.LazyConv2d(8, 3, padding=1)),
    ),
    between(
        "deformable convolution",
        lambda m, z: _deformed(m, z),
        offset=lambda: conv(8, 18),
        mid=lambda: conv(),
    ),
]


def _run_once(layer: nn.Module) -> nn.Module:
    layer(torch.zeros(1, 8, 4, 4))
    return layer


def _deformed(m: Net, z: Tensor) -> Tensor:
    from torchvision.ops import deform_conv2d

    return deform_conv2d(z, 0.3 * m.offset(z), m.mid.weight, padding=1)
