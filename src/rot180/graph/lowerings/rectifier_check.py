"""Whether a function of one number is a rectifier, and whether it is one that has a name.

A rectifier lets positive values through and holds negative ones back. For a function f that nobody
listed, that is decided by its values, z being numbers between 3 and 30. It is a rectifier if

- f(z) is positive and does not fall, and grows no faster than a straight line;
- |f(-z)| stays below 0.95 f(z). Where f(z) goes on growing, f(-z) changes less than 0.9 times as
  much; where it does not, as in ReLU6, f(-30) is at most half of f(30) in size;
- |f(0)| is at most a third of f(3), and f(0.05) at most half of it: a step from 0 to 1 is none.

That holds for ReLU, ReLU6, LeakyReLU, ELU, SELU, CELU, GELU, SiLU, QuickGELU, Hardswish, Mish,
Softplus, Squareplus and a clamp just above zero. It does not for what is odd or even (tanh,
softsign, shrinkages, the identity, the absolute value, squares), for gates (a sigmoid is half open
at 0), for exp, and for a straight line. Those are gone through by their derivative.

Three kinds are left undecided, and thereby to autograd: what would rectify if it were mirrored,
f(-z) or -f(z) or both; what rises for positive values and less than half as much for negative ones,
but is large at zero or near it (a clamp at 5); and what holds negative values back and lets the
square of positive ones through, or another power of them up to the fourth. Nobody can say whether
their author means a rectifier.

A function that equals a listed one is that one, whatever it looks like: up to a factor for large
values, which is a step of its own, and mirrored, since a rectifier of -z is one. Equal means to
rounding, on some thousand numbers.
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

_SOME = torch.cat([torch.linspace(0.05, 2.95, 30), torch.linspace(3, 30, 109)]).double()
_THREE, _TEN = 30, 58  # the places of 3 and 10 among them


def rectifies(function: Function, spread: tuple[int, ...] = ()) -> Tensor:
    """Say whether a function is a rectifier: 1, 0 if it is none, and NaN where it is undecided.

    A function that differs from channel to channel gives one answer for each.

    Args:
        function: of a double tensor.
        spread: ones, for the axes that the function's own parameters have.
    """
    z = _SOME.reshape(-1, *spread)
    up, down, zero = function(z), function(-z), function(torch.zeros_like(z[:1]))[0]
    up, down, zero = (one.double() for one in (up, down, zero))
    mirrored = _is_one(down, up, zero) | _is_one(-down, -up, -zero) | _is_one(-up, -down, -zero)
    undecided = mirrored | _may_be_one(up, down)
    found = torch.where(undecided, torch.nan, 0.0)
    return torch.where(_is_one(up, down, zero), 1.0, found)


def _is_one(up: Tensor, down: Tensor, zero: Tensor) -> Tensor:
    """Apply the rule to the values above, below, and at zero."""
    through, rise, fall, growth = _rising(up, down)
    small = (zero.abs() <= up[_THREE] / 3) & (up[0] <= up[_THREE] / 2)
    up, down = up[_THREE:], down[_THREE:]
    growing = rise > 0.01 * up[-1]
    held = (down.abs() <= 0.95 * up).all(0)
    held = held & torch.where(growing, fall <= 0.9 * rise, down[-1].abs() <= up[-1] / 2)
    return through & held & small & (growth <= 1.3)


def _may_be_one(up: Tensor, down: Tensor) -> Tensor:
    """Say whether positive values are let through and negative ones held back in another way."""
    through, rise, fall, growth = _rising(up, down)
    straight = (rise > 0.01 * up[-1]) & (fall <= rise / 2) & (growth <= 1.3)
    power = (down[_THREE:].abs() <= up[_THREE:] / 2).all(0) & (growth > 1.3) & (growth <= 4)
    return through & (straight | power)


def _rising(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Say whether positive values are let through; how much f changes from 10 to 30, above and
    below zero; and as which power of z it grows from 3 to 30.
    """
    finite = (up.isfinite() & down.isfinite()).all(0)
    above = up[_THREE:]
    through = finite & (above > 0).all(0) & (above.diff(dim=0) >= -1e-9 * above[1:].abs()).all(0)
    growth = (above[-1] / above[0]).clamp(min=1e-9).log10()
    return through, up[-1] - up[_TEN], (down[-1] - down[_TEN]).abs(), growth


class Known(NamedTuple):
    """What a function is equal to: operators one after the other, and a factor after them.

    Attributes:
        operators: the operators; none for the identity.
        factor: what their output is multiplied with.
        exactly: whether it is equal to rounding; else to one part in a million.
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
_NONE = (
    listed.SIGMOID,
    listed.HARD_SIGMOID,
    listed.TANH,
    listed.LOG_SIGMOID,
    listed.ABSOLUTE,
)


@lru_cache(maxsize=1)
def _numbers() -> Tensor:
    """Return the numbers that two functions are compared at: of all sizes, densest near 1."""
    positive = torch.cat([torch.logspace(-4, 4, 800), torch.linspace(0.005, 40, 2000)]).double()
    return torch.cat([positive, -positive, torch.zeros(1).double()])


def known(function: Function, constants: tuple[float, ...] = ()) -> Known | None:
    """Return what a function is equal to, if that is listed.

    Args:
        function: of a double tensor.
        constants: numbers that it is written with; near those it is looked at more closely.
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

    def same(wanted: Tensor, tolerance: float) -> bool:
        size = z.abs().clamp(min=1) * max(1.0, float(f[z.abs() <= 1].abs().max()))
        return bool(((wanted - f).abs() <= tolerance * size).all())

    offset, factor = _at(function, 0.0), (_at(function, 1.0) - _at(function, -1.0)) / 2
    if same(factor * z + offset, _ROUNDING):
        return Known((_straight(factor, offset),) if (factor, offset) != (1, 0) else ())
    for tolerance in (_ROUNDING, 1e-6):
        for operators, scale in _candidates(function):
            if same(_through(operators, z) * scale, tolerance):
                return Known(operators, scale, tolerance == _ROUNDING)
    return None


_ROUNDING = 2e-14
_STEPS = (-0.1, -0.01, -1e-4, 0.0, 1e-4, 0.01, 0.1)


def _at(function: Function, z: float) -> float:
    return float(function(torch.tensor([z], dtype=torch.float64))[0])


def _through(operators: tuple[Operator, ...], z: Tensor) -> Tensor:
    for one in operators:
        assert isinstance(one, Rectifier | Pointwise)
        z = one.function(z)
    return z


def _straight(factor: float, offset: float) -> Pointwise:
    """Return a z + b, put together from what is not straight."""
    return Pointwise(
        f"{factor:g} x + {offset:g}",
        lambda z: z * factor + offset,
        lambda signal, _: signal * factor,
        linear=True,
    )


def _candidates(function: Function) -> Iterator[tuple[tuple[Operator, ...], float]]:
    """Yield what a function may be equal to, with the factor, the plainest first."""
    for one in (listed.SELU, *_NONE):
        yield (one,), 1.0
    low, high = (_at(function, z) for z in (-1e4, 1e4))
    low, high = (-inf if low == -1e4 else low), (inf if high == 1e4 else high)
    if low < high and (clamped := listed.clamped(low, high)):
        yield clamped, 1.0
    for outside in (1, -1):
        for inside in (1, -1):
            turned = partial(_turned, function, outside, inside)
            signs = () if inside == 1 else (listed.NEGATIVE,)
            for operators, factor in _rectifiers(turned):
                yield (*signs, *operators), outside * factor


def _turned(function: Function, outside: int, inside: int, z: Tensor) -> Tensor:
    return outside * function(inside * z)


def _rectifiers(function: Function) -> Iterator[tuple[tuple[Operator, ...], float]]:
    """Yield rectifiers with a factor that makes them as large as the function for large values."""
    far = 512.0  # as far as exp goes, nearly
    slope = _at(function, far) / far
    if not 1e-3 < slope < 1e6:
        return
    below, limit = -_at(function, -1.0) / slope, -_at(function, -far) / slope
    if abs(below) < 1:
        yield (listed.leaky(below) if below else listed.RELU,), slope
    yield from (((one,), slope) for one in _SMOOTH)
    if limit > 1e-6:
        yield (listed.elu(limit, 1.0, 1.0, "ELU"),), slope
        yield (listed.elu(limit, 1.0, 1 / limit, "CELU"),), slope
    yield (listed.RELU, listed.power(2)), slope / far


def size_of(function: Function) -> float:
    """Return what a function is multiplied with for large values; 1 where that has no limit."""
    for z in (2.0**20, 2.0**9):  # where exp is infinite, or not yet
        near, far = _at(function, z / 2) / z * 2, _at(function, z) / z
        if isfinite(near) and isfinite(far):
            straight = 1e-3 < far < 1e6 and abs(far - near) < 0.01 * far
            return far if straight and abs(far - 1) > 1e-3 else 1.0
    return 1.0
