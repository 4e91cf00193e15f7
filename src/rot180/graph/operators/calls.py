"""Operators without an entry of their own: autograd carries the signal back, on whole maps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rot180.errors import Rot180Error
from rot180.graph.operators.base import Axes, Kept, Looks, Operator, Part, Rules


@dataclass(frozen=True, eq=False)
class _Called(Operator):
    """Base of operators that are called as they stand in the graph, and differentiated by autograd.

    Attributes:
        call: the operator, its other arguments being set.
        name: what it is.
    """

    call: Callable[..., Any]
    name: str

    @property
    def kind(self) -> str:
        """What it is."""
        return self.name

    def looks_at(self, method: str | None) -> Looks:
        """The derivative is taken at the inputs."""
        return Looks(inputs=True)

    def forward(self, inputs: tuple[Any, ...], part: Part) -> tuple[Any, None]:
        """Call it."""
        return self.call(*inputs), None

    def backward(
        self, signal: Tensor, kept: Kept, rules: Rules, part: Part
    ) -> tuple[Tensor | None, ...]:
        """Differentiate it at the kept inputs."""
        return differentiated(self.call, signal, kept.inputs)


@dataclass(frozen=True, eq=False)
class Derived(_Called):
    """A smooth operator that is known to be no rectifier: all methods go by its derivative.

    Normalisation by the values themselves, softmax, matrix products, and the like. It is ``local``
    where it acts at each position by itself.
    """

    local: bool = False


@dataclass(frozen=True, eq=False)
class Unlisted(_Called):
    """An operator that the table lacks: autograd takes the signal back, by the gradient only.

    Its derivative is known, but not what ``deconvnet`` or ``guided`` ought to do there (it might be
    another kind of rectifier), and a guess would be wrong without anybody noticing.
    """

    where: str
    local = False

    @property
    def kind(self) -> str:
        """What it is."""
        return f"other ({self.name})"

    def backward(
        self, signal: Tensor, kept: Kept, rules: Rules, part: Part
    ) -> tuple[Tensor | None, ...]:
        """Differentiate the operator at the kept inputs."""
        if rules.method != "gradient":
            raise Rot180Error(
                f"The method '{rules.method}' is not defined for the operator {self.name}"
                f"{self.where}. Use method='gradient', which autograd knows there, or a layer "
                "below it."
            )
        try:
            return super().backward(signal, kept, rules, part)
        except RuntimeError as error:
            raise Rot180Error(
                f"Autograd cannot carry a signal back through {self.name}{self.where}: "
                f"{str(error).splitlines()[0]} Choose a layer below it."
            ) from error


@dataclass(frozen=True, eq=False)
class Item(Operator):
    """One of several outputs of an operator that is not listed."""

    place: int
    local = False

    @property
    def kind(self) -> str:
        """What it is."""
        return "item"

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return nothing: what the outputs are is not known."""
        return None

    def forward(self, inputs: tuple[Any, ...], part: Part) -> tuple[Any, None]:
        """Take it out."""
        return inputs[0][self.place], None

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Refuse: several signals would have to meet in one step."""
        raise Rot180Error(
            "The model uses an operator with several outputs that is not listed, which no signal "
            "can be carried through. Choose a layer below it."
        )


def differentiated(
    call: Callable[..., Any], signal: Tensor, inputs: tuple[Any, ...]
) -> tuple[Tensor | None, ...]:
    """Return the signal times the derivative of a call at each of its inputs, by autograd."""
    with torch.inference_mode(False), torch.enable_grad():
        taken = [a.clone().requires_grad_(a.is_floating_point()) for a in inputs]
        output = call(*taken)
        wanted = [a for a in taken if a.requires_grad]
        if not wanted or not output.requires_grad:
            return (None,) * len(taken)
        # One image may take the signals of many features: each goes back by itself.
        each = [
            torch.autograd.grad(output, wanted, one, retain_graph=True, materialize_grads=True)
            for one in torch.split(signal, len(output))
        ]
    found = iter([torch.cat(parts) for parts in zip(*each, strict=True)])
    return tuple(next(found) if a.requires_grad else None for a in taken)
