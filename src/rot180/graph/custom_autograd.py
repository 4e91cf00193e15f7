"""Functions for which a model's author has written the backward pass: straight-through estimators.

An export goes through the forward pass of a ``torch.autograd.Function`` and forgets its backward
pass. Where that is the derivative of what is computed, nothing is lost: a SiLU that saves memory is
found as a SiLU. Where it is not, as in a rounding whose gradient passes, the function is kept as
one operator, and the gradient goes by what its author wrote.
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
class Use:
    """A call of such a function while a model was exported.

    Attributes:
        kind: its class.
        args: its arguments, with the shapes of tensors in their place.
    """

    kind: type[Function]
    args: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        """Whether the author's derivative is another than that of finite differences.

        It counts as another, too, where it cannot be told.
        """
        generator = torch.Generator().manual_seed(0)

        def random(shape: torch.Size) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        args = [random(one) if isinstance(one, torch.Size) else one for one in self.args]
        along = [random(one.shape) if isinstance(one, Tensor) else None for one in args]

        def moved(h: float) -> Any:
            there = [one if v is None else one + h * v for one, v in zip(args, along, strict=True)]
            return _first(self.kind.apply(*there))

        try:
            with torch.no_grad():
                quotient, finer = ((moved(h) - moved(-h)) / (2 * h) for h in (_STEP, _STEP / 2))
            with torch.enable_grad():
                taken = [one.requires_grad_() if isinstance(one, Tensor) else one for one in args]
                output = _first(self.kind.apply(*taken))
                tensors = [one for one in taken if isinstance(one, Tensor)]
                smooth = (quotient - finer).abs() <= _TOLERANCE * quotient.abs().max()
                signal = torch.where(smooth, random(output.shape), 0)
                back = torch.autograd.grad(output, tensors, signal, materialize_grads=True)
        except Exception:
            return True
        there = float((signal * quotient).sum())
        here = sum(
            float((one * v).sum())
            for one, v in zip(back, (v for v in along if v is not None), strict=True)
        )
        size = max(float(signal.norm() * quotient.norm()), abs(here), 1e-12)
        return abs(there - here) > _TOLERANCE * size


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


@dataclass
class Uses:
    """The functions that a model has used while it was exported."""

    found: list[Use] = field(default_factory=list)

    def differing(self) -> set[type[Function]]:
        """Return those whose author's derivative is not that of what they compute."""
        kinds = {one.kind for one in self.found}
        return {
            kind for kind in kinds if any(one.differs for one in self.found if one.kind is kind)
        }


def _kinds(base: type[Any] = Function) -> Iterator[type[Function]]:
    for kind in base.__subclasses__():
        if not kind.__module__.startswith("torch."):
            yield kind
        yield from _kinds(kind)


@contextmanager
def watched(kept: set[type[Function]]) -> Iterator[Uses]:
    """Note which functions are used inside, and keep some as single operators of the graph.

    Args:
        kept: the classes to keep; see :func:`call_kept`.
    """
    uses = Uses()
    before = {kind: vars(kind)["forward"] for kind in _kinds() if "forward" in vars(kind)}
    for kind in before:
        noted = _forward(kind, kind.forward, uses, kind in kept)
        setattr(kind, "forward", staticmethod(noted))  # noqa: B010
    try:
        yield uses
    finally:
        for kind, forward in before.items():
            setattr(kind, "forward", forward)  # noqa: B010


def _forward(
    kind: type[Function], forward: Callable[..., Any], uses: Uses, kept: bool
) -> Callable[..., Any]:
    def noted(*args: Any) -> Any:
        context = None if "setup_context" in vars(kind) else args[0]
        given = args if context is None else args[1:]
        shapes = tuple(one.shape if isinstance(one, Tensor) else one for one in given)
        uses.found.append(Use(kind, shapes))
        if not kept or not any(isinstance(one, Tensor) for one in given):
            return forward(*args)
        several: list[bool] = []

        def run(tensors: list[Tensor]) -> list[Tensor]:
            rest = iter(tensors)
            filled = [next(rest) if isinstance(one, torch.Size) else one for one in shapes]
            output = forward(*filled) if context is None else forward(context, *filled)
            several.append(isinstance(output, tuple))
            return list(output) if isinstance(output, tuple) else [output]

        _CALLS.append(KeptCall(kind, shapes, run))
        found = _operator()([one for one in given if isinstance(one, Tensor)], len(_CALLS) - 1)
        return tuple(found) if several[-1] else found[0]

    return noted


@dataclass(frozen=True, eq=False)
class KeptCall:
    """A call that is kept as one operator.

    Attributes:
        kind: the class.
        args: its arguments, with the shapes of tensors in their place.
        run: its forward pass, for the shapes of its output.
    """

    kind: type[Function]
    args: tuple[Any, ...]
    run: Callable[[list[Tensor]], list[Tensor]]

    def __call__(self, tensors: list[Tensor], _: int) -> tuple[Tensor, ...]:
        """Call it, with the author's backward pass."""
        rest = iter(tensors)
        filled = [next(rest) if isinstance(one, torch.Size) else one for one in self.args]
        output = self.kind.apply(*filled)
        return output if isinstance(output, tuple) else (output,)


_CALLS: list[KeptCall] = []
_OPERATOR: list[Any] = []


def kept_call(key: int) -> KeptCall:
    """Return the call that an operator ``rot180.own_derivative`` of a graph stands for."""
    return _CALLS[key]


def _operator() -> Any:
    """Return the operator of graphs, which is registered when it is first needed."""
    if not _OPERATOR:

        def run(tensors: list[Tensor], key: int) -> list[Tensor]:
            return [one.clone() for one in _CALLS[key].run(list(tensors))]

        run.__annotations__ = {"tensors": list[Tensor], "key": int, "return": list[Tensor]}
        made = torch.library.custom_op("rot180::own_derivative", run, mutates_args=())
        made.register_fake(run)
        _OPERATOR.append(torch.ops.rot180.own_derivative.default)
    return _OPERATOR[0]


def is_kept(target: Any) -> bool:
    """Say whether a node's target is that operator."""
    return bool(_OPERATOR) and target is _OPERATOR[0]
