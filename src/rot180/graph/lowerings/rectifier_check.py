"""Decides whether a function of one number is a rectifier, and finds its name if it has one.

A rectifier lets positive values through and holds negative ones back. For a function f without a
lowering of its own that is decided by its values, with z from 3 to 30. It is a rectifier if

- f(z) is positive and does not fall, and grows no faster than a straight line;
- |f(-z)| stays below 0.95 f(z). Where f(z) goes on growing, f(-z) changes less than 0.9 times as
  much; where it does not, as in ReLU6, f(-30) is at most half of f(30) in size;
- |f(0)| is at most a third of f(3), and f(0.05) at most half of it: a step from 0 to 1 is none.

That holds for ReLU, ReLU6, LeakyReLU, ELU, SELU, CELU, GELU, SiLU, QuickGELU, Hardswish, Mish,
Softplus, Squareplus and a clamp just above zero. It does not for what is odd or even (tanh,
softsign, shrinkages, the identity, the absolute value, squares), for gates (a sigmoid is half open
at 0), for exp, and for a straight line. Every method uses the derivative of those.

Three kinds are undecided, and therefore left to autograd, because nobody can say whether their
author means a rectifier:

- a function that would be a rectifier if mirrored, as f(-z) or -f(z) or both;
- one that rises for positive values, and less than half as much for negative ones, but is large at
  zero or near it (a clamp at 5);
- one that holds negative values back and lets the square of positive ones through, or another power
  up to the fourth.

A function that equals a listed one is lowered to that one, however it is written: up to a factor
for large values, which becomes a step of its own, and also mirrored, since a rectifier of -z is a
rectifier. Equal means up to rounding, on some thousand numbers.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from math import inf, isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from rot180.graph.lowerings import pointwise as listed
from rot180.graph.operators.activations import Pointwise, Rectifier
from rot180.graph.operators.operator import Operator

Function = Callable[[Tensor], Tensor]

_POINTS = torch.cat([torch.linspace(0.05, 2.95, 30), torch.linspace(3, 30, 109)]).double()
_THREE, _TEN = 30, 58  # the indices of 3 and 10


def is_rectifier(function: Function, parameter_axes: tuple[int, ...] = ()) -> Tensor:
    """Return 1 for a rectifier, 0 for a function that is none, and NaN where it is undecided.

    For a function that differs from channel to channel there is one answer for each channel.

    Args:
        function: of a double tensor.
        parameter_axes: ones, for the axes that the function's own parameters have.
    """
    z = _POINTS.reshape(-1, *parameter_axes)
    up, down, zero = function(z), function(-z), function(torch.zeros_like(z[:1]))[0]
    up, down, zero = (values.double() for values in (up, down, zero))
    mirrored = _rectifies(down, up, zero) | _rectifies(-down, -up, -zero)
    mirrored = mirrored | _rectifies(-up, -down, -zero)
    undecided = mirrored | _may_rectify(up, down)
    otherwise = torch.where(undecided, torch.nan, 0.0)
    return torch.where(_rectifies(up, down, zero), 1.0, otherwise)


def _rectifies(up: Tensor, down: Tensor, zero: Tensor) -> Tensor:
    """Apply the rule for rectifiers to the values above, below and at zero."""
    through, rise, fall, growth = _rising(up, down)
    small = (zero.abs() <= up[_THREE] / 3) & (up[0] <= up[_THREE] / 2)
    up, down = up[_THREE:], down[_THREE:]
    growing = rise > 0.01 * up[-1]
    held = (down.abs() <= 0.95 * up).all(0)
    held = held & torch.where(growing, fall <= 0.9 * rise, down[-1].abs() <= up[-1] / 2)
    return through & held & small & (growth <= 1.3)


def _may_rectify(up: Tensor, down: Tensor) -> Tensor:
    """Say whether positive values pass and negative ones are held back in an undecided way."""
    through, rise, fall, growth = _rising(up, down)
    straight = (rise > 0.01 * up[-1]) & (fall <= rise / 2) & (growth <= 1.3)
    power = (down[_THREE:].abs() <= up[_THREE:] / 2).all(0) & (growth > 1.3) & (growth <= 4)
    return through & (straight | power)


def _rising(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return properties of a function, given its values above and below zero.

    Returns:
        Whether positive values are let through; how much f changes from 10 to 30, and from -10 to
        -30; and the power of z with which it grows from 3 to 30.
    """
    finite = (up.isfinite() & down.isfinite()).all(0)
    above = up[_THREE:]
    through = finite & (above > 0).all(0) & (above.diff(dim=0) >= -1e-9 * above[1:].abs()).all(0)
    growth = (above[-1] / above[0]).clamp(min=1e-9).log10()
    return through, up[-1] - up[_TEN], (down[-1] - down[_TEN]).abs(), growth


class Match(NamedTuple):
    """Listed operators that equal a function.

    Attributes:
        operators: the operators, one after the other; none for the identity.
        factor: factor of their output.
        exactly: whether they are equal up to rounding; otherwise to one part in a million.
    """

    operators: tuple[Operator, ...]
    factor: float = 1.0
    exactly: bool = True


_QUICK_GELU = Rectifier(
    "QuickGELU",
    lambda z: z * torch.sigmoid(1.702 * z),
    lambda signal, z: torch.ops.aten.silu_backward(signal, 1.702 * z),
)
_SMOOTH = (
    listed.SILU,
    listed.HARDSWISH,
    listed.gelu(),
    listed.gelu("tanh"),
    listed.MISH,
    listed.softplus(),
    _QUICK_GELU,
)
_NO_RECTIFIERS = (
    listed.SIGMOID,
    listed.HARD_SIGMOID,
    listed.TANH,
    listed.LOG_SIGMOID,
    listed.ABSOLUTE,
)


@lru_cache(maxsize=1)
def _numbers() -> Tensor:
    """Return the numbers at which two functions are compared: of all sizes, densest near 1."""
    positive = torch.cat([torch.logspace(-4, 4, 800), torch.linspace(0.005, 40, 2000)]).double()
    return torch.cat([positive, -positive, torch.zeros(1).double()])


def match_listed(function: Function, constants: tuple[float, ...] = ()) -> Match | None:
    """Return the listed operators that equal a function; None if there are none.

    Args:
        function: of a double tensor.
        constants: the numbers in its expression, near which it is compared more densely.
    """
    near = [
        sign * constant * (1 + step)
        for constant in constants
        for sign in (1, -1)
        for step in _STEPS
    ]
    z = torch.cat([_numbers(), torch.tensor(near, dtype=torch.float64)])
    f = function(z).double()
    sane = z.abs() <= 30
    if not f[sane].isfinite().all():
        return None
    z, f = z[f.isfinite()], f[f.isfinite()]

    def equal(wanted: Tensor, tolerance: float) -> bool:
        size = z.abs().clamp(min=1) * max(1.0, float(f[z.abs() <= 1].abs().max()))
        return bool(((wanted - f).abs() <= tolerance * size).all())

    offset, factor = _at(function, 0.0), (_at(function, 1.0) - _at(function, -1.0)) / 2
    if equal(factor * z + offset, _ROUNDING):
        return Match((_straight_line(factor, offset),) if (factor, offset) != (1, 0) else ())
    for tolerance in (_ROUNDING, 1e-6):
        for operators, scale in _candidates(function):
            if equal(_through(operators, z) * scale, tolerance):
                return Match(operators, scale, tolerance == _ROUNDING)
    return None


_ROUNDING = 2e-14
_STEPS = (-0.1, -0.01, -1e-4, 0.0, 1e-4, 0.01, 0.1)


def _at(function: Function, z: float) -> float:
    return float(function(torch.tensor([z], dtype=torch.float64))[0])


def _through(operators: tuple[Operator, ...], z: Tensor) -> Tensor:
    for operator in operators:
        assert isinstance(operator, Rectifier | Pointwise)
        z = operator.function(z)
    return z


def _straight_line(factor: float, offset: float) -> Pointwise:
    """Return a z + b."""
    return Pointwise(
        f"{factor:g} x + {offset:g}",
        lambda z: z * factor + offset,
        lambda signal, _: signal * factor,
        linear=True,
    )


def _candidates(function: Function) -> Iterator[tuple[tuple[Operator, ...], float]]:
    """Yield operators that may equal a function, with their factor, the simplest first."""
    for operator in (listed.SELU, *_NO_RECTIFIERS):
        yield (operator,), 1.0
    low, high = (_at(function, z) for z in (-1e4, 1e4))
    low, high = (-inf if low == -1e4 else low), (inf if high == 1e4 else high)
    if low < high and (clamped := listed.clamped(low, high)):
        yield clamped, 1.0
    for outside in (1, -1):
        for inside in (1, -1):
            mirrored = partial(_mirrored, function, outside, inside)
            signs = () if inside == 1 else (listed.NEGATIVE,)
            for operators, factor in _rectifiers(mirrored):
                yield (*signs, *operators), outside * factor


def _mirrored(function: Function, outside: int, inside: int, z: Tensor) -> Tensor:
    return outside * function(inside * z)


def _rectifiers(function: Function) -> Iterator[tuple[tuple[Operator, ...], float]]:
    """Yield rectifiers, with the factor that makes them as large as the function far from 0."""
    far = 512.0  # exp is still finite here
    slope = _at(function, far) / far
    if not 1e-3 < slope < 1e6:
        return
    below, limit = -_at(function, -1.0) / slope, -_at(function, -far) / slope
    if abs(below) < 1:
        yield (listed.leaky(below) if below else listed.RELU,), slope
    yield from (((smooth,), slope) for smooth in _SMOOTH)
    if limit > 1e-6:
        yield (listed.elu(limit, 1.0, 1.0, "ELU"),), slope
        yield (listed.elu(limit, 1.0, 1 / limit, "CELU"),), slope
    yield (listed.RELU, listed.power(2)), slope / far


def asymptotic_factor(function: Function) -> float:
    """Return the limit of f(z) / z for large z; 1 if there is none, or if it is close to 1."""
    for z in (2.0**20, 2.0**9):  # exp is infinite at the first, finite at the second
        near, far = _at(function, z / 2) / z * 2, _at(function, z) / z
        if isfinite(near) and isfinite(far):
            straight = 1e-3 < far < 1e6 and abs(far - near) < 0.01 * far
            return far if straight and abs(far - 1) > 1e-3 else 1.0
    return 1.0
