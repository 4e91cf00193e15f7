"""The forward pass that keeps nothing: whole images through the network, as fast as possible.

Two things make it faster than running the steps one after the other. A rectifier that follows a
convolution is part of the same call, where oneDNN knows it, so that each map is written once. (Such
a call turns NaN into 0, so the values are checked before it.) And where maps are large, few images
go through together, so that a map is still in the processor's cache when the next step, or whoever
receives the maps, reads it; the deeper in the network, the smaller the maps, and the more images
go through together.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rot180.errors import Rot180Error
from rot180.graph.network import Layer, Network
from rot180.graph.operators.activations import Pointwise, Rectifier
from rot180.graph.operators.convolution import Convolution, pad_input
from rot180.graph.operators.fallback import AutogradOp, UnknownOp
from rot180.graph.operators.normalisation import OwnStatisticsNorm
from rot180.graph.operators.pooling import MaxPool
from rot180.graph.plan import Plan, PlannedStep, to_fast_layout
from rot180.graph.steps import not_finite

OnMaps = Callable[[int, int, Tensor], None]
"""Called with the number of a layer in the list of layers, the number of the first image in the
batch, and the layer's maps (n, c, h, w), which are overwritten afterwards."""

_CACHED_VALUES = 2**22
"""Values in one map of all images that go through together: 16 MB, what a processor's cache
holds."""

_FUSED_RECTIFIERS: dict[str, tuple[str, list[float]]] = {
    "ReLU": ("relu", []),
    "ReLU6": ("hardtanh", [0.0, 6.0]),
}
"""Rectifier -> its name in oneDNN when it follows a convolution, with its bounds."""


_MAY_FAIL = (Pointwise, AutogradOp, OwnStatisticsNorm, UnknownOp)
"""Operators whose output may not be finite although their input is."""


class _FusedStep(NamedTuple):
    """One step, or a convolution together with the rectifier after it.

    Attributes:
        step: the step; of the two, the convolution.
        output_index: index of the step whose output it gives.
        layers: numbers of the layers whose maps it gives.
        before_limit: numbers of the layers whose values before a rectifier with an upper limit it
            gives.
        rectifier: name of the rectifier after the convolution; "" where there is none.
    """

    step: PlannedStep
    output_index: int
    layers: tuple[int, ...]
    before_limit: tuple[int, ...] = ()
    rectifier: str = ""


class _Segment(NamedTuple):
    """Consecutive steps that the same number of images goes through together.

    Attributes:
        images: how many images.
        steps: the steps.
        carries: indices of the steps whose outputs later segments need.
    """

    images: int
    steps: tuple[_FusedStep, ...]
    carries: tuple[int, ...]


class StreamingForward:
    """The steps up to some layers of a network, arranged for batches of images.

    Args:
        network: the network.
        layers: the layers whose maps are wanted.
        batch: the largest number of images in a batch.
    """

    def __init__(self, network: Network, layers: Sequence[Layer], batch: int) -> None:
        if not layers:
            raise Rot180Error("No layer is chosen.")
        self.network, self.layers, self.batch = network, tuple(layers), batch
        plan = network.forward_plan(*(layer.output_step for layer in layers))
        self._plan = plan
        self._on_processor = network.device.type == "cpu"
        self._check_weights(plan)
        steps = self._fused(plan)
        self._segments = self._segmented(steps)
        self._releases = self._released(steps)

    def _check_weights(self, plan: Plan) -> None:
        """Refuse weights that are not finite, which a rectifier in the same call would hide."""
        for step in plan.steps:
            if isinstance(step.operator, Convolution):
                kernels = step.operator.kernels
                for tensor in (kernels.weight, kernels.bias):
                    if tensor is not None and not torch.isfinite(tensor).all():
                        where = self.network.steps[step.step_index].path or "the model"
                        raise Rot180Error(
                            f"The weights of {where} hold values that are infinite or not numbers "
                            "(NaN)."
                        )

    def _fused(self, plan: Plan) -> list[_FusedStep]:
        """Return the steps, with rectifiers in the convolutions that they follow."""
        wanted: dict[int, list[int]] = {}
        before: dict[int, list[int]] = {}
        for number, layer in enumerate(self.layers):
            wanted.setdefault(layer.output_step, []).append(number)
            if layer.saturates:
                before.setdefault(layer.ranking_step, []).append(number)
        users: dict[int, list[PlannedStep]] = {}
        for step in plan.steps:
            for source in step.sources:
                users.setdefault(source, []).append(step)
        fused: list[_FusedStep] = []
        done: set[int] = set()
        for step in plan.steps:
            if step.step_index in done:
                continue
            after = users.get(step.step_index, [])
            only = after[0].operator if len(after) == 1 else None
            output_index, rectifier = step.step_index, ""
            if (
                isinstance(step.operator, Convolution)
                and step.operator.kernels.can_rectify
                and isinstance(only, Rectifier)
                and only.name in _FUSED_RECTIFIERS
                and step.step_index not in wanted
                and step.step_index not in before
                and not step.empty
            ):
                output_index, rectifier = after[0].step_index, only.name
                done.add(output_index)
            layers = tuple(wanted.get(output_index, ()))
            before_limit = tuple(before.get(output_index, ()))
            fused.append(_FusedStep(step, output_index, layers, before_limit, rectifier))
        return fused

    def _segmented(self, steps: list[_FusedStep]) -> list[_Segment]:
        """Choose how many images go through each step together: never fewer than before it."""
        images = self.batch
        counts = []
        for fused in reversed(steps):
            if self._on_processor:
                values = max(map(self._values, {fused.output_index, *fused.step.sources}))
                count = 2 ** max(0, (_CACHED_VALUES // max(values, 1)).bit_length() - 1)
                images = min(images, count)
            counts.append(images)
        counts.reverse()
        segments: list[_Segment] = []
        first = 0
        while first < len(steps):
            last = first
            while last < len(steps) and counts[last] == counts[first]:
                last += 1
            computed = {fused.output_index for fused in steps[:last]} | {-1}
            needed = {source for fused in steps[last:] for source in fused.step.sources}
            carries = tuple(sorted(computed & needed))
            segments.append(_Segment(counts[first], tuple(steps[first:last]), carries))
            first = last
        return segments

    def _values(self, index: int) -> int:
        """Return the number of values in the output of a step for one image."""
        shape = self.network.input_shape if index < 0 else self.network.steps[index].shape
        count = 1
        for size in shape:
            count *= size
        return count

    def _released(self, steps: list[_FusedStep]) -> dict[int, tuple[int, ...]]:
        """Return for each step the outputs that no step after it needs."""
        last_use: dict[int, int] = {}
        for fused in steps:
            last_use[fused.output_index] = fused.output_index
            for source in fused.step.sources:
                last_use[source] = fused.output_index
        released: dict[int, list[int]] = {}
        for index, user in last_use.items():
            released.setdefault(user, []).append(index)
        return {user: tuple(indices) for user, indices in released.items()}

    @torch.no_grad()
    def run(
        self, images: Float[Tensor, "n c h w"], on_maps: OnMaps, on_unlimited: OnMaps | None = None
    ) -> None:
        """Run a batch of normalised images, and hand over the maps of each layer.

        Args:
            images: at most ``batch`` images, on the network's device and in its precision.
            on_maps: called with each layer's maps, in the order of the steps, for some of the
                images at a time.
            on_unlimited: called likewise, and earlier, with the values before the rectifier of
                those layers whose rectifier has an upper limit.
        """
        last = len(self._segments) - 1
        self._run_segments(last, to_fast_layout(images), 0, on_maps, on_unlimited)

    def _run_segments(
        self, number: int, images: Tensor, first: int, on_maps: OnMaps, on_unlimited: OnMaps | None
    ) -> dict[int, Any]:
        """Run all segments up to one for images that begin at a position in the batch."""
        if number < 0:
            return {-1: images}
        segment = self._segments[number]
        parts = []
        for start in range(0, len(images), segment.images):
            some = images[start : start + segment.images]
            outputs = self._run_segments(number - 1, some, first + start, on_maps, on_unlimited)
            for fused in segment.steps:
                index = fused.output_index
                outputs[index] = self._run_step(fused, outputs)
                for layer in fused.before_limit:
                    if on_unlimited is None:
                        break
                    on_unlimited(layer, first + start, self.layers[layer].as_maps(outputs[index]))
                for layer in fused.layers:
                    on_maps(layer, first + start, self.layers[layer].as_maps(outputs[index]))
                for released in self._releases.get(index, ()):
                    outputs.pop(released, None)
            parts.append({index: outputs[index] for index in segment.carries})
        if len(parts) == 1:
            return parts[0]
        return {index: _joined([part[index] for part in parts]) for index in segment.carries}

    def _run_step(self, fused: _FusedStep, outputs: dict[int, Any]) -> Any:
        step = fused.step
        if step.empty:
            return outputs[step.sources[0]].new_zeros(
                len(outputs[step.sources[0]]), *self._plan.shape(step.step_index)
            )
        inputs, operator = self._plan.inputs(step, outputs), step.operator
        if fused.rectifier:
            assert isinstance(operator, Convolution)
            a, padding = pad_input(inputs[0], step.region, operator.window)
            return operator.kernels.forward_rectified(
                a, padding, *_FUSED_RECTIFIERS[fused.rectifier]
            )
        if isinstance(operator, MaxPool):
            return operator.forward_only(inputs, step.region)
        output = operator.forward(inputs, step.region)[0]
        may_fail = isinstance(operator, _MAY_FAIL) and isinstance(output, Tensor)
        if may_fail and not (torch.isfinite(output.sum()) or torch.isfinite(output).all()):
            raise Rot180Error(not_finite(self.network.steps[fused.output_index]))
        return output


def _joined(parts: list[Any]) -> Any:
    """Join the outputs for several groups of images; some operators have several outputs."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return type(parts[0])(_joined(list(several)) for several in zip(*parts, strict=True))
