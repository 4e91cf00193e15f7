"""The backward pass: a signal goes through the steps of a plan in reverse order to the pixels."""

from collections.abc import Callable
from math import isfinite

from jaxtyping import Float
from torch import Tensor

from rot180.errors import Rot180Error
from rot180.graph.operators.operator import NOTHING_SAVED, Saved
from rot180.graph.plan import Plan, PlannedStep
from rot180.projection.rules import Rules


def backward_pass(
    plan: Plan, signal: Tensor | None, kept: Callable[[PlannedStep], Saved], rules: Rules
) -> Float[Tensor, "k c h w"] | None:
    """Carry signals at the end of a plan back to the pixels of its box.

    Where steps branch, the signals of the branches add (each step's linear part is transposed).

    Args:
        plan: the steps, and the part of each.
        signal: of k units, on the part of the plan's target, in its layout; None: there is none.
        kept: gives what the forward pass left for a step, of k images or of one for all.
        rules: what happens at rectifiers and maxima.

    Returns:
        The signals (k, c, h, w) on the box of the image; None where nothing arrives.

    Raises:
        Rot180Error: they are not finite; the message names the step.
    """
    if signal is None:
        return None
    found = _carried(plan, signal, kept, rules)
    if found is not None and not _is_finite(found):
        # Again, to name the step; what was overwritten meanwhile was only clamped.
        _carried(plan, signal, kept, rules, watched=True)
        raise Rot180Error("The signal becomes infinite or not a number (NaN) in the backward pass.")
    return found


def _is_finite(value: Tensor) -> bool:
    return isfinite(float(value.sum())) or bool(value.isfinite().all())


def _carried(
    plan: Plan,
    signal: Tensor,
    kept: Callable[[PlannedStep], Saved],
    rules: Rules,
    watched: bool = False,
) -> Float[Tensor, "k c h w"] | None:
    waiting: dict[int, Tensor] = {plan.target: signal}
    owned: set[int] = set()  # the places whose signal is new memory, which nobody else holds
    for work in reversed(plan.steps):
        arrived = waiting.pop(work.step_index, None)
        if arrived is None or work.empty or work.padding_only:
            continue
        left = kept(work) if work.needs_saved else NOTHING_SAVED
        found = work.operator.backward(arrived, left, rules, work.region)
        if watched and not all(one is None or _is_finite(one) for one in found):
            raise Rot180Error(
                "The signal becomes infinite or not a number (NaN) in the backward pass through "
                f"step {plan.name(work)}, whose derivative is infinite or undefined for the values "
                "of this image."
            )
        for source, cut, part in zip(work.sources, work.crops, found, strict=True):
            if part is None or not part.numel():
                continue
            if cut is not None:
                part = plan.scatter(part, source, cut)
            if source in owned:
                waiting[source].add_(part)
                continue
            mine = cut is not None or work.operator.allocates_signal
            if source in waiting:
                part, mine = waiting[source] + part, True
            waiting[source] = part
            if mine:
                owned.add(source)
    return waiting.get(-1)
