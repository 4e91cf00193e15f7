"""The rules of the backward pass: what happens to a signal at a rectifier and at a maximum.

They stand apart from the networks they apply to: a step of a network asks them, and knows none.
With f' the derivative of the rectifier at the place of the forward pass, a signal s becomes

=============  ===============  =============================================  =================
method         at any           at ReLU that is                                source
               rectifier
=============  ===============  =============================================  =================
``deconvnet``  max(s, 0)        max(s, 0)                                      Zeiler & Fergus,
                                                                               ECCV 2014, 2.1
``gradient``   f' s             s where the unit fired, else 0                 the chain rule;
                                                                               Simonyan et al.,
                                                                               ICLR-W 2014
``guided``     f' max(s, 0)     max(s, 0) where the unit fired, else 0         Springenberg et
                                                                               al., ICLR-W 2015
=============  ===============  =============================================  =================

The signal starts before the layer's own rectifier, with the activation as its value: what a
rectifier with an upper limit (ReLU6) cuts off is nothing that the pixels did, and its derivative of
0 there would leave the picture empty. For ReLU that makes no difference. Two more methods are made
from projections by ``gradient``; see :mod:`rot180.projection.compound`. Which method tells most at
a layer is measured by :mod:`rot180.projection.faithfulness`; ``"auto"`` takes that one.

The sources know ReLU only. For its kin (ReLU6, LeakyReLU, PReLU, ELU, CELU, SELU, GELU, SiLU,
Hardswish, Mish, Softplus, a clamp at zero) the middle column is what rot180 does: the deconvnet
rectifies the signal and asks nothing of the forward pass, so it is the same for all of them; the
guided method is the derivative of the rectified signal. A function that is no rectifier (sigmoid,
tanh, a normalisation by the values themselves, the product with a gate) passes the signal by its
derivative under every method. :func:`rot180.report` names what a network has of each.

A function of one number that an author wrote out (``x * F.relu6(x + 3) / 6``) takes these rules as
a whole, and not those of what it is made of. It is a rectifier if it lets positive values through
and holds negative ones back: if, for z from 3 to 30, f(z) is positive, does not fall and grows no
faster than a straight line, f(-z) is smaller in size, and f(0) is small. Where a factor is left for
large values (the 6 above), it is a linear step of its own. The rule in numbers, and what it leaves
undecided, stands in :mod:`rot180.graph.lowerings.rectifier_check`.

All that the deconvnet's backward pass knows of the image are the switches of max pooling. In a
network without any, its projection of a unit is the same for every image, up to a factor (observed
by Springenberg et al.); ``guided`` shows what made the unit fire.

==============  =======================================================================
unpooling       at a maximum over a window
==============  =======================================================================
``switches``    s goes to where the maximum was; overlapping windows add
``repeat``      every position of the window takes s; overlapping windows add
==============  =======================================================================
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from rot180.errors import Rot180Error, suggest
from rot180.graph.box import Box
from rot180.graph.operators.convolution import crop_or_pad
from rot180.graph.operators.operator import NO_PADDING, Region
from rot180.graph.operators.pooling import AdaptiveMaxPool, MaxPool

_pool_backward = torch.ops.aten.max_pool2d_with_indices_backward.default

WAYS_BACK = ("deconvnet", "gradient", "guided")
CANDIDATES = (*WAYS_BACK, "gradient_times_image")
"""What "auto" chooses from: one pass back, and pictures with a sign."""
METHODS = (*CANDIDATES, "smoothgrad_squared")
AUTO = "auto"
"""Stands for the method that was measured to be the best at a layer; see ``faithfulness``."""
CHOICES = (AUTO, *METHODS)
_BACKWARD = {"gradient_times_image": "gradient", "smoothgrad_squared": "gradient"}
"""Methods that are made from projections by another one; see :mod:`rot180.projection.compound`."""

UNPOOLINGS = ("switches", "repeat")


@dataclass(frozen=True)
class Rules:
    """A method and an unpooling, chosen by name.

    Attributes:
        method: one of ``CHOICES``; ``AUTO`` stands for one of the others, by the layer.
        unpooling: "switches" or "repeat".

    Raises:
        Rot180Error: one of the names does not exist.
    """

    method: Any = "deconvnet"
    unpooling: Any = "switches"

    def __post_init__(self) -> None:
        for what, name, known in (
            ("method", self.method, CHOICES),
            ("unpooling", self.unpooling, UNPOOLINGS),
        ):
            if not isinstance(name, str) or name not in known:
                raise Rot180Error(
                    f"There is no {what} '{name}'. There are: {suggest(known, str(name))}."
                )

    @property
    def backward(self) -> str:
        """The method of the backward pass itself: "deconvnet", "gradient" or "guided".

        Raises:
            ValueError: the method is "auto", which has to be resolved for a layer first.
        """
        if self.method == AUTO:
            raise ValueError("the method 'auto' is not resolved")
        return _BACKWARD.get(self.method, str(self.method))

    def rectify(
        self, signal: Tensor, vjp: Callable[[Tensor], Tensor], may_overwrite: bool = False
    ) -> Tensor:
        """Carry a signal back through a rectifier; ``vjp`` multiplies by its derivative.

        The signal may be overwritten if ``may_overwrite``.
        """
        if self.backward == "gradient":
            return vjp(signal)
        rectified = signal.clamp_(min=0) if may_overwrite else signal.clamp(min=0)
        return rectified if self.backward == "deconvnet" else vjp(rectified)

    def unpool(
        self, signal: Tensor, switches: Tensor, pool: MaxPool | AdaptiveMaxPool, region: Region
    ) -> Tensor:
        """Carry a signal back through a max pooling on a region of its maps."""
        need = region.needs[0]
        if isinstance(pool, AdaptiveMaxPool):
            if self.unpooling == "repeat":
                return pool.repeated(signal, region)
            return to_switches(signal, switches, need)
        if self.unpooling == "repeat":
            return repeated(signal, pool, region)
        if region.padding[0] != NO_PADDING:
            return to_switches(signal, switches, need)
        # The same, faster, where no window looks beyond the map.
        kernel, stride, _, dilation = pool.window
        found: Tensor = _pool_backward(
            signal,
            torch.empty(
                (*signal.shape[:2], need.height, need.width),
                dtype=signal.dtype,
                device=signal.device,
                memory_format=torch.channels_last,
            ),
            kernel,
            stride,
            (0, 0),
            dilation,
            False,
            switches.expand_as(signal),
        )
        return found


def to_switches(
    signal: Float[Tensor, "k c h w"], switches: Int[Tensor, "n c h w"], box: Box
) -> Float[Tensor, "k c height width"]:
    """Put each value where its maximum was; a position that won several windows takes their sum.

    ``switches`` holds flat positions in the box. Its batch may be 1 for a signal of any batch.
    """
    n, c = signal.shape[:2]
    flat = signal.new_zeros(n, c, box.height * box.width)
    flat.scatter_add_(2, switches.expand_as(signal).flatten(2), signal.flatten(2))
    return flat.reshape(n, c, box.height, box.width)


def repeated(
    signal: Float[Tensor, "k c h w"], pool: MaxPool, region: Region
) -> Float[Tensor, "k c height width"]:
    """Give every position of each window the window's value; overlapping windows add.

    It is the adjoint of the sum over each window. What would fall on the padding is dropped.
    """
    n, c, h, w = signal.shape
    ones = signal.new_ones(1, 1, *pool.window.kernel)
    full = F.conv_transpose2d(
        signal.reshape(n * c, 1, h, w),
        ones,
        None,
        pool.window.stride,
        dilation=pool.window.dilation,
    )
    top, left, _, _ = region.padding[0]
    need = region.needs[0]
    return crop_or_pad(full, (top, left), need).reshape(n, c, need.height, need.width)


def rules(method: Any, unpooling: Any) -> Rules:
    """Return the rules of these names, made once; see :class:`Rules`."""
    if isinstance(method, str) and isinstance(unpooling, str):
        return _rules(method, unpooling)
    return Rules(method, unpooling)


_rules = lru_cache(Rules)
