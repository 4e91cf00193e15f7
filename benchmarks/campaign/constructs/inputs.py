"""Models that take more than the images: those are given, and held."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campaign.constructs.writing import Net, net


def conv(before: int = 8, after: int = 8, kernel: int = 3, **more: object) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, **{"padding": kernel // 2, **more})


def at_a_time(m: Net, x: Tensor, t: Tensor) -> Tensor:
    """Return what a diffusion model does: maps, shifted by an embedding of the time."""
    angles = t.to(x.dtype)[:, None] * torch.exp(-torch.arange(4, dtype=x.dtype))
    embedded = m.time(torch.cat([angles.sin(), angles.cos()], 1))
    return m.last(F.silu(m.mid(F.silu(m.first(x) + embedded[:, :, None, None]))))


def of_a_class(m: Net, x: Tensor, label: Tensor) -> Tensor:
    gain, bias = m.table(label)[:, :, None, None].chunk(2, 1)
    return m.last(F.relu(m.first(x) * (1 + gain) + bias))


def masked(m: Net, x: Tensor, mask: Tensor | None = None) -> Tensor:
    z = F.relu(m.first(x))
    return m.last(z if mask is None else z * mask)


def questioned(m: Net, question: Tensor, image: Tensor) -> Tensor:
    """Take the image second, and look at it where the words say."""
    words = m.words(question).mean(1)
    z = F.relu(m.first(image))
    weights = (z.flatten(2).transpose(1, 2) @ words[:, :, None]).softmax(1)
    return m.head((z.flatten(2) @ weights)[..., 0])


def compared(m: Net, x: Tensor, other: Tensor) -> Tensor:
    return m.last(F.relu(m.first(x)) - F.relu(m.first(other)))


def listed(m: Net, images: list[Tensor]) -> Tensor:
    return m.last(F.relu(m.first(images[0])) + F.relu(m.mid(m.first(images[1]))))


def in_a_dict(m: Net, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"out": m.last(F.relu(m.first(batch["image"])) * batch["scale"])}


def switched(m: Net, x: Tensor, features: bool = False, scale: float = 1.0) -> Tensor:
    z = F.relu(m.first(x)) * scale
    return z if features else m.last(z)


PARTS = {"first": lambda: conv(3), "mid": lambda: conv(), "last": lambda: conv(8, 4)}
CASES = [
    net(
        "input: a time (diffusion)",
        at_a_time,
        inputs=lambda x: (x, torch.full((len(x),), 7)),
        time=lambda: nn.Linear(8, 8),
        **PARTS,
    ),
    net(
        "input: a class (conditional)",
        of_a_class,
        inputs=lambda x: (x, torch.full((len(x),), 2)),
        table=lambda: nn.Embedding(5, 16),
        **PARTS,
    ),
    net(
        "input: a mask by keyword",
        masked,
        inputs=lambda x: {"x": x, "mask": torch.tril(torch.ones(16, 16, dtype=x.dtype))},
        **PARTS,
    ),
    net("input: a mask that is not given", masked, **PARTS),
    net(
        "input: words, then the image",
        questioned,
        inputs=lambda x: (torch.tensor([[1, 4, 2]]).expand(len(x), 3), x),
        words=lambda: nn.Embedding(6, 8),
        head=lambda: nn.Linear(8, 5),
        **PARTS,
    ),
    net(
        "input: another image that is held",
        compared,
        inputs=lambda x: (x, torch.linspace(-1, 1, 768, dtype=x.dtype).view(1, 3, 16, 16)),
        **PARTS,
    ),
    net("input: the image twice in a list", listed, inputs=lambda x: ([x, x],), **PARTS),
    net("input: a dict", in_a_dict, inputs=lambda x: ({"image": x, "scale": 1.5},), **PARTS),
    net("input: a switch", switched, inputs=lambda x: {"x": x, "scale": 0.5}, **PARTS),
]
