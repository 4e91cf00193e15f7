"""Rectifiers of every kind, and functions of one number that are none.

What ``deconvnet`` and ``guided`` do at a rectifier is said in :mod:`rot180.projection.rules`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rot180.graph.operators.backward_kind import BY_DERIVATIVE, LINEAR, RECTIFIER, BackwardKind
from rot180.graph.operators.operator import Kept, Looks, Operator, Part, Rules


@dataclass(frozen=True, eq=False)
class Rectifier(Operator):
    """A function that lets positive values through and holds negative ones back, as ReLU does.

    Attributes:
        name: which one, as PyTorch calls it.
        function: ``function(z, *parameters)`` is the output.
        derived: ``derived(signal, kept, *parameters)`` is the signal times the derivative.
        from_output: whether ``kept`` is the output rather than z.
        parameters: of each channel, as in PReLU.
    """

    name: str
    function: Callable[..., Tensor]
    derived: Callable[..., Tensor]
    from_output: bool = False
    parameters: tuple[Tensor, ...] = ()

    @property
    def kind(self) -> str:
        """What it is."""
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

    def looks_at(self, method: str | None) -> Looks:
        """The deconvnet looks at nothing; the others at the place of the derivative."""
        if method == "deconvnet":
            return Looks()
        return Looks(inputs=not self.from_output, output=self.from_output)

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Rectify."""
        (z,) = inputs
        if self.name == "ReLU" and part.spare:
            return z.clamp_(min=0), None
        return self.function(z, *self.parameters), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Leave it to the method."""

        def derived(signal: Tensor) -> Tensor:
            at = kept.output if self.from_output else kept.inputs[0]
            assert at is not None
            return self.derived(signal, at.expand_as(signal), *self.parameters)

        return (rules.rectify(signal, derived, part.spare_signal),)

    def of_channels(self, channels: Tensor | slice) -> "Rectifier":
        """Return the rectifier of these channels for values of shape (channels, 1, h, w)."""
        if not self.parameters:
            return self
        chosen = tuple(
            one if one.numel() == 1 else one.reshape(-1)[channels].reshape(-1, 1, 1, 1)
            for one in self.parameters
        )
        return Rectifier(self.name, self.function, self.derived, self.from_output, chosen)


@dataclass(frozen=True, eq=False)
class Pointwise(Operator):
    """A function of one number that is no rectifier: every method goes by its derivative.

    Attributes:
        name: which one.
        function: ``function(z)`` is the output.
        derived: ``derived(signal, kept)`` is the signal times the derivative.
        from_output: whether ``kept`` is the output rather than z.
        linear: whether the derivative is the same everywhere, so that nothing need be kept.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    derived: Callable[[Tensor, Any], Tensor]
    from_output: bool = False
    linear: bool = False

    @property
    def kind(self) -> str:
        """What it is."""
        return self.name

    @property
    def backward_kind(self) -> BackwardKind:
        """By derivative, unless it is linear."""
        return LINEAR if self.linear else BY_DERIVATIVE

    def looks_at(self, method: str | None) -> Looks:
        """Every method looks at the place of the derivative."""
        if self.linear:
            return Looks()
        return Looks(inputs=not self.from_output, output=self.from_output)

    def forward(self, inputs: tuple[Tensor, ...], part: Part) -> tuple[Tensor, None]:
        """Compute it."""
        return self.function(inputs[0]), None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Multiply with the derivative."""
        if self.linear:
            return (self.derived(signal, None),)
        at = kept.output if self.from_output else kept.inputs[0]
        assert at is not None
        return (self.derived(signal, at.expand_as(signal)),)
