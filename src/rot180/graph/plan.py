"""A plan: the steps that a part of a layer needs, each with the part of its maps, made once."""

from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rot180.graph.box import Box, Span
from rot180.graph.operators.operator import Axes, Kept, Margins, Operator, Part
from rot180.graph.span_trace import Trace
from rot180.graph.steps import Step

Cut = tuple[Any, ...]
"""An index that takes a box out of a tensor."""


class Work(NamedTuple):
    """One step of a plan.

    Attributes:
        place: of the step in the network.
        operator: what it does.
        part: on which part of its maps.
        sources: the places of its inputs.
        cuts: for each input what to take of the part that its own step gives; None: all of it.
        frees: the values that nothing needs any more after this step.
        empty: whether the part is empty, so that there is nothing to do.
        blind: whether it looks at nothing but padding.
        looks: whether its way back looks at anything that the forward pass leaves.
    """

    place: int
    operator: Operator
    part: Part
    sources: tuple[int, ...]
    cuts: tuple[Cut | None, ...]
    frees: tuple[int, ...]
    empty: bool
    blind: bool
    looks: bool


class Plan:
    """The forward pass and the way back between the image and one step, on parts of maps.

    It holds for every unit whose receptive field has the same shapes and lies in the same way at
    the border.

    Args:
        steps, places: the steps of the network, and which of them, in order.
        target: see below.
        rows, columns: the part of each step's maps.
        method: of the way back; None: any.
        held: places whose values are kept besides what the way back looks at.
        keeps: whether there is a way back.

    Attributes:
        works: the steps in order.
        target: the place where the forward pass ends and the way back begins; -1: the image itself.
        multiply_adds: of the forward pass, for one image.
        largest: number of values in the largest part.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        places: Sequence[int],
        target: int,
        rows: Trace,
        columns: Trace,
        method: str | None,
        held: frozenset[int] = frozenset(),
        keeps: bool = True,
    ) -> None:
        self.target, self._rows, self._columns = target, rows, columns
        self._steps = steps
        uses: dict[int, list[int]] = {}
        for place in places:
            for source in steps[place].inputs:
                uses.setdefault(source, []).append(place)
        looked_at = _looked_at(steps, places, method) if keeps else set()
        self.kept = frozenset(held | {target, -1} | looked_at)
        works = []
        for place in places:
            inputs = steps[place].inputs
            part = self._part(place)
            frees = tuple(
                one
                for one in dict.fromkeys(inputs)
                if uses[one][-1] == place and one not in self.kept
            )
            cuts = tuple(
                self._cut(source, need) for source, need in zip(inputs, part.needs, strict=True)
            )
            spare = (
                bool(inputs)
                and inputs[0] in frees
                and inputs[0] >= 0
                and len(uses[inputs[0]]) == 1
                and cuts[0] is None
                and steps[inputs[0]].operator.fresh
            )
            above = uses.get(place, [])
            spare_signal = not above or (len(above) == 1 and steps[above[0]].operator.fresh_back)
            empty = not (part.out.height and part.out.width)
            works.append(
                Work(
                    place,
                    steps[place].operator,
                    part._replace(spare=spare, spare_signal=spare_signal),
                    inputs,
                    cuts,
                    frees,
                    empty,
                    not any(need.height and need.width for need in part.needs),
                    steps[place].operator.switches or any(steps[place].operator.looks_at(method)),
                )
            )
        self.works = tuple(works)
        self.multiply_adds = sum(one.operator.multiply_adds(one.part) for one in works)

    def _part(self, place: int) -> Part:
        row, column = self._rows.lines[place], self._columns.lines[place]
        needs = tuple(map(Box.of, row.needs, column.needs))
        margins = tuple(
            Margins(one[0], other[0], one[1], other[1])
            for one, other in zip(row.margins, column.margins, strict=True)
        )
        return Part(Box.of(row.out, column.out), needs, margins)

    def _cut(self, source: int, need: Box) -> Cut | None:
        """Return what a step takes of the part that its source gives."""
        axes = self.axes(source)
        if axes is None:
            return None
        height, width = self.size(source)
        if (need.height, need.width) == (height, width):
            return None
        top, left = need.top - self._rows.starts[source], need.left - self._columns.starts[source]
        if not (need.height and need.width):
            top = left = 0
        return cut_of(axes, Span(top, top + need.height), Span(left, left + need.width))

    def name(self, work: Work) -> str:
        """Return the name of a step, with the module that it is in, for messages."""
        step = self._steps[work.place]
        return f"{step.name} ({step.operator.kind}{f' in {step.path}' if step.path else ''})"

    def axes(self, place: int) -> Axes | None:
        """Return which axes of a value are rows and columns."""
        return (-2, -1) if place < 0 else self._steps[place].axes

    def size(self, place: int) -> tuple[int, int]:
        """Return rows and columns of the part of a value."""
        return self._rows.sizes[place], self._columns.sizes[place]

    def shape(self, place: int) -> tuple[int, ...]:
        """Return the shape of the part of a step's output for one image."""
        shape, axes = list(self._steps[place].shape), self._steps[place].axes
        if axes is not None:
            shape[axes[0]], shape[axes[1]] = self.size(place)
        return tuple(shape)

    @cached_property
    def largest(self) -> int:
        """Number of values in the largest part, for one image."""
        return max((prod(self.shape(one.place)) for one in self.works), default=0)

    def run(self, patches: Tensor) -> tuple[dict[int, Any], dict[int, Tensor]]:
        """Run the forward pass on the boxes of the image (n, c, h, w).

        Returns the values that are kept, by place, and the switches of the max poolings.
        """
        values: dict[int, Any] = {-1: patches}
        switches: dict[int, Tensor] = {}
        for work in self.works:
            self.do(work, values, switches)
            for source in work.frees:
                values.pop(source, None)
        return values, switches

    def do(self, work: Work, values: dict[int, Any], switches: dict[int, Tensor]) -> None:
        """Run one step."""
        if work.empty:
            n = len(values[-1])
            values[work.place] = values[-1].new_zeros(n, *self.shape(work.place))
            return
        values[work.place], won = work.operator.forward(self.inputs(work, values), work.part)
        if won is not None:
            switches[work.place] = won

    def inputs(self, work: Work, values: dict[int, Any]) -> tuple[Any, ...]:
        """Return what a step takes of the values."""
        return tuple(
            values[source] if cut is None else values[source][cut]
            for source, cut in zip(work.sources, work.cuts, strict=True)
        )

    def kept_of(
        self, work: Work, method: str, values: dict[int, Any], switches: dict[int, Tensor]
    ) -> Kept:
        """Return what the way back through a step looks at, from the values of :meth:`run`."""
        looks = work.operator.looks_at(method)
        inputs = self.inputs(work, values) if looks.inputs else ()
        output = values[work.place] if looks.output else None
        return Kept(inputs, output, switches.get(work.place))

    def spread(self, signal: Tensor, source: int, cut: Cut) -> Tensor:
        """Lay a signal on what was cut out of the part of a source, zeros around it."""
        axes = self.axes(source)
        assert axes is not None
        shape = list(signal.shape)
        shape[axes[0]], shape[axes[1]] = self.size(source)
        laid = signal.new_zeros(shape)
        laid[cut] = signal
        return laid


def _looked_at(steps: Sequence[Step], places: Sequence[int], method: str | None) -> set[int]:
    """Return the places whose values the way back looks at."""
    found: set[int] = set()
    for place in places:
        looks = steps[place].operator.looks_at(method)
        if looks.inputs:
            found.update(steps[place].inputs)
        if looks.output:
            found.add(place)
    return found


def cut_of(axes: Axes, rows: Span, columns: Span) -> Cut:
    """Return the index that takes rows and columns out of a tensor."""
    index: list[Any] = [slice(None)] * -min(axes)
    index[axes[0]] = slice(rows.start, rows.stop)
    index[axes[1]] = slice(columns.start, columns.stop)
    return (Ellipsis, *index)


def laid_out_for_speed(images: Tensor) -> Tensor:
    """Return images in the memory layout that convolutions are fastest in on their device."""
    if images.device.type == "cpu":
        return images.contiguous(memory_format=torch.channels_last)
    return images
