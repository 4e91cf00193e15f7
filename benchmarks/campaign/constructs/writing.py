"""How a construct is written down: a function of the maps between two convolutions."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from campaign.cases import Case

Written = Callable[[Any, Tensor], Any]
Makers = dict[str, Callable[[], Any]]


class Net(nn.Module):
    """A forward pass over modules that are given by name."""

    def __init__(self, written: Written, makers: Makers) -> None:
        super().__init__()
        self.written = written
        for name, make in makers.items():
            setattr(self, name, make())

    def forward(self, *given: Any, **named: Any) -> Any:
        return self.written(self, *given, **named)


def net(
    name: str,
    written: Written,
    shape: tuple[int, ...] = (3, 16, 16),
    spelled: Written | None = None,
    inputs: Callable[[Tensor], Any] | None = None,
    **makers: Callable[[], Any],
) -> Case:
    """Return a network of these modules and this forward pass, ``written(m, x)``."""
    return Case(
        name,
        lambda: Net(written, makers),
        shape,
        None if spelled is None else lambda: Net(spelled, makers),
        inputs=inputs,
    )


def between(
    name: str,
    written: Written,
    after: int = 8,
    shape: tuple[int, ...] = (3, 16, 16),
    spelled: Written | None = None,
    **makers: Callable[[], Any],
) -> Case:
    """Return a convolution, ``written(m, z)`` of its 8 maps, and a convolution of what comes."""
    makers = {
        "first": lambda: nn.Conv2d(shape[0], 8, 3, padding=1),
        "last": lambda: nn.Conv2d(after, 4, 3, padding=1),
        **makers,
    }
    return net(
        name,
        lambda m, x: m.last(written(m, m.first(x))),
        shape,
        None if spelled is None else lambda m, x: m.last(spelled(m, m.first(x))),
        **makers,
    )
