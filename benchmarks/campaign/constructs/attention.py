"""Attention in the ways that people write it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campaign.constructs.batches import joined, windows
from campaign.constructs.writing import Net, between, net


def tokens(z: Tensor) -> Tensor:
    return z.flatten(2).transpose(1, 2)


def unbound(m: Net, x: Tensor) -> Tensor:
    """Return what timm's vision transformer does: three in one, taken apart by unbind(0)."""
    t = tokens(m.first(x))
    n, count, width = t.shape
    q, k, v = m.qkv(t).reshape(n, count, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = (q * 0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
    return m.head(m.out(mixed.transpose(1, 2).reshape(n, count, width)).mean(1))


def product(m: Net, x: Tensor) -> Tensor:
    t = tokens(m.first(x))
    q, k, v = m.qkv(t).chunk(3, -1)
    q, k, v = (one.unflatten(-1, (2, 4)).transpose(1, 2) for one in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v)
    return m.head(m.out(mixed.transpose(1, 2).flatten(2))[:, 0])


def tokens_with_class(m: Net, x: Tensor) -> Tensor:
    t = tokens(m.first(x))
    t = torch.cat([m.token.expand(x.shape[0], -1, -1), t], 1) + m.places
    return m.head(m.norm(m.block(t))[:, 0])


def multihead(m: Net, z: Tensor) -> Tensor:
    t = tokens(z)
    return m.mix(t, t, t, need_weights=False)[0].transpose(1, 2).reshape(z.shape)


def multihead_first(m: Net, z: Tensor) -> Tensor:
    t = z.flatten(2).permute(2, 0, 1)
    return m.mix(t, t, t)[0].permute(1, 2, 0).reshape(z.shape)


def encoded(m: Net, z: Tensor) -> Tensor:
    return m.block(tokens(z)).transpose(1, 2).reshape(z.shape)


def swin(m: Net, z: Tensor) -> Tensor:
    shifted = torch.roll(z, (-2, -2), (2, 3))
    rows = windows(shifted)
    q, k, v = m.qkv(rows).chunk(3, -1)
    mixed = (q @ k.transpose(1, 2) + m.bias).softmax(-1) @ v
    return z + torch.roll(joined(mixed, z.shape), (2, 2), (2, 3))


def non_local(m: Net, z: Tensor) -> Tensor:
    n, _, h, w = z.shape
    theta, phi, g = (part(z).view(n, 4, -1) for part in (m.theta, m.phi, m.g))
    weights = torch.softmax(torch.bmm(theta.transpose(1, 2), phi), -1)
    return z + m.out(torch.bmm(g, weights.transpose(1, 2)).view(n, 4, h, w))


def channelwise(m: Net, z: Tensor) -> Tensor:
    """Return attention among channels (DANet, XCA)."""
    rows = F.normalize(z.flatten(2), dim=-1)
    weights = torch.softmax(rows @ rows.transpose(1, 2), -1)
    return (weights @ z.flatten(2)).view_as(z)


def linear(m: Net, z: Tensor) -> Tensor:
    q, k, v = m.qkv(tokens(z)).chunk(3, -1)
    q, k = F.elu(q) + 1, F.elu(k) + 1
    total = torch.einsum("nkc,nkd->ncd", k, v)
    scale = 1 / (torch.einsum("nqc,nc->nq", q, k.sum(1)) + 1e-6)
    return torch.einsum("nqc,ncd,nq->nqd", q, total, scale).transpose(1, 2).reshape(z.shape)


def axial(m: Net, z: Tensor) -> Tensor:
    n, c, h, w = z.shape
    rows = z.permute(0, 2, 3, 1).reshape(n * h, w, c)
    mixed = (rows @ rows.transpose(1, 2) / 8).softmax(-1) @ rows
    return mixed.reshape(n, h, w, c).permute(0, 3, 1, 2)


QKV = {"qkv": lambda: nn.Linear(8, 24), "out": lambda: nn.Linear(8, 8)}
ENDS = {"first": lambda: nn.Conv2d(3, 8, 4, 4), "head": lambda: nn.Linear(8, 5)}

CASES = [
    net("qkv with unbind(0)", unbound, **ENDS, **QKV),
    net("scaled_dot_product_attention", product, **ENDS, **QKV),
    net(
        "transformer with a cls token",
        tokens_with_class,
        **ENDS,
        token=lambda: nn.Parameter(torch.randn(1, 1, 8)),
        places=lambda: nn.Parameter(torch.randn(1, 17, 8)),
        block=lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True),
        norm=lambda: nn.LayerNorm(8),
    ),
    between(
        "MultiheadAttention", multihead, mix=lambda: nn.MultiheadAttention(8, 2, batch_first=True)
    ),
    between(
        "MultiheadAttention, tokens first", multihead_first, mix=lambda: nn.MultiheadAttention(8, 2)
    ),
    between(
        "TransformerEncoderLayer",
        encoded,
        block=lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu"),
    ),
    between(
        "shifted window attention",
        swin,
        qkv=lambda: nn.Linear(8, 24),
        bias=lambda: nn.Parameter(torch.randn(16, 16)),
    ),
    between(
        "non-local block",
        non_local,
        theta=lambda: nn.Conv2d(8, 4, 1),
        phi=lambda: nn.Conv2d(8, 4, 1),
        g=lambda: nn.Conv2d(8, 4, 1),
        out=lambda: nn.Conv2d(4, 8, 1),
    ),
    between("channel attention by matmul", channelwise),
    between("linear attention by einsum", linear, qkv=lambda: nn.Linear(8, 24)),
    between("axial attention", axial),
]
