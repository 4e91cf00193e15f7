"""Functions of one number: the rectifiers, and those that are none."""

from collections.abc import Callable
from functools import partial
from math import inf, log, pi
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from rot180.graph.lowerings.fx_call import Call, Found, Reader, is_floating
from rot180.graph.operators.activations import Pointwise, Rectifier
from rot180.graph.operators.fallback import Derived
from rot180.graph.operators.operator import Operator

aten = torch.ops.aten

_SIZES = (aten.linalg_vector_norm.default, aten.sum.dim_IntList, aten.sqrt.default)
"""What is cut from below so that one may divide by it."""


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

    def derived(signal: Tensor, output: Tensor) -> Tensor:
        found: Tensor = aten.hardtanh_backward(signal, output, 0, limit)  # 0 at the limits, too
        return found

    name = "ReLU6" if limit == 6 else f"clamp(0, {limit:g})"
    return Rectifier(name, function, derived, from_output=True)


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
    """Return z above zero, slope z below; the slopes of the channels spread over a result."""
    return Rectifier(
        "PReLU",
        lambda z, w: torch.where(z > 0, z, z * w),
        lambda signal, z, w: torch.where(z > 0, signal, signal * w),
        parameters=(slopes,),
    )


def _prelu(call: Call) -> Rectifier | None:
    slopes = call["weight"]
    if not isinstance(slopes, Tensor):
        return None
    return prelu(slopes.reshape(-1, *[1] * (len(call.shape) - 2)) if slopes.numel() > 1 else slopes)


def gelu(how: str = "none") -> Rectifier:
    """Return GELU, or ("tanh") its approximation."""
    return Rectifier(
        "GELU" if how == "none" else f"GELU ({how})",
        partial(F.gelu, approximate=how),
        lambda signal, z: aten.gelu_backward(signal, z, approximate=how),
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


def clamped(low: float, high: float, of_a_size: bool = False) -> tuple[Operator, ...] | None:
    """Return what min(max(z, low), high) is; None where nobody can say whether it rectifies.

    A bound of zero makes it a rectifier, from above one of -z. A lower bound just above zero does
    too, unless it keeps a size from being zero; bounds on both sides of zero make none.
    """
    if low == 0:
        return (RELU if high == inf else clipped(high),)
    if high == 0:
        return NEGATIVE, RELU if low == -inf else clipped(-low), NEGATIVE
    if low > 0 and not of_a_size:
        return (_from(low, high),) if low <= min(_SMALL, high / 3) else None
    return (_bounded(low, high),)


_SMALL = 1
"""What a rectifier may be at zero: a third of what it is at 3."""


def _clamp(call: Call) -> Found | None:
    low, high = call.get("min"), call.get("max")
    if isinstance(low, Tensor | fx.Node) or isinstance(high, Tensor | fx.Node):
        return None
    low, high = (-inf if low is None else low), (inf if high is None else high)
    found = clamped(low, high, call.source.target in _SIZES)
    return None if found is None else Found(found, ())


def _hardtanh(call: Call) -> Found | None:
    found = clamped(call["min_val"], call["max_val"])
    return None if found is None else Found(found, ())


def _from(low: float, high: float) -> Rectifier:
    """Return what is cut from below just above zero, as a rectifier."""
    return Rectifier(
        f"clamp({low:g}, {high:g})",
        partial(torch.clamp, min=low, max=high),
        lambda signal, z: signal * ((z > low) & (z < high)),
    )


def _bounded(low: float, high: float) -> Pointwise:
    """Return what is cut at bounds of which none is zero from below: no rectifier."""
    return Pointwise(
        f"clamp({low:g}, {high:g})",
        partial(torch.clamp, min=low, max=high),
        lambda signal, z: signal * ((z > low) & (z < high)),
    )


def _threshold(call: Call) -> Operator | None:
    return RELU if call["threshold"] == call["value"] == 0 else None


def _maximum(call: Call) -> Found | None:
    """Read the larger of a result and zeros."""
    terms = [call.given[name] for name in ("self", "other")]
    zeros = [one for one in terms if _is_zero(one)]
    source = next((one for one in terms if not _is_zero(one)), None)
    if len(zeros) != 1 or not isinstance(source, fx.Node) or not is_floating(source):
        return None
    return Found((RELU,), (source,))


def _is_zero(term: Any) -> bool:
    if isinstance(term, fx.Node):
        return term.target in (aten.zeros_like.default, aten.new_zeros.default)
    return isinstance(term, Tensor) and not term.any()


def _power(call: Call) -> Operator:
    return power(call["exponent"])


def power(exponent: float) -> Pointwise:
    """Return z to a power. At 0, where that of a power between 0 and 1 is infinite, the derivative
    is taken as 0, as that of a vector's length is: a signal of 0 times infinity is no number.
    """

    def derived(signal: Tensor, z: Tensor) -> Tensor:
        if exponent == 0:
            return torch.zeros_like(signal)
        found = signal * exponent * z ** (exponent - 1)
        return found.masked_fill(z == 0, 0.0) if 0 < exponent < 1 else found

    return Pointwise(f"power {exponent:g}", lambda z: z**exponent, derived)


def _through_root(signal: Tensor, root: Tensor) -> Tensor:
    """Multiply with the derivative of the square root, which is taken as 0 at 0."""
    return (signal / (2 * root)).masked_fill(root == 0, 0.0)


def _flat(name: str, function: Callable[[Tensor], Tensor]) -> Reader:
    """Return a reader of a function of steps, whose derivative is 0 wherever it has one."""
    return _function(name, function, lambda signal, z: torch.zeros_like(signal))


def _glu(call: Call) -> Operator:
    """Read the product of one half with the sigmoid of the other, by its derivative."""
    axes, rank = call.axes(call.source), len(call.shape)
    local = axes is not None and call["dim"] % rank - rank not in axes
    return Derived(call.run, "glu", local)


def _function(
    name: str,
    function: Callable[[Tensor], Tensor],
    derived: Callable[[Tensor, Any], Tensor],
    from_output: bool = False,
) -> Reader:
    operator = Pointwise(name, function, derived, from_output)
    return lambda call: operator


def _bell(z: Tensor) -> Tensor:
    """Return the derivative of erf."""
    bell: Tensor = torch.exp(-z * z) * (2 / pi**0.5)
    return bell


def of_the_same(call: Call, x: fx.Node, y: fx.Node) -> bool:
    """Say whether two results are made, number by number, of the same ones.

    Then their product may be a rectifier that somebody wrote out.
    """
    known: dict[fx.Node, set[fx.Node]] = {}

    def roots(node: fx.Node) -> set[fx.Node]:
        if node not in known:
            by_number = node.target in FUNCTIONS or node.target in ARITHMETIC
            below = [one for one in node.all_input_nodes if call.of_the_image(one)]
            known[node] = set().union(*map(roots, below)) if by_number else {node}
        return known[node]

    return x is not y and roots(x) == roots(y)


ARITHMETIC = (
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.rsub.Scalar,
    aten.mul.Tensor,
    aten.div.Tensor,
)

SIGMOID = Pointwise("sigmoid", torch.sigmoid, aten.sigmoid_backward, True)
TANH = Pointwise("tanh", torch.tanh, aten.tanh_backward, True)
HARD_SIGMOID = Pointwise("hard sigmoid", F.hardsigmoid, aten.hardsigmoid_backward)
LOG_SIGMOID = Pointwise("log sigmoid", F.logsigmoid, lambda s, z: s * torch.sigmoid(-z))
ABSOLUTE = Pointwise("absolute value", torch.abs, lambda s, z: s * torch.sign(z))

FUNCTIONS: dict[Any, Reader] = {
    # Rectifiers, with arguments of any kind or with most.
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
    # None of them.
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
    aten.sqrt.default: _function("square root", torch.sqrt, _through_root, True),
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
    aten.sign.default: _flat("sign", torch.sign),
    aten.floor.default: _flat("floor", torch.floor),
    aten.ceil.default: _flat("ceil", torch.ceil),
    aten.round.default: _flat("round", torch.round),
    aten.trunc.default: _flat("trunc", torch.trunc),
    aten.frac.default: _function("frac", torch.frac, lambda s, z: s.clone()),
}
"""Operator of the captured graph -> how it is read."""
