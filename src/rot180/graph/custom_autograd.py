"""Functions with a backward pass by the model's author, such as straight-through estimators.

An export follows the forward pass of a ``torch.autograd.Function`` and forgets its backward pass.
Nothing is lost if the backward pass is the derivative of the forward pass: a SiLU that saves memory
is recognised as a SiLU. If it is not, as in a rounding that passes the gradient, the function
becomes one opaque call of the graph, and the gradient uses the author's backward pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Function = torch.autograd.Function

_STEP, _TOLERANCE = 1e-5, 1e-3


@dataclass(frozen=True, eq=False)
class FunctionUse:
    """A call of such a function while a model was exported.

    Attributes:
        kind: the class of the function.
        args: the arguments, with shapes in place of tensors.
    """

    kind: type[Function]
    args: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        """Whether the author's backward pass disagrees with finite differences.

        It counts as different if that cannot be found out.
        """
        generator = torch.Generator().manual_seed(0)

        def random(shape: torch.Size) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        args = [random(arg) if isinstance(arg, torch.Size) else arg for arg in self.args]
        direction = [random(arg.shape) if isinstance(arg, Tensor) else None for arg in args]

        def moved(h: float) -> Any:
            there = [
                arg if v is None else arg + h * v for arg, v in zip(args, direction, strict=True)
            ]
            return _first(self.kind.apply(*there))

        try:
            with torch.no_grad():
                quotient, finer = ((moved(h) - moved(-h)) / (2 * h) for h in (_STEP, _STEP / 2))
            with torch.enable_grad():
                inputs = [arg.requires_grad_() if isinstance(arg, Tensor) else arg for arg in args]
                output = _first(self.kind.apply(*inputs))
                tensors = [arg for arg in inputs if isinstance(arg, Tensor)]
                smooth = (quotient - finer).abs() <= _TOLERANCE * quotient.abs().max()
                signal = torch.where(smooth, random(output.shape), 0)
                back = torch.autograd.grad(output, tensors, signal, materialize_grads=True)
        except Exception:
            return True
        expected = float((signal * quotient).sum())
        actual = sum(
            float((grad * v).sum())
            for grad, v in zip(back, (v for v in direction if v is not None), strict=True)
        )
        size = max(float(signal.norm() * quotient.norm()), abs(actual), 1e-12)
        return abs(expected - actual) > _TOLERANCE * size


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


@dataclass
class FunctionUses:
    """The calls of such functions while a model was exported."""

    calls: list[FunctionUse] = field(default_factory=list)

    def differing(self) -> set[type[Function]]:
        """Return the functions whose backward pass is not the derivative of the forward pass."""
        kinds = {use.kind for use in self.calls}
        return {
            kind for kind in kinds if any(use.differs for use in self.calls if use.kind is kind)
        }


def _kinds(base: type[Any] = Function) -> Iterator[type[Function]]:
    for kind in base.__subclasses__():
        if not kind.__module__.startswith("torch."):
            yield kind
        yield from _kinds(kind)


@contextmanager
def record_functions(opaque: set[type[Function]]) -> Iterator[FunctionUses]:
    """Record which functions are called inside; some become opaque calls of the graph.

    Args:
        opaque: the classes whose calls become opaque; see :func:`opaque_call`.
    """
    uses = FunctionUses()
    before = {kind: vars(kind)["forward"] for kind in _kinds() if "forward" in vars(kind)}
    for kind in before:
        recorded = _recorded(kind, kind.forward, uses, kind in opaque)
        setattr(kind, "forward", staticmethod(recorded))  # noqa: B010
    try:
        yield uses
    finally:
        for kind, forward in before.items():
            setattr(kind, "forward", forward)  # noqa: B010


def _recorded(
    kind: type[Function], forward: Callable[..., Any], uses: FunctionUses, opaque: bool
) -> Callable[..., Any]:
    """Return a forward method that records its calls, and makes them opaque if it should."""

    def recorded(*args: Any) -> Any:
        context = None if "setup_context" in vars(kind) else args[0]
        given = args if context is None else args[1:]
        shapes = tuple(arg.shape if isinstance(arg, Tensor) else arg for arg in given)
        uses.calls.append(FunctionUse(kind, shapes))
        if not opaque or not any(isinstance(arg, Tensor) for arg in given):
            return forward(*args)
        several: list[bool] = []

        def run(tensors: list[Tensor]) -> list[Tensor]:
            rest = iter(tensors)
            filled = [next(rest) if isinstance(arg, torch.Size) else arg for arg in shapes]
            output = forward(*filled) if context is None else forward(context, *filled)
            several.append(isinstance(output, tuple))
            return list(output) if isinstance(output, tuple) else [output]

        _CALLS.append(OpaqueCall(kind, shapes, run))
        tensors = [arg for arg in given if isinstance(arg, Tensor)]
        outputs = _operator()(tensors, len(_CALLS) - 1)
        return tuple(outputs) if several[-1] else outputs[0]

    return recorded


@dataclass(frozen=True, eq=False)
class OpaqueCall:
    """A call that is one operator of the graph.

    Attributes:
        kind: the class of the function.
        args: the arguments, with shapes in place of tensors.
        run: its forward pass, for the shapes of its outputs.
    """

    kind: type[Function]
    args: tuple[Any, ...]
    run: Callable[[list[Tensor]], list[Tensor]]

    def __call__(self, tensors: list[Tensor], _: int) -> tuple[Tensor, ...]:
        """Make the call, with the author's backward pass."""
        rest = iter(tensors)
        filled = [next(rest) if isinstance(arg, torch.Size) else arg for arg in self.args]
        output = self.kind.apply(*filled)
        return output if isinstance(output, tuple) else (output,)


_CALLS: list[OpaqueCall] = []
_OPERATOR: list[Any] = []


def opaque_call(key: int) -> OpaqueCall:
    """Return the call that an operator ``rot180.own_derivative`` of a graph stands for."""
    return _CALLS[key]


def _operator() -> Any:
    """Return the operator ``rot180.own_derivative``, which is registered at its first use."""
    if not _OPERATOR:

        def run(tensors: list[Tensor], key: int) -> list[Tensor]:
            return [output.clone() for output in _CALLS[key].run(list(tensors))]

        run.__annotations__ = {"tensors": list[Tensor], "key": int, "return": list[Tensor]}
        operator = torch.library.custom_op("rot180::own_derivative", run, mutates_args=())
        operator.register_fake(run)
        _OPERATOR.append(torch.ops.rot180.own_derivative.default)
    return _OPERATOR[0]


def is_opaque(target: Any) -> bool:
    """Say whether a node's target is that operator."""
    return bool(_OPERATOR) and target is _OPERATOR[0]
