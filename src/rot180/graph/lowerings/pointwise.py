"""Lowerings of functions of one number: rectifiers, and functions that are no rectifiers."""

from collections.abc import Callable
from functools import partial
from math import inf, log, pi
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from rot180.graph.lowerings.fx_call import FxCall, Lowered, Lowering, is_floating
from rot180.graph.operators.activations import Pointwise, Rectifier
from rot180.graph.operators.fallback import AutogradOp
from rot180.graph.operators.operator import Operator

aten = torch.ops.aten

_DIVISORS = (aten.linalg_vector_norm.default, aten.sum.dim_IntList, aten.sqrt.default)
"""Calls whose output is clamped from below so that one may divide by it."""


def _relu(z: Tensor) -> Tensor:
    return z.clamp(min=0)


def _where_positive(signal: Tensor, output: Tensor) -> Tensor:
    found: Tensor = aten.threshold_backward(signal, output, 0)  # at 0 the derivative is taken as 0
    return found


RELU = Rectifier("ReLU", _relu, _where_positive, from_output=True)


def clipped(limit: float) -> Rectifier:
    """Return min(max(z, 0), limit)."""

    def function(z: Tensor) -> Tensor:
        return z.clamp(0, limit)

    def vjp(signal: Tensor, output: Tensor) -> Tensor:
        found: Tensor = aten.hardtanh_backward(signal, output, 0, limit)  # 0 at the limits, too
        return found

    name = "ReLU6" if limit == 6 else f"clamp(0, {limit:g})"
    return Rectifier(name, function, vjp, from_output=True)


def leaky(slope: float, name: str = "LeakyReLU") -> Rectifier:
    """Return z above zero, slope z below."""
    return Rectifier(
        name,
        partial(F.leaky_relu, negative_slope=slope),
        lambda signal, z: torch.where(z > 0, signal, signal * slope),
    )


def elu(alpha: float, scale: float, inner: float, name: str) -> Rectifier:
    """Return scale z above zero, scale alpha (exp(inner z) - 1) below."""
    return Rectifier(
        name,
        partial(_elu, alpha=alpha, scale=scale, inner=inner),
        lambda signal, z: (
            signal * scale * torch.where(z > 0, 1.0, alpha * inner * (inner * z.clamp(max=0)).exp())
        ),
    )


def _elu(z: Tensor, alpha: float, scale: float, inner: float) -> Tensor:
    return torch.where(z > 0, z, alpha * torch.expm1(inner * z.clamp(max=0))) * scale


def prelu(slopes: Tensor) -> Rectifier:
    """Return z above zero, slope z below; the slopes (c, ...) of the channels are broadcast."""
    return Rectifier(
        "PReLU",
        lambda z, w: torch.where(z > 0, z, z * w),
        lambda signal, z, w: torch.where(z > 0, signal, signal * w),
        parameters=(slopes,),
    )


def _prelu(call: FxCall) -> Rectifier | None:
    slopes = call["weight"]
    if not isinstance(slopes, Tensor):
        return None
    return prelu(slopes.reshape(-1, *[1] * (len(call.shape) - 2)) if slopes.numel() > 1 else slopes)


def gelu(approximate: str = "none") -> Rectifier:
    """Return GELU, or its approximation by "tanh"."""
    return Rectifier(
        "GELU" if approximate == "none" else f"GELU ({approximate})",
        partial(F.gelu, approximate=approximate),
        lambda signal, z: aten.gelu_backward(signal, z, approximate=approximate),
    )


NEGATIVE = Pointwise("negative", torch.neg, lambda signal, _: -signal, linear=True)
SILU = Rectifier("SiLU", F.silu, aten.silu_backward)
HARDSWISH = Rectifier("Hardswish", F.hardswish, aten.hardswish_backward)
SELU = elu(1.6732632423543772, 1.0507009873554805, 1.0, "SELU")
MISH = Rectifier("Mish", F.mish, aten.mish_backward)


def softplus(beta: float = 1.0, threshold: float = 20.0) -> Rectifier:
    """Return log(1 + exp(beta z)) / beta, and z itself where beta z is above the threshold."""
    return Rectifier(
        "Softplus",
        partial(F.softplus, beta=beta, threshold=threshold),
        lambda signal, z: aten.softplus_backward(signal, z, beta, threshold),
    )


def clamped(low: float, high: float, divisor: bool = False) -> tuple[Operator, ...] | None:
    """Return min(max(z, low), high) as operators; None if it is undecided whether it rectifies.

    A lower bound of zero makes it a rectifier, and an upper bound of zero a rectifier of -z. A
    lower bound just above zero makes it one too, unless it only keeps a divisor from being zero.
    With bounds on both sides of zero it is no rectifier.
    """
    if low == 0:
        return (RELU if high == inf else clipped(high),)
    if high == 0:
        return NEGATIVE, RELU if low == -inf else clipped(-low), NEGATIVE
    if low > 0 and not divisor:
        return (_clamp_rectifier(low, high),) if low <= min(_SMALL, high / 3) else None
    return (_clamp_pointwise(low, high),)


_SMALL = 1
"""Largest value of a rectifier at zero: a third of its value at 3."""


def _clamp(call: FxCall) -> Lowered | None:
    low, high = call.get("min"), call.get("max")
    if isinstance(low, Tensor | fx.Node) or isinstance(high, Tensor | fx.Node):
        return None
    low, high = (-inf if low is None else low), (inf if high is None else high)
    operators = clamped(low, high, call.source.target in _DIVISORS)
    return None if operators is None else Lowered(operators, ())


def _hardtanh(call: FxCall) -> Lowered | None:
    operators = clamped(call["min_val"], call["max_val"])
    return None if operators is None else Lowered(operators, ())


def _clamp_rectifier(low: float, high: float) -> Rectifier:
    """Return a clamp whose lower bound is just above zero, as a rectifier."""
    return Rectifier(
        f"clamp({low:g}, {high:g})",
        partial(torch.clamp, min=low, max=high),
        lambda signal, z: signal * ((z > low) & (z < high)),
    )


def _clamp_pointwise(low: float, high: float) -> Pointwise:
    """Return a clamp that is no rectifier."""
    return Pointwise(
        f"clamp({low:g}, {high:g})",
        partial(torch.clamp, min=low, max=high),
        lambda signal, z: signal * ((z > low) & (z < high)),
    )


def _threshold(call: FxCall) -> Operator | None:
    return RELU if call["threshold"] == call["value"] == 0 else None


def _maximum(call: FxCall) -> Lowered | None:
    """Lower the larger of an input and zeros."""
    terms = [call.arguments[name] for name in ("self", "other")]
    zeros = [term for term in terms if _is_zero(term)]
    source = next((term for term in terms if not _is_zero(term)), None)
    if len(zeros) != 1 or not isinstance(source, fx.Node) or not is_floating(source):
        return None
    return Lowered((RELU,), (source,))


def _is_zero(term: Any) -> bool:
    if isinstance(term, fx.Node):
        return term.target in (aten.zeros_like.default, aten.new_zeros.default)
    return isinstance(term, Tensor) and not term.any()


def _power(call: FxCall) -> Operator:
    return power(call["exponent"])


def power(exponent: float) -> Pointwise:
    """Return z to a power.

    The derivative of a power between 0 and 1 is infinite at 0. It is taken as 0 there, as that of a
    vector's length is, because a signal of 0 times infinity is NaN.
    """

    def vjp(signal: Tensor, z: Tensor) -> Tensor:
        if exponent == 0:
            return torch.zeros_like(signal)
        product = signal * exponent * z ** (exponent - 1)
        return product.masked_fill(z == 0, 0.0) if 0 < exponent < 1 else product

    return Pointwise(f"power {exponent:g}", lambda z: z**exponent, vjp)


def _root_vjp(signal: Tensor, root: Tensor) -> Tensor:
    """Multiply by the derivative of the square root, which is taken as 0 at 0."""
    return (signal / (2 * root)).masked_fill(root == 0, 0.0)


def _step_function(name: str, function: Callable[[Tensor], Tensor]) -> Lowering:
    """Return the lowering of a step function, whose derivative is 0 wherever it has one."""
    return _function(name, function, lambda signal, z: torch.zeros_like(signal))


def _glu(call: FxCall) -> Operator:
    """Lower the product of one half of the channels with the sigmoid of the other half."""
    axes, rank = call.axes(call.source), len(call.shape)
    local = axes is not None and call["dim"] % rank - rank not in axes
    return AutogradOp(call.run, "glu", local)


def _function(
    name: str,
    function: Callable[[Tensor], Tensor],
    vjp: Callable[[Tensor, Any], Tensor],
    from_output: bool = False,
) -> Lowering:
    operator = Pointwise(name, function, vjp, from_output)
    return lambda call: operator


def _bell(z: Tensor) -> Tensor:
    """Return the derivative of erf."""
    bell: Tensor = torch.exp(-z * z) * (2 / pi**0.5)
    return bell


def from_the_same(call: FxCall, x: fx.Node, y: fx.Node) -> bool:
    """Say whether two values are computed, number by number, from the same values.

    Then their product may be a rectifier that is written out.
    """
    roots_of: dict[fx.Node, set[fx.Node]] = {}

    def roots(node: fx.Node) -> set[fx.Node]:
        if node not in roots_of:
            elementwise = node.target in FUNCTIONS or node.target in ARITHMETIC
            below = [source for source in node.all_input_nodes if call.depends_on_image(source)]
            roots_of[node] = set().union(*map(roots, below)) if elementwise else {node}
        return roots_of[node]

    return x is not y and roots(x) == roots(y)


ARITHMETIC = (
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.rsub.Scalar,
    aten.mul.Tensor,
    aten.div.Tensor,
)
"""Calls that add, subtract, multiply and divide."""

SIGMOID = Pointwise("sigmoid", torch.sigmoid, aten.sigmoid_backward, True)
TANH = Pointwise("tanh", torch.tanh, aten.tanh_backward, True)
HARD_SIGMOID = Pointwise("hard sigmoid", F.hardsigmoid, aten.hardsigmoid_backward)
LOG_SIGMOID = Pointwise("log sigmoid", F.logsigmoid, lambda s, z: s * torch.sigmoid(-z))
ABSOLUTE = Pointwise("absolute value", torch.abs, lambda s, z: s * torch.sign(z))

FUNCTIONS: dict[Any, Lowering] = {
    # Rectifiers, with any arguments or with most of them.
    aten.relu.default: lambda call: RELU,
    aten.relu6.default: lambda call: clipped(6.0),
    aten.hardtanh.default: _hardtanh,
    aten.clamp.default: _clamp,
    aten.clip.default: _clamp,
    aten.clamp_min.default: _clamp,
    aten.clamp_max.default: _clamp,
    aten.threshold.default: _threshold,
    aten.maximum.default: _maximum,
    aten.max.other: _maximum,
    aten.leaky_relu.default: lambda call: leaky(call["negative_slope"]),
    aten.rrelu.default: lambda call: leaky((call["lower"] + call["upper"]) / 2, "RReLU"),
    aten.prelu.default: _prelu,
    aten.elu.default: lambda call: elu(call["alpha"], call["scale"], call["input_scale"], "ELU"),
    aten.celu.default: lambda call: elu(call["alpha"], 1.0, 1 / call["alpha"], "CELU"),
    aten.selu.default: lambda call: SELU,
    aten.gelu.default: lambda call: gelu(call.get("approximate", "none")),
    aten.silu.default: lambda call: SILU,
    aten.hardswish.default: lambda call: HARDSWISH,
    aten.mish.default: lambda call: MISH,
    aten.softplus.default: lambda call: softplus(call["beta"], call["threshold"]),
    # No rectifiers.
    aten.sigmoid.default: lambda call: SIGMOID,
    aten.tanh.default: lambda call: TANH,
    aten.hardsigmoid.default: lambda call: HARD_SIGMOID,
    aten.log_sigmoid.default: lambda call: LOG_SIGMOID,
    aten.glu.default: _glu,
    aten.neg.default: lambda call: NEGATIVE,
    aten.abs.default: lambda call: ABSOLUTE,
    aten.exp.default: _function("exp", torch.exp, torch.mul, True),
    aten.exp2.default: _function("exp2", torch.exp2, lambda s, a: s * a * log(2), True),
    aten.expm1.default: _function("exp - 1", torch.expm1, lambda s, a: s * (a + 1), True),
    aten.log.default: _function("log", torch.log, torch.div),
    aten.log2.default: _function("log2", torch.log2, lambda s, z: s / (z * log(2))),
    aten.log10.default: _function("log10", torch.log10, lambda s, z: s / (z * log(10))),
    aten.log1p.default: _function("log(1 + x)", torch.log1p, lambda s, z: s / (1 + z)),
    aten.sqrt.default: _function("square root", torch.sqrt, _root_vjp, True),
    aten.rsqrt.default: _function("1 / square root", torch.rsqrt, lambda s, a: -s * a**3 / 2, True),
    aten.reciprocal.default: _function("1 / x", torch.reciprocal, lambda s, a: -s * a * a, True),
    aten.pow.Tensor_Scalar: _power,
    aten.square.default: lambda call: power(2),
    aten.sin.default: _function("sin", torch.sin, lambda s, z: s * z.cos()),
    aten.cos.default: _function("cos", torch.cos, lambda s, z: -s * z.sin()),
    aten.tan.default: _function("tan", torch.tan, lambda s, a: s * (1 + a * a), True),
    aten.atan.default: _function("atan", torch.atan, lambda s, z: s / (1 + z * z)),
    aten.sinh.default: _function("sinh", torch.sinh, lambda s, z: s * z.cosh()),
    aten.cosh.default: _function("cosh", torch.cosh, lambda s, z: s * z.sinh()),
    aten.asinh.default: _function("asinh", torch.asinh, lambda s, z: s * (1 + z * z).rsqrt()),
    aten.erf.default: _function("erf", torch.erf, lambda s, z: s * _bell(z)),
    aten.erfc.default: _function("1 - erf", torch.erfc, lambda s, z: -s * _bell(z)),
    aten.sign.default: _step_function("sign", torch.sign),
    aten.floor.default: _step_function("floor", torch.floor),
    aten.ceil.default: _step_function("ceil", torch.ceil),
    aten.round.default: _step_function("round", torch.round),
    aten.trunc.default: _step_function("trunc", torch.trunc),
    aten.frac.default: _function("frac", torch.frac, lambda s, z: s.clone()),
}
"""ATen operator -> its lowering."""
