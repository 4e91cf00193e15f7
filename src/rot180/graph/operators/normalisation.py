"""Normalisation: by stored statistics, and by those of the values themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rot180.graph.operators.base import Kept, Looks, Operator, Part, Rules


@dataclass(frozen=True, eq=False)
class BatchNorm(Operator):
    """Batch normalisation with its stored statistics: a factor and an offset for each channel."""

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor
    variance: Tensor
    eps: float
    fresh = True
    linear = True

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "BatchNorm":
        """Read ``aten._native_batch_norm_legit_no_training``."""
        return cls(
            given["weight"],
            given["bias"],
            given["running_mean"],
            given["running_var"],
            given["eps"],
        )

    @property
    def kind(self) -> str:
        """What it is."""
        return "batch norm"

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


@dataclass(frozen=True, eq=False)
class LayerNorm(Operator):
    """Normalisation over the last axes by the values' own mean and deviation.

    Every method goes through it by its derivative.

    Attributes:
        shape: of the axes that are normalised.
        weight, bias: of that shape.
        eps: added to the variance.
        local: whether rows and columns are not among the axes.
    """

    shape: tuple[int, ...]
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    local: bool

    @property
    def kind(self) -> str:
        """What it is."""
        return "layer norm"

    def looks_at(self, method: str | None) -> Looks:
        """Every method looks at what was normalised."""
        return Looks(inputs=True)

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Normalise."""
        return F.layer_norm(inputs[0], self.shape, self.weight, self.bias, self.eps), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Multiply with the derivative: with s the signal times the weight, and x^ the normalised
        values, (s - mean(s) - x^ mean(s x^)) / deviation.
        """
        axes = tuple(range(-len(self.shape), 0))
        variance, mean = torch.var_mean(kept.inputs[0], axes, correction=0, keepdim=True)
        factor = torch.rsqrt(variance + self.eps)
        normal = (kept.inputs[0] - mean) * factor
        s = signal if self.weight is None else signal * self.weight
        along = normal * (s * normal).mean(axes, keepdim=True)
        return ((s - s.mean(axes, keepdim=True) - along) * factor,)
