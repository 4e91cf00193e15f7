"""Functions of one number: the rectifiers, and those that are none."""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from rot180.graph.operators.activations import Pointwise, Rectifier
from rot180.graph.operators.base import Operator
from rot180.graph.table.call import Call, Found, Reader, is_floating

aten = torch.ops.aten

_SIZES = (aten.linalg_vector_norm.default, aten.sum.dim_IntList, aten.sqrt.default)
"""What is cut from below so that one may divide by it."""


def _relu(z: Tensor) -> Tensor:
    return z.clamp(min=0)


def _where_positive(signal: Tensor, output: Tensor) -> Tensor:
    return signal * (output > 0)  # at 0 the derivative is taken as 0


RELU = Rectifier("ReLU", _relu, _where_positive, from_output=True)


def clipped(limit: float) -> Rectifier:
    """Return min(max(z, 0), limit)."""

    def function(z: Tensor) -> Tensor:
        return z.clamp(0, limit)

    def derived(signal: Tensor, output: Tensor) -> Tensor:
        return signal * ((output > 0) & (output < limit))

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
        lambda z: torch.where(z > 0, z, alpha * torch.expm1(inner * z.clamp(max=0))) * scale,
        lambda signal, z: (
            signal * scale * torch.where(z > 0, 1.0, alpha * inner * (inner * z.clamp(max=0)).exp())
        ),
    )


def _prelu(call: Call) -> Rectifier | None:
    slopes = call["weight"]
    if not isinstance(slopes, Tensor):
        return None
    rank = len(call.shape)
    if slopes.numel() > 1:
        slopes = slopes.reshape(-1, *[1] * (rank - 2))
    return Rectifier(
        "PReLU",
        lambda z, w: torch.where(z > 0, z, z * w),
        lambda signal, z, w: torch.where(z > 0, signal, signal * w),
        parameters=(slopes,),
    )


def _gelu(call: Call) -> Rectifier:
    how = call.get("approximate", "none")
    return Rectifier(
        "GELU" if how == "none" else f"GELU ({how})",
        partial(F.gelu, approximate=how),
        lambda signal, z: aten.gelu_backward(signal, z, approximate=how),
    )


SILU = Rectifier("SiLU", F.silu, aten.silu_backward)
HARDSWISH = Rectifier("Hardswish", F.hardswish, aten.hardswish_backward)


def _softplus(call: Call) -> Rectifier:
    beta, threshold = call["beta"], call["threshold"]
    return Rectifier(
        "Softplus",
        lambda z: F.softplus(z, beta, threshold),
        lambda signal, z: aten.softplus_backward(signal, z, beta, threshold),
    )


def _clamp(call: Call) -> Operator | None:
    low, high = call.get("min"), call.get("max")
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return None
    low, high = (-inf if low is None else low), (inf if high is None else high)
    if low == 0:
        return RELU if high == inf else clipped(high)
    if high == 0 or (low > 0 and call.source.target not in _SIZES):
        return None  # a rectifier of its own kind, unless it keeps a size from being zero
    return _bounded(low, high)


def _hardtanh(call: Call) -> Operator:
    low, high = call["min_val"], call["max_val"]
    return clipped(high) if low == 0 else _bounded(low, high)


def _bounded(low: float, high: float) -> Pointwise:
    """Return what is cut at bounds of which none is zero from below: no rectifier."""
    return Pointwise(
        f"clamp({low:g}, {high:g})",
        lambda z: z.clamp(low, high),
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
    exponent = call["exponent"]
    return Pointwise(
        f"power {exponent:g}",
        lambda z: z**exponent,
        lambda signal, z: signal * exponent * z ** (exponent - 1),
    )


def _function(
    name: str,
    function: Callable[[Tensor], Tensor],
    derived: Callable[[Tensor, Any], Tensor],
    from_output: bool = False,
) -> Reader:
    operator = Pointwise(name, function, derived, from_output)
    return lambda call: operator


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


def gated(x: Any, y: Any) -> Found | None:
    """Read x sigmoid(x), which is SiLU, and x hardsigmoid(x), which is Hardswish."""
    for value, gate in ((x, y), (y, x)):
        for target, rectifier in ((aten.sigmoid, SILU), (aten.hardsigmoid, HARDSWISH)):
            if getattr(gate, "target", None) is target.default and gate.args[0] is value:
                return Found((rectifier,), (value,))
    return None


ARITHMETIC = (
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.rsub.Scalar,
    aten.mul.Tensor,
    aten.div.Tensor,
)

FUNCTIONS: dict[Any, Reader] = {
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
    aten.selu.default: lambda call: elu(1.6732632423543772, 1.0507009873554805, 1.0, "SELU"),
    aten.gelu.default: _gelu,
    aten.silu.default: lambda call: SILU,
    aten.hardswish.default: lambda call: HARDSWISH,
    aten.mish.default: lambda call: Rectifier("Mish", F.mish, aten.mish_backward),
    aten.softplus.default: _softplus,
    aten.sigmoid.default: _function("sigmoid", torch.sigmoid, aten.sigmoid_backward, True),
    aten.tanh.default: _function("tanh", torch.tanh, aten.tanh_backward, True),
    aten.hardsigmoid.default: _function("hard sigmoid", F.hardsigmoid, aten.hardsigmoid_backward),
    aten.exp.default: _function("exp", torch.exp, torch.mul, True),
    aten.log.default: _function("log", torch.log, torch.div),
    aten.sqrt.default: _function("square root", torch.sqrt, lambda s, a: s / (2 * a), True),
    aten.rsqrt.default: _function("1 / square root", torch.rsqrt, lambda s, a: -s * a**3 / 2, True),
    aten.reciprocal.default: _function("1 / x", torch.reciprocal, lambda s, a: -s * a * a, True),
    aten.pow.Tensor_Scalar: _power,
    aten.neg.default: lambda call: Pointwise(
        "negative", torch.neg, lambda signal, _: -signal, linear=True
    ),
}
"""Operator of the captured graph -> how it is read."""
