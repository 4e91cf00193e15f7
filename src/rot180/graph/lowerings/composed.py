"""Functions of one number that an author wrote out: several calls read as one operator.

``x * F.relu6(x + 3) / 6`` is four calls, of which the third takes x twice. Its value is made,
number by number, from the one result x and from constants: a function of one number, as ReLU is.
Read call by call it would have a rectifier inside, ReLU6, which the methods would put their rule in
the place of, though it gates rather than rectifies. So such calls are read together, the last of
them as one operator that takes x; the others remain steps that nothing needs. Whether the operator
is a rectifier is decided in :mod:`rot180.graph.lowerings.rectifier_check`.

Calls are read together

- where they take x more than once: a call with two results that are made of one;
- where each follows on the other, if together they are a listed function that would take another
  rule than they do one by one (``torch.log(1 + torch.exp(x))`` is Softplus);
- one by one, where a call by itself is not listed (``F.threshold(x, 0.1, 0)``).

Straight lines are left alone: their sums and products have operators of their own.
"""

from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, fx

from rot180.graph.lowerings.fx_call import Call, Found, Reader, is_floating, shape_of
from rot180.graph.lowerings.pointwise import prelu
from rot180.graph.lowerings.rectifier_check import Known, known, rectifies, size_of
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
    """Return operators by their names, without those that this PyTorch lacks."""
    found = set()
    for one in names.split():
        name, _, overload = one.partition(".")
        packet = getattr(aten, name, None)
        if packet is not None and hasattr(packet, overload or "default"):
            found.add(getattr(packet, overload or "default"))
    return frozenset(found)


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
_BY_NUMBER = _STRAIGHT | _SAME | _CASTS | _UNARY | _BINARY | _MASKS
"""Calls that make each number of their value of the numbers at its place."""

READ = _STRAIGHT | _UNARY | _BINARY
"""Calls that a function of one number may end with."""


def with_written(listed: Reader | None) -> Reader:
    """Return a reader that looks for a function that is written out, before or after a call is
    looked up by itself.
    """

    def read(call: Call) -> "Operator | Found | None":
        span = _span(call, call.node) if is_floating(call.node) else None
        if span is None:
            return None if listed is None else listed(call)
        source, inner = span
        if any(one.target not in _FILLED for one in inner):
            if not all(map(_is_straight, (*inner, call.node))):
                return _as_one(call, source, inner)
        elif (found := _as_chain(call, source, inner)) is not None:
            return found
        alone = None if listed is None else listed(call)
        return _as_one(call, source, inner) if alone is None else alone

    return read


def _is_straight(node: fx.Node) -> bool:
    """Say whether a call is linear in its one result; whatever else it takes is constant."""
    results = [one for one in node.args if isinstance(one, fx.Node)]
    both = node.target in (aten.mul.Tensor, aten.div.Tensor) and len(results) == 2
    return node.target in _STRAIGHT | _SAME and not both


def _made_of(call: Call, node: fx.Node) -> list[fx.Node]:
    """Return the results that a call's values depend on."""
    return [
        one for one in node.all_input_nodes if call.of_the_image(one) and one.target not in _FILLED
    ]


def _span(call: Call, last: fx.Node) -> tuple[fx.Node, list[fx.Node]] | None:
    """Return the nearest result that a call is made of alone, number by number.

    With it the calls between the two, in their order. None where there is no such result: the call
    mixes positions, or takes two results that have nothing to do with each other.
    """
    if not _is_by_number(last, last):
        return None
    front = dict.fromkeys(_made_of(call, last))
    inner: list[fx.Node] = [one for one in last.all_input_nodes if one.target in _FILLED]
    order: dict[fx.Node, int] = {}
    while len(front) > 1 or any(_type(one) == torch.bool for one in front):
        order = order or {node: place for place, node in enumerate(last.graph.nodes)}
        latest = max(front, key=order.__getitem__)
        if not _is_by_number(latest, last):
            return None
        del front[latest]
        front.update(dict.fromkeys(_made_of(call, latest)))
        inner += [latest, *(one for one in latest.all_input_nodes if one.target in _FILLED)]
    if len(front) != 1:
        return None
    (source,) = front
    if shape_of(source) != shape_of(last) or _type(source) != _type(last):
        return None
    inner = list(dict.fromkeys(inner))
    return source, sorted(inner, key=order.__getitem__) if order else inner


def _type(node: fx.Node) -> Any:
    return getattr(node.meta.get("val"), "dtype", None)


def _is_by_number(node: fx.Node, last: fx.Node) -> bool:
    """Say whether a call makes each number of those at its place, in the precision of the last."""
    if node.target not in _BY_NUMBER or shape_of(node) != shape_of(last):
        return False
    if node.target in (aten.dropout.default, aten.feature_dropout.default):
        return node.args[2] is False
    if node.target in _CASTS:
        before = node.args[0]
        assert isinstance(before, fx.Node)
        # A mask becomes 0 and 1; numbers stay what they are, or are rounded, which is no function
        # that has a derivative.
        return bool(_type(before) == torch.bool or _type(before) == _type(node) == _type(last))
    return True


def _as_chain(call: Call, source: fx.Node, inner: list[fx.Node]) -> Found | None:
    """Read calls that follow on each other as one, if that changes what the methods do."""
    links = [(source, [*inner, call.node])]
    while len(links) < _LONGEST and (span := _span(call, source)) is not None:
        links.append((span[0], [*span[1], source]))
        source = span[0]
    if len(links) == 1:
        return None
    rectifiers, bends, together = 0, 0, list[fx.Node]()
    for source, nodes in links:
        together = [*nodes, *together]
        one, whole = (_expression(call, some, source) for some in (nodes, together))
        if one is None or whole is None or whole.parameters:
            return None
        what = _what(one)
        rectifiers += what in (RECTIFIER, MIRRORED, UNDECIDED)
        bends += what in (NONE, MIRRORED, UNDECIDED)
        if nodes is links[0][1] or not rectifiers + bends or _known(whole) is None:
            continue
        operators, factor = _operators(whole)
        if operators is None or len(operators) != 1 or factor != 1:
            continue  # undecided, or no single function
        if bends if any(isinstance(one, Rectifier) for one in operators) else rectifiers:
            return Found(operators, (source,))
    return None


_LONGEST = 6
"""How many calls that follow on each other are looked at together."""


def _as_one(call: Call, source: fx.Node, inner: list[fx.Node]) -> Found | None:
    """Read all calls after a result as one operator; None where nobody can say what it is."""
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
    return Found(operators, (source,))


def _expression(call: Call, nodes: list[fx.Node], source: fx.Node) -> Expression | None:
    """Write down calls as a function of a result; None where that is not possible."""
    places: dict[fx.Node, Any] = {source: Earlier(0)}
    names = {0: "x"}
    calls: list[Operation] = []
    parameters: list[Tensor] = []
    lines: list[str] = []

    def argument(one: Any) -> Any:
        if not isinstance(one, fx.Node) or one in places:
            return places.get(one, one) if isinstance(one, fx.Node) else one
        if call.of_the_image(one):
            raise _NotWritten
        value = call.constant(one)
        if not isinstance(value, Tensor) or not value.numel():
            raise _NotWritten
        if (value == value.reshape(-1)[0]).all():
            return Number(value.reshape(-1)[0].item())
        parameters.append(_of_channels(value, call.shape))
        return Parameter(len(parameters) - 1)

    def word(one: Any) -> str:
        match one:
            case Earlier(place):
                return names[place]
            case Parameter(place):
                return f"w{place}"
            case Number(value):
                return repr(value)
        return str(one)

    try:
        for node in nodes:
            if node.target in _FILLED:
                value = _FILLED[node.target]
                filled = argument(node.args[-1]) if value is None else value
                places[node] = filled if isinstance(filled, Number) else Number(filled)
                continue
            given = tuple(map(argument, node.args))
            if node.target in _SAME or node.target in _CASTS:
                places[node] = given[0]
                if not _was_mask(node):
                    continue
                function, given = cast(Any, _as_numbers), (given[0], Earlier(0))
            else:
                function = cast(Any, node.target)
            named = {name: argument(one) for name, one in node.kwargs.items()}
            named = {name: one for name, one in named.items() if name in _SETTINGS}
            calls.append(
                Operation(function, given, tuple(named.items()), _kinks(node.target, given))
            )
            places[node] = Earlier(len(calls))
            names[len(calls)] = _letters(len(calls))
            settings = [f"{name}={word(one)}" for name, one in named.items()]
            lines.append(f"{_word(node.target)}({', '.join([*map(word, given), *settings])})")
    except _NotWritten:
        return None
    if not lines:  # nothing but copies of the result
        return None
    text = "; ".join([*(f"{names[n]} = {one}" for n, one in enumerate(lines[:-1], 1)), lines[-1]])
    return Expression(text, tuple(calls), tuple(parameters))


class _NotWritten(Exception):
    """A call takes what no function of one number does."""


_SETTINGS = ("alpha", "approximate", "rounding_mode", "value")


def _of_channels(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a constant that differs from channel to channel as (c, 1, 1), or (c) for vectors."""
    full = (*[1] * (len(shape) - value.ndim), *value.shape)
    if not value.is_floating_point() or len(shape) < 2 or len(full) != len(shape):
        raise _NotWritten
    if full != (1, shape[1], *[1] * (len(shape) - 2)):
        raise _NotWritten
    return value.reshape(full[1:])


def _was_mask(node: fx.Node) -> bool:
    return node.target in _CASTS and _type(node.all_input_nodes[0]) == torch.bool


def _as_numbers(mask: Tensor, x: Tensor) -> Tensor:
    return mask.to(x.dtype)


def _kinks(target: Any, given: tuple[Any, ...]) -> float | None:
    """Say where a call's derivative is infinite though its value is not."""
    exponent = given[1] if target in _named("pow.Tensor_Scalar pow.Tensor_Tensor") else None
    exponent = exponent.value if isinstance(exponent, Number) else exponent
    root = isinstance(exponent, int | float) and 0 < exponent < 1
    return 0.0 if root or target is aten.sqrt.default else None


def _word(target: Any) -> str:
    return str(target).removeprefix("aten.").split(".")[0].strip("_").replace("to_copy", "number")


def _letters(number: int) -> str:
    """Return a, b, ..., z, a1, b1, ... without x, which is what goes in."""
    letters = "abcdefghijklmnopqrstuvwyz"
    turn, place = divmod(number - 1, len(letters))
    return letters[place] + (str(turn) if turn else "")


RECTIFIER, MIRRORED, NONE = "rectifier", "mirrored rectifier", "none"
STRAIGHT, UNDECIDED = "straight", "undecided"


@lru_cache(maxsize=4096)
def _known(expression: Expression) -> Known | None:
    given = [one for call in expression.calls for one in call.arguments]
    values = [one.value if isinstance(one, Number) else one for one in given]
    constants = {
        float(one)
        for one in values
        if isinstance(one, int | float) and not isinstance(one, bool) and one
    }
    return known(expression, tuple(sorted(constants)))


def _what(expression: Expression) -> str:
    """Say what a function of one number is."""
    operators, _ = _operators(expression)
    if operators is None:
        return UNDECIDED
    if any(isinstance(one, Rectifier) for one in operators):
        return RECTIFIER if isinstance(operators[0], Rectifier) else MIRRORED
    return STRAIGHT if all(one.linear for one in operators) else NONE


@lru_cache(maxsize=4096)
def _operators(expression: Expression) -> tuple[tuple[Operator, ...] | None, float]:
    """Return what a function is read as, and a factor after it; None where it is undecided."""
    found = _known(expression)
    if found is not None and found.exactly:
        return found.operators, found.factor
    name, answer = _descriptive(expression), float(rectifies(expression))
    if found is not None and len(found.operators) == 1:
        (like,) = found.operators
        assert isinstance(like, Rectifier | Pointwise)
        name, answer = f"{like.name}, written out", float(isinstance(like, Rectifier))
    if answer == 1:
        factor = size_of(expression)
        return (_rectifier(name, _divided(expression, factor)),), factor
    if answer == 0:
        return (Pointwise(name, expression, expression.times_slope),), 1.0
    return None, 1.0


def _by_channel(expression: Expression, rank: int) -> tuple[Operator, ...] | None:
    """Return what a function that differs from channel to channel is read as."""
    ones = (1,) * (rank - 1)
    z = torch.cat([torch.linspace(-30, 30, 997), torch.logspace(-3, 4, 500)]).double()
    z = torch.cat([z, -z]).reshape(-1, *ones)
    f = expression(z)
    slopes = -_at_one(expression, -1.0, ones)
    if torch.allclose(f, torch.where(z > 0, z, z * slopes), rtol=1e-14, atol=0):
        like = expression.parameters[0]
        return (prelu(slopes.to(like.dtype).to(like.device)),)
    answers = rectifies(expression, ones)
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
    """Return an expression over a number."""
    if factor == 1:
        return expression
    last = Operation(aten.div.Tensor, (Earlier(len(expression.calls)), factor))
    return Expression(f"({expression.text}) / {factor!r}", (*expression.calls, last))


def _descriptive(expression: Expression) -> str:
    """Return a name: the call itself, or what several calls are, the last first."""
    if len(expression.calls) == 1:
        return expression.text
    words = [_word(one.function) for one in reversed(expression.calls)]
    return f"written out ({', '.join(dict.fromkeys(words))})"
