"""Compares the backward pass of steps with finite differences, in double precision.

Take a step f, its inputs x from a forward pass, a random direction v and a random signal s. Then
<s, (f(x + h v) - f(x - h v)) / 2h> has to equal <backward(s), v>. An output takes no signal where
the quotient changes if h is halved, or differs from the one-sided quotient: it lies at a kink, or
the model itself rounds it.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from rot180.graph.box import COLUMNS, ROWS, Span
from rot180.graph.network import Network
from rot180.graph.operators.fallback import AutogradOp, CustomAutogradOp, UnknownOp, UntrustedOp
from rot180.graph.operators.layout import Detach
from rot180.graph.operators.operator import Operator, Region, Saved
from rot180.graph.plan import crop_index, region_of
from rot180.graph.steps import Step

_STEP = 1e-5
"""h, in units of the typical size of an input."""

_KINK, _BEND, TOLERANCE = 1e-4, 1e-3, 1e-3
"""Relative differences from which on an output is near a kink (between two quotients), is right at
one (between the two-sided and the one-sided quotient), and a backward pass is wrong."""

_REGION_SIZE = 16
"""Largest number of rows and columns of the region that is compared."""

Anything = TypeVar("Anything")


class StepError(NamedTuple):
    """The result for one step.

    Attributes:
        step_index: index of the step.
        error: difference of its backward pass, relative to the finite difference; 0 where there
            was nothing to compare.
    """

    step_index: int
    error: float


class _Gradient:
    """The rules of the gradient."""

    backward, method = "gradient", "gradient"

    def rectify(
        self, signal: Tensor, vjp: Callable[[Tensor], Tensor], may_overwrite: bool = False
    ) -> Tensor:
        """Multiply by the derivative."""
        return vjp(signal)

    def unpool(self, signal: Tensor, switches: Tensor, pool: Any, region: Region) -> Tensor:
        """Put each value where its maximum was."""
        need = region.needs[0]
        flat = signal.new_zeros(*signal.shape[:2], need.height * need.width)
        flat.scatter_add_(2, switches.expand_as(signal).flatten(2), signal.flatten(2))
        return flat.reshape(*signal.shape[:2], need.height, need.width)


def with_checked_derivatives(network: Network) -> Network:
    """Return the network with steps refused whose derivative autograd gets wrong.

    Only steps that rely on autograd are compared here, on one image of noise. Those with a formula
    of their own are compared in the tests and by :func:`rot180.report`.
    """
    steps = list(network.steps)
    for index, error in derivative_errors(network, (AutogradOp, UnknownOp)):
        if error > TOLERANCE:
            step = steps[index]
            wrong = step.operator
            assert isinstance(wrong, AutogradOp | UnknownOp)
            where = f" in {step.path}" if step.path else ""
            operator = UntrustedOp(wrong.call, wrong.name, where, error)
            steps[index] = replace(step, operator=operator)
    if all(new is old for new, old in zip(steps, network.steps, strict=True)):
        return network
    return replace(network, steps=tuple(steps), _cache={})


@torch.no_grad()
def derivative_errors(
    network: Network, kinds: tuple[type[Operator], ...] = (Operator,), seed: int = 0
) -> Iterator[StepError]:
    """Compare every step of these kinds that is not linear, on a random image and random regions.

    Args:
        network: the network.
        kinds: classes of operators.
        seed: of the random numbers.
    """
    plan = network.full_plan("gradient", frozenset())
    chosen = {
        step.step_index
        for step in plan.steps
        if isinstance(step.operator, kinds)
        and not isinstance(step.operator, CustomAutogradOp | UntrustedOp | Detach)
        and not step.operator.linear
        and not step.empty
    }
    if not chosen:
        return
    generator = torch.Generator(network.device).manual_seed(seed)
    image = torch.empty(1, *network.input_shape, device=network.device, dtype=network.dtype)
    outputs: dict[int, Any] = {-1: image.normal_(generator=generator)}
    last = max(chosen)
    for planned in plan.steps:
        if planned.step_index > last:
            return
        if planned.step_index in chosen:
            step = network.steps[planned.step_index]
            inputs = tuple(outputs[source] for source in step.inputs)
            region, cropped = _random_region(network, planned.step_index, inputs, generator)
            error = _relative_error(step, cropped, region, generator)
            yield StepError(planned.step_index, error)
        plan.run_step(planned, outputs, {})
        for source in planned.releases:
            outputs.pop(source, None)


def _random_region(
    network: Network, index: int, inputs: tuple[Tensor, ...], generator: torch.Generator
) -> tuple[Region, tuple[Tensor, ...]]:
    """Return a region of a step's output, and what it takes of the inputs."""
    step = network.steps[index]
    spans = []
    for axis in (ROWS, COLUMNS):
        size = network.axis_size(index, axis)
        length = min(size, _REGION_SIZE) if step.operator.local and step.axes is not None else size
        start = int(
            torch.randint(size - length + 1, (), generator=generator, device=generator.device)
        )
        spans.append(Span(start, start + length))
    rows, columns = network.trace_spans([index], {index: (spans[ROWS], spans[COLUMNS])})
    region = region_of(rows.axis_steps[index], columns.axis_steps[index])
    cropped = []
    for source, value, need in zip(step.inputs, inputs, region.needs, strict=True):
        axes = network.axes_of(source)
        cropped.append(value if axes is None else value[crop_index(axes, need.rows, need.columns)])
    return region, tuple(cropped)


def _relative_error(
    step: Step, inputs: tuple[Tensor, ...], region: Region, generator: torch.Generator
) -> float:
    """Return the relative difference of one step's backward pass from a finite difference."""
    operator = in_double(step.operator)
    x = tuple(map(_double, inputs))

    def random(like: Tensor) -> Tensor:
        noise = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        return noise.normal_(generator=generator)

    def size(value: Tensor) -> float:
        return float(value.abs().square().mean().sqrt()) or 1.0

    direction = tuple(
        random(one) * size(one) if _is_smooth(one) and one.numel() else None for one in x
    )
    if all(v is None for v in direction):
        return 0.0

    def moved(h: float) -> Tensor:
        there = tuple(
            one.clone() if v is None else one + h * v for one, v in zip(x, direction, strict=True)
        )
        output: Tensor = operator.forward(there, region)[0]
        return output

    output, switches = operator.forward(tuple(one.clone() for one in x), region)
    if not _is_smooth(output):
        return 0.0
    quotient, finer = ((moved(h) - moved(-h)) / (2 * h) for h in (_STEP, _STEP / 2))
    largest = float(quotient.abs().max()) if quotient.numel() else 0.0
    smooth = ((quotient - finer).abs() <= _KINK * largest) & quotient.isfinite()
    # A kink right here, as between equal values of which one is chosen, bends both quotients alike.
    onesided = (moved(_STEP / 2) - output) / (_STEP / 2)
    smooth &= (quotient - onesided).abs() <= _BEND * largest
    if not largest or not smooth.any():
        return 0.0
    quotient = torch.where(smooth, quotient, 0)
    worst = 0.0
    saved = Saved(x, output, switches)
    rounding = torch.finfo(torch.float64).eps * size(output) / _STEP  # of the quotients
    for signal in (quotient * (1.5 + random(quotient).real.sin()), random(quotient)):
        signal = torch.where(smooth, signal, 0)
        expected = _inner_product(signal, quotient)
        length = float(signal.abs().norm())
        scale = max(
            abs(expected),
            1e-3 * length * float(quotient.abs().norm()),
            10 * length * rounding / TOLERANCE,
            1e-300,
        )
        for in_layout in layouts(signal):
            back = operator.backward(in_layout, saved, _Gradient(), region)
            actual = sum(
                _inner_product(one, v)
                for one, v in zip(back, direction, strict=True)
                if one is not None and v is not None
            )
            worst = max(worst, abs(expected - actual) / scale)
    return worst


def _inner_product(first: Tensor, second: Tensor) -> float:
    """Return the real inner product; for complex values the sum over real and imaginary parts."""
    return float((first.conj() * second).real.sum())


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
    """Return an operator, or a part of one, with its tensors in double precision."""
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
