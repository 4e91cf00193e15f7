"""Blocks that have names of their own."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campaign.constructs.pools import spatial_gate
from campaign.constructs.writing import Net, between, net


def conv(before: int = 8, after: int = 8, kernel: int = 3, **more: object) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, **{"padding": kernel // 2, **more})


def excited(m: Net, z: Tensor) -> Tensor:
    gate = m.up(F.relu(m.down(F.adaptive_avg_pool2d(z, 1).view(z.size(0), -1))))
    return z * torch.sigmoid(gate).view(z.size(0), -1, 1, 1).expand_as(z)


def cbam(m: Net, z: Tensor) -> Tensor:
    pooled = (F.adaptive_avg_pool2d(z, 1), F.adaptive_max_pool2d(z, 1))
    gate = sum(m.up(F.relu(m.down(one))) for one in pooled)
    return spatial_gate(m, z * torch.sigmoid(gate))


def pyramid(m: Net, z: Tensor) -> Tensor:
    """Return atrous spatial pyramid pooling."""
    found = [F.relu(part(z)) for part in (m.a, m.b, m.c)]
    mean = F.relu(m.d(F.adaptive_avg_pool2d(z, 1)))
    found.append(F.interpolate(mean, z.shape[-2:], mode="bilinear", align_corners=False))
    return torch.cat(found, 1)


def pooled_pyramid(m: Net, z: Tensor) -> Tensor:
    """Return the pyramid pooling of PSPNet."""
    found = [z]
    for bins, part in ((1, m.a), (2, m.b), (3, m.c), (6, m.d)):
        one = F.relu(part(F.adaptive_avg_pool2d(z, bins)))
        found.append(F.interpolate(one, z.shape[2:], mode="bilinear", align_corners=True))
    return torch.cat(found, 1)


def spp(m: Net, z: Tensor) -> Tensor:
    first = F.max_pool2d(z, 5, 1, 2)
    second = F.max_pool2d(first, 5, 1, 2)
    return torch.cat([z, first, second], 1)


def vectors_of_pyramid(m: Net, x: Tensor) -> Tensor:
    z = F.relu(m.first(x))
    found = [F.adaptive_max_pool2d(z, size).flatten(1) for size in (4, 2, 1)]
    return m.head(torch.cat(found, 1))


def fpn(m: Net, x: Tensor) -> list[Tensor]:
    c1 = F.relu(m.first(x))
    c2 = F.relu(m.down(c1))
    c3 = F.relu(m.again(c2))
    p3 = m.l3(c3)
    p2 = m.l2(c2) + F.interpolate(p3, scale_factor=2)
    p1 = m.l1(c1) + F.interpolate(p2, scale_factor=2)
    return [m.out(p1), m.out(p2), m.out(p3)]


def unet(m: Net, x: Tensor) -> Tensor:
    a = F.relu(m.first(x))
    b = F.relu(m.down(F.max_pool2d(a, 2)))
    c = F.relu(m.again(F.max_pool2d(b, 2)))
    b = F.relu(m.l2(torch.cat([b, m.up(c)], 1)))
    return m.out(F.relu(m.l1(torch.cat([a, m.up(b)], 1))))


def cropped_unet(m: Net, x: Tensor) -> Tensor:
    """Join maps of odd sizes as many U-Nets do: pad the smaller one."""
    a = F.relu(m.first(x))
    up = m.up(F.relu(m.down(F.max_pool2d(a, 2))))
    dy, dx = a.size(2) - up.size(2), a.size(3) - up.size(3)
    up = F.pad(up, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
    return m.out(F.relu(m.l1(torch.cat([a, up], 1))))


def ghost(m: Net, z: Tensor) -> Tensor:
    few = F.relu(m.few(z))
    return torch.cat([few, F.relu(m.cheap(few))], 1)[:, :8]


def res2(m: Net, z: Tensor) -> Tensor:
    parts = z.chunk(4, 1)
    found, before = [parts[0]], None
    for part in parts[1:]:
        before = F.relu(m.mid(part if before is None else part + before))
        found.append(before)
    return torch.cat(found, 1) + z


def selective(m: Net, z: Tensor) -> Tensor:
    """Return selective kernels: softmax over branches that are stacked."""
    both = torch.stack([F.relu(m.a(z)), F.relu(m.b(z))], 1)
    weights = m.up(F.relu(m.down(both.sum(1).mean((2, 3), keepdim=True))))
    return (both * weights.view(-1, 2, 8, 1, 1).softmax(1)).sum(1)


def coordinate_attention(m: Net, z: Tensor) -> Tensor:
    h, w = z.shape[2:]
    rows, columns = z.mean(3, keepdim=True), z.mean(2, keepdim=True).transpose(2, 3)
    both = F.hardswish(m.down(torch.cat([rows, columns], 2)))
    rows, columns = both.split([h, w], 2)
    return z * m.a(rows).sigmoid() * m.b(columns.transpose(2, 3)).sigmoid()


def capsules(m: Net, x: Tensor) -> Tensor:
    """Return capsules that agree by routing, squashed."""
    u = m.caps(F.relu(m.first(x))).view(x.shape[0], -1, 4)
    u = u * (s := u.square().sum(-1, keepdim=True)) / ((1 + s) * (s + 1e-8).sqrt())
    votes = torch.einsum("nic,jcd->nijd", u, m.w)
    logits = torch.zeros(votes.shape[:3], dtype=x.dtype)
    for _ in range(2):
        found = (logits.softmax(2)[..., None] * votes).sum(1)
        logits = logits + (votes * found[:, None]).sum(-1)
    return m.head(found.flatten(1))


def vlad(m: Net, x: Tensor) -> Tensor:
    """Return NetVLAD: differences from centres, weighted and normalised."""
    z = F.normalize(m.first(x), dim=1)
    weights = m.assign(z).flatten(2).softmax(1)
    apart = z.flatten(2)[:, None] - m.centres[None, :, :, None]
    found = (apart * weights[:, :, None]).sum(-1)
    return m.head(F.normalize(found, dim=2).flatten(1))


def detector(m: Net, x: Tensor) -> Tensor:
    """Return boxes of a grid, as a YOLO head decodes them."""
    z = m.out(F.silu(m.first(x)))
    n, _, h, w = z.shape
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    grid = torch.stack([x, y], -1).view(1, 1, h, w, 2).to(z.dtype)
    z = z.view(n, 2, 6, h, w).permute(0, 1, 3, 4, 2).sigmoid()
    places = (z[..., :2] * 2 - 0.5 + grid) * 4
    return torch.cat([places, (z[..., 2:4] * 2) ** 2, z[..., 4:]], -1).view(n, -1, 6)


LEVELS = {
    "first": lambda: conv(3),
    "down": lambda: conv(stride=2),
    "again": lambda: conv(stride=2),
    **dict.fromkeys(("l1", "l2", "l3", "out"), lambda: conv(8, 8, 1)),
}
CASES = [
    between(
        "squeeze and excitation", excited, down=lambda: nn.Linear(8, 2), up=lambda: nn.Linear(2, 8)
    ),
    between(
        "CBAM",
        cbam,
        down=lambda: conv(8, 2, 1),
        up=lambda: conv(2, 8, 1),
        gate=lambda: conv(2, 1, 7),
    ),
    between(
        "ASPP",
        pyramid,
        32,
        a=lambda: conv(8, 8, 1),
        b=lambda: conv(dilation=2, padding=2),
        c=lambda: conv(dilation=4, padding=4),
        d=lambda: conv(8, 8, 1),
    ),
    between(
        "pyramid pooling (PSPNet)",
        pooled_pyramid,
        24,
        (3, 12, 12),
        **dict.fromkeys("abcd", lambda: conv(8, 4, 1)),
    ),
    between("pools of pools (SPPF)", spp, 24),
    net(
        "spatial pyramid of vectors",
        vectors_of_pyramid,
        first=lambda: conv(3),
        head=lambda: nn.Linear(168, 5),
    ),
    net("FPN", fpn, **LEVELS),
    net(
        "U-Net",
        unet,
        **{
            **LEVELS,
            "down": lambda: conv(),
            "again": lambda: conv(),
            "l1": lambda: conv(16),
            "l2": lambda: conv(16),
            "up": lambda: nn.ConvTranspose2d(8, 8, 2, 2),
        },
    ),
    net(
        "U-Net that pads",
        cropped_unet,
        (3, 15, 13),
        first=lambda: conv(3),
        down=lambda: conv(),
        l1=lambda: conv(16),
        out=lambda: conv(8, 4, 1),
        up=lambda: nn.ConvTranspose2d(8, 8, 2, 2),
    ),
    between("ghost module", ghost, few=lambda: conv(8, 4, 1), cheap=lambda: conv(4, 4, groups=4)),
    between("Res2Net block", res2, mid=lambda: conv(2, 2)),
    between(
        "selective kernels",
        selective,
        a=lambda: conv(),
        b=lambda: conv(8, 8, 5),
        down=lambda: conv(8, 4, 1),
        up=lambda: conv(4, 16, 1),
    ),
    between(
        "coordinate attention",
        coordinate_attention,
        down=lambda: conv(8, 4, 1),
        a=lambda: conv(4, 8, 1),
        b=lambda: conv(4, 8, 1),
    ),
    net(
        "capsules with routing",
        capsules,
        (3, 10, 10),
        first=lambda: conv(3, 8, 3, padding=0, stride=2),
        caps=lambda: conv(8, 8, 3, padding=0),
        w=lambda: nn.Parameter(torch.randn(3, 4, 4)),
        head=lambda: nn.Linear(12, 3),
    ),
    net(
        "NetVLAD",
        vlad,
        first=lambda: conv(3),
        assign=lambda: conv(8, 4, 1),
        centres=lambda: nn.Parameter(torch.rand(4, 8)),
        head=lambda: nn.Linear(32, 5),
    ),
    net("YOLO head", detector, first=lambda: conv(3), out=lambda: conv(8, 12, 1)),
    net(
        "FCN of odd size",
        lambda m, x: m.up(F.relu(m.down(F.relu(m.first(x)))))[..., 1:16, 2:15],
        (3, 15, 13),
        first=lambda: conv(3),
        down=lambda: conv(stride=2),
        up=lambda: nn.ConvTranspose2d(8, 4, 4, 2),
    ),
    net(
        "Siamese of two images",
        lambda m, x: m.head((m.first(x[:, :3]) - m.first(x[:, 3:])).abs().mean((2, 3))),
        (6, 12, 12),
        first=lambda: conv(3),
        head=lambda: nn.Linear(8, 2),
    ),
    net(
        "autoencoder with a vector",
        lambda m, x: m.up(F.relu(m.wide(m.code(F.relu(m.first(x)).flatten(1)))).view(-1, 4, 6, 6)),
        (3, 12, 12),
        first=lambda: conv(3, 4, 3, stride=2),
        code=lambda: nn.Linear(144, 6),
        wide=lambda: nn.Linear(6, 144),
        up=lambda: nn.ConvTranspose2d(4, 3, 2, 2),
    ),
    net(
        "style by AdaIN",
        lambda m, x: m.last(
            F.instance_norm(z := m.first(x)) * (1 + z.std((2, 3), keepdim=True))
            + z.mean((2, 3), keepdim=True)
        ),
        first=lambda: conv(3),
        last=lambda: conv(8, 4),
    ),
    net(
        "cost volume",
        lambda m, x: m.last(
            torch.stack(
                [(a[..., d:] * b[..., : b.shape[-1] - d]).mean(1)[..., :12] for d in range(4)], 1
            )
            if (b := m.first(x[:, 3:])) is not None and (a := m.first(x[:, :3])) is not None
            else None
        ),
        (6, 10, 16),
        first=lambda: conv(3),
        last=lambda: conv(4, 4),
    ),
]
