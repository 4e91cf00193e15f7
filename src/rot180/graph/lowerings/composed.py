"""Functions of one number that are composed of several calls, lowered to one operator.

``x * F.relu6(x + 3) / 6`` is four calls, the third of which uses x. Its value is computed, number
by number, from the one value x and from constants: a function of one number, like ReLU. Call by
call it would contain a rectifier, ReLU6, with the rule of the method, although it is a gate and
does not rectify. So such calls are lowered together: the last of them to one operator that takes x;
the others become steps that nothing needs. Whether the operator is a rectifier is decided in
:mod:`rot180.graph.lowerings.rectifier_check`.

Calls are lowered together

- if they use x more than once: one of them takes two values that are computed from x;
- if each follows the other, and together they are a listed function with another rule than they
  have one by one (``torch.log(1 + torch.exp(x))`` is Softplus);
- as a single call that has no lowering of its own (``F.threshold(x, 0.1, 0)``).

Straight lines are not lowered here: sums and products have operators of their own.
"""

from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, fx

from rot180.graph.lowerings.fx_call import FxCall, Lowered, Lowering, is_floating, shape_of
from rot180.graph.lowerings.pointwise import prelu
from rot180.graph.lowerings.rectifier_check import (
    Match,
    asymptotic_factor,
    is_rectifier,
    match_listed,
)
from rot180.graph.operators.activations import Pointwise, Rectifier
from rot180.graph.operators.arithmetic import Product
from rot180.graph.operators.expressions import (
    Earlier,
    Expression,
    Number,
    Operation,
    Parameter,
)
from rot180.graph.operators.operator import Operator

aten = torch.ops.aten


def _named(names: str) -> frozenset[Any]:
    """Return ATen operators by name, without those that this version of PyTorch lacks."""
    operators = set()
    for full_name in names.split():
        name, _, overload = full_name.partition(".")
        packet = getattr(aten, name, None)
        if packet is not None and hasattr(packet, overload or "default"):
            operators.add(getattr(packet, overload or "default"))
    return frozenset(operators)


_STRAIGHT = _named("add.Tensor sub.Tensor rsub.Scalar rsub.Tensor mul.Tensor div.Tensor neg")
_SAME = _named("alias clone dropout feature_dropout")
_CASTS = _named("_to_copy to.dtype to.dtype_layout")
_FILLED = {
    **dict.fromkeys(_named("zeros_like new_zeros"), 0.0),
    **dict.fromkeys(_named("ones_like new_ones"), 1.0),
    **dict.fromkeys(_named("full_like new_full"), None),
}
"""Calls that take a result for its shape only, with what they fill it with."""

_UNARY = _named(
    "abs sign sgn exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal square sin cos tan "
    "asin acos atan sinh cosh tanh asinh acosh atanh erf erfc sigmoid hardsigmoid log_sigmoid "
    "softplus relu relu6 hardtanh elu celu selu gelu silu hardswish mish leaky_relu threshold "
    "prelu clamp clamp.Tensor clamp_min clamp_min.Tensor clamp_max clamp_max.Tensor clip floor "
    "ceil round trunc frac pow.Tensor_Scalar pow.Scalar pow.Tensor_Tensor"
)
_BINARY = _named(
    "maximum minimum max.other min.other fmax fmin hypot logaddexp addcmul addcdiv lerp.Scalar "
    "where.self where.ScalarOther where.ScalarSelf where.Scalar masked_fill.Scalar "
    "masked_fill.Tensor"
)
_MASKS = _named(
    "gt.Scalar ge.Scalar lt.Scalar le.Scalar eq.Scalar ne.Scalar gt.Tensor ge.Tensor lt.Tensor "
    "le.Tensor eq.Tensor ne.Tensor logical_not logical_and logical_or logical_xor bitwise_not "
    "bitwise_and.Tensor bitwise_or.Tensor bitwise_xor.Tensor __and__.Tensor __or__.Tensor "
    "__xor__.Tensor"
)
_ELEMENTWISE = _STRAIGHT | _SAME | _CASTS | _UNARY | _BINARY | _MASKS
"""Calls that compute each number of their output from the numbers at the same position."""

LAST_CALLS = _STRAIGHT | _UNARY | _BINARY
"""Calls that may be the last one of a function of one number."""


def with_composed(single: Lowering | None) -> Lowering:
    """Return a lowering that tries a function of several calls, before or after a single call.

    Args:
        single: the lowering of the last call alone, if it has one.
    """

    def lower(call: FxCall) -> "Operator | Lowered | None":
        span = _span(call, call.node) if is_floating(call.node) else None
        if span is None:
            return None if single is None else single(call)
        source, inner = span
        if any(node.target not in _FILLED for node in inner):
            if not all(map(_is_straight, (*inner, call.node))):
                return _lower_together(call, source, inner)
        elif (chain := _lower_chain(call, source, inner)) is not None:
            return chain
        alone = None if single is None else single(call)
        return _lower_together(call, source, inner) if alone is None else alone

    return lower


def _is_straight(node: fx.Node) -> bool:
    """Say whether a call is linear in one input and its other arguments are constant."""
    inputs = [argument for argument in node.args if isinstance(argument, fx.Node)]
    product = node.target in (aten.mul.Tensor, aten.div.Tensor) and len(inputs) == 2
    return node.target in _STRAIGHT | _SAME and not product


def _sources(call: FxCall, node: fx.Node) -> list[fx.Node]:
    """Return the arguments of a call whose values depend on the image."""
    return [
        one
        for one in node.all_input_nodes
        if call.depends_on_image(one) and one.target not in _FILLED
    ]


def _span(call: FxCall, last: fx.Node) -> tuple[fx.Node, list[fx.Node]] | None:
    """Return the nearest value that a call is computed from alone, number by number.

    Returns:
        The node of that value, and the calls between the two, in order. None if there is no such
        value: the call mixes positions, or takes two values that have no common source.
    """
    if not _is_elementwise(last, last):
        return None
    front = dict.fromkeys(_sources(call, last))
    inner: list[fx.Node] = [node for node in last.all_input_nodes if node.target in _FILLED]
    order: dict[fx.Node, int] = {}
    while len(front) > 1 or any(_type(node) == torch.bool for node in front):
        order = order or {node: number for number, node in enumerate(last.graph.nodes)}
        latest = max(front, key=order.__getitem__)
        if not _is_elementwise(latest, last):
            return None
        del front[latest]
        front.update(dict.fromkeys(_sources(call, latest)))
        inner += [latest, *(node for node in latest.all_input_nodes if node.target in _FILLED)]
    if len(front) != 1:
        return None
    (source,) = front
    if shape_of(source) != shape_of(last) or _type(source) != _type(last):
        return None
    inner = list(dict.fromkeys(inner))
    return source, sorted(inner, key=order.__getitem__) if order else inner


def _type(node: fx.Node) -> Any:
    return getattr(node.meta.get("val"), "dtype", None)


def _is_elementwise(node: fx.Node, last: fx.Node) -> bool:
    """Say whether a call is elementwise and computes in the precision of the last call."""
    if node.target not in _ELEMENTWISE or shape_of(node) != shape_of(last):
        return False
    if node.target in (aten.dropout.default, aten.feature_dropout.default):
        return node.args[2] is False
    if node.target in _CASTS:
        before = node.args[0]
        assert isinstance(before, fx.Node)
        # A mask becomes 0 and 1. Numbers have to keep their type: rounding has no derivative.
        return bool(_type(before) == torch.bool or _type(before) == _type(node) == _type(last))
    return True


def _lower_chain(call: FxCall, source: fx.Node, inner: list[fx.Node]) -> Lowered | None:
    """Lower calls that follow one another together, if that changes the rule of a method."""
    links = [(source, [*inner, call.node])]
    while len(links) < _LONGEST and (span := _span(call, source)) is not None:
        links.append((span[0], [*span[1], source]))
        source = span[0]
    if len(links) == 1:
        return None
    rectifiers, bends, together = 0, 0, list[fx.Node]()
    for source, nodes in links:
        together = [*nodes, *together]
        link, whole = (_expression(call, some, source) for some in (nodes, together))
        if link is None or whole is None or whole.parameters:
            return None
        kind = _kind(link)
        rectifiers += kind in (RECTIFIER, MIRRORED, UNDECIDED)
        bends += kind in (NO_RECTIFIER, MIRRORED, UNDECIDED)
        if nodes is links[0][1] or not rectifiers + bends or _match(whole) is None:
            continue
        operators, factor = _operators(whole)
        if operators is None or len(operators) != 1 or factor != 1:
            continue  # undecided, or no single function
        is_one = any(isinstance(operator, Rectifier) for operator in operators)
        if bends if is_one else rectifiers:
            return Lowered(operators, (source,))
    return None


_LONGEST = 6
"""How many calls that follow one another are considered together."""


def _lower_together(call: FxCall, source: fx.Node, inner: list[fx.Node]) -> Lowered | None:
    """Lower all calls after a value to one operator; None if it is undecided what it is."""
    expression = _expression(call, [*inner, call.node], source)
    if expression is None:
        return None
    if expression.parameters:
        operators, factor = _by_channel(expression, len(call.shape)), 1.0
    else:
        operators, factor = _operators(expression)
    if operators is None:
        return None
    if factor != 1:
        scaled = Product(factor, (call.shape[1:],), call.axes(source))
        operators = (*operators, scaled)
    return Lowered(operators, (source,))


def _expression(call: FxCall, nodes: list[fx.Node], source: fx.Node) -> Expression | None:
    """Return calls as a function of one value; None if that is not possible."""
    values: dict[fx.Node, Any] = {source: Earlier(0)}
    names = {0: "x"}
    calls: list[Operation] = []
    parameters: list[Tensor] = []
    lines: list[str] = []

    def argument(given: Any) -> Any:
        if not isinstance(given, fx.Node) or given in values:
            return values.get(given, given) if isinstance(given, fx.Node) else given
        if call.depends_on_image(given):
            raise _NoExpressionError
        value = call.constant(given)
        if not isinstance(value, Tensor) or not value.numel():
            raise _NoExpressionError
        if (value == value.reshape(-1)[0]).all():
            return Number(value.reshape(-1)[0].item())
        parameters.append(_of_channels(value, call.shape))
        return Parameter(len(parameters) - 1)

    def word(given: Any) -> str:
        match given:
            case Earlier(number):
                return names[number]
            case Parameter(number):
                return f"w{number}"
            case Number(value):
                return repr(value)
        return str(given)

    try:
        for node in nodes:
            if node.target in _FILLED:
                value = _FILLED[node.target]
                filled = argument(node.args[-1]) if value is None else value
                values[node] = filled if isinstance(filled, Number) else Number(filled)
                continue
            given = tuple(map(argument, node.args))
            if node.target in _SAME or node.target in _CASTS:
                values[node] = given[0]
                if not _was_mask(node):
                    continue
                function, given = cast(Any, _as_numbers), (given[0], Earlier(0))
            else:
                function = cast(Any, node.target)
            named = {name: argument(value) for name, value in node.kwargs.items()}
            named = {name: value for name, value in named.items() if name in _SETTINGS}
            calls.append(
                Operation(function, given, tuple(named.items()), _kinks(node.target, given))
            )
            values[node] = Earlier(len(calls))
            names[len(calls)] = _letters(len(calls))
            settings = [f"{name}={word(value)}" for name, value in named.items()]
            lines.append(f"{_word(node.target)}({', '.join([*map(word, given), *settings])})")
    except _NoExpressionError:
        return None
    if not lines:  # nothing but copies of the value
        return None
    text = "; ".join([*(f"{names[n]} = {line}" for n, line in enumerate(lines[:-1], 1)), lines[-1]])
    return Expression(text, tuple(calls), tuple(parameters))


class _NoExpressionError(Exception):
    """A call has an argument that no function of one number has."""


_SETTINGS = ("alpha", "approximate", "rounding_mode", "value")


def _of_channels(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a constant that differs from channel to channel as (c, 1, 1), or (c) for vectors."""
    full = (*[1] * (len(shape) - value.ndim), *value.shape)
    if not value.is_floating_point() or len(shape) < 2 or len(full) != len(shape):
        raise _NoExpressionError
    if full != (1, shape[1], *[1] * (len(shape) - 2)):
        raise _NoExpressionError
    return value.reshape(full[1:])


def _was_mask(node: fx.Node) -> bool:
    return node.target in _CASTS and _type(node.all_input_nodes[0]) == torch.bool


def _as_numbers(mask: Tensor, x: Tensor) -> Tensor:
    return mask.to(x.dtype)


def _kinks(target: Any, given: tuple[Any, ...]) -> float | None:
    """Return where a call's derivative is infinite although its value is not."""
    exponent = given[1] if target in _named("pow.Tensor_Scalar pow.Tensor_Tensor") else None
    exponent = exponent.value if isinstance(exponent, Number) else exponent
    root = isinstance(exponent, int | float) and 0 < exponent < 1
    return 0.0 if root or target is aten.sqrt.default else None


def _word(target: Any) -> str:
    return str(target).removeprefix("aten.").split(".")[0].strip("_").replace("to_copy", "number")


def _letters(number: int) -> str:
    """Return a, b, ..., z, a1, b1, ... without x, which is the input."""
    letters = "abcdefghijklmnopqrstuvwyz"
    turn, letter = divmod(number - 1, len(letters))
    return letters[letter] + (str(turn) if turn else "")


RECTIFIER, MIRRORED, NO_RECTIFIER = "rectifier", "mirrored rectifier", "no rectifier"
STRAIGHT, UNDECIDED = "straight", "undecided"


@lru_cache(maxsize=4096)
def _match(expression: Expression) -> Match | None:
    arguments = [argument for call in expression.calls for argument in call.arguments]
    values = [one.value if isinstance(one, Number) else one for one in arguments]
    constants = {
        float(value)
        for value in values
        if isinstance(value, int | float) and not isinstance(value, bool) and value
    }
    return match_listed(expression, tuple(sorted(constants)))


def _kind(expression: Expression) -> str:
    """Return what kind of function an expression is."""
    operators, _ = _operators(expression)
    if operators is None:
        return UNDECIDED
    if any(isinstance(one, Rectifier) for one in operators):
        return RECTIFIER if isinstance(operators[0], Rectifier) else MIRRORED
    return STRAIGHT if all(one.linear for one in operators) else NO_RECTIFIER


@lru_cache(maxsize=4096)
def _operators(expression: Expression) -> tuple[tuple[Operator, ...] | None, float]:
    """Return the operators that a function is lowered to (None if undecided), and a factor."""
    match = _match(expression)
    if match is not None and match.exactly:
        return match.operators, match.factor
    name, answer = _descriptive(expression), float(is_rectifier(expression))
    if match is not None and len(match.operators) == 1:
        (like,) = match.operators
        assert isinstance(like, Rectifier | Pointwise)
        name, answer = f"{like.name}, written out", float(isinstance(like, Rectifier))
    if answer == 1:
        factor = asymptotic_factor(expression)
        return (_rectifier(name, _divided(expression, factor)),), factor
    if answer == 0:
        return (Pointwise(name, expression, expression.times_slope),), 1.0
    return None, 1.0


def _by_channel(expression: Expression, rank: int) -> tuple[Operator, ...] | None:
    """Return the operators of a function that differs from channel to channel."""
    ones = (1,) * (rank - 1)
    z = torch.cat([torch.linspace(-30, 30, 997), torch.logspace(-3, 4, 500)]).double()
    z = torch.cat([z, -z]).reshape(-1, *ones)
    f = expression(z)
    slopes = -_at_one(expression, -1.0, ones)
    if torch.allclose(f, torch.where(z > 0, z, z * slopes), rtol=1e-14, atol=0):
        like = expression.parameters[0]
        return (prelu(slopes.to(like.dtype).to(like.device)),)
    answers = is_rectifier(expression, ones)
    if (answers == 1).all():
        return (_rectifier(_descriptive(expression), expression, expression.parameters),)
    if (answers == 0).all():
        return (Pointwise(_descriptive(expression), expression, expression.times_slope),)
    return None


def _at_one(expression: Expression, z: float, ones: tuple[int, ...]) -> Tensor:
    return expression(torch.full((1, *ones), z, dtype=torch.float64))[0]


def _rectifier(name: str, expression: Expression, parameters: tuple[Tensor, ...] = ()) -> Rectifier:
    return Rectifier(name, expression, expression.times_slope, parameters=parameters)


def _divided(expression: Expression, factor: float) -> Expression:
    """Return an expression divided by a number."""
    if factor == 1:
        return expression
    last = Operation(aten.div.Tensor, (Earlier(len(expression.calls)), factor))
    return Expression(f"({expression.text}) / {factor!r}", (*expression.calls, last))


def _descriptive(expression: Expression) -> str:
    """Return a name: the call itself, or the names of several calls, the last first."""
    if len(expression.calls) == 1:
        return expression.text
    words = [_word(one.function) for one in reversed(expression.calls)]
    return f"written out ({', '.join(dict.fromkeys(words))})"
