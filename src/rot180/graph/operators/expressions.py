"""Functions of one number that are a list of calls, with their derivatives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Earlier(NamedTuple):
    """Stands for an argument: the value of an earlier call, by its number; 0 is x itself."""

    number: int


class Parameter(NamedTuple):
    """Stands for an argument: a parameter that differs from channel to channel, by its number."""

    number: int


class Number(NamedTuple):
    """Stands for an argument: a tensor that holds one number."""

    value: float | bool


class Operation(NamedTuple):
    """One call of an expression.

    Attributes:
        function: the function that is called.
        arguments: its positional arguments; :class:`Earlier`, :class:`Parameter` and
            :class:`Number` stand for tensors.
        named: its keyword arguments.
        kinks: the argument at which the derivative is infinite and taken as 0; None for none.
    """

    function: Callable[..., Tensor]
    arguments: tuple[Any, ...]
    named: tuple[tuple[str, Any], ...] = ()
    kinks: float | None = None

    def __call__(self, values: list[Tensor], parameters: tuple[Tensor, ...]) -> Tensor:
        """Make the call, given x and the values of the earlier calls."""
        x = values[0]

        def tensor(argument: Any) -> Any:
            match argument:
                case Earlier(number):
                    return values[number]
                case Parameter(number):
                    return parameters[number].to(x)
                case Number(value):
                    dtype = torch.bool if isinstance(value, bool) else x.dtype
                    return torch.full((), value, dtype=dtype, device=x.device)
            return argument

        return self.function(*map(tensor, self.arguments), **dict(self.named))


@dataclass(frozen=True)
class Expression:
    """A function of one number, computed by a sequence of calls.

    Two expressions are equal if their texts are.

    Attributes:
        text: the calls in words, as in ``a = mul(x, 1.702); b = sigmoid(a); mul(x, b)``.
        calls: the calls; each may use x and the values of those before it.
        parameters: numbers that differ from channel to channel.
    """

    text: str
    calls: tuple[Operation, ...] = field(compare=False, repr=False)
    parameters: tuple[Tensor, ...] = field(default=(), compare=False, repr=False)

    def __call__(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """Return the function's value for each number of x."""
        values = [x]
        for call in self.calls:
            values.append(call(values, parameters or self.parameters))
        return values[-1].to(x.dtype)

    def slope(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """Return the function's derivative for each number of x.

        It is computed forwards from call to call, with each call's own derivative from autograd.
        That differs from autograd of the whole function only where a factor is infinite: if the
        other factor is 0, so is the product. (``where(x > 0, x.sqrt(), 0)`` has the derivative 0
        below zero, not the NaN of the branch that is not taken.)
        """
        with torch.inference_mode(False), torch.enable_grad():
            parameters = tuple(one.clone() for one in parameters or self.parameters)
            values: list[Tensor] = [x.clone()]
            slopes: list[Tensor | None] = [torch.ones_like(x)]  # None: 0 everywhere
            for call in self.calls:
                used = {one.number for one in call.arguments if isinstance(one, Earlier)}
                varying = [number for number in sorted(used) if slopes[number] is not None]
                inputs = list(values)
                for number in varying:
                    inputs[number] = values[number].detach().requires_grad_()
                value = call(inputs, parameters)
                pairs = [(inputs[number], slopes[number]) for number in varying]
                slopes.append(self._chain_rule(call, value, pairs))
                values.append(value.detach())
        return torch.zeros_like(x) if slopes[-1] is None else slopes[-1].to(x.dtype)

    def _chain_rule(
        self, call: Operation, value: Tensor, pairs: list[tuple[Tensor, Any]]
    ) -> Tensor | None:
        """Return the derivative of a call's value, given its arguments with their derivatives."""
        if not value.requires_grad:
            return None
        own = torch.autograd.grad(
            value,
            [argument for argument, _ in pairs],
            torch.ones_like(value),
            materialize_grads=True,
        )
        total: Tensor | None = None
        for (argument, slope), factor in zip(pairs, own, strict=True):
            if call.kinks is not None:
                factor = factor.masked_fill(argument == call.kinks, 0.0)
            product = (factor * slope).masked_fill((factor == 0) | (slope == 0), 0.0)
            total = product if total is None else total + product
        return total

    def times_slope(self, signal: Tensor, x: Tensor, *parameters: Tensor) -> Tensor:
        """Return a signal times the derivative at x."""
        if not parameters and len(x) > 1 and x.stride(0) == 0:
            x = x[:1]  # one image for many signals
        return signal * self.slope(x, *parameters)
