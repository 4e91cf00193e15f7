"""Networks drawn at random from timm's architectures, untrained, small enough for a processor."""

import random
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from campaign.cases import SIDES, Case, Unfit

LARGEST = 30_000_000
"""Parameters of a network that is drawn."""


def drawn(count: int, seed: int) -> Iterator[Case]:
    """Yield so many, in the order of a shuffle; those that are too large are passed over."""
    import timm

    names = timm.list_models()
    random.Random(seed).shuffle(names)
    found = 0
    for name in names:
        if found == count:
            return
        if _size(name) <= LARGEST:
            found += 1
            yield named(name)


def named(name: str) -> Case:
    """Return the case of one architecture."""
    return Case(f"timm:{name}", partial(_made, name), None, small=False)


def _size(name: str) -> int:
    import timm

    try:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False)
    except Exception:  # one that computes while it is made: it is made in full, and counted
        model = timm.create_model(name, pretrained=False)
    if model.default_cfg["input_size"][-1] > 288:
        return LARGEST + 1
    return sum(one.numel() for one in model.parameters())


def _made(name: str) -> nn.Module:
    """Make it for the smallest size that it takes, if it begins with a convolution."""
    import timm

    native = timm.create_model(name, pretrained=False).eval()
    smallest = native
    if not _takes(native, SIDES[0]):
        for side in SIDES[:3]:
            try:
                torch.manual_seed(0)
                other = timm.create_model(name, pretrained=False, img_size=side).eval()
            except Exception:
                break
            if _takes(other, side):
                smallest = other
                break
    first = first_layer(smallest)
    if first is not None and not isinstance(first, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        raise Unfit(f"its first layer is a {type(first).__name__}")
    return smallest


def _takes(model: nn.Module, side: int) -> bool:
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, side, side))
    except Exception:
        return False
    return True


def first_layer(model: nn.Module) -> nn.Module | None:
    """Return the module of the first weights that an image meets."""
    met: list[nn.Module] = []

    def note(module: nn.Module, *_: object) -> None:
        if any(one.ndim > 1 for one in module.parameters(recurse=False)) and not _holds(module):
            met.append(module)

    hooks = [one.register_forward_pre_hook(note) for one in model.modules()]
    try:
        with torch.no_grad():
            for side in SIDES:
                if _takes(model, side):
                    break
    finally:
        for one in hooks:
            one.remove()
    return met[0] if met else None


def _holds(module: nn.Module) -> bool:
    """Say whether a module has parts with weights: then its own come later (a token, say)."""
    return any(any(True for _ in part.parameters()) for part in module.children())
