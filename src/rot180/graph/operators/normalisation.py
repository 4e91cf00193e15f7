"""Normalisation by stored statistics, and by the statistics of the values themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rot180.graph.operators.backward_kind import BY_DERIVATIVE, BackwardKind
from rot180.graph.operators.operator import (
    Axes,
    BackwardNeeds,
    MethodRules,
    Operator,
    Region,
    Saved,
)


@dataclass(frozen=True, eq=False)
class BatchNorm(Operator):
    """Batch normalisation with its stored statistics: a factor and an offset for each channel.

    The channels are axis 1 of an input (n, c, ...) of any rank.

    Attributes:
        weight, bias, mean, variance: one number for each channel (c).
        eps: added to the variance.
        local: whether axis 1 is neither rows nor columns.
    """

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor
    variance: Tensor
    eps: float
    local: bool = True
    allocates_output = True
    allocates_signal = True
    linear = True

    @classmethod
    def read(cls, given: Mapping[str, Any], local: bool = True) -> "BatchNorm":
        """Return that of ``aten.batch_norm`` in evaluation mode, or ``aten.instance_norm``."""
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
        """Name of the operator."""
        return "batch norm"

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the input's axes: nothing moves."""
        return input_axes[0]

    def factor(self) -> Tensor:
        """Return the factor of each channel (c)."""
        factor = torch.rsqrt(self.variance + self.eps)
        return factor if self.weight is None else factor * self.weight

    def fold_into(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return kernel (o, ...) and bias (o) of a convolution followed by this normalisation."""
        factor = self.factor()
        offset = -self.mean if bias is None else bias - self.mean
        offset = offset * factor
        offset = offset if self.bias is None else offset + self.bias
        scaled = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        return scaled.to(weight.dtype), offset.to(weight.dtype)

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Normalise the values."""
        (z,) = inputs
        out = F.batch_norm(z, self.mean, self.variance, self.weight, self.bias, False, 0, self.eps)
        return out, None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Multiply each channel by its factor."""
        factor = self.factor().to(signal.dtype)
        return (signal * factor.reshape(1, -1, *[1] * (signal.ndim - 2)),)


@dataclass(frozen=True, eq=False)
class ChannelAffine:
    """A factor and an offset (c, 1, 1) for each channel: a normalisation that is written out."""

    factor: Tensor
    offset: Tensor

    def fold_into(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return kernel (o, ...) and bias (o) of a convolution followed by this normalisation."""
        factor, offset = self.factor.flatten(), self.offset.flatten()
        offset = offset if bias is None else offset + bias * factor
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), offset


class OwnStatisticsNorm(Operator):
    """Base of the normalisations by the values' own statistics, image by image.

    Every method uses the derivative. It is computed here in plain arithmetic, because PyTorch's
    own backward passes mistake the memory layout of some signals. There may be many signals
    (k, ...) for the values (1, ...) of one image, which are broadcast.
    """

    allocates_output = True
    allocates_signal = True

    @property
    def backward_kind(self) -> BackwardKind:
        """By derivative."""
        return BY_DERIVATIVE

    def backward_needs(self, method: str | None) -> BackwardNeeds:
        """Every method needs the values before the normalisation."""
        return BackwardNeeds(inputs=True)

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the input's axes: nothing moves."""
        return input_axes[0]


@dataclass(frozen=True, eq=False)
class LayerNorm(OwnStatisticsNorm):
    """Normalisation over the last axes: layer norm, or RMS norm, which subtracts no mean.

    Attributes:
        shape: sizes of the normalised axes.
        weight, bias: tensors of that shape; RMS norm has no bias.
        eps: added to the variance, or to the mean of the squares.
        local: whether rows and columns are not among the axes.
        centred: whether the mean is subtracted (Ba, Kiros & Hinton 2016, eq. 3); RMS norm only
            divides by the root of the mean square (Zhang & Sennrich 2019, eq. 4).
    """

    shape: tuple[int, ...]
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    local: bool
    centred: bool = True

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return "layer norm" if self.centred else "RMS norm"

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Normalise the values."""
        (z,) = inputs
        if self.centred:
            return F.layer_norm(z, self.shape, self.weight, self.bias, self.eps), None
        out, _ = _normalised(z, len(self.shape), self.eps, False)
        return (out if self.weight is None else out * self.weight), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Multiply by the derivative."""
        s = signal if self.weight is None else signal * self.weight
        return (_vjp(s, saved.inputs[0], len(self.shape), self.eps, self.centred),)


@dataclass(frozen=True, eq=False)
class GroupNorm(OwnStatisticsNorm):
    """Normalisation of groups of channels (axis 1) with all axes after: group and instance norm.

    A group of instance norm is one channel (Wu & He 2018, section 3.1).

    Attributes:
        name: "group norm" or "instance norm".
        groups: number of groups, which have equal sizes.
        weight, bias: one number for each channel (c).
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
        """Name of the operator."""
        return self.name

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Normalise the values."""
        return torch.group_norm(inputs[0], self.groups, self.weight, self.bias, self.eps), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Multiply by the derivative, group by group."""
        s, grouped = signal, (self.groups, -1)
        if self.weight is not None:
            s = signal * self.weight.reshape(-1, *[1] * (signal.ndim - 2))
        s, z = torch.unflatten(s, 1, grouped), torch.unflatten(saved.inputs[0], 1, grouped)
        return (_vjp(s, z, z.ndim - 2, self.eps).flatten(1, 2),)


def _normalised(z: Tensor, last: int, eps: float, centred: bool) -> tuple[Tensor, Tensor]:
    """Return z normalised over so many last axes, and the factor 1 / deviation."""
    axes = tuple(range(-last, 0))
    z = z - z.mean(axes, keepdim=True) if centred else z
    factor = torch.rsqrt((z * z).mean(axes, keepdim=True) + eps)
    return z * factor, factor


def _vjp(s: Tensor, z: Tensor, last: int, eps: float, centred: bool = True) -> Tensor:
    """Return a signal s (k, ...) times the derivative of normalising z over so many last axes.

    With the normalised values x^ that is (s - mean(s) - x^ mean(s x^)) / deviation (Ioffe &
    Szegedy 2015, section 3, their three steps together). The second term is the derivative of the
    mean; it is missing where no mean is subtracted.
    """
    axes = tuple(range(-last, 0))
    normal, factor = _normalised(z, last, eps, centred)
    back = s - normal * (s * normal).mean(axes, keepdim=True)
    back = back - s.mean(axes, keepdim=True) if centred else back
    return back * factor
