"""The rules of the way back: what a signal does at a rectifier and at a maximum.

They stand apart from the networks they apply to: a step of a network asks them, and knows none.

=============  ==================================  ==============================================
method         at a rectifier                      source
=============  ==================================  ==============================================
``deconvnet``  max(s, 0)                           Zeiler & Fergus, ECCV 2014, section 2.1
``gradient``   s where the unit fired, else 0      the chain rule; Simonyan et al., ICLR-W 2014
``guided``     max(s, 0) where it fired, else 0    Springenberg et al., ICLR-W 2015, section 3.4
=============  ==================================  ==============================================

==============  =======================================================================
unpooling       at a maximum over a window
==============  =======================================================================
``switches``    s goes to where the maximum was; overlapping windows add
``repeat``      every position of the window takes s; overlapping windows add
==============  =======================================================================
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rot180.errors import Rot180Error, listed
from rot180.graph.operators import MaxPool, laid_out

METHODS = ("deconvnet", "gradient", "guided")
UNPOOLINGS = ("switches", "repeat")


@dataclass(frozen=True)
class Rules:
    """A method and an unpooling, chosen by name.

    Raises:
        Rot180Error: one of the names does not exist.
    """

    method: str = "deconvnet"
    unpooling: str = "switches"

    def __post_init__(self) -> None:
        for what, name, known in (
            ("method", self.method, METHODS),
            ("unpooling", self.unpooling, UNPOOLINGS),
        ):
            if name not in known:
                raise Rot180Error(f"There is no {what} '{name}'. There are: {listed(known, name)}.")

    def rectify(self, signal: Tensor, fired: Tensor) -> Tensor:
        """Carry a signal back through a rectifier that let the positions ``fired`` through."""
        if self.method == "deconvnet":
            return signal.clamp(min=0)
        masked = signal * fired
        return masked if self.method == "gradient" else masked.clamp(min=0)

    def unpool(self, signal: Tensor, switches: Tensor, pool: MaxPool, shape: torch.Size) -> Tensor:
        """Carry a signal back through a max pooling whose input had the given shape."""
        if self.unpooling == "switches":
            return to_switches(signal, switches, shape)
        return repeated(signal, pool, shape)


def to_switches(signal: Tensor, switches: Tensor, shape: torch.Size) -> Tensor:
    """Put each value where its maximum was; a position that won several windows takes their sum.

    ``switches`` (n, c, h, w) holds flat positions in a map of the last two axes of ``shape``. Its
    batch may be 1 for a signal of any batch.
    """
    n, c = signal.shape[:2]
    flat = signal.new_zeros(n, c, shape[-2] * shape[-1])
    flat.scatter_add_(2, switches.expand_as(signal).flatten(2), signal.flatten(2))
    return flat.reshape(n, c, *shape[-2:])


def repeated(signal: Tensor, pool: MaxPool, shape: torch.Size) -> Tensor:
    """Give every position of each window the window's value; overlapping windows add.

    It is the adjoint of the sum over each window. Rows and columns at the border that no window
    reaches take zero.
    """
    n, c, h, w = signal.shape
    kernel, stride, padding, dilation = pool.window
    ones = signal.new_ones(1, 1, *kernel)
    full = F.conv_transpose2d(signal.reshape(n * c, 1, h, w), ones, None, stride, dilation=dilation)
    return laid_out(full, *padding, shape).reshape(n, c, *shape[-2:])
