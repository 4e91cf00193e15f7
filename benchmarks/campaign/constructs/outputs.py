"""Outputs of other kinds than one tensor."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as trees

from campaign.constructs.writing import Net, net


@dataclass
class Result:
    """What a network returns."""

    logits: Tensor
    maps: Tensor


trees.register_dataclass(Result)


@dataclass
class Unregistered:
    """The same, unknown to PyTorch."""

    logits: Tensor
    maps: Tensor


Pair = namedtuple("Pair", "logits maps")


def both(m: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    z = F.relu(m.first(x))
    return m.head(z.mean((2, 3))), m.last(z)


PARTS = {
    "first": lambda: nn.Conv2d(3, 8, 3, padding=1),
    "last": lambda: nn.Conv2d(8, 4, 3),
    "head": lambda: nn.Linear(8, 5),
}
FORMS = {
    "a tuple": both,
    "a list": lambda m, x: list(both(m, x)),
    "a dict": lambda m, x: dict(zip(("logits", "maps"), both(m, x), strict=True)),
    "an OrderedDict": lambda m, x: OrderedDict(zip(("out", "aux"), both(m, x), strict=True)),
    "a named tuple": lambda m, x: Pair(*both(m, x)),
    "a dataclass": lambda m, x: Result(*both(m, x)),
    "a dataclass, unregistered": lambda m, x: Unregistered(*both(m, x)),
    "nested": lambda m, x: {"a": [both(m, x)[0], {"b": both(m, x)[1]}]},
    "with None": lambda m, x: (*both(m, x), None),
    "with a number": lambda m, x: (*both(m, x), 3),
    "with a constant tensor": lambda m, x: (*both(m, x), torch.arange(4.0)),
    "with a weight": lambda m, x: (*both(m, x), m.head.weight),
    "with a string": lambda m, x: {"out": both(m, x)[0], "name": "net"},
    "with the image": lambda m, x: (x, *both(m, x)),
    "the same twice": lambda m, x: (z := both(m, x)[1], z),
    "argmax beside logits": lambda m, x: (z := both(m, x)[0], z.argmax(1)),
    "only argmax": lambda m, x: both(m, x)[1].argmax(1),
    "a mask": lambda m, x: both(m, x)[1] > 0,
    "a scalar": lambda m, x: both(m, x)[0].sum(),
    "a mean over images": lambda m, x: (both(m, x)[1], m.first(x).mean()),
    "complex": lambda m, x: torch.fft.fft2(both(m, x)[1]),
    "anchors beside maps": lambda m, x: (both(m, x)[1], torch.ones(x.shape[0], 2, 2)),
}
CASES = [net(f"output: {name}", written, (3, 12, 12), **PARTS) for name, written in FORMS.items()]
