"""Which positions of every map a span of a layer depends on, one axis at a time."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

from rot180.graph.box import Span
from rot180.graph.operators.operator import IDENTITY_FIELD, InteriorField
from rot180.graph.steps import Step


class AxisStep(NamedTuple):
    """One step along one axis.

    Attributes:
        out: the span of its output.
        needs: the span that it needs of each input, cut to the input.
        padding: by how much it reaches beyond the edges of each input, (before, after).
    """

    out: Span
    needs: tuple[Span, ...]
    padding: tuple[tuple[int, int], ...]


class SpanTrace(NamedTuple):
    """All steps along one axis, from a span of one of them down to the image.

    Attributes:
        axis_steps: the spans of each step, by the step's index.
        starts: where the span of each step's output begins; that of the image is at -1.
        sizes: sizes of these spans.
        key: equal for traces that differ only in their starts.
    """

    axis_steps: Mapping[int, AxisStep]
    starts: Mapping[int, int]
    sizes: Mapping[int, int]
    key: Hashable


def trace_spans(
    steps: Sequence[Step],
    axis_size: Callable[[int], int],
    indices: Sequence[int],
    wanted: Mapping[int, Span],
    axis: int,
) -> SpanTrace:
    """Follow spans along an axis down to the image.

    Where several steps need the output of one, its span is the smallest around all their needs.

    Args:
        steps: all steps of the network.
        axis_size: gives the size of a step's output along the axis; -1 stands for the image.
        indices: the steps to go through, in order.
        wanted: the spans that are wanted of some steps' outputs.
        axis: rows or columns.
    """
    spans: dict[int, Span] = dict(wanted)
    axis_steps: dict[int, AxisStep] = {}
    for index in reversed(indices):
        operator, inputs = steps[index].operator, steps[index].inputs
        span = spans.get(index, Span(0, 0))
        if span.size and not operator.local:
            span = Span(0, axis_size(index))
        spans[index] = span
        sizes = tuple(axis_size(source) for source in inputs)
        unclipped = (
            operator.input_span(axis, span, sizes) if span.size else (Span(0, 0),) * len(inputs)
        )
        needs = tuple(need.clipped(size) for need, size in zip(unclipped, sizes, strict=True))
        padding = tuple(map(_padding, unclipped, needs))
        for source, need in zip(inputs, needs, strict=True):
            spans[source] = spans[source].joined(need) if source in spans else need
        axis_steps[index] = AxisStep(span, needs, padding)
    key = tuple(
        (
            index,
            axis_step.out.size,
            steps[index].operator.alignment(axis, axis_step.out) if axis_step.out.size else None,
            tuple(
                (need.size, need.start - spans[source].start if need.size else 0, padding)
                for source, need, padding in zip(
                    steps[index].inputs, axis_step.needs, axis_step.padding, strict=True
                )
            ),
        )
        for index, axis_step in axis_steps.items()
    )
    starts = {index: span.start for index, span in spans.items()}
    sizes_of_spans = {index: span.size for index, span in spans.items()}
    return SpanTrace(axis_steps, starts, sizes_of_spans, key)


def _padding(unclipped: Span, need: Span) -> tuple[int, int]:
    """Return by how much a span exceeds the input, before and after what lies inside it."""
    if not need.size:
        return unclipped.size, 0
    return need.start - unclipped.start, unclipped.stop - need.stop


def interior_fields(steps: Sequence[Step], axis: int) -> list[InteriorField | None]:
    """Return which part of the image each step sees along an axis, far from every border.

    A step has no such field, None, if its units depend on the whole image: because it or a step
    below it needs whole maps, or because two branches of different scales meet there.

    Returns:
        One entry a step, in order, and at the end that of the image, whose index is -1.
    """
    fields: list[InteriorField | None] = [None] * len(steps) + [IDENTITY_FIELD]
    for index, step in enumerate(steps):
        own = step.operator.interior_field(axis)
        branches = [_composed(own, fields[source]) for source in step.inputs]
        fields[index] = reduce(_joined, branches) if branches else None
    return fields


def _composed(own: InteriorField | None, below: InteriorField | None) -> InteriorField | None:
    """Return the field of a step on the image, given its own and that of its input."""
    if own is None or below is None:
        return None
    return InteriorField(
        own.scale * below.scale,
        own.low * below.scale + below.low,
        (own.high - 1) * below.scale + below.high,
    )


def _joined(first: InteriorField | None, second: InteriorField | None) -> InteriorField | None:
    """Return the smallest field around both; None where their scales differ."""
    if first is None or second is None or first.scale != second.scale:
        return None
    return InteriorField(first.scale, min(first.low, second.low), max(first.high, second.high))
