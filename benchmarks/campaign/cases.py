"""A network to be judged: how it is made, what it is shown, and what it may be compared with."""

import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

DIRECTIONS = 3


class Unfit(Exception):
    """A network that is left out: the message says why."""


@dataclass(frozen=True)
class Case:
    """A network of the campaign.

    Attributes:
        name: on its line.
        make: makes the network, in float32, under a seed that is set before.
        shape: of its images; None: the smallest of some sizes that the network takes.
        spelled: makes the same network with PyTorch's own rectifiers where ``make`` writes them by
            hand, so that the reference of the rules knows them.
        small: every way is gone in every layer.
        lively: norms and constants are given values that matter.
        inputs: from a batch of images, how the model is called: a tuple of positional arguments or
            a mapping of keyword arguments; None: with the images.
    """

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...] | None = (3, 16, 16)
    spelled: Callable[[], nn.Module] | None = None
    small: bool = True
    lively: bool = True
    inputs: Callable[[Tensor], Any] | None = None

    def called(self, dtype: torch.dtype, spelled: bool = False) -> nn.Module:
        """Return the network as a function of the images alone."""
        model = self.model(dtype, spelled)
        return model if self.inputs is None else _Called(model, self.inputs)

    def model(self, dtype: torch.dtype, spelled: bool = False) -> nn.Module:
        """Return the network in evaluation mode, the same each time."""
        torch.manual_seed(0)
        make = self.spelled if spelled and self.spelled else self.make
        with redirect_stdout(io.StringIO()):  # some say much while they are made
            model = make().to(dtype).eval()
        if self.lively:
            enlivened(model)
        return model


class _Called(nn.Module):
    """A model of several inputs, of which all but the images are held."""

    def __init__(self, model: nn.Module, inputs: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.model, self.inputs = model, inputs

    def forward(self, x: Tensor) -> Any:
        given = self.inputs(x)
        return self.model(**given) if isinstance(given, dict) else self.model(*given)


@torch.no_grad()
def enlivened(model: nn.Module) -> None:
    """Give statistics of norms, and weights that are constant, values that matter."""
    generator = torch.Generator().manual_seed(1)
    for name, one in model.named_buffers():
        if name.endswith("running_mean"):
            one.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            one.uniform_(0.5, 2, generator=generator)
    for one in model.parameters():
        if not one.is_floating_point() or one.numel() < 2 or one.min() != one.max():
            continue
        value = float(one.flatten()[0])
        if one.ndim > 1 and value == 0:
            one.normal_(0, one[0].numel() ** -0.5, generator=generator)
        elif abs(value) < 0.01:  # biases, and factors that begin near zero
            one.normal_(0, 0.1, generator=generator)
        else:
            one.copy_(value * torch.empty_like(one).uniform_(0.5, 1.5, generator=generator))


SIDES = (64, 96, 128, 160, 192, 224, 256)


def images_for(case: Case, model: nn.Module, dtype: torch.dtype) -> Tensor:
    """Return two images, the second one stronger, of a size that the network takes.

    Raises:
        Exception: what the model itself raises for the only or the largest size.
    """
    shapes = [case.shape] if case.shape else [(3, side, side) for side in SIDES]
    for number, shape in enumerate(shapes):
        generator = torch.Generator().manual_seed(2)
        images = torch.randn(2, *shape, generator=generator, dtype=torch.float64).to(dtype)
        images[1] *= 1.5
        try:
            with torch.no_grad():
                model(images[:1].clone())
        except Exception:
            if number == len(shapes) - 1:
                raise
        else:
            return images
    raise AssertionError


def directions_for(images: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    shape = (DIRECTIONS, *images.shape[1:])
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(images.dtype)


def some(names: list[str], small: bool) -> Iterator[str]:
    """Yield the first, a middle and the last name; all of a few."""
    if small and len(names) <= 8:
        yield from names
    else:
        yield from dict.fromkeys([names[0], names[len(names) // 2], names[-1]])
