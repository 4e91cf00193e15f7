"""The lowerings: for each ATen operator, how a call of it becomes operators of a network."""

from typing import Any, cast

import torch
from torch import Tensor, fx

from rot180.graph.lowerings.by_autograd import BY_AUTOGRAD, by_autograd
from rot180.graph.lowerings.composed import LAST_CALLS, with_composed
from rot180.graph.lowerings.fx_call import (
    IDENTITY,
    FxCall,
    Lowered,
    Lowering,
    is_floating,
    shape_of,
)
from rot180.graph.lowerings.layout import LAYOUT
from rot180.graph.lowerings.normalisation import NORMALISATIONS
from rot180.graph.lowerings.pointwise import FUNCTIONS, from_the_same
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


def _convolution(read: Any) -> Lowering:
    """Return the lowering of convolutions of maps; one with a computed kernel is a product."""

    def lower(call: FxCall) -> Operator | None:
        if _is_computed(call):
            return by_autograd(call)
        return cast(Operator, read(call.arguments)) if call.is_map() else None

    return lower


def _is_computed(call: FxCall) -> bool:
    """Say whether a weight or a bias depends on the image."""
    return any(isinstance(call[name], fx.Node) for name in ("weight", "bias"))


def _linear(call: FxCall) -> Operator:
    """Lower a fully connected layer; one with a computed weight is a product."""
    if _is_computed(call):
        return by_autograd(call)
    return Linear.read(call.arguments, call.axes(call.source))


def _terms(call: FxCall) -> tuple[list[fx.Node], Any] | None:
    """Return the inputs and the constant of a call on two terms; None if the shapes do not fit."""
    terms = [call["self"], call["other"]]
    inputs = [term for term in terms if isinstance(term, fx.Node)]
    constant = next((term for term in terms if not isinstance(term, fx.Node)), None)
    ranks = {len(shape_of(term)) for term in inputs}
    if ranks != {len(call.shape)} or not all(map(is_floating, inputs)):
        return None
    if isinstance(constant, Tensor):
        if constant.ndim == len(call.shape) and constant.shape[0] == 1:
            constant = constant[0]
        if constant.ndim >= len(call.shape) or not constant.is_floating_point():
            return None
    return inputs, constant


def _sum(call: FxCall) -> "Operator | Lowered | None":
    """Lower ``add``, ``sub`` and ``rsub``."""
    if call.is_complex():
        return by_autograd(call)
    terms = _terms(call)
    if terms is None:
        return None
    inputs, constant = terms
    minus = call.target is aten.sub.Tensor
    factors = [1.0, (-1.0 if minus else 1.0) * call.get("alpha", 1)]
    if call.target is aten.rsub.Scalar:
        factors = [-1.0 * call.get("alpha", 1), 1.0]
    shapes, axes = tuple(shape_of(term)[1:] for term in inputs), _map_axes(call, inputs)
    if constant is None:
        return Lowered((Sum(None, shapes, axes, tuple(factors)),), tuple(inputs))
    first = isinstance(call["self"], fx.Node)
    input_factor, constant_factor = factors if first else factors[::-1]
    total = Sum(constant * constant_factor, shapes, axes, (input_factor,))
    return Lowered((total,), tuple(inputs))


def _product(call: FxCall) -> "Operator | Lowered | None":
    """Lower ``mul`` and ``div``."""
    if call.is_complex():
        return by_autograd(call)
    terms = _terms(call)
    if terms is None:
        return None
    inputs, constant = terms
    divides = call.target is aten.div.Tensor
    if divides and not isinstance(call["self"], fx.Node):
        return by_autograd(call)
    if len(inputs) == 2 and from_the_same(call, *inputs):
        return None  # it may be a rectifier that is written out
    shapes, axes = tuple(shape_of(term)[1:] for term in inputs), _map_axes(call, inputs)
    return Lowered((Product(constant, shapes, axes, divides),), tuple(inputs))


def _map_axes(call: FxCall, inputs: list[fx.Node]) -> Any:
    return next((call.axes(term) for term in inputs if call.axes(term) is not None), None)


def _copied(call: FxCall) -> "Operator | Lowered | None":
    """Lower an assignment to all of a value: it returns what was assigned."""
    values = call["src"]
    if not isinstance(values, fx.Node) or shape_of(values) != call.shape:
        return None
    return Lowered((), (values,))


def _converted(call: FxCall) -> "Operator | Lowered | None":
    """Lower a conversion of types; between floating-point types it only rounds."""
    (before, after) = (node.meta["val"] for node in (call.source, call.node))
    if not (is_floating(call.source) and is_floating(call.node)):
        same = (before.dtype, before.device) == (after.dtype, after.device)
        return Lowered((), (call.source,)) if same else None
    if before.device != after.device:
        return by_autograd(call)
    if before.dtype == after.dtype:
        return Lowered((), (call.source,))
    return Lowered((Conversion(before.dtype, after.dtype),), (call.source,))


def _dropout(call: FxCall) -> Lowered | None:
    return IDENTITY if not call["train"] else None


_CALLS: dict[Any, Lowering] = {
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
    aten.alias.default: lambda call: IDENTITY,
    aten.clone.default: lambda call: IDENTITY,
    aten.contiguous.default: lambda call: IDENTITY,
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

LOWERINGS: dict[Any, Lowering] = {
    **_CALLS,
    **{target: with_composed(_CALLS.get(target)) for target in LAST_CALLS},
}
"""ATen operator -> its lowering."""
