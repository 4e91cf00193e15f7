"""Operators that are called as they stand in the graph: autograd differentiates them.

Signals reach autograd contiguous, whatever their memory layout was, because PyTorch's own backward
passes are not right for all layouts; and each such step is compared with finite differences when a
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
from rot180.graph.operators.operator import Kept, Looks, Operator, Part, Rules


@dataclass(frozen=True)
class Slot:
    """Stands in the arguments of a call for one of its inputs."""

    number: int


@dataclass(frozen=True, eq=False)
class GraphCall:
    """A call of the exported graph, of which everything is set but its inputs.

    Attributes:
        target: the operator of the graph.
        name: its name there.
        args, kwargs: its arguments; a :class:`Slot` stands for an input.
        inputs: the shape of each input in the call as it was exported, for one image. None: the
            call takes the inputs of many images at once, one behind the other.
        output: the shape of the output for one image, without the axis for the images.
        item: which of several outputs it is; None: there is one.
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
            return self._called(values)
        each = [
            self._called(
                tuple(
                    one[image : image + 1].reshape(shape)
                    for one, shape in zip(values, self.inputs, strict=True)
                )
            ).reshape(1, *self.output)
            for image in range(len(values[0]))
        ]
        return each[0] if len(each) == 1 else torch.cat(each)

    def _called(self, values: tuple[Tensor, ...]) -> Tensor:
        args, kwargs = _filled((self.args, self.kwargs), values)
        found = self.target(*args, **kwargs)
        taken: Tensor = found if self.item is None else found[self.item]
        return taken


def _filled(value: Any, values: tuple[Tensor, ...]) -> Any:
    """Return arguments with the inputs in their places."""
    if isinstance(value, Slot):
        return values[value.number]
    if isinstance(value, tuple | list):
        return [_filled(one, values) for one in value]
    if isinstance(value, dict):
        return {name: _filled(one, values) for name, one in value.items()}
    return value


def graph_call(
    node: fx.Node,
    inputs: tuple[fx.Node, ...],
    constants: dict[str, Any],
    shapes: tuple[tuple[int, ...], ...] | None,
    output: tuple[int, ...],
    item: int | None = None,
) -> GraphCall:
    """Return the call of a node; see :class:`GraphCall`. What is no input is a constant."""
    slots = {one: Slot(number) for number, one in enumerate(inputs)}

    def set_to(one: fx.Node) -> Any:
        return slots[one] if one in slots else constants[one.name]

    given: Any = fx.node.map_arg((node.args, node.kwargs), set_to)
    args, kwargs = given
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

    Softmax, matrix products, the choice of the largest values, and the like. It is ``local`` where
    it acts at each position by itself.
    """

    local: bool = False

    @property
    def backward_kind(self) -> BackwardKind:
        """By derivative."""
        return BY_DERIVATIVE


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

    @property
    def backward_kind(self) -> BackwardKind:
        """Not listed."""
        return NOT_LISTED

    def backward(
        self, signal: Tensor, kept: Kept, rules: Rules, part: Part
    ) -> tuple[Tensor | None, ...]:
        """Differentiate the operator at the kept inputs."""
        if rules.backward != "gradient":
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
class OwnDerivative(Unlisted):
    """A function whose backward pass its author has written, and which differs from its derivative.

    The gradient goes by what the author wrote; other methods are not defined.
    """

    @property
    def kind(self) -> str:
        """What it is."""
        return f"own derivative ({self.name})"


@dataclass(frozen=True, eq=False)
class Mistrusted(_Called):
    """An operator of which autograd's derivative is not that of finite differences.

    Attributes:
        where: the module, in words.
        error: the relative difference that was found.
    """

    where: str
    error: float
    local = False

    @property
    def backward_kind(self) -> BackwardKind:
        """Not right in PyTorch."""
        return UNTRUSTED

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[Tensor, ...]:
        """Refuse."""
        raise Rot180Error(
            f"PyTorch's derivative of {self.name}{self.where} is not right: it differs from finite "
            f"differences by {self.error:.1%}. Choose a layer below it."
        )


@dataclass(frozen=True, eq=False)
class Discrete(_Called):
    """An operator that gives whole numbers or truth values: no signal goes back from them."""

    local = False

    @property
    def backward_kind(self) -> BackwardKind:
        """Whole numbers."""
        return DISCRETE

    def looks_at(self, method: str | None) -> Looks:
        """No method needs anything."""
        return Looks()

    def backward(self, signal: Tensor, kept: Kept, rules: Rules, part: Part) -> tuple[None, ...]:
        """Return nothing for each input."""
        return (None,) * len(part.needs)


def differentiated(
    call: Callable[..., Any], signal: Tensor, inputs: tuple[Any, ...]
) -> tuple[Tensor | None, ...]:
    """Return the signal times the derivative of a call at each of its inputs, by autograd.

    Inputs and signals are made contiguous first. An input that takes no derivative, because it
    holds whole numbers or because the output does not depend on it smoothly, gets None.
    """
    with torch.inference_mode(False), torch.enable_grad():
        taken = [
            one.clone(memory_format=torch.contiguous_format).requires_grad_(
                one.is_floating_point() or one.is_complex()
            )
            for one in inputs
        ]
        output = call(*taken)
        wanted = [one for one in taken if one.requires_grad]
        if not wanted or not output.requires_grad:
            return (None,) * len(taken)
        # One image may take the signals of many features: each goes back by itself.
        each = [
            torch.autograd.grad(
                output, wanted, one.contiguous(), retain_graph=True, materialize_grads=True
            )
            for one in torch.split(signal, len(output))
        ]
    found = iter([torch.cat(parts) for parts in zip(*each, strict=True)])
    return tuple(next(found) if one.requires_grad else None for one in taken)
