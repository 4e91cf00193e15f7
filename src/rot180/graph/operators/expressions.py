"""A function of one number as a list of calls, with its derivative."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Earlier(NamedTuple):
    """Stands for an argument: the value of an earlier call, by its place; 0 is x itself."""

    place: int


class Parameter(NamedTuple):
    """Stands for an argument: one of the parameters that differ from channel to channel."""

    place: int


class Number(NamedTuple):
    """Stands for an argument: a tensor of one number."""

    value: float | bool


class Operation(NamedTuple):
    """One call of an expression.

    Attributes:
        function: what is called.
        arguments: what it is given; :class:`Earlier`, :class:`Parameter` and :class:`Number` stand
            for tensors.
        named: arguments that are given by name.
        kinks: where the derivative is infinite, and taken as 0 instead; None: nowhere.
    """

    function: Callable[..., Tensor]
    arguments: tuple[Any, ...]
    named: tuple[tuple[str, Any], ...] = ()
    kinks: float | None = None

    def __call__(self, values: list[Tensor], parameters: tuple[Tensor, ...]) -> Tensor:
        """Call it, given x and the values of the earlier calls."""
        x = values[0]

        def tensor(one: Any) -> Any:
            match one:
                case Earlier(place):
                    return values[place]
                case Parameter(place):
                    return parameters[place].to(x)
                case Number(value):
                    dtype = torch.bool if isinstance(value, bool) else x.dtype
                    return torch.full((), value, dtype=dtype, device=x.device)
            return one

        return self.function(*map(tensor, self.arguments), **dict(self.named))


@dataclass(frozen=True)
class Expression:
    """A function of one number, computed by one call after the other.

    Two are equal if they are written in the same way.

    Attributes:
        text: the calls in words, ``a = mul(x, 1.702); b = sigmoid(a); mul(x, b)``.
        calls: the calls; each may use x and the values of those before it.
        parameters: numbers that differ from channel to channel.
    """

    text: str
    calls: tuple[Operation, ...] = field(compare=False, repr=False)
    parameters: tuple[Tensor, ...] = field(default=(), compare=False, repr=False)

    def __call__(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """Return its values at each number of x."""
        values = [x]
        for call in self.calls:
            values.append(call(values, parameters or self.parameters))
        return values[-1].to(x.dtype)

    def slope(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """Return its derivative at each number of x.

        It is carried forwards from call to call, each call's own derivative being autograd's. That
        differs from autograd of the whole only where a factor is infinite: where the other one is
        0, so is their product. (``where(x > 0, x.sqrt(), 0)`` has the derivative 0 below zero, not
        the NaN of the branch that is not taken.)
        """
        with torch.inference_mode(False), torch.enable_grad():
            parameters = tuple(one.clone() for one in parameters or self.parameters)
            values: list[Tensor] = [x.clone()]
            slopes: list[Tensor | None] = [torch.ones_like(x)]  # None: 0 everywhere
            for call in self.calls:
                places = {one.place for one in call.arguments if isinstance(one, Earlier)}
                moving = [one for one in sorted(places) if slopes[one] is not None]
                given = list(values)
                for one in moving:
                    given[one] = values[one].detach().requires_grad_()
                value = call(given, parameters)
                slopes.append(self._carried(call, value, [(given[k], slopes[k]) for k in moving]))
                values.append(value.detach())
        return torch.zeros_like(x) if slopes[-1] is None else slopes[-1].to(x.dtype)

    def _carried(
        self, call: Operation, value: Tensor, moving: list[tuple[Tensor, Any]]
    ) -> Tensor | None:
        """Return the derivative of a call's value, given its arguments and their derivatives."""
        if not value.requires_grad:
            return None
        own = torch.autograd.grad(
            value, [one for one, _ in moving], torch.ones_like(value), materialize_grads=True
        )
        total: Tensor | None = None
        for (argument, slope), factor in zip(moving, own, strict=True):
            if call.kinks is not None:
                factor = factor.masked_fill(argument == call.kinks, 0.0)
            product = (factor * slope).masked_fill((factor == 0) | (slope == 0), 0.0)
            total = product if total is None else total + product
        return total

    def times_slope(self, signal: Tensor, x: Tensor, *parameters: Tensor) -> Tensor:
        """Return a signal times the derivative at x."""
        if not parameters and len(x) > 1 and x.stride(0) == 0:
            x = x[:1]  # one image, which many signals go back through
        return signal * self.slope(x, *parameters)
