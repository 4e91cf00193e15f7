"""Constructs that compute with the number of images, or fold it into other axes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campaign.constructs.writing import Net, between, net


def windows(x: Tensor, side: int = 4) -> Tensor:
    """Cut maps into windows, each a row of the batch (Swin)."""
    n, c, h, w = x.shape
    cut = x.view(n, c, h // side, side, w // side, side)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, c)


def joined(rows: Tensor, shape: torch.Size, side: int = 4) -> Tensor:
    n, c, h, w = shape
    cut = rows.view(n, h // side, w // side, side, side, c)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)


def counted_windows(m: Net, z: Tensor) -> Tensor:
    """Get the batch back from the number of windows, as Swin's window_reverse does."""
    rows, (h, w) = windows(z), z.shape[-2:]
    n = int(rows.shape[0] / (h * w / 4 / 4))
    back = (rows * rows.mean(1, keepdim=True)).view(n, h // 4, w // 4, 4, 4, -1)
    return back.permute(0, 5, 1, 3, 2, 4).contiguous().view(n, -1, h, w)


def coordinates(m: Net, z: Tensor) -> Tensor:
    n, _, h, w = z.shape
    rows = torch.linspace(-1, 1, h, dtype=z.dtype).view(1, 1, h, 1).expand(n, 1, h, w)
    columns = torch.linspace(-1, 1, w, dtype=z.dtype).view(1, 1, 1, w).expand(n, 1, h, w)
    return torch.cat([z, rows, columns], 1)


def transformed(m: Net, z: Tensor) -> Tensor:
    """Sample maps where the image itself says (spatial transformer)."""
    theta = m.where(F.adaptive_avg_pool2d(z, 2).flatten(1)).view(-1, 2, 3)
    theta = 0.1 * theta + torch.eye(2, 3, dtype=z.dtype)
    grid = F.affine_grid(theta, list(z.shape), align_corners=False)
    return F.grid_sample(z, grid, align_corners=False)


def still(m: Net, z: Tensor) -> Tensor:
    theta = torch.tensor([[0.9, 0.1, 0.05], [-0.1, 1.1, 0.0]], dtype=z.dtype)
    grid = F.affine_grid(theta.expand(z.shape[0], 2, 3), list(z.shape), align_corners=False)
    return F.grid_sample(z, grid, align_corners=False)


def zeros(m: Net, z: Tensor) -> Tensor:
    n, c, h, w = z.shape
    wide = torch.zeros(n, c, h + 2, w + 2, dtype=z.dtype)
    wide[:, :, 1:-1, 1:-1] = z
    return wide


def frames(m: Net, x: Tensor) -> Tensor:
    """Six channels are two frames of three; both go through one network."""
    n, _, h, w = x.shape
    each = F.relu(m.first(x.view(n * 2, 3, h, w)))
    return m.last(each.view(n, 2, 8, h, w).mean(1))


def frames_apart(m: Net, x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    each = F.relu(m.first(x.view(n, 2, 3, h, w).flatten(0, 1)))
    return m.last(each.unflatten(0, (n, 2)).flatten(1, 2))


def one_by_one(m: Net, x: Tensor) -> Tensor:
    return torch.cat([m.last(F.relu(m.first(image[None]))) for image in x])


def one_by_one_stacked(m: Net, x: Tensor) -> Tensor:
    return torch.stack([m.last(F.relu(m.first(x[n : n + 1])))[0] for n in range(x.shape[0])])


def by_the_batch(m: Net, z: Tensor) -> Tensor:
    return z * (1.0 + 0.0 * z.shape[0]) + torch.arange(z.shape[0], dtype=z.dtype).sum() * 0


CASES = [
    between("window partition (Swin)", lambda m, z: joined(windows(z).softmax(1), z.shape)),
    between("windows, batch counted back", counted_windows),
    between("CoordConv", coordinates, after=10),
    between(
        "expand(n, ...) added",
        lambda m, z: (
            z + torch.linspace(-1, 1, 16, dtype=z.dtype).view(1, 1, 16, 1).expand(len(z), 1, 16, 16)
        ),
    ),
    between("spatial transformer", transformed, where=lambda: nn.Linear(32, 6)),
    between("grid_sample of a fixed grid", still),
    between("zeros(n, ...) filled in place", zeros),
    between(
        "zeros(n, ...) joined",
        lambda m, z: torch.cat([z, torch.zeros(z.size(0), 2, *z.shape[2:], dtype=z.dtype)], 1),
        after=10,
    ),
    between(
        "new_zeros as first state",
        lambda m, z: F.relu(z + m.again(z.new_zeros(z.shape[0], 8, 16, 16) + z)),
        again=lambda: nn.Conv2d(8, 8, 3, padding=1),
    ),
    between(
        "view(n * c, 1, h, w)", lambda m, z: z.view(z.shape[0] * 8, 1, 16, 16).mul(2).view_as(z)
    ),
    between(
        "one filter for each map",
        lambda m, z: F.relu(m.blur(z.reshape(-1, 1, *z.shape[2:]))).reshape(z.shape),
        blur=lambda: nn.Conv2d(1, 1, 3, padding=1),
    ),
    between(
        "flatten(0, 1)",
        lambda m, z: F.avg_pool2d(z.flatten(0, 1)[:, None], 3, 1, 1)[:, 0].view(z.shape),
    ),
    between(
        "cls token expand",
        lambda m, z: torch.cat([m.token.expand(z.shape[0], -1, -1, z.shape[3]), z], 2),
        token=lambda: nn.Parameter(torch.randn(1, 8, 1, 1)),
    ),
    between(
        "repeat(n, ...)",
        lambda m, z: z * m.gain.repeat(z.shape[0], 1, 1, 1),
        gain=lambda: nn.Parameter(torch.randn(1, 8, 16, 16)),
    ),
    net(
        "frames in the batch",
        frames,
        (6, 12, 12),
        first=lambda: nn.Conv2d(3, 8, 3, padding=1),
        last=lambda: nn.Conv2d(8, 4, 3),
    ),
    net(
        "frames unflattened",
        frames_apart,
        (6, 12, 12),
        first=lambda: nn.Conv2d(3, 8, 3, padding=1),
        last=lambda: nn.Conv2d(16, 4, 3),
    ),
    net(
        "a loop over images",
        one_by_one,
        (3, 10, 10),
        first=lambda: nn.Conv2d(3, 8, 3),
        last=lambda: nn.Conv2d(8, 4, 3),
    ),
    net(
        "a loop over numbers of images",
        one_by_one_stacked,
        (3, 10, 10),
        first=lambda: nn.Conv2d(3, 8, 3),
        last=lambda: nn.Conv2d(8, 4, 3),
    ),
    between("arange of the batch", by_the_batch),
    between(
        "images of the batch by rows",
        lambda m, z: z.permute(2, 0, 1, 3).contiguous().mul(1.5).permute(1, 2, 0, 3),
    ),
    net(
        "head after squeeze()",
        lambda m, x: m.head(F.adaptive_avg_pool2d(F.relu(m.first(x)), 1).squeeze()),
        first=lambda: nn.Conv2d(3, 8, 3),
        head=lambda: nn.Linear(8, 5),
    ),
    net(
        "squeeze() of the output",
        lambda m, x: m.last(F.relu(m.first(x))).squeeze(),
        first=lambda: nn.Conv2d(3, 8, 3),
        last=lambda: nn.Conv2d(8, 1, 3),
    ),
    net(
        "view(n, -1) before the head",
        lambda m, x: m.head(F.relu(m.first(x)).view(x.size(0), -1)),
        first=lambda: nn.Conv2d(3, 4, 3, 3),
        head=lambda: nn.Linear(4 * 25, 5),
    ),
]
