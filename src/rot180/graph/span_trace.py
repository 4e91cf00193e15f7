"""Which positions of every map a part of a layer depends on, one axis at a time."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

from rot180.graph.box import Span
from rot180.graph.operators.operator import SAME_PLACE, Nominal
from rot180.graph.steps import Step


class Line(NamedTuple):
    """One step along one axis: the span of its output, and of each input what it looks at.

    ``needs`` lie inside the inputs; ``margins`` say how far the step looks beyond their edges,
    (before, after).
    """

    out: Span
    needs: tuple[Span, ...]
    margins: tuple[tuple[int, int], ...]


class Trace(NamedTuple):
    """All steps along one axis, from a span at one of them down to the image.

    Attributes:
        lines: what each step does, by its place.
        starts: where the span of each step begins, by its place; -1: on the image.
        sizes: of these spans.
        key: equal for traces that differ by their starts alone.
    """

    lines: Mapping[int, Line]
    starts: Mapping[int, int]
    sizes: Mapping[int, int]
    key: Hashable


def trace(
    steps: Sequence[Step],
    size_of: Callable[[int], int],
    places: Sequence[int],
    wanted: Mapping[int, Span],
    axis: int,
) -> Trace:
    """Follow spans down an axis through the steps at ``places`` (in order).

    Where several steps look at one, its span is the smallest around all that they need.
    """
    spans: dict[int, Span] = dict(wanted)
    lines: dict[int, Line] = {}
    for place in reversed(places):
        operator, inputs = steps[place].operator, steps[place].inputs
        span = spans.get(place, Span(0, 0))
        if span.size and not operator.local:
            span = Span(0, size_of(place))
        spans[place] = span
        sizes = tuple(size_of(one) for one in inputs)
        reached = operator.reach(axis, span, sizes) if span.size else (Span(0, 0),) * len(inputs)
        needs = tuple(one.clipped(size) for one, size in zip(reached, sizes, strict=True))
        margins = tuple(map(_margins, reached, needs))
        for source, need in zip(inputs, needs, strict=True):
            spans[source] = spans[source].joined(need) if source in spans else need
        lines[place] = Line(span, needs, margins)
    key = tuple(
        (
            place,
            line.out.size,
            steps[place].operator.situation(axis, line.out) if line.out.size else None,
            tuple(
                (need.size, need.start - spans[source].start if need.size else 0, margin)
                for source, need, margin in zip(
                    steps[place].inputs, line.needs, line.margins, strict=True
                )
            ),
        )
        for place, line in lines.items()
    )
    starts = {place: span.start for place, span in spans.items()}
    return Trace(lines, starts, {place: span.size for place, span in spans.items()}, key)


def _margins(reached: Span, need: Span) -> tuple[int, int]:
    """Return by how much a reach exceeds the input before and after what is inside."""
    if not need.size:
        return reached.size, 0
    return need.start - reached.start, reached.stop - need.stop


def nominals(steps: Sequence[Step], axis: int) -> list[Nominal | None]:
    """Return how each step, far from every border, sees the image along an axis.

    None where the whole image counts: there or somewhere below, an output depends on every input,
    or two branches that run at different scales meet.

    Returns:
        One entry a step, in order, and at the end that of the image, whose place is -1.
    """
    found: list[Nominal | None] = [None] * len(steps) + [SAME_PLACE]
    for place, step in enumerate(steps):
        own = step.operator.nominal(axis)
        branches = [_through(own, found[one]) for one in step.inputs]
        found[place] = reduce(_both, branches) if branches else None
    return found


def _through(own: Nominal | None, below: Nominal | None) -> Nominal | None:
    """Return what a step sees of the image, where its input sees ``below`` of it."""
    if own is None or below is None:
        return None
    return Nominal(
        own.scale * below.scale,
        own.low * below.scale + below.low,
        (own.high - 1) * below.scale + below.high,
    )


def _both(one: Nominal | None, other: Nominal | None) -> Nominal | None:
    """Return the smallest reach around both; None where their scales differ."""
    if one is None or other is None or one.scale != other.scale:
        return None
    return Nominal(one.scale, min(one.low, other.low), max(one.high, other.high))
