"""Plans: which steps a region of a map needs, and which region of its own maps each computes.

A plan is made once and holds for every unit with the same geometry relative to the border.
"""

from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rot180.graph.box import Box, Span
from rot180.graph.operators.operator import Axes, Operator, Padding, Region, Saved
from rot180.graph.span_trace import AxisStep, SpanTrace
from rot180.graph.steps import Step

Crop = tuple[Any, ...]
"""An index that takes a box out of a tensor."""


class PlannedStep(NamedTuple):
    """One step of a plan.

    Attributes:
        step_index: index of the step in the network.
        operator: what it computes.
        region: the region of its maps that is computed.
        sources: indices of the steps whose outputs it takes; -1 for the image.
        crops: for each input, the part of its source's region that is taken; None for all of it.
        releases: indices of the steps whose outputs no later step needs.
        empty: whether the region is empty, so that there is nothing to compute.
        padding_only: whether it sees nothing but padding.
        needs_saved: whether its backward pass needs anything of the forward pass.
    """

    step_index: int
    operator: Operator
    region: Region
    sources: tuple[int, ...]
    crops: tuple[Crop | None, ...]
    releases: tuple[int, ...]
    empty: bool
    padding_only: bool
    needs_saved: bool


class Plan:
    """The forward and the backward pass between the image and one step, on regions of maps.

    A plan is shared by all units whose receptive fields have the same shapes and the same geometry
    relative to the border.

    Args:
        steps: all steps of the network.
        indices: which of them belong to the plan, in order.
        target: see below.
        rows, columns: the region of each step's maps.
        method: the method of the backward pass; None for any.
        keep: indices of steps whose outputs are kept in addition to what the backward pass needs.
        for_backward: whether a backward pass will follow.

    Attributes:
        steps: the planned steps in order.
        target: index of the step where the forward pass ends and the backward pass begins; -1 for
            the image itself.
        saved: indices of the steps whose outputs outlive the forward pass.
        macs: about how many products the forward pass of one image sums.
        largest: number of values in the largest region.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        indices: Sequence[int],
        target: int,
        rows: SpanTrace,
        columns: SpanTrace,
        method: str | None,
        keep: frozenset[int] = frozenset(),
        for_backward: bool = True,
    ) -> None:
        self.target, self._rows, self._columns = target, rows, columns
        self._network_steps = steps
        uses: dict[int, list[int]] = {}
        for index in indices:
            for source in steps[index].inputs:
                uses.setdefault(source, []).append(index)
        needed = _needed_outputs(steps, indices, method) if for_backward else set()
        self.saved = frozenset(keep | {target, -1} | needed)
        planned = []
        for index in indices:
            inputs, operator = steps[index].inputs, steps[index].operator
            region = self._region(index)
            releases = tuple(
                source
                for source in dict.fromkeys(inputs)
                if uses[source][-1] == index and source not in self.saved
            )
            crops = tuple(
                self._crop(source, need) for source, need in zip(inputs, region.needs, strict=True)
            )
            overwrite_input = (
                bool(inputs)
                and inputs[0] in releases
                and inputs[0] >= 0
                and len(uses[inputs[0]]) == 1
                and crops[0] is None
                and steps[inputs[0]].operator.allocates_output
            )
            users = uses.get(index, [])
            overwrite_signal = not users or (
                len(users) == 1 and steps[users[0]].operator.allocates_signal
            )
            planned.append(
                PlannedStep(
                    index,
                    operator,
                    region._replace(
                        may_overwrite_input=overwrite_input, may_overwrite_signal=overwrite_signal
                    ),
                    inputs,
                    crops,
                    releases,
                    not (region.out.height and region.out.width),
                    not any(need.height and need.width for need in region.needs),
                    operator.switches or any(operator.backward_needs(method)),
                )
            )
        self.steps = tuple(planned)
        self.macs = sum(step.operator.macs(step.region) for step in planned)

    def _region(self, index: int) -> Region:
        return region_of(self._rows.axis_steps[index], self._columns.axis_steps[index])

    def _crop(self, source: int, need: Box) -> Crop | None:
        """Return the part of a source's region that a step takes; None for all of it."""
        axes = self.axes(source)
        if axes is None:
            return None
        height, width = self.size(source)
        if (need.height, need.width) == (height, width):
            return None
        top, left = need.top - self._rows.starts[source], need.left - self._columns.starts[source]
        if not (need.height and need.width):
            top = left = 0
        return crop_index(axes, Span(top, top + need.height), Span(left, left + need.width))

    def name(self, step: PlannedStep) -> str:
        """Return the name of a step and of the module that it is in, for messages."""
        found = self._network_steps[step.step_index]
        return f"{found.name} ({found.operator.kind}{f' in {found.path}' if found.path else ''})"

    def axes(self, index: int) -> Axes | None:
        """Return which axes of a step's output are rows and columns; -1 stands for the image."""
        return (-2, -1) if index < 0 else self._network_steps[index].axes

    def size(self, index: int) -> tuple[int, int]:
        """Return the number of rows and columns of a step's region."""
        return self._rows.sizes[index], self._columns.sizes[index]

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of a step's output on its region, for one image."""
        shape, axes = list(self._network_steps[index].shape), self._network_steps[index].axes
        if axes is not None:
            shape[axes[0]], shape[axes[1]] = self.size(index)
        return tuple(shape)

    @cached_property
    def largest(self) -> int:
        """Number of values in the largest region, for one image."""
        return max((prod(self.shape(step.step_index)) for step in self.steps), default=0)

    def run(self, patches: Tensor) -> tuple[dict[int, Any], dict[int, Tensor]]:
        """Run the forward pass on patches (n, c, h, w) of images.

        Returns:
            The outputs that are saved, by the index of their step (-1: the patches), and the
            switches of the max poolings.
        """
        outputs: dict[int, Any] = {-1: patches}
        switches: dict[int, Tensor] = {}
        for step in self.steps:
            self.run_step(step, outputs, switches)
            for source in step.releases:
                outputs.pop(source, None)
        return outputs, switches

    def run_step(
        self, step: PlannedStep, outputs: dict[int, Any], switches: dict[int, Tensor]
    ) -> None:
        """Run one step: add its output to the outputs, and its switches, if it has any."""
        if step.empty:
            n = len(outputs[-1])
            outputs[step.step_index] = outputs[-1].new_zeros(n, *self.shape(step.step_index))
            return
        outputs[step.step_index], new_switches = step.operator.forward(
            self.inputs(step, outputs), step.region
        )
        if new_switches is not None:
            switches[step.step_index] = new_switches

    def inputs(self, step: PlannedStep, outputs: dict[int, Any]) -> tuple[Any, ...]:
        """Return what a step takes of the outputs of earlier steps."""
        return tuple(
            outputs[source] if crop is None else outputs[source][crop]
            for source, crop in zip(step.sources, step.crops, strict=True)
        )

    def saved_for(
        self,
        step: PlannedStep,
        method: str,
        outputs: dict[int, Any],
        switches: dict[int, Tensor],
    ) -> Saved:
        """Return the tensors that a step's backward pass needs, from the results of :meth:`run`."""
        needs = step.operator.backward_needs(method)
        inputs = self.inputs(step, outputs) if needs.inputs else ()
        output = outputs[step.step_index] if needs.output else None
        return Saved(inputs, output, switches.get(step.step_index))

    def scatter(self, signal: Tensor, source: int, crop: Crop) -> Tensor:
        """Return a signal at its place in the region of a source, with zeros around it."""
        axes = self.axes(source)
        assert axes is not None
        shape = list(signal.shape)
        shape[axes[0]], shape[axes[1]] = self.size(source)
        scattered = signal.new_zeros(shape)
        scattered[crop] = signal
        return scattered


def _needed_outputs(steps: Sequence[Step], indices: Sequence[int], method: str | None) -> set[int]:
    """Return the indices of the steps whose outputs the backward pass needs."""
    needed: set[int] = set()
    for index in indices:
        needs = steps[index].operator.backward_needs(method)
        if needs.inputs:
            needed.update(steps[index].inputs)
        if needs.output:
            needed.add(index)
    return needed


def region_of(row: AxisStep, column: AxisStep) -> Region:
    """Return the region of a step, given its spans along both axes."""
    needs = tuple(map(Box.of, row.needs, column.needs))
    padding = tuple(
        Padding(above[0], beside[0], above[1], beside[1])
        for above, beside in zip(row.padding, column.padding, strict=True)
    )
    return Region(Box.of(row.out, column.out), needs, padding)


def crop_index(axes: Axes, rows: Span, columns: Span) -> Crop:
    """Return the index that takes rows and columns out of a tensor."""
    index: list[Any] = [slice(None)] * -min(axes)
    index[axes[0]] = slice(rows.start, rows.stop)
    index[axes[1]] = slice(columns.start, columns.stop)
    return (Ellipsis, *index)


def to_fast_layout(images: Tensor) -> Tensor:
    """Return images in the memory layout in which convolutions are fastest on their device."""
    if images.device.type == "cpu":
        return images.contiguous(memory_format=torch.channels_last)
    return images
