"""A captured network: its steps in order, its layers by name, and plans for regions of them."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from rot180.errors import Rot180Error, as_int, suggest
from rot180.graph.box import COLUMNS, ROWS, Box, Span
from rot180.graph.operators.convolution import LayerOperator
from rot180.graph.operators.operator import MAPS, Axes, InteriorField, Region
from rot180.graph.plan import Crop, Plan
from rot180.graph.span_trace import SpanTrace, interior_fields, trace_spans
from rot180.graph.steps import Ancestors, Step

Cached = TypeVar("Cached")

PREPARE = "how images are prepared"
"""The key in ``Network.measured`` of the function that turns 8-bit images into the network's input,
where one is known."""

_CACHE_SIZE = 20_000
"""Entries in the cache of plans: 25 kB for a plan, 2 kB for each unit."""


@dataclass(frozen=True)
class Layer:
    """A convolution with the normalisation and the rectifier that directly follow it.

    A fully connected layer is a layer, too. Its maps have one row and one column, unless it acts on
    each position of a map.

    Attributes:
        name: path of the module in the user's model.
        kind: "convolution", "depthwise convolution", "linear", ...
        channels, height, width: shape of its feature maps.
        receptive_field: (height, width) of the receptive field of a unit far from the border, in
            pixels, at most the image; the whole image where units depend on whole maps.
        stride: (vertical, horizontal) distance between the receptive fields of neighbouring units,
            in pixels; 0 where units depend on whole maps.
        rectifier: name of the rectifier ("ReLU", "GELU", ...); "" where there is none.
        weight_step: index of the step that is the convolution.
        output_step: index of the step whose output the feature maps are.
        axes: which axes of that output are rows and columns; None for a vector.
        saturates: whether the rectifier has an upper limit, as ReLU6 does.
    """

    name: str
    kind: str
    channels: int
    height: int
    width: int
    receptive_field: tuple[int, int]
    stride: tuple[float | int, float | int]
    rectifier: str
    weight_step: int
    output_step: int
    axes: Axes | None = MAPS
    saturates: bool = False

    @property
    def ranking_step(self) -> int:
        """Index of the step whose output ranks units by strength.

        It is the output step, unless the rectifier has an upper limit: then it is the convolution,
        since activations at the limit are all equal.
        """
        return self.weight_step if self.saturates else self.output_step

    @property
    def rectified(self) -> bool:
        """Whether the layer ends with a rectifier of any kind."""
        return bool(self.rectifier)

    def as_maps(self, value: Tensor) -> Float[Tensor, "n c h w"]:
        """Return the output of the layer's step as maps (n, c, h, w)."""
        if self.axes is None:
            return value.reshape(*value.shape[:2], 1, 1)
        return value if self.axes == MAPS else value.movedim(-1, 1)


class UnitPlan(NamedTuple):
    """The plan of one unit, or of the whole maps, of a layer.

    Attributes:
        layer: the layer.
        plan: the plan of the steps below the layer's convolution.
        region: the region of the convolution itself.
        crop: what the convolution takes of its input's region; None for all of it.
        row_starts, column_starts: where the region of each step begins, by the step's index; that
            of the image is at -1.
    """

    layer: Layer
    plan: Plan
    region: Region
    crop: Crop | None
    row_starts: dict[int, int]
    column_starts: dict[int, int]

    @property
    def box(self) -> Box:
        """The pixels of the image that the unit depends on: its receptive field."""
        height, width = self.plan.size(-1)
        top, left = self.row_starts[-1], self.column_starts[-1]
        return Box(top, left, top + height, left + width)


@dataclass(frozen=True, eq=False)
class Network:
    """A PyTorch model captured for projection, as :func:`rot180.capture` returns it.

    It holds copies of the weights that the model had when it was captured. What happens to the
    model afterwards changes nothing here: after training, capture the model again.

    Attributes:
        steps: its operators in order.
        outputs: indices of the steps that give those of the model's outputs which depend on the
            image.
        layers: its layers by name.
        input_shape: (channels, height, width) of an image.
        dtype, device: of its weights.
        error: the largest difference from the model's own output when it was captured, relative
            to the largest value.
        notes: remarks on the capture, in sentences.
        output_numbers: which of the model's output tensors ``outputs`` are.
        measured: what was measured later and is stored with the network; see
            ``rot180.projection.automatic``.
    """

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    layers: Mapping[str, Layer]
    input_shape: tuple[int, int, int]
    dtype: torch.dtype
    device: torch.device
    error: float = 0.0
    notes: tuple[str, ...] = ()
    output_numbers: tuple[int, ...] = (0,)
    measured: dict[Any, Any] = field(default_factory=dict, repr=False)
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        head = "Network(input {}x{}x{}, {} steps)".format(*self.input_shape, len(self.steps))
        rows = [
            f"  {layer.name}: {layer.channels} features of {layer.height}x{layer.width}, receptive "
            f"field {layer.receptive_field[0]}x{layer.receptive_field[1]}, stride {layer.stride[0]}"
            for layer in self.layers.values()
        ]
        return "\n".join([head, *rows])

    def layer(self, name: Any) -> Layer:
        """Return the layer of this name.

        Raises:
            Rot180Error: there is no such layer; the message lists the layers, similar names first.
        """
        if not isinstance(name, str):
            raise Rot180Error(f"A layer is named by a string, as net.layers does; not by {name!r}.")
        if name not in self.layers:
            raise Rot180Error(
                f"There is no layer '{name}' in this network. It has: {suggest(self.layers, name)}."
            )
        return self.layers[name]

    def check_channel(self, layer: Layer, channel: Any) -> int:
        """Return the number of a feature as an int.

        Raises:
            Rot180Error: it is no whole number, or the layer has no such feature.
        """
        number = as_int(channel, "The number of a feature")
        if not 0 <= number < layer.channels:
            raise Rot180Error(
                f"Layer '{layer.name}' has no feature {number}: it has {layer.channels} features, "
                f"0 to {layer.channels - 1}."
            )
        return number

    def batch(self, images: Any, finite: bool = True) -> Float[Tensor, "n c h w"]:
        """Return images as a batch on the network's device and in its precision.

        Args:
            images: a normalised image (c, h, w), or a batch (n, c, h, w).
            finite: whether to check that all values are finite.

        Raises:
            Rot180Error: they are not normalised floating-point images of the captured size.
        """
        if not isinstance(images, Tensor):
            raise Rot180Error(f"The image has to be a torch.Tensor, not {type(images).__name__}.")
        if not images.is_floating_point():
            raise Rot180Error(
                f"The image holds {images.dtype} values; the network takes normalised "
                "floating-point values: subtract the mean and divide by the standard deviation "
                "that it was trained with."
            )
        batch = images if images.ndim == 4 else images[None]
        if batch.ndim != 4 or tuple(batch.shape[1:]) != self.input_shape:
            raise Rot180Error(
                f"The image has shape {tuple(images.shape)}; this network was captured for "
                f"(channels, height, width) = {self.input_shape}, or a batch of such images."
            )
        if finite:
            check_finite(batch)
        return batch.to(self.device, self.dtype)

    def ancestors(self, *targets: int) -> list[int]:
        """Return, in order, the indices of the steps that some depend on, these included."""
        return self._ancestors.of(targets)

    @cached_property
    def score_layer(self) -> Layer | None:
        """The layer that gives the first output, as scores of classes; None if no layer does."""
        below = set(self.ancestors(self.outputs[0])) if self.outputs else set()
        layers = [layer for layer in self.layers.values() if layer.weight_step in below]
        return layers[-1] if layers else None

    @cached_property
    def _ancestors(self) -> Ancestors:
        return Ancestors(self.steps)

    def axis_size(self, index: int, axis: int) -> int:
        """Return how many rows or columns a step's output has; 1 where it has none."""
        if index < 0:
            return self.input_shape[1 + axis]
        step = self.steps[index]
        return 1 if step.axes is None else step.shape[step.axes[axis]]

    def axes_of(self, index: int) -> Axes | None:
        """Return which axes of a step's output are rows and columns; None where it has none."""
        return MAPS if index < 0 else self.steps[index].axes

    def trace_spans(
        self, indices: list[int], wanted: Mapping[int, tuple[Span, Span]]
    ) -> tuple[SpanTrace, SpanTrace]:
        """Follow spans of rows and columns down to the image; see ``span_trace.trace_spans``."""
        return (
            self._trace(indices, {index: spans[ROWS] for index, spans in wanted.items()}, ROWS),
            self._trace(
                indices, {index: spans[COLUMNS] for index, spans in wanted.items()}, COLUMNS
            ),
        )

    def _trace(self, indices: list[int], wanted: Mapping[int, Span], axis: int) -> SpanTrace:
        return trace_spans(
            self.steps, lambda index: self.axis_size(index, axis), indices, wanted, axis
        )

    def full_plan(self, method: str | None, keep: frozenset[int] | None) -> Plan:
        """Return the plan of all steps on whole maps.

        Args:
            method: the method of the backward pass; None for any.
            keep: indices of steps whose outputs are kept in addition to what the backward pass
                needs; None for those of all layers.
        """
        if keep is None:
            keep = frozenset(layer.output_step for layer in self.layers.values())
        keep |= {layer.ranking_step for layer in self.layers.values() if layer.output_step in keep}
        key = ("full", method, keep)
        if key not in self._cache:
            layer_steps = (layer.output_step for layer in self.layers.values())
            indices = self.ancestors(*sorted({*self.outputs, *layer_steps, *keep}))
            wanted = {index: self._all_of(index) for index in [-1, *indices]}
            rows, columns = self.trace_spans(indices, wanted)
            self._cache[key] = Plan(
                self.steps, indices, self.outputs[0], rows, columns, method, keep
            )
        plan: Plan = self._cache[key]
        return plan

    def forward_plan(self, *targets: int) -> Plan:
        """Return the plan of whole maps up to some steps, with no backward pass."""
        indices = self.ancestors(*targets)
        wanted = {index: self._all_of(index) for index in [-1, *indices]}
        rows, columns = self.trace_spans(indices, wanted)
        return Plan(self.steps, indices, max(targets), rows, columns, None, for_backward=False)

    @cached_property
    def step_macs(self) -> tuple[int, ...]:
        """About how many products each step sums on the whole maps of one image, by its index."""
        counts = [0] * len(self.steps)
        for step in self.full_plan("deconvnet", frozenset()).steps:
            counts[step.step_index] = step.operator.macs(step.region)
        return tuple(counts)

    def macs(self, layer: Layer) -> int:
        """Return about how many products the forward pass of one image up to a layer sums."""
        return sum(self.step_macs[index] for index in self.ancestors(layer.weight_step))

    def _all_of(self, index: int) -> tuple[Span, Span]:
        return Span(0, self.axis_size(index, ROWS)), Span(0, self.axis_size(index, COLUMNS))

    def unit_plan(self, layer: Layer, position: tuple[int, int] | None, method: str) -> UnitPlan:
        """Return the plan of the unit at a position of a layer, or (None) of its whole maps.

        Units with the same geometry relative to the border share a plan.
        """
        key = ("unit", layer.weight_step, position, method)
        cached: UnitPlan | None = self._cache.get(key)
        if cached is not None:
            return cached
        spans = self._all_of(layer.weight_step)
        if position is not None and layer.axes is not None:
            spans = tuple(Span(at, at + 1) for at in position)  # type: ignore[assignment]
        rows = self._layer_trace(layer, ROWS, spans[ROWS])
        columns = self._layer_trace(layer, COLUMNS, spans[COLUMNS])
        shared_key = ("plan", layer.weight_step, rows.key, columns.key, method)
        shared: tuple[Plan, Region, Crop | None] | None = self._cache.get(shared_key)
        if shared is None:
            weight_step = layer.weight_step
            (source,) = self.steps[weight_step].inputs
            below = [index for index in self.ancestors(weight_step) if index != weight_step]
            plan = Plan(self.steps, below, source, rows, columns, method)
            top = Plan(self.steps, [weight_step], weight_step, rows, columns, method).steps[0]
            shared = plan, top.region, top.crops[0]
            self._remember(shared_key, shared)
        unit_plan = UnitPlan(layer, *shared, dict(rows.starts), dict(columns.starts))
        return self._remember(key, unit_plan)

    def _layer_trace(self, layer: Layer, axis: int, span: Span) -> SpanTrace:
        key = ("trace", layer.weight_step, axis, span)
        cached: SpanTrace | None = self._cache.get(key)
        if cached is None:
            indices = self.ancestors(layer.weight_step)
            trace = self._trace(indices, {layer.weight_step: span}, axis)
            cached = self._remember(key, trace)
        return cached

    def _remember(self, key: Any, value: Cached) -> Cached:
        """Cache what was made for a unit; drop the oldest entry of a full cache."""
        self._cache[key] = value
        if len(self._cache) > _CACHE_SIZE:
            with suppress(KeyError, RuntimeError):  # another thread was here at the same time
                del self._cache[next(iter(self._cache))]
        return value

    def receptive_field(self, layer: Layer, position: tuple[int, int]) -> Box:
        """Return the box of pixels that the unit (y, x) of a layer can see, cut to the image."""
        traces = [
            self._layer_trace(layer, axis, Span(at, at + 1) if layer.axes else Span(0, 1))
            for axis, at in enumerate(position)
        ]
        return Box.of(
            *(Span(trace.starts[-1], trace.starts[-1] + trace.sizes[-1]) for trace in traces)
        )

    def interior_field(self, index: int) -> tuple[tuple[int, int], tuple[float, float]]:
        """Return size and stride of a step's receptive fields far from every border.

        Where positions depend on whole maps, that is the whole image, with stride 0.
        """
        sizes, strides = [], []
        for axis in (ROWS, COLUMNS):
            interior = self._interior_fields[axis][index]
            image = self.axis_size(-1, axis)
            size = image if interior is None else int(interior.high - interior.low)
            stride: Any = 0 if interior is None else interior.scale
            sizes.append(min(size, image))
            strides.append(int(stride) if stride == int(stride) else float(stride))
        return (sizes[0], sizes[1]), (strides[0], strides[1])

    @cached_property
    def _interior_fields(self) -> tuple[list[InteriorField | None], list[InteriorField | None]]:
        return interior_fields(self.steps, ROWS), interior_fields(self.steps, COLUMNS)

    def operator(self, layer: Layer) -> LayerOperator:
        """Return the convolution or the fully connected operator of a layer."""
        operator = self.steps[layer.weight_step].operator
        assert isinstance(operator, LayerOperator)
        return operator


def check_finite(images: Tensor) -> None:
    """Refuse images with values that are infinite or not numbers.

    Raises:
        Rot180Error: they have such values.
    """
    if not isfinite(float(images.sum())) and not torch.isfinite(images).all():
        raise Rot180Error("The image holds values that are infinite or not numbers (NaN).")
