"""Normalisation: by stored statistics, and by those of the values themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rot180.graph.operators.backward_kind import BY_DERIVATIVE, BackwardKind
from rot180.graph.operators.operator import Axes, Kept, Looks, Operator, Part, Rules


@dataclass(frozen=True, eq=False)
class BatchNorm(Operator):
    """Batch normalisation with its stored statistics: a factor and an offset for each channel.

    The channels are axis 1 of an input (n, c, ...) of any rank.

    Attributes:
        weight, bias, mean, variance: for each channel (c).
        eps: added to the variance.
        local: whether axis 1 is neither rows nor columns.
    """

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor
    variance: Tensor
    eps: float
    local: bool = True
    fresh = True
    fresh_back = True
    linear = True

    @classmethod
    def read(cls, given: Mapping[str, Any], local: bool = True) -> "BatchNorm":
        """Read ``aten.batch_norm``, one in evaluation mode, or ``aten.instance_norm``."""
        return cls(
            given["weight"],
            given["bias"],
            given["running_mean"],
            given["running_var"],
            given["eps"],
            local,
        )

    @property
    def kind(self) -> str:
        """What it is."""
        return "batch norm"

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return the input's: nothing moves."""
        return before[0]

    def factor(self) -> Tensor:
        """Return what each channel is multiplied with."""
        factor = torch.rsqrt(self.variance + self.eps)
        return factor if self.weight is None else factor * self.weight

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return kernel (o, ...) and bias (o) of a convolution followed by this normalisation."""
        factor = self.factor()
        offset = -self.mean if bias is None else bias - self.mean
        offset = offset * factor
        offset = offset if self.bias is None else offset + self.bias
        turned = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        return turned.to(weight.dtype), offset.to(weight.dtype)

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Normalise."""
        (z,) = inputs
        out = F.batch_norm(z, self.mean, self.variance, self.weight, self.bias, False, 0, self.eps)
        return out, None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Multiply each channel by its factor."""
        factor = self.factor().to(signal.dtype)
        return (signal * factor.reshape(1, -1, *[1] * (signal.ndim - 2)),)


@dataclass(frozen=True, eq=False)
class FrozenNorm:
    """A normalisation that was written as a factor and an offset (c, 1, 1) for each channel."""

    factor: Tensor
    offset: Tensor

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return kernel (o, ...) and bias (o) of a convolution followed by this normalisation."""
        factor, offset = self.factor.flatten(), self.offset.flatten()
        offset = offset if bias is None else offset + bias * factor
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), offset


class OwnNorm(Operator):
    """Base of normalisation by the values' own statistics, image by image.

    Every method goes through it by its derivative, which is computed here in plain arithmetic:
    PyTorch's own backward passes take some signals for another layout than they have in memory.
    A signal may have more images (k, ...) than the values (1, ...), which it meets by broadcasting.
    """

    fresh = True
    fresh_back = True

    @property
    def backward_kind(self) -> BackwardKind:
        """By derivative."""
        return BY_DERIVATIVE

    def looks_at(self, method: str | None) -> Looks:
        """Every method looks at what was normalised."""
        return Looks(inputs=True)

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return the input's: nothing moves."""
        return before[0]


@dataclass(frozen=True, eq=False)
class LayerNorm(OwnNorm):
    """Normalisation over the last axes: layer norm, or RMS norm, which takes no mean away.

    Attributes:
        shape: of the axes that are normalised.
        weight, bias: of that shape; RMS norm has no bias.
        eps: added to the variance, or to the mean of the squares.
        local: whether rows and columns are not among the axes.
        centred: whether the mean is taken away (Ba, Kiros & Hinton 2016, eq. 3); RMS norm divides
            by the root of the mean square alone (Zhang & Sennrich 2019, eq. 4).
    """

    shape: tuple[int, ...]
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    local: bool
    centred: bool = True

    @property
    def kind(self) -> str:
        """What it is."""
        return "layer norm" if self.centred else "RMS norm"

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Normalise."""
        (z,) = inputs
        if self.centred:
            return F.layer_norm(z, self.shape, self.weight, self.bias, self.eps), None
        out, _ = _normalised(z, len(self.shape), self.eps, False)
        return (out if self.weight is None else out * self.weight), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Multiply with the derivative."""
        s = signal if self.weight is None else signal * self.weight
        return (_derived(s, kept.inputs[0], len(self.shape), self.eps, self.centred),)


@dataclass(frozen=True, eq=False)
class GroupNorm(OwnNorm):
    """Normalisation of groups of channels (axis 1) over all axes behind: group and instance norm.

    A group of instance norm is one channel (Wu & He 2018, section 3.1).

    Attributes:
        name: which one.
        groups: how many, of equal size.
        weight, bias: for each channel (c).
        eps: added to the variance.
        local: whether there are no rows and columns.
    """

    name: str
    groups: int
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    local: bool

    @property
    def kind(self) -> str:
        """What it is."""
        return self.name

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Normalise."""
        return torch.group_norm(inputs[0], self.groups, self.weight, self.bias, self.eps), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Multiply with the derivative, group by group."""
        s, apart = signal, (self.groups, -1)
        if self.weight is not None:
            s = signal * self.weight.reshape(-1, *[1] * (signal.ndim - 2))
        s, z = torch.unflatten(s, 1, apart), torch.unflatten(kept.inputs[0], 1, apart)
        return (_derived(s, z, z.ndim - 2, self.eps).flatten(1, 2),)


def _normalised(z: Tensor, last: int, eps: float, centred: bool) -> tuple[Tensor, Tensor]:
    """Return z normalised over so many last axes, and the factor 1 / deviation."""
    axes = tuple(range(-last, 0))
    z = z - z.mean(axes, keepdim=True) if centred else z
    factor = torch.rsqrt((z * z).mean(axes, keepdim=True) + eps)
    return z * factor, factor


def _derived(s: Tensor, z: Tensor, last: int, eps: float, centred: bool = True) -> Tensor:
    """Return a signal s (k, ...) times the derivative of normalising z over so many last axes.

    With x^ the normalised values that is (s - mean(s) - x^ mean(s x^)) / deviation (Ioffe &
    Szegedy 2015, section 3, their three steps put together). The middle term is the derivative of
    the mean, and is missing where none is taken away.
    """
    axes = tuple(range(-last, 0))
    normal, factor = _normalised(z, last, eps, centred)
    back = s - normal * (s * normal).mean(axes, keepdim=True)
    back = back - s.mean(axes, keepdim=True) if centred else back
    return back * factor
