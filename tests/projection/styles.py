"""Many small networks, each in one of the styles that people write networks in.

A style is a forward pass over the modules of :class:`Modules`, of which it takes what it needs.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolution(before: int, after: int, kernel: int = 3, **more: object) -> nn.Conv2d:
    """Return a convolution that leaves the size of its maps as it is, unless told otherwise."""
    return nn.Conv2d(before, after, kernel, **{"padding": kernel // 2, **more})


def normalised(norm: nn.Module) -> nn.Module:
    """Give a normalisation statistics and weights that matter."""
    for name, one in [*norm.named_parameters(), *norm.named_buffers()]:
        if one.is_floating_point():
            nn.init.uniform_(one, 0.5 if name == "running_var" else -1.5, 2)
    return norm


SIZE = (3, 11, 10)
"""Shape of the images."""

MADE: dict[str, Callable[[], nn.Module | nn.Parameter]] = {
    "a": lambda: convolution(3, 4),
    "b": lambda: convolution(4, 4),
    "c": lambda: convolution(4, 4),
    "bare": lambda: convolution(4, 4, bias=False),
    "point": lambda: convolution(4, 4, 1),
    "point2": lambda: convolution(4, 4, 1),
    "valid": lambda: convolution(4, 4, padding=0),
    "down": lambda: convolution(4, 6, stride=2),
    "six": lambda: convolution(6, 4),
    "wide": lambda: convolution(8, 4),
    "grouped": lambda: convolution(4, 8, groups=2),
    "depthwise": lambda: convolution(4, 4, groups=4),
    "dilated": lambda: convolution(4, 4, dilation=2, padding=2),
    "same": lambda: nn.Conv2d(4, 4, (2, 4), padding="same"),
    "circular": lambda: convolution(4, 4, padding_mode="circular"),
    "reflected": lambda: convolution(4, 4, padding_mode="reflect"),
    "up": lambda: nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1),
    "up2": lambda: nn.ConvTranspose2d(4, 4, (4, 2), stride=(3, 2), groups=2),
    "relu": nn.ReLU,
    "inplace": lambda: nn.ReLU(inplace=True),
    "slopes": lambda: nn.PReLU(4, init=0.3),
    "norm": lambda: normalised(nn.BatchNorm2d(4)),
    "norm2": lambda: normalised(nn.BatchNorm2d(4)),
    "plain_norm": lambda: normalised(nn.BatchNorm2d(4, affine=False)),
    "image_norm": lambda: normalised(nn.BatchNorm2d(3)),
    "group": lambda: normalised(nn.GroupNorm(2, 4)),
    "instance": lambda: normalised(nn.InstanceNorm2d(4, affine=True)),
    "layer_norm": lambda: normalised(nn.LayerNorm(4)),
    "rms_norm": lambda: normalised(nn.RMSNorm(4)),
    "more": lambda: nn.Linear(4, 8),
    "fewer": lambda: nn.Linear(8, 4),
    "squeeze": lambda: nn.Linear(4, 2),
    "excite": lambda: nn.Linear(2, 4),
    "head": lambda: nn.Linear(4, 6),
    "flat": lambda: nn.Linear(5 * 5 * 4, 6),
    "last": lambda: nn.Linear(6, 3),
    "scale": lambda: nn.Parameter(torch.linspace(-1, 1, 4).reshape(4, 1, 1)),
    "relief": lambda: nn.Parameter(torch.randn(1, 4, *SIZE[1:])),
}
"""What the forward passes are written with."""


class Modules(nn.Module):
    """A network of this forward pass; each module is made when it is first used."""

    def __init__(
        self, written: Callable[["Modules", Tensor], Tensor], example: Tensor | None = None
    ) -> None:
        super().__init__()
        self.written = written
        self.eval().forward(torch.zeros(1, *SIZE) if example is None else example)

    def __getattr__(self, name: str) -> object:
        if name in MADE and name not in self._modules and name not in self._parameters:
            made = MADE[name]()
            kept = self._modules if isinstance(made, nn.Module) else self._parameters
            kept[name] = made
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def shuffled(a: Tensor, groups: int) -> Tensor:
    n, c, h, w = a.shape
    return a.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def excited(m: Modules, a: Tensor) -> Tensor:
    gate = F.relu(m.squeeze(a.mean((2, 3))))
    return a * torch.sigmoid(m.excite(gate))[:, :, None, None]


def excited_by_maps(m: Modules, a: Tensor) -> Tensor:
    return a * F.hardsigmoid(m.point2(F.relu(m.point(F.adaptive_avg_pool2d(a, 1)))))


def next_block(m: Modules, a: Tensor) -> Tensor:
    """Return ConvNeXt's block: depthwise, then channels last, then scaled and added."""
    b = m.layer_norm(m.depthwise(a).permute(0, 2, 3, 1))
    return a + m.scale * m.fewer(F.gelu(m.more(b))).permute(0, 3, 1, 2)


def unet(m: Modules, x: Tensor, up: Callable[[Tensor], Tensor]) -> Tensor:
    top = F.relu(m.a(F.pad(x, (0, 0, 0, 1))))
    deep = F.relu(m.b(F.max_pool2d(top, 2)))
    return m.c(F.relu(m.wide(torch.cat([top, up(deep)], 1))))


def option_a(m: Modules, a: Tensor) -> Tensor:
    """Return the shortcut of ResNets for small images: every other pixel, channels of zeros."""
    return F.relu(m.down(a) + F.pad(a[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1)))


RECTIFIERS: dict[str, Callable[[Modules, Tensor], Tensor]] = {
    "relu": lambda m, z: F.relu(z),
    "relu in place": lambda m, z: F.relu_(z),
    "one module for all": lambda m, z: m.relu(z),
    "module in place": lambda m, z: m.inplace(z),
    "clamp": lambda m, z: z.clamp(min=0),
    "clamp_min in place": lambda m, z: z.clamp_min_(0),
    "clip": lambda m, z: torch.clip(z, 0),
    "clamp to infinity": lambda m, z: z.clamp(0, torch.inf),
    "maximum with zero": lambda m, z: torch.maximum(torch.tensor(0.0), z),
    "threshold": lambda m, z: F.threshold(z, 0, 0),
    "clamp(0, 1)": lambda m, z: z.clamp(0, 1),
    "ReLU6": lambda m, z: F.relu6(4 * z),
    "hardtanh(0, 2)": lambda m, z: F.hardtanh(z, 0, 2),
    "LeakyReLU": lambda m, z: F.leaky_relu(z, 0.2),
    "PReLU": lambda m, z: m.slopes(z),
    "PReLU of one slope": lambda m, z: F.prelu(z, m.scale[:1, 0, 0]),
    "ELU": lambda m, z: F.elu(z, 0.7),
    "CELU": lambda m, z: F.celu(z, 2.0),
    "SELU": lambda m, z: F.selu(z),
    "GELU": lambda m, z: F.gelu(z),
    "GELU by tanh": lambda m, z: F.gelu(z, approximate="tanh"),
    "SiLU": lambda m, z: F.silu(z),
    "x sigmoid(x)": lambda m, z: z * torch.sigmoid(z),
    "sigmoid(x) x": lambda m, z: z.sigmoid() * z,
    "x hardsigmoid(x)": lambda m, z: z * F.hardsigmoid(z),
    "Hardswish": lambda m, z: F.hardswish(z),
    "Mish": lambda m, z: F.mish(z),
    "Softplus": lambda m, z: F.softplus(z, 2.0, 5.0),
}
"""Functions that let positive values through and hold negative ones back."""


def rectified(first: str, second: str) -> Callable[[Modules, Tensor], Tensor]:
    one, two = RECTIFIERS[first], RECTIFIERS[second]
    return lambda m, x: m.c(two(m, m.b(one(m, m.a(x)))))


STYLES: dict[str, Callable[[Modules, Tensor], Tensor]] = {
    **{
        f"{one}, {two}": rectified(one, two)
        for one, two in zip(list(RECTIFIERS)[::2], list(RECTIFIERS)[1::2], strict=True)
    },
    "maximum with zeros": lambda m, x: m.b(torch.maximum(z := m.a(x), torch.zeros_like(z))),
    "sum of branches": lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))) + m.a(x))),
    "sum, shortcut by a point": lambda m, x: m.c(
        F.relu(m.norm(m.b(F.relu(m.a(x)))) + m.point(m.a(x)))
    ),
    "image into a sum": lambda m, x: m.b(F.relu(m.a(x))[:, :3].add(x).repeat(1, 2, 1, 1)[:, :4]),
    "sum with the image": lambda m, x: m.a(F.relu(m.a(x))[:, :3] + x),
    "in-place sum": lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))).add_(m.point(m.a(x)), alpha=0.5))),
    "x + x": lambda m, x: m.c(F.relu((z := m.b(F.relu(m.a(x)))) + z)),
    "x * x": lambda m, x: m.c(F.relu((z := m.b(F.relu(m.a(x)))) * z)),
    "1 - x": lambda m, x: m.c(1 - F.relu(m.b(1 - F.relu(m.a(x))))),
    "differences": lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))) - 0.3 * m.a(x) - m.scale)),
    "quotients": lambda m, x: m.c(F.relu(m.b(m.a(x) / 3) / (1.5 + m.a(x).sigmoid()))),
    "map of parameters": lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x)) * m.relief + m.relief))),
    "negative": lambda m, x: m.c(torch.cat([F.relu(m.a(x)), F.relu(-m.a(x))], 1)[:, 2:6]),
    "concatenated relu": lambda m, x: m.wide(F.relu(torch.cat([z := m.a(x), -z], 1))),
    "squares and roots": lambda m, x: m.c(((m.b(F.relu(m.a(x))) ** 2) + 0.1).sqrt()),
    "joined channels": lambda m, x: m.wide(torch.cat([F.relu(m.a(x)), F.relu(m.b(m.a(x)))], 1)),
    "joined with itself": lambda m, x: m.c(m.wide(torch.cat([z := F.relu(m.a(x)), z], 1))),
    "joined with its parts": lambda m, x: m.wide(
        torch.cat([(z := F.relu(m.a(x)))[:, 2:], z, z[:, :2]], 1)
    ),
    "joined rows": lambda m, x: m.c(torch.cat([F.relu(m.b(z := m.a(x))), F.relu(z[:, :, 3:])], 2)),
    "joined columns": lambda m, x: m.c(torch.cat([(z := F.relu(m.a(x)))[..., 5:], z, z], -1)),
    "dense": lambda m, x: m.c(
        F.relu(m.wide(torch.cat([z := F.relu(m.a(x)), F.relu(m.b(F.relu(m.norm(z))))], 1)))
    ),
    "constant pad": lambda m, x: m.c(
        F.relu(m.valid(F.pad(F.relu(m.a(x)), (1, 2, 0, 3), value=1.5)))
    ),
    "negative pad": lambda m, x: m.c(F.relu(m.b(F.pad(F.relu(m.a(x)), (-2, 1, 1, -3))))),
    "reflecting pad": lambda m, x: m.c(F.relu(m.valid(F.pad(m.a(x), (2, 1, 3, 2), "reflect")))),
    "circular pad": lambda m, x: m.c(F.relu(m.valid(F.pad(m.a(x), (2, 1, 0, 2), "circular")))),
    "replicating pad": lambda m, x: m.c(F.relu(m.valid(F.pad(m.a(x), (2, 0, 1, 2), "replicate")))),
    "padding modes": lambda m, x: m.c(F.relu(m.reflected(F.relu(m.circular(F.relu(m.a(x))))))),
    "slices": lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))[:, :, 2:-1, 1:8]))),
    "strided slices": lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))[..., 1::2, ::3]))),
    "patches by slices": lambda m, x: m.wide(
        torch.cat([(z := F.relu(m.a(x)))[:, :, :10:2, ::2], z[:, :, 1::2, 1::2]], 1)
    ),
    "cropped shortcut": lambda m, x: m.c(F.relu(m.valid(z := F.relu(m.a(x))) + z[..., 1:-1, 1:-1])),
    "flip and roll": lambda m, x: m.c(
        F.relu(m.b(F.relu(m.a(x)).flip(-1))).roll((2, -3), (2, 3)) + m.a(x)
    ),
    "chunks": lambda m, x: m.c(
        torch.cat([F.relu(one) for one in m.b(m.a(x)).chunk(2, 1)][::-1], 1)
    ),
    "split gate": lambda m, x: m.c(
        torch.cat([(p := m.grouped(F.relu(m.a(x))).chunk(2, 1))[0] * p[1].sigmoid()], 1)
    ),
    "chosen channels": lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))))[:, [3, 1, 1, 0]]),
    "channel shuffle": lambda m, x: m.c(shuffled(F.relu(m.grouped(F.relu(m.a(x)))), 2)[:, 1:5]),
    "squeeze and excitation": lambda m, x: m.c(excited(m, F.relu(m.b(F.relu(m.a(x)))))),
    "excitation by maps": lambda m, x: m.c(excited_by_maps(m, F.relu(m.norm(m.b(m.a(x)))))),
    "spatial attention": lambda m, x: m.c(
        (z := F.relu(m.b(m.a(x)))) * m.point(z)[:, :1].sigmoid() * z.mean(1, keepdim=True)
    ),
    "depthwise separable": lambda m, x: m.c(
        F.relu6(m.norm2(m.point(F.relu6(m.norm(m.depthwise(F.relu(m.a(x))))))))
    ),
    "dilated": lambda m, x: m.c(F.relu(m.dilated(F.relu(m.dilated(m.a(x)))))),
    "same": lambda m, x: m.c(F.relu(m.same(F.relu(m.same(m.a(x)))))),
    "strides": lambda m, x: m.c(F.relu(m.six(F.relu(m.down(F.relu(m.a(x))))))),
    "overlapping pool": lambda m, x: m.c(F.max_pool2d(F.relu(m.b(m.a(x))), 3, 2, 1)),
    "pool, ceil": lambda m, x: m.c(F.max_pool2d(F.relu(m.b(m.a(x))), (3, 2), 3, 1, ceil_mode=True)),
    "pool, stride 1": lambda m, x: m.c(F.max_pool2d(F.relu(m.b(m.a(x))), 3, 1, 1)),
    "pool, dilated": lambda m, x: m.c(F.max_pool2d(F.relu(m.b(m.a(x))), 2, (2, 1), 1, 2)),
    "pool before relu": lambda m, x: m.c(F.relu(F.max_pool2d(m.b(F.relu(m.a(x))), 2))),
    "pool of the image": lambda m, x: m.b(F.relu(m.a(F.max_pool2d(x, 3, 2, 1)))),
    "two pools": lambda m, x: m.c(F.max_pool2d(m.b(F.max_pool2d(F.relu(m.a(x)), 3, 2)), 2, 1)),
    "pools of one result": lambda m, x: m.c(
        F.max_pool2d(z := F.relu(m.b(m.a(x))), 3, 2, 1) + F.avg_pool2d(z, 3, 2, 1)
    ),
    "adaptive max pool": lambda m, x: m.c(F.adaptive_max_pool2d(F.relu(m.b(m.a(x))), (11, 5))),
    "average pool": lambda m, x: m.c(F.avg_pool2d(F.relu(m.b(F.relu(m.a(x)))), 2)),
    "average pool, ceil": lambda m, x: m.c(F.avg_pool2d(F.relu(m.b(m.a(x))), 3, 2, 1, True)),
    "average pool, own divisor": lambda m, x: m.c(
        F.avg_pool2d(F.relu(m.b(m.a(x))), 3, 2, 1, True, False)
        + F.avg_pool2d(m.a(x), 3, 2, 1, True, divisor_override=5)
    ),
    "adaptive pool": lambda m, x: m.c(F.adaptive_avg_pool2d(F.relu(m.b(m.a(x))), (4, 3))),
    "row of means": lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x)).mean(2, keepdim=True)))),
    "head of means": lambda m, x: m.last(F.relu(m.head(F.relu(m.b(F.relu(m.a(x)))).mean((2, 3))))),
    "flattened head": lambda m, x: m.last(
        F.relu(m.flat(F.max_pool2d(F.relu(m.b(F.relu(m.a(x)))), 2).flatten(1)))
    ),
    "nearest": lambda m, x: m.c(F.interpolate(F.relu(m.b(F.relu(m.a(x)))), scale_factor=2)),
    "nearest, smaller": lambda m, x: m.c(F.interpolate(F.relu(m.b(m.a(x))), (7, 4))),
    "bilinear": lambda m, x: m.c(F.interpolate(F.relu(m.b(m.a(x))), (15, 13), mode="bilinear")),
    "bilinear, corners": lambda m, x: m.c(
        F.interpolate(F.relu(m.b(m.a(x))), scale_factor=1.7, mode="bilinear", align_corners=True)
    ),
    "bicubic": lambda m, x: m.c(F.interpolate(F.relu(m.b(m.a(x))), (9, 14), mode="bicubic")),
    "antialiased": lambda m, x: m.c(
        F.interpolate(F.relu(m.b(m.a(x))), (6, 5), mode="bilinear", antialias=True)
    ),
    "unet, nearest": lambda m, x: unet(m, x, lambda z: F.interpolate(z, scale_factor=2)),
    "unet, bilinear": lambda m, x: unet(
        m, x, lambda z: F.interpolate(z, scale_factor=2, mode="bilinear")
    ),
    "unet, transposed": lambda m, x: unet(m, x, m.up),
    "transposed": lambda m, x: m.c(F.relu(m.up2(F.relu(m.up(F.max_pool2d(F.relu(m.a(x)), 3)))))),
    "pixel shuffle": lambda m, x: m.a(
        F.pixel_shuffle(F.relu(m.grouped(F.relu(m.a(x)))), 2).repeat(1, 2, 1, 1)[:, :3]
    ),
    "channels of zeros": lambda m, x: m.six(option_a(m, F.relu(m.norm(m.a(x))))),
    "next block": lambda m, x: m.c(next_block(m, next_block(m, m.a(x)))),
    "linear at each position": lambda m, x: m.fewer(
        F.relu(m.more(F.relu(m.a(x)).permute(0, 2, 3, 1)))
    ),
    "channels last throughout": lambda m, x: m.c(
        m.fewer(F.avg_pool2d(F.relu(m.grouped(m.a(x))), 2).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    ),
    "norm of the image": lambda m, x: m.b(F.relu(m.a(m.image_norm(x)))),
    "norm alone": lambda m, x: m.c(m.norm(F.max_pool2d(F.relu(m.a(x)), 2))),
    "norms, with and without bias": lambda m, x: m.c(
        F.relu(m.norm2(m.bare(F.relu(m.norm(m.b(F.relu(m.plain_norm(m.a(x)))))))))
    ),
    "norm after relu in place": lambda m, x: m.c(
        m.norm2(m.inplace(m.b(m.norm(m.inplace(m.a(x))))))
    ),
    "norm twice": lambda m, x: m.c(F.relu(m.norm2(m.norm(m.b(m.a(x)))))),
    "norm, two users": lambda m, x: m.c(F.relu(m.norm(z := m.b(m.a(x)))) + z),
    "before it is activated": lambda m, x: m.c(F.relu(m.norm(m.b(F.relu(m.norm2(m.a(x))))))),
    "group norm": lambda m, x: m.c(F.relu(m.group(m.b(F.relu(m.a(x)))))),
    "instance norm without weights": lambda m, x: m.c(
        F.relu(F.instance_norm(m.b(F.instance_norm(F.relu(m.a(x)), eps=1e-2))))
    ),
    "RMS norm": lambda m, x: m.c(
        F.relu(m.rms_norm(m.b(F.relu(m.a(x))).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
    ),
    "RMS norm of whole maps": lambda m, x: m.c(
        F.relu(F.rms_norm(m.b(F.relu(m.a(x))), (4, *SIZE[1:])))
    ),
    "local response norm": lambda m, x: m.c(
        F.local_response_norm(F.relu(m.b(F.local_response_norm(m.a(x), 3, 0.5))), 4, 2.0, 0.6, 0.8)
    ),
    "instance norm": lambda m, x: m.c(F.relu(m.instance(m.b(F.relu(m.a(x)))))),
    "softmax of channels": lambda m, x: m.c(F.relu(m.b(m.a(x).softmax(1)))),
    "local contrast": lambda m, x: m.c(
        (z := F.relu(m.a(x))) / (1 + F.avg_pool2d(z**2, 3, 1, 1)).sqrt()
    ),
    "one convolution, twice": lambda m, x: m.c(F.relu(m.b(F.relu(m.b(F.relu(m.a(x))))))),
    "unused branch": lambda m, x: (m.b(m.a(x)), m.c(F.relu(m.a(x))))[1],
    "only one branch reaches": lambda m, x: m.c(
        torch.cat([F.relu(m.a(x[..., :6, :])), F.relu(m.b(m.a(x[..., 4:, :])))], 2)
    ),
}
"""Networks, by what is special in them."""


class Several(nn.Module):
    """Networks of several styles side by side, which is quicker to capture than one by one."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        for name in names:
            self.add_module(str(len(self._modules)), Modules(STYLES[name]))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [one(x) for one in self.children()]
