"""Compares the backward pass of steps with finite differences, in double precision.

For a step f, with its inputs x from a forward pass, a random direction v and a random signal s,
<s, (f(x + h v) - f(x - h v)) / 2h> has to equal <backward(s), v>. Outputs where half of h gives
another quotient, or one side another than both, lie at a kink, or are rounded by the model itself:
they take no signal.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from rot180.graph.box import COLUMNS, ROWS, Box, Span
from rot180.graph.network import Network
from rot180.graph.operators.fallback import Derived, Mistrusted, OwnDerivative, Unlisted
from rot180.graph.operators.layout import Detach
from rot180.graph.operators.operator import Kept, Margins, Operator, Part
from rot180.graph.plan import cut_of
from rot180.graph.steps import Step

_STEP = 1e-5
"""h, in units of the typical size of an input."""

_KINK, _BEND, TOLERANCE = 1e-4, 1e-3, 1e-3
"""Relative differences: of two quotients near a kink; of the quotients to both sides and to one,
right at it; of a backward pass that is wrong."""

_ROOM = 16
"""Rows and columns, at most, of the part of a map that is compared."""

Anything = TypeVar("Anything")


class Difference(NamedTuple):
    """What the comparison of one step has found.

    Attributes:
        place: of the step.
        error: the difference, relative to the finite difference; 0 where there was nothing to
            compare.
    """

    place: int
    error: float


class _Gradient:
    """The rules of the gradient."""

    backward, method = "gradient", "gradient"

    def rectify(
        self, signal: Tensor, derived: Callable[[Tensor], Tensor], spare: bool = False
    ) -> Tensor:
        """Multiply with the derivative."""
        return derived(signal)

    def unpool(self, signal: Tensor, switches: Tensor, pool: Any, part: Part) -> Tensor:
        """Put each value where its maximum was."""
        need = part.needs[0]
        flat = signal.new_zeros(*signal.shape[:2], need.height * need.width)
        flat.scatter_add_(2, switches.expand_as(signal).flatten(2), signal.flatten(2))
        return flat.reshape(*signal.shape[:2], need.height, need.width)


def with_trusted_steps(network: Network) -> Network:
    """Return the network with steps that autograd differentiates wrongly made to refuse.

    Only the steps that rely on autograd are compared here, on one image of noise; those that have a
    formula of their own are compared in the tests and by :func:`rot180.report`.
    """
    steps = list(network.steps)
    for place, error in differences(network, (Derived, Unlisted)):
        if error > TOLERANCE:
            step = steps[place]
            found = step.operator
            assert isinstance(found, Derived | Unlisted)
            where = f" in {step.path}" if step.path else ""
            steps[place] = replace(step, operator=Mistrusted(found.call, found.name, where, error))
    if all(one is other for one, other in zip(steps, network.steps, strict=True)):
        return network
    return replace(network, steps=tuple(steps), _cache={})


@torch.no_grad()
def differences(
    network: Network, kinds: tuple[type[Operator], ...] = (Operator,), seed: int = 0
) -> Iterator[Difference]:
    """Compare every step of these kinds that is not linear, on random images and parts of maps."""
    plan = network.whole("gradient", frozenset())
    chosen = {
        work.place
        for work in plan.works
        if isinstance(work.operator, kinds)
        and not isinstance(work.operator, OwnDerivative | Mistrusted | Detach)
        and not work.operator.linear
        and not work.empty
    }
    if not chosen:
        return
    generator = torch.Generator(network.device).manual_seed(seed)
    image = torch.empty(1, *network.input_shape, device=network.device, dtype=network.dtype)
    values: dict[int, Any] = {-1: image.normal_(generator=generator)}
    last = max(chosen)
    for work in plan.works:
        if work.place > last:
            return
        if work.place in chosen:
            step = network.steps[work.place]
            inputs = tuple(values[source] for source in step.inputs)
            part, cut = _random_part(network, work.place, inputs, generator)
            error = _difference(step, cut, part, generator)
            yield Difference(work.place, error)
        plan.do(work, values, {})
        for source in work.frees:
            values.pop(source, None)


def _random_part(
    network: Network, place: int, inputs: tuple[Tensor, ...], generator: torch.Generator
) -> tuple[Part, tuple[Tensor, ...]]:
    """Return a part of a step's output, and what it takes of the inputs."""
    step = network.steps[place]
    spans = []
    for axis in (ROWS, COLUMNS):
        size = network.size_of(place, axis)
        room = min(size, _ROOM) if step.operator.local and step.axes is not None else size
        start = int(
            torch.randint(size - room + 1, (), generator=generator, device=generator.device)
        )
        spans.append(Span(start, start + room))
    rows, columns = network.trace([place], {place: (spans[ROWS], spans[COLUMNS])})
    row, column = rows.lines[place], columns.lines[place]
    needs = tuple(map(Box.of, row.needs, column.needs))
    margins = tuple(
        Margins(one[0], other[0], one[1], other[1])
        for one, other in zip(row.margins, column.margins, strict=True)
    )
    cut = []
    for source, value, need in zip(step.inputs, inputs, needs, strict=True):
        axes = network.axes_of(source)
        cut.append(value if axes is None else value[cut_of(axes, need.rows, need.columns)])
    return Part(Box.of(row.out, column.out), needs, margins), tuple(cut)


def _difference(
    step: Step, inputs: tuple[Tensor, ...], part: Part, generator: torch.Generator
) -> float:
    """Return the relative difference of one step's backward pass from a finite difference."""
    operator = in_double(step.operator)
    at = tuple(map(_double, inputs))

    def random(like: Tensor) -> Tensor:
        noise = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        return noise.normal_(generator=generator)

    def size(value: Tensor) -> float:
        return float(value.abs().square().mean().sqrt()) or 1.0

    along = tuple(
        random(one) * size(one) if _is_smooth(one) and one.numel() else None for one in at
    )
    if all(one is None for one in along):
        return 0.0

    def moved(h: float) -> Tensor:
        there = tuple(
            one.clone() if v is None else one + h * v for one, v in zip(at, along, strict=True)
        )
        found: Tensor = operator.forward(there, part)[0]
        return found

    output, switches = operator.forward(tuple(one.clone() for one in at), part)
    if not _is_smooth(output):
        return 0.0
    quotient, finer = ((moved(h) - moved(-h)) / (2 * h) for h in (_STEP, _STEP / 2))
    largest = float(quotient.abs().max()) if quotient.numel() else 0.0
    smooth = ((quotient - finer).abs() <= _KINK * largest) & quotient.isfinite()
    # A kink right here, as of equal values of which one is chosen, bends both quotients alike.
    onesided = (moved(_STEP / 2) - output) / (_STEP / 2)
    smooth &= (quotient - onesided).abs() <= _BEND * largest
    if not largest or not smooth.any():
        return 0.0
    quotient = torch.where(smooth, quotient, 0)
    worst = 0.0
    kept = Kept(at, output, switches)
    noise = torch.finfo(torch.float64).eps * size(output) / _STEP  # of the quotients, by rounding
    for signal in (quotient * (1.5 + random(quotient).real.sin()), random(quotient)):
        signal = torch.where(smooth, signal, 0)
        there = _product(signal, quotient)
        length = float(signal.abs().norm())
        scale = max(
            abs(there),
            1e-3 * length * float(quotient.abs().norm()),
            10 * length * noise / TOLERANCE,
            1e-300,
        )
        for laid in layouts(signal):
            back = operator.backward(laid, kept, _Gradient(), part)
            here = sum(
                _product(one, v)
                for one, v in zip(back, along, strict=True)
                if one is not None and v is not None
            )
            worst = max(worst, abs(there - here) / scale)
    return worst


def _product(one: Tensor, other: Tensor) -> float:
    """Return the real inner product, the sum over real and imaginary parts for complex values."""
    return float((one.conj() * other).real.sum())


def layouts(signal: Tensor) -> list[Tensor]:
    """Return the same numbers in several memory layouts."""
    found = [signal.contiguous()]
    if signal.ndim == 4:
        found.append(signal.contiguous(memory_format=torch.channels_last))
    if signal.ndim > 2:
        found.append(signal.transpose(1, -1).contiguous().transpose(1, -1))
    return found


def _is_smooth(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _double(value: Tensor) -> Tensor:
    if value.is_complex():
        return value.to(torch.complex128)
    return value.double() if value.is_floating_point() else value


def in_double(value: Anything) -> Anything:
    """Return an operator, or what one is made of, with its tensors in double precision."""
    found: Any = value
    if isinstance(value, Tensor):
        return _double(value)  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            one.name: in_double(getattr(value, one.name)) for one in fields(value) if one.init
        }
        if any(changed[name] is not getattr(value, name) for name in changed):
            found = replace(value, **changed)
    elif isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        items = [in_double(one) for one in value]
        if any(one is not other for one, other in zip(items, value, strict=True)):
            found = type(value)(items)
    elif isinstance(value, dict):
        found = {name: in_double(one) for name, one in value.items()}
    result: Anything = found
    return result
