"""Rectifiers of every kind, and functions of one number that are no rectifiers.

The rules of ``deconvnet`` and ``guided`` for rectifiers are in :mod:`rot180.projection.rules`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rot180.graph.operators.backward_kind import BY_DERIVATIVE, LINEAR, RECTIFIER, BackwardKind
from rot180.graph.operators.operator import BackwardNeeds, MethodRules, Operator, Region, Saved


@dataclass(frozen=True, eq=False)
class Rectifier(Operator):
    """A function that lets positive values through and holds negative ones back, as ReLU does.

    Attributes:
        name: its name in PyTorch.
        function: ``function(z, *parameters)`` is the output.
        vjp: ``vjp(signal, saved, *parameters)`` is the signal times the derivative.
        from_output: whether ``saved`` is the output rather than z.
        parameters: parameters of each channel, as in PReLU.
    """

    name: str
    function: Callable[..., Tensor]
    vjp: Callable[..., Tensor]
    from_output: bool = False
    parameters: tuple[Tensor, ...] = ()

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return f"rectifier ({self.name})"

    @property
    def backward_kind(self) -> BackwardKind:
        """A rectifier, where each method has a rule of its own."""
        return RECTIFIER

    @cached_property
    def saturates(self) -> bool:
        """Whether it has an upper limit, as ReLU6 does, so that large values become equal."""
        device = self.parameters[0].device if self.parameters else None
        large = torch.tensor([2.0**20, 2.0**30], dtype=torch.float64, device=device)
        first, second = self.function(large.reshape(2, 1, 1, 1), *self.parameters)
        return bool((first == second).any())

    def backward_needs(self, method: str | None) -> BackwardNeeds:
        """The deconvnet needs nothing; the others need what the derivative is computed from."""
        if method == "deconvnet":
            return BackwardNeeds()
        return BackwardNeeds(inputs=not self.from_output, output=self.from_output)

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Rectify, in place where that is allowed."""
        (z,) = inputs
        if self.name == "ReLU" and region.may_overwrite_input:
            return z.clamp_(min=0), None
        return self.function(z, *self.parameters), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Apply the rule of the method."""

        def vjp(signal: Tensor) -> Tensor:
            at = saved.output if self.from_output else saved.inputs[0]
            assert at is not None
            return self.vjp(signal, at.expand_as(signal), *self.parameters)

        return (rules.rectify(signal, vjp, region.may_overwrite_signal),)

    def of_channels(self, channels: Tensor | slice) -> "Rectifier":
        """Return the rectifier of these channels for values of shape (channels, 1, h, w)."""
        if not self.parameters:
            return self
        chosen = tuple(
            values if values.numel() == 1 else values.reshape(-1)[channels].reshape(-1, 1, 1, 1)
            for values in self.parameters
        )
        return Rectifier(self.name, self.function, self.vjp, self.from_output, chosen)


@dataclass(frozen=True, eq=False)
class Pointwise(Operator):
    """A function of one number that is no rectifier: every method uses its derivative.

    Attributes:
        name: name of the function.
        function: ``function(z)`` is the output.
        vjp: ``vjp(signal, saved)`` is the signal times the derivative.
        from_output: whether ``saved`` is the output rather than z.
        linear: whether the derivative is the same everywhere, so that nothing has to be saved.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    vjp: Callable[[Tensor, Any], Tensor]
    from_output: bool = False
    linear: bool = False

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return self.name

    @property
    def backward_kind(self) -> BackwardKind:
        """By derivative, unless it is linear."""
        return LINEAR if self.linear else BY_DERIVATIVE

    def backward_needs(self, method: str | None) -> BackwardNeeds:
        """Every method needs what the derivative is computed from."""
        if self.linear:
            return BackwardNeeds()
        return BackwardNeeds(inputs=not self.from_output, output=self.from_output)

    def forward(self, inputs: tuple[Tensor, ...], region: Region) -> tuple[Tensor, None]:
        """Compute the function."""
        return self.function(inputs[0]), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Multiply by the derivative."""
        if self.linear:
            return (self.vjp(signal, None),)
        at = saved.output if self.from_output else saved.inputs[0]
        assert at is not None
        return (self.vjp(signal, at.expand_as(signal)),)
