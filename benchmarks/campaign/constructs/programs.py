"""Things that models do while they run, and that were done to them before."""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from campaign.cases import Case
from campaign.constructs.writing import Net, between, net


def conv(before: int = 8, after: int = 8, kernel: int = 3, **more: object) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, **{"padding": kernel // 2, **more})


def in_place(m: Net, z: Tensor) -> Tensor:
    z = F.relu_(z)
    z += 0.5
    z *= m.gain
    z[:, ::2] -= z[:, 1::2]
    z[:, 0, 2:4] = 0.25
    z.clamp_(-2, 2).add_(z.mean((2, 3), keepdim=True))
    return z.mul_(1.5)


def cast(m: Net, z: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return m.mid(F.relu(z)).to(z.dtype)


def not_cast(m: Net, z: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return F.relu(m.mid(z))


def single(m: Net, z: Tensor) -> Tensor:
    return m.mid(z.float().softmax(1).to(z.dtype))


def cached(m: Net, z: Tensor) -> Tensor:
    """Keep a grid for each size, made when it is first needed."""
    if not hasattr(m, "grids"):
        m.grids = {}
    key = tuple(z.shape[-2:])
    if key not in m.grids:
        m.grids[key] = torch.linspace(-1, 1, key[1], dtype=z.dtype).expand(key)
    return z * m.grids[key]


def kept(m: Net, z: Tensor) -> Tensor:
    m.seen = z
    return F.relu(m.mid(m.seen))


def counting(m: Net, z: Tensor) -> Tensor:
    m.calls = getattr(m, "calls", 0) + 1
    return F.relu(m.mid(z))


def moving(m: Net, z: Tensor) -> Tensor:
    m.steps += 1
    return F.relu(m.mid(z))


def of_training(m: Net, z: Tensor) -> Tensor:
    if m.training:
        z = z + torch.randn_like(z)
    return F.dropout(F.dropout2d(z, 0.3, m.training), 0.5, m.training)


def by_size(m: Net, z: Tensor) -> Tensor:
    if z.shape[-1] % 32:
        z = F.pad(z, (0, 32 - z.shape[-1] % 32))
    return m.mid(z)[..., :16]


def by_value(m: Net, z: Tensor) -> Tensor:
    return F.relu(z) if z.mean() > 100 else F.leaky_relu(z, 0.2)


def checked(m: Net, z: Tensor) -> Tensor:
    assert z.shape[1] == 8, "wrong number of channels"
    assert torch.is_tensor(z)
    return m.mid(z)


def replaced() -> nn.Module:
    """Put another forward method on the instance, as feature extractors do."""
    model = Net(lambda m, x: m.last(F.relu(m.mid(F.relu(m.first(x))))), PARTS)

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.last(F.elu(self.mid(F.elu(self.first(x)))))

    model.forward = partial(forward, model)
    return model


def hooked() -> nn.Module:
    """Leave hooks on modules: one that keeps maps, one that changes them."""
    model = Net(lambda m, x: m.last(F.relu(m.mid(F.relu(m.first(x))))), PARTS)
    model.found = {}
    model.mid.register_forward_hook(lambda _, __, found: model.found.update(mid=found))
    model.first.register_forward_hook(lambda _, __, found: 2 * found)
    model.last.register_forward_pre_hook(lambda _, given: (given[0] + 0.5,))
    return model


def shared() -> nn.Module:
    layer = conv()
    return nn.Sequential(conv(3), nn.ReLU(), layer, nn.ReLU(), layer, nn.ReLU(), conv(8, 4))


def copied() -> nn.Module:
    block = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
    return nn.Sequential(conv(3), *(copy.deepcopy(block) for _ in range(3)), conv(8, 4))


def scripted() -> nn.Module:
    inner = nn.Sequential(conv(), nn.ReLU()).eval()
    return nn.Sequential(conv(3), torch.jit.script(inner), conv(8, 4))


def frozen() -> nn.Module:
    return nn.Sequential(conv(3), nn.ReLU(), conv(8, 4)).requires_grad_(False)


def parallel() -> nn.Module:
    return nn.DataParallel(nn.Sequential(conv(3), nn.ReLU(), conv(8, 4)))


def fused() -> nn.Module:
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    return nn.Sequential(
        fuse_conv_bn_eval(conv(3).eval(), nn.BatchNorm2d(8).eval()), nn.ReLU(), conv(8, 4)
    )


PARTS = {"first": lambda: conv(3), "mid": lambda: conv(), "last": lambda: conv(8, 4)}
MID = {"mid": lambda: conv()}
CASES = [
    between("everything in place", in_place, gain=lambda: nn.Parameter(torch.randn(8, 1, 1))),
    between("autocast", cast, **MID),
    between("autocast switched off inside", not_cast, **MID),
    between("float32 inside", single, **MID),
    between("a dict cache filled while it runs", cached),
    between("an attribute set while it runs", kept, **MID),
    between("a number that counts calls", counting, **MID),
    between(
        "a buffer that counts calls",
        moving,
        **MID,
        steps=lambda: nn.Parameter(torch.zeros(1), requires_grad=False),
    ),
    between("dropout and noise in training", of_training),
    between(
        "dropout as modules",
        lambda m, z: m.drop(F.relu(m.mid(z))),
        **MID,
        drop=lambda: nn.Dropout2d(0.4),
    ),
    between(
        "alpha dropout",
        lambda m, z: m.drop(F.selu(m.mid(z))),
        **MID,
        drop=lambda: nn.AlphaDropout(0.4),
    ),
    between("branch by size", by_size, **MID),
    between("branch by value", by_value),
    between("assertions", checked, **MID),
    between(
        "gradient checkpointing",
        lambda m, z: checkpoint(lambda a: F.relu(m.mid(a)), z, use_reentrant=False),
        **MID,
    ),
    between(
        "checkpointing, reentrant",
        lambda m, z: checkpoint(lambda a: F.relu(m.mid(a)), z, use_reentrant=True),
        **MID,
    ),
    between("a no_grad block around a layer", lambda m, z: _silently(m.mid, z), **MID),
    between("inference_mode around a layer", lambda m, z: _inferred(m.mid, z), **MID),
    between("detach of a branch", lambda m, z: z * m.mid(z).detach().sigmoid(), **MID),
    between("everything detached", lambda m, z: F.relu(z.detach()), **MID),
    between(
        "requires_grad_ inside",
        lambda m, z: F.relu(m.mid(z.requires_grad_())) if False else F.relu(m.mid(z)),
        **MID,
    ),
    between(
        "loop over a module list",
        lambda m, z: _through(m.several, z),
        several=lambda: nn.ModuleList(conv() for _ in range(3)),
    ),
    between(
        "dense block",
        lambda m, z: _dense(m.several, z),
        after=20,
        several=lambda: nn.ModuleList(conv(8 + 4 * n, 4) for n in range(3)),
    ),
    between(
        "stochastic depth, off", lambda m, z: z + m.drop(m.mid(z)), **MID, drop=lambda: _depth()
    ),
    between(
        "image normalised inside",
        lambda m, z: (z - m.mean) / m.std,
        mean=lambda: nn.Parameter(torch.rand(8, 1, 1)),
        std=lambda: nn.Parameter(torch.rand(8, 1, 1) + 0.5),
    ),
    between("random numbers in evaluation", lambda m, z: z + 0.1 * torch.randn_like(z)),
    between("item() of a weight", lambda m, z: z * float(m.mid.bias[0]), **MID),
    between(
        "numpy inside",
        lambda m, z: z * torch.from_numpy(m.mid.bias.detach().numpy()).view(-1, 1, 1),
        **MID,
    ),
    between("a dimension by -1", lambda m, z: z.reshape(z.shape[0], -1).reshape(-1, *z.shape[1:])),
    net(
        "NHWC images",
        lambda m, x: m.last(F.relu(m.first(x.permute(0, 3, 1, 2)))),
        (12, 14, 3),
        first=lambda: conv(3),
        last=lambda: conv(8, 4),
    ),
    net(
        "grey images from colours",
        lambda m, x: m.first(
            x @ x.new_tensor([1.0]) if False else (x * m.weights).sum(1, keepdim=True)
        ),
        first=lambda: conv(1),
        weights=lambda: nn.Parameter(torch.tensor([0.3, 0.6, 0.1]).view(3, 1, 1)),
    ),
    net("no activation at all", lambda m, x: m.last(m.mid(m.first(x))), **PARTS),
    net("one layer", lambda m, x: m.first(x), first=lambda: conv(3)),
    net("an unused layer", lambda m, x: m.last(F.relu(m.first(x))), **PARTS),
    Case("forward replaced on the instance", replaced),
    Case("hooks left on modules", hooked),
    Case("one layer twice", shared),
    Case("copies of a block", copied),
    Case("a scripted part", scripted),
    Case("frozen weights", frozen),
    Case("DataParallel", parallel),
    Case("batch norm fused", fused),
]


def _silently(layer: nn.Module, z: Tensor) -> Tensor:
    with torch.no_grad():
        return F.relu(layer(z))


def _inferred(layer: nn.Module, z: Tensor) -> Tensor:
    with torch.inference_mode():
        return F.relu(layer(z))


def _through(several: nn.ModuleList, z: Tensor) -> Tensor:
    for layer in several:
        z = F.relu(layer(z)) + z
    return z


def _dense(several: nn.ModuleList, z: Tensor) -> Tensor:
    found = [z]
    for layer in several:
        found.append(F.relu(layer(torch.cat(found, 1))))
    return torch.cat(found, 1)


def _depth() -> nn.Module:
    from torchvision.ops import StochasticDepth

    return StochasticDepth(0.5, "row")
