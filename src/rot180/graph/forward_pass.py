"""The forward pass of whole images, which keeps what backward passes need."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rot180.errors import Rot180Error
from rot180.graph.box import Span
from rot180.graph.network import Layer, Network
from rot180.graph.operators.operator import Saved
from rot180.graph.plan import Plan, PlannedStep, crop_index, to_fast_layout
from rot180.graph.steps import not_finite

UnitStarts = Sequence[tuple[dict[int, int], dict[int, int]]]
"""For each unit, where the region of each step begins: (rows, columns), by the step's index."""


class ForwardPass:
    """The forward pass of images, which :func:`rot180.open_image` returns.

    It runs as far as the layers that are asked for, and goes on from there when a later layer is
    asked for. It keeps the feature maps of all layers and what backward passes need (activations,
    switches).

    Args:
        network: the network.
        images: normalised images (n, c, h, w) on its device; they are not changed.
        method: keep only what the backward pass of this method needs; None for any method.
        keep: indices of steps whose outputs are kept in addition; None for those of all layers.
    """

    def __init__(
        self,
        network: Network,
        images: Float[Tensor, "n c h w"],
        method: str | None = None,
        keep: frozenset[int] | None = None,
    ) -> None:
        self.network = network
        self._plan = network.full_plan(method, keep)
        self._steps = {step.step_index: step for step in self._plan.steps}
        self._uses_left = Counter(
            source for step in self._plan.steps for source in set(step.sources)
        )
        self._outputs: dict[int, Any] = {-1: to_fast_layout(images)}
        self._switches: dict[int, Tensor] = {}
        self._switch_rows: dict[int, Tensor] = {}
        self._done: set[int] = set()
        self._finite: set[int] = set()

    @property
    def images(self) -> Float[Tensor, "n c h w"]:
        """The images."""
        images: Tensor = self._outputs[-1]
        return images

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        """The memory that it holds so far, in bytes."""
        held = (*self._outputs.values(), *self._switches.values(), *self._switch_rows.values())
        sizes = {one.data_ptr(): one.nbytes for one in held if isinstance(one, Tensor)}
        return sum(sizes.values())

    @torch.no_grad()
    def output(self, index: int) -> Any:
        """Return the output of a step, after running the steps that are missing."""
        if index >= 0 and index not in self._done:
            for ancestor in self.network.ancestors(index):
                if ancestor not in self._done:
                    self._run(self._steps[ancestor])
        return self._outputs[index]

    def _run(self, step: PlannedStep) -> None:
        self._plan.run_step(step, self._outputs, self._switches)
        self._done.add(step.step_index)
        for source in set(step.sources):
            self._uses_left[source] -= 1
            if not self._uses_left[source] and source >= 0 and source not in self._plan.saved:
                self._outputs.pop(source, None)

    def maps(self, layer: Layer) -> Float[Tensor, "n c h w"]:
        """Return the feature maps of a layer.

        Raises:
            Rot180Error: they are not finite; the message names the first step where that is so.
        """
        maps = layer.as_maps(self.output(layer.output_step))
        if layer.output_step not in self._finite:
            if not torch.isfinite(maps).all():
                raise Rot180Error(explain_not_finite(self.network, self.images, layer.output_step))
            self._finite.add(layer.output_step)
        return maps

    def strengths(self, layer: Layer) -> Float[Tensor, "n c h w"]:
        """Return the values by which units of a layer are ranked: see :attr:`Layer.ranking_step`.

        Raises:
            Rot180Error: as for :meth:`maps`.
        """
        maps = self.maps(layer)
        return layer.as_maps(self.output(layer.ranking_step)) if layer.saturates else maps

    def peak(self, layer: Layer, image: int, channel: int) -> tuple[int, int]:
        """Return where a feature is strongest on an image: the first of equal ones, row by row."""
        return divmod(int(self.strengths(layer)[image, channel].argmax()), layer.width)

    def saved(
        self, plan: Plan, step: PlannedStep, method: str, images: Sequence[int], starts: UnitStarts
    ) -> Saved:
        """Return the tensors that the backward pass of one step needs, for some units.

        Args:
            plan: the plan of the units.
            step: a step of that plan.
            method: the method of the backward pass.
            images: the number of each unit's image.
            starts: where each unit's regions begin.
        """
        needs = step.operator.backward_needs(method)
        inputs: list[Any] = []
        if needs.inputs:
            for source, crop in zip(step.sources, step.crops, strict=True):
                value = self._regions(plan, self.output(source), source, images, starts)
                inputs.append(value if crop is None else value[crop])
        index = step.step_index
        output = None
        if needs.output:
            output = self._regions(plan, self.output(index), index, images, starts)
        switches = None
        if index in self._switches:
            switches = self._local_switches(plan, step, images, starts)
        return Saved(tuple(inputs), output, switches)

    def _regions(
        self, plan: Plan, value: Tensor, index: int, images: Sequence[int], starts: UnitStarts
    ) -> Tensor:
        """Return the units' regions of a step's output; one region, if all are the same."""
        if not isinstance(value, Tensor):  # of an operator with several outputs
            return value
        axes, (height, width) = plan.axes(index), plan.size(index)

        def region(unit: int) -> Tensor:
            image = value[images[unit] : images[unit] + 1]
            if axes is None or (image.shape[axes[0]], image.shape[axes[1]]) == (height, width):
                return image
            top, left = starts[unit][0][index], starts[unit][1][index]
            crop = crop_index(axes, Span(top, top + height), Span(left, left + width))
            cropped: Tensor = image[crop]
            return cropped

        first = (images[0], starts[0])
        if all((image, start) == first for image, start in zip(images, starts, strict=True)):
            return region(0)
        if list(images) == list(range(len(value))) and all(one == starts[0] for one in starts):
            whole = axes is None or (value.shape[axes[0]], value.shape[axes[1]]) == (height, width)
            if whole:
                return value
        return torch.cat([region(unit) for unit in range(len(images))])

    def _local_switches(
        self, plan: Plan, step: PlannedStep, images: Sequence[int], starts: UnitStarts
    ) -> Tensor:
        """Return switches counted from the corner of each unit's region instead of the map's."""
        index = step.step_index
        whole = self._steps[index].region.needs[0]
        need, (source,) = step.region.needs[0], step.sources
        flat = self._switches[index]
        if (whole.height, whole.width) == (need.height, need.width):
            return self._regions(plan, flat, index, images, starts)
        if index not in self._switch_rows:
            self._switch_rows[index] = flat // whole.width
        flat = self._regions(plan, flat, index, images, starts)
        y = self._regions(plan, self._switch_rows[index], index, images, starts)
        corners = []
        for rows, columns in starts[: len(flat)]:
            top, left = rows[source], columns[source]
            if step.crops[0] is not None:
                top, left = top + step.crops[0][-2].start, left + step.crops[0][-1].start
            corners.append(top * need.width + left)
        # flat = y W + x becomes (y - top) w + (x - left)
        offset: Any = corners[0]
        if len(set(corners)) > 1:
            offset = torch.tensor(corners, device=flat.device)
            offset = offset.reshape(-1, *[1] * (flat.ndim - 1))
        local: Tensor = flat - y * (whole.width - need.width) - offset
        return local


def open_image(network: Network, image: Tensor) -> ForwardPass:
    """Return the forward pass of one image, for many projections from it.

    It may stand wherever :func:`rot180.project` takes an image; a projection then costs its
    backward pass only. The forward pass goes as far as the layers that are asked for.

    Args:
        network: from :func:`rot180.capture`.
        image: a normalised image (c, h, w).

    Raises:
        Rot180Error: it is not one image of the captured size.
    """
    batch = network.batch(image)
    if len(batch) != 1:
        raise Rot180Error(f"One image is opened at a time; these are {len(batch)}.")
    return ForwardPass(network, batch.clone())


def feature_maps(
    network: Network, images: Tensor, layer: str, before_rectifier: bool = False
) -> Float[Tensor, "n c h w"]:
    """Return the feature maps of a layer, after its normalisation and its rectifier.

    Args:
        network: from :func:`rot180.capture`.
        images: a normalised image (c, h, w), or a batch (n, c, h, w).
        layer: name of the layer.
        before_rectifier: return the values that go into the layer's rectifier, if it has one.

    Raises:
        Rot180Error: the layer does not exist, or the images are not of the captured size.
    """
    named = network.layer(layer)
    keep = frozenset({named.output_step, named.weight_step})
    forward = ForwardPass(network, network.batch(images), "deconvnet", keep)
    maps = forward.maps(named)
    return named.as_maps(forward.output(named.weight_step)) if before_rectifier else maps


@torch.no_grad()
def model_outputs(network: Network, images: Tensor) -> list[Tensor]:
    """Return the model's outputs for normalised images (n, c, h, w), computed step by step.

    Raises:
        Rot180Error: the images are not of the captured size.
    """
    forward = ForwardPass(network, network.batch(images), "deconvnet", frozenset(network.outputs))
    return [forward.output(index) for index in network.outputs]


def explain_not_finite(network: Network, images: Tensor, last: int) -> str:
    """Return a sentence that names the first step, up to the last, with values not finite."""
    forward = ForwardPass(network, images, "deconvnet", frozenset())
    for index in network.ancestors(last):
        output, step = forward.output(index), network.steps[index]
        if isinstance(output, Tensor) and not torch.isfinite(output).all():
            return not_finite(step)
    return "The network gives values that are infinite or not numbers (NaN)."
