"""Blocks of which networks are stacked at random: from maps of four channels to such maps."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.projection.styles import Modules, excited, next_block, shuffled

BLOCKS: dict[str, Callable[[Modules, Tensor], Tensor]] = {
    "convolution": lambda m, a: F.relu(m.b(a)),
    "strided": lambda m, a: m.six(F.relu(m.down(a))),
    "point, strided": lambda m, a: F.relu(m.point(a[:, :, ::2, 1::2])),
    "dilated": lambda m, a: F.relu(m.norm(m.dilated(a))),
    "valid": lambda m, a: F.relu_(m.norm(m.valid(a))),
    "same": lambda m, a: F.relu(m.same(a)),
    "circular": lambda m, a: F.relu(m.circular(a)),
    "reflected": lambda m, a: F.relu(m.reflected(a)),
    "replicated": lambda m, a: F.relu(m.valid(F.pad(a, (0, 2, 1, 2), "replicate"))),
    "padded": lambda m, a: F.relu(m.b(F.pad(a, (2, 0, -1, 2)))),
    "residual": lambda m, a: F.relu(m.c(F.relu(m.norm(m.b(a)))) + a),
    "residual, grouped": lambda m, a: F.relu6(m.wide(F.relu6(m.grouped(a))) + m.point(a)),
    "cropped residual": lambda m, a: F.relu(m.valid(a)) + a[:, :, 1:-1, 1:-1],
    "dense": lambda m, a: F.relu(m.wide(torch.cat([a, F.relu(m.b(a))], 1))),
    "separable": lambda m, a: F.relu(m.point(F.relu(m.norm(m.depthwise(a))))),
    "shuffled": lambda m, a: F.relu(m.wide(shuffled(F.relu(m.grouped(a)), 2))),
    "excited": lambda m, a: excited(m, F.relu(m.b(a))),
    "next": lambda m, a: next_block(m, a),
    "max pool": lambda m, a: F.max_pool2d(a, 2),
    "overlapping pool": lambda m, a: F.max_pool2d(a, 3, 2, 1),
    "pool, ceil": lambda m, a: F.max_pool2d(a, 3, 2, ceil_mode=True),
    "pool, dilated": lambda m, a: F.max_pool2d(a, (2, 3), 1, (0, 1), (1, 2)),
    "average pool": lambda m, a: F.avg_pool2d(a, 3, 2, 1, True, False),
    "adaptive pool": lambda m, a: F.adaptive_avg_pool2d(a, (5, 4)),
    "both pools": lambda m, a: F.max_pool2d(a, 3, 1, 1) + F.avg_pool2d(a, 3, 1, 1),
    "nearest": lambda m, a: F.interpolate(a, scale_factor=2),
    "bilinear": lambda m, a: F.interpolate(a, (9, 12), mode="bilinear"),
    "transposed": lambda m, a: F.relu(m.up(a)),
    "deep and up": lambda m, a: F.relu(
        m.wide(
            torch.cat(
                [a, m.up(F.max_pool2d(a, 2, ceil_mode=True))[..., : a.shape[2], : a.shape[3]]], 1
            )
        )
    ),
    "flipped": lambda m, a: a + a.flip(-1).roll(2, 2),
    "two columns": lambda m, a: torch.cat([a[..., 3:], F.relu(m.b(a))[..., :4]], 3),
    "leaky": lambda m, a: F.leaky_relu(m.b(a), 0.1),
    "smooth": lambda m, a: F.silu(m.b(F.gelu(m.point(a)))),
    "norm": lambda m, a: m.norm(a),
    "contrast": lambda m, a: a / (1 + F.avg_pool2d(a * a, 3, 1, 1)),
    "shifted": lambda m, a: 1 - m.scale * a,
    "means": lambda m, a: a - a.mean(3, keepdim=True),
}


class Stack(nn.Module):
    """A convolution, these blocks, and another convolution, for images of this shape."""

    def __init__(self, names: Sequence[str], shape: tuple[int, int, int]) -> None:
        super().__init__()
        a = torch.zeros(1, *shape)
        written = [
            lambda m, x: F.relu(m.a(x)),
            *(BLOCKS[name] for name in names),
            lambda m, a: m.c(a),
        ]
        self.blocks = nn.Sequential()
        for one in written:
            block = Modules(one, a)
            self.blocks.append(block)
            a = block(a).detach()

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)
