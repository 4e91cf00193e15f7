"""The table of operators: how each call in a captured graph is read."""

from typing import Any, cast

import torch
from torch import Tensor, fx

from rot180.graph.lowerings.by_autograd import BY_AUTOGRAD, by_autograd
from rot180.graph.lowerings.composed import READ, with_written
from rot180.graph.lowerings.fx_call import SAME, Call, Found, Reader, is_floating, shape_of
from rot180.graph.lowerings.layout import LAYOUT
from rot180.graph.lowerings.normalisation import NORMALISATIONS
from rot180.graph.lowerings.pointwise import FUNCTIONS, of_the_same
from rot180.graph.lowerings.spatial import SPATIAL
from rot180.graph.operators.arithmetic import Product, Sum
from rot180.graph.operators.convolution import (
    Convolution,
    Linear,
    TransposedConvolution,
)
from rot180.graph.operators.layout import Conversion, Detach
from rot180.graph.operators.operator import Operator

aten = torch.ops.aten


def _convolution(read: Any) -> Reader:
    """Return a reader of convolutions of maps; one of a computed kernel is a product of results."""

    def reader(call: Call) -> Operator | None:
        if _is_computed(call):
            return by_autograd(call)
        return cast(Operator, read(call.given)) if call.is_map() else None

    return reader


def _is_computed(call: Call) -> bool:
    """Say whether a weight or a bias depends on the image."""
    return any(isinstance(call[name], fx.Node) for name in ("weight", "bias"))


def _linear(call: Call) -> Operator:
    """Read a fully connected layer; one of a computed weight is a product of results."""
    if _is_computed(call):
        return by_autograd(call)
    return Linear.read(call.given, call.axes(call.source))


def _terms(call: Call) -> tuple[list[fx.Node], Any] | None:
    """Return the results and the constant of a call on two terms, if their shapes are listed."""
    terms = [call["self"], call["other"]]
    results = [one for one in terms if isinstance(one, fx.Node)]
    constant = next((one for one in terms if not isinstance(one, fx.Node)), None)
    ranks = {len(shape_of(one)) for one in results}
    if ranks != {len(call.shape)} or not all(map(is_floating, results)):
        return None
    if isinstance(constant, Tensor):
        if constant.ndim == len(call.shape) and constant.shape[0] == 1:
            constant = constant[0]
        if constant.ndim >= len(call.shape) or not constant.is_floating_point():
            return None
    return results, constant


def _sum(call: Call) -> "Operator | Found | None":
    """Read ``add``, ``sub`` and ``rsub``."""
    if call.is_complex():
        return by_autograd(call)
    terms = _terms(call)
    if terms is None:
        return None
    results, constant = terms
    minus = call.target is aten.sub.Tensor
    factors = [1.0, (-1.0 if minus else 1.0) * call.get("alpha", 1)]
    if call.target is aten.rsub.Scalar:
        factors = [-1.0 * call.get("alpha", 1), 1.0]
    shapes, where = tuple(shape_of(one)[1:] for one in results), _where(call, results)
    if constant is None:
        return Found((Sum(None, shapes, where, tuple(factors)),), tuple(results))
    first = isinstance(call["self"], fx.Node)
    mine, its = factors if first else factors[::-1]
    return Found((Sum(constant * its, shapes, where, (mine,)),), tuple(results))


def _product(call: Call) -> "Operator | Found | None":
    """Read ``mul`` and ``div``."""
    if call.is_complex():
        return by_autograd(call)
    terms = _terms(call)
    if terms is None:
        return None
    results, constant = terms
    divides = call.target is aten.div.Tensor
    if divides and not isinstance(call["self"], fx.Node):
        return by_autograd(call)
    if len(results) == 2 and of_the_same(call, *results):
        return None  # perhaps a rectifier that somebody wrote out
    shapes, where = tuple(shape_of(one)[1:] for one in results), _where(call, results)
    return Found((Product(constant, shapes, where, divides),), tuple(results))


def _where(call: Call, results: list[fx.Node]) -> Any:
    return next((call.axes(one) for one in results if call.axes(one) is not None), None)


def _copied(call: Call) -> "Operator | Found | None":
    """Read what an assignment to all of a result leaves: the values, spread to its shape."""
    values = call["src"]
    if not isinstance(values, fx.Node) or shape_of(values) != call.shape:
        return None
    return Found((), (values,))


def _converted(call: Call) -> "Operator | Found | None":
    """Read a conversion: of numbers to numbers it is nothing but a rounding."""
    (before, after) = (one.meta["val"] for one in (call.source, call.node))
    if not (is_floating(call.source) and is_floating(call.node)):
        same = (before.dtype, before.device) == (after.dtype, after.device)
        return Found((), (call.source,)) if same else None
    if before.device != after.device:
        return by_autograd(call)
    if before.dtype == after.dtype:
        return Found((), (call.source,))
    return Found((Conversion(before.dtype, after.dtype),), (call.source,))


def _dropout(call: Call) -> Found | None:
    return SAME if not call["train"] else None


_CALLS: dict[Any, Reader] = {
    aten.conv2d.default: _convolution(Convolution.read),
    aten.conv2d.padding: _convolution(Convolution.read),
    aten.conv_transpose2d.input: _convolution(TransposedConvolution.read),
    aten.linear.default: _linear,
    aten.add.Tensor: _sum,
    aten.sub.Tensor: _sum,
    aten.rsub.Scalar: _sum,
    aten.mul.Tensor: _product,
    aten.div.Tensor: _product,
    aten.copy.default: _copied,
    aten.detach.default: lambda call: Detach(),
    aten.alias.default: lambda call: SAME,
    aten.clone.default: lambda call: SAME,
    aten.contiguous.default: lambda call: SAME,
    aten._to_copy.default: _converted,
    aten.to.dtype: _converted,
    aten.to.device: _converted,
    aten.to.dtype_layout: _converted,
    aten.dropout.default: _dropout,
    aten.feature_dropout.default: _dropout,
    **FUNCTIONS,
    **NORMALISATIONS,
    **SPATIAL,
    **LAYOUT,
    **dict.fromkeys(BY_AUTOGRAD, by_autograd),
}

TABLE: dict[Any, Reader] = {
    **_CALLS,
    **{target: with_written(_CALLS.get(target)) for target in READ},
}
"""Operator of the captured graph -> how it is read."""
