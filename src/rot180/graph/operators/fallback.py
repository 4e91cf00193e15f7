"""Operators that run as calls of the graph, with a backward pass by autograd.

Autograd gets contiguous signals, whatever their memory layout was, because PyTorch's own backward
passes are not right for all layouts. Each such step is compared with finite differences when a
network is captured (:mod:`rot180.graph.gradcheck`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from rot180.errors import Rot180Error
from rot180.graph.operators.backward_kind import (
    BY_DERIVATIVE,
    DISCRETE,
    NOT_LISTED,
    UNTRUSTED,
    BackwardKind,
)
from rot180.graph.operators.operator import BackwardNeeds, MethodRules, Operator, Region, Saved


@dataclass(frozen=True)
class Slot:
    """Stands for an input among the arguments of a call."""

    number: int


@dataclass(frozen=True, eq=False)
class GraphCall:
    """A call of the exported graph with all arguments but the inputs.

    Attributes:
        target: the ATen operator.
        name: its name.
        args, kwargs: its arguments; a :class:`Slot` stands for an input.
        inputs: the shape of each input in the call as it was exported, for one image; None if the
            call takes many images at once, along the first axis.
        output: the shape of the output for one image, without the batch axis.
        item: which of several outputs it is; None where there is one output.
    """

    target: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[tuple[int, ...], ...] | None
    output: tuple[int, ...]
    item: int | None = None

    def __call__(self, *values: Tensor) -> Tensor:
        """Return the output (n, ...) for inputs (n, ...)."""
        if self.inputs is None:
            return self._run(values)
        outputs = [
            self._run(
                tuple(
                    value[image : image + 1].reshape(shape)
                    for value, shape in zip(values, self.inputs, strict=True)
                )
            ).reshape(1, *self.output)
            for image in range(len(values[0]))
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _run(self, values: tuple[Tensor, ...]) -> Tensor:
        args, kwargs = _filled((self.args, self.kwargs), values)
        outputs = self.target(*args, **kwargs)
        output: Tensor = outputs if self.item is None else outputs[self.item]
        return output


def _filled(value: Any, values: tuple[Tensor, ...]) -> Any:
    """Return arguments with the inputs in place of their slots."""
    if isinstance(value, Slot):
        return values[value.number]
    if isinstance(value, tuple | list):
        return [_filled(item, values) for item in value]
    if isinstance(value, dict):
        return {name: _filled(item, values) for name, item in value.items()}
    return value


def graph_call(
    node: fx.Node,
    inputs: tuple[fx.Node, ...],
    constants: dict[str, Any],
    shapes: tuple[tuple[int, ...], ...] | None,
    output: tuple[int, ...],
    item: int | None = None,
) -> GraphCall:
    """Return the call of a node; see :class:`GraphCall`. All but the inputs are constants."""
    slots = {source: Slot(number) for number, source in enumerate(inputs)}

    def value_of(source: fx.Node) -> Any:
        return slots[source] if source in slots else constants[source.name]

    arguments: Any = fx.node.map_arg((node.args, node.kwargs), value_of)
    args, kwargs = arguments
    return GraphCall(
        node.target,  # type: ignore[arg-type]
        str(node.target),
        tuple(args),
        dict(kwargs),
        shapes,
        output,
        item,
    )


@dataclass(frozen=True, eq=False)
class _CallOp(Operator):
    """Base of the operators that run as calls of the graph, with a backward pass by autograd.

    Attributes:
        call: takes the inputs and returns the output.
        name: name of the operator.
    """

    call: Callable[..., Any]
    name: str

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return self.name

    def backward_needs(self, method: str | None) -> BackwardNeeds:
        """The derivative is computed from the inputs."""
        return BackwardNeeds(inputs=True)

    def forward(self, inputs: tuple[Any, ...], region: Region) -> tuple[Any, None]:
        """Make the call."""
        return self.call(*inputs), None

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor | None, ...]:
        """Differentiate the call at the saved inputs."""
        return vjp(self.call, signal, saved.inputs)


@dataclass(frozen=True, eq=False)
class AutogradOp(_CallOp):
    """A smooth operator that is known to be no rectifier: every method uses its derivative.

    Examples are softmax, matrix products and the choice of the largest values. It is ``local``
    where it acts on each position alone.
    """

    local: bool = False

    @property
    def backward_kind(self) -> BackwardKind:
        """By derivative."""
        return BY_DERIVATIVE


@dataclass(frozen=True, eq=False)
class UnknownOp(_CallOp):
    """An operator without a lowering: it has a backward pass for the gradient only, by autograd.

    Its derivative is known, but not what ``deconvnet`` or ``guided`` ought to do there (it might be
    another kind of rectifier), and nobody would notice a wrong guess.

    Attributes:
        where: the module, in words, for messages.
    """

    where: str
    local = False

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return f"other ({self.name})"

    @property
    def backward_kind(self) -> BackwardKind:
        """Not listed."""
        return NOT_LISTED

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor | None, ...]:
        """Differentiate the call at the saved inputs, if the method is the gradient."""
        if rules.backward != "gradient":
            raise Rot180Error(
                f"The method '{rules.method}' is not defined for the operator {self.name}"
                f"{self.where}. Use method='gradient', which autograd knows there, or a layer "
                "below it."
            )
        try:
            return super().backward(signal, saved, rules, region)
        except RuntimeError as error:
            raise Rot180Error(
                f"Autograd cannot take a signal back through {self.name}{self.where}: "
                f"{str(error).splitlines()[0]} Choose a layer below it."
            ) from error


@dataclass(frozen=True, eq=False)
class CustomAutogradOp(UnknownOp):
    """A function with a backward pass of its author's that differs from its derivative.

    The gradient uses the author's backward pass; no other method is defined.
    """

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return f"own derivative ({self.name})"


@dataclass(frozen=True, eq=False)
class UntrustedOp(_CallOp):
    """An operator for which autograd's derivative disagrees with finite differences.

    Attributes:
        where: the module, in words, for messages.
        error: the relative difference.
    """

    where: str
    error: float
    local = False

    @property
    def backward_kind(self) -> BackwardKind:
        """Not right in PyTorch."""
        return UNTRUSTED

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor, ...]:
        """Refuse every method."""
        raise Rot180Error(
            f"PyTorch's derivative of {self.name}{self.where} is not right: it differs from finite "
            f"differences by {self.error:.1%}. Choose a layer below it."
        )


@dataclass(frozen=True, eq=False)
class DiscreteOp(_CallOp):
    """An operator that returns whole numbers or truth values, which pass no signal back."""

    local = False

    @property
    def backward_kind(self) -> BackwardKind:
        """Whole numbers."""
        return DISCRETE

    def backward_needs(self, method: str | None) -> BackwardNeeds:
        """No method needs anything."""
        return BackwardNeeds()

    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[None, ...]:
        """Return no signal for any input."""
        return (None,) * len(region.needs)


def vjp(
    call: Callable[..., Any], signal: Tensor, inputs: tuple[Any, ...]
) -> tuple[Tensor | None, ...]:
    """Return the vector-Jacobian product of a call for each of its inputs, by autograd.

    Inputs and signals are made contiguous first.

    Args:
        call: takes the inputs and returns the output.
        signal: at the output; if the inputs are of one image, it may be many signals (k, ...).
        inputs: where the derivative is taken.

    Returns:
        The signal at each input; None where the input takes no derivative, because it holds whole
        numbers or because the output does not depend on it smoothly.
    """
    with torch.inference_mode(False), torch.enable_grad():
        copies = [
            value.clone(memory_format=torch.contiguous_format).requires_grad_(
                value.is_floating_point() or value.is_complex()
            )
            for value in inputs
        ]
        output = call(*copies)
        wanted = [value for value in copies if value.requires_grad]
        if not wanted or not output.requires_grad:
            return (None,) * len(copies)
        # The signals of many features may go back through one image: each goes by itself.
        each = [
            torch.autograd.grad(
                output, wanted, part.contiguous(), retain_graph=True, materialize_grads=True
            )
            for part in torch.split(signal, len(output))
        ]
    signals = iter([torch.cat(parts) for parts in zip(*each, strict=True)])
    return tuple(next(signals) if value.requires_grad else None for value in copies)
