"""A captured network: its steps in order, its layers by name, and the plans of their parts."""

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
from rot180.graph.operators.operator import MAPS, Axes, Nominal, Part
from rot180.graph.plan import Cut, Plan
from rot180.graph.span_trace import Trace, nominals, trace
from rot180.graph.steps import Ancestors, Step

Remembered = TypeVar("Remembered")

PREPARE = "how images are prepared"
"""Under this name ``Network.measured`` holds a function from 8-bit images to the network's input,
where one is known."""

_REMEMBERED = 20_000
"""What is made for units that may be asked for again: plans of 25 kB, and 2 kB for each unit."""


@dataclass(frozen=True)
class Layer:
    """A convolution with the normalisation and the rectifier that directly follow it.

    Fully connected layers are layers, too: of one row and one column, or, where they act on each
    position of a map, of maps.

    Attributes:
        name: path of the module in the user's model.
        kind: "convolution", "depthwise convolution", "linear", ...
        channels, height, width: of its feature maps.
        receptive_field: (height, width) of the box of pixels that a unit far from the border can
            see, no more than the image; where units depend on whole maps, the whole image.
        stride: (vertical, horizontal) how far the boxes of neighbouring units lie apart, in pixels
            of the input; 0 where units depend on whole maps.
        rectifier: name of the rectifier ("ReLU", "GELU", ...), "" where there is none.
        linear: the place of the convolution among the steps.
        step: the place whose output the feature maps are.
        axes: which axes of that output are rows and columns; None: it is a vector.
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
    linear: int
    step: int
    axes: Axes | None = MAPS
    saturates: bool = False

    @property
    def ranking(self) -> int:
        """The place whose values rank units by strength.

        It is the output, unless the rectifier has an upper limit: then it is the step before, since
        activations at the limit are all equal.
        """
        return self.linear if self.saturates else self.step

    @property
    def rectified(self) -> bool:
        """Whether a rectifier of any kind is part of it."""
        return bool(self.rectifier)

    def as_maps(self, value: Tensor) -> Float[Tensor, "n c h w"]:
        """Return the step's output with the channels first."""
        if self.axes is None:
            return value.reshape(*value.shape[:2], 1, 1)
        return value if self.axes == MAPS else value.movedim(-1, 1)


class Aim(NamedTuple):
    """A part of a layer, and the plan between the image and what the part looks at.

    Attributes:
        layer: the layer.
        plan: the steps below its convolution.
        part: of the convolution itself.
        cut: what it takes of the part that the last step below gives; None: all of it.
        rows, columns: where the spans of each step begin, by its place; -1 on the image.
    """

    layer: Layer
    plan: Plan
    part: Part
    cut: Cut | None
    rows: dict[int, int]
    columns: dict[int, int]

    @property
    def box(self) -> Box:
        """The pixels of the image that the part depends on."""
        height, width = self.plan.size(-1)
        top, left = self.rows[-1], self.columns[-1]
        return Box(top, left, top + height, left + width)


@dataclass(frozen=True, eq=False)
class Network:
    """A PyTorch model captured for projection; made by :func:`rot180.capture`.

    It is the model as it was when it was captured, and holds copies of its weights: what happens to
    the model afterwards changes nothing here. Capture it again after it was trained.

    Attributes:
        steps: its operators in order.
        outputs: the places of the model's outputs, of those that depend on the image.
        notes: what is to be known of the capture, in sentences.
        output_numbers: which of the model's output tensors they are.
        layers: its layers by name.
        input_shape: (channels, height, width) of an image.
        dtype, device: of its parameters.
        error: the largest difference from the model's own output that was found when it was
            captured, over the largest value.
        measured: what was found out about it later and is kept with it; see
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
            f"  {one.name}: {one.channels} features of {one.height}x{one.width}, receptive field "
            f"{one.receptive_field[0]}x{one.receptive_field[1]}, stride {one.stride[0]}"
            for one in self.layers.values()
        ]
        return "\n".join([head, *rows])

    def layer(self, name: Any) -> Layer:
        """Return the layer of this name.

        Raises:
            Rot180Error: there is none; the message names those there are, the nearest first.
        """
        if not isinstance(name, str):
            raise Rot180Error(f"A layer is named by a string, as net.layers does; not by {name!r}.")
        if name not in self.layers:
            raise Rot180Error(
                f"There is no layer '{name}' in this network. It has: {suggest(self.layers, name)}."
            )
        return self.layers[name]

    def checked_channel(self, layer: Layer, channel: Any) -> int:
        """Return the channel as an int if the layer has it.

        Raises:
            Rot180Error: it has not, or this is no whole number.
        """
        number = as_int(channel, "The number of a feature")
        if not 0 <= number < layer.channels:
            raise Rot180Error(
                f"Layer '{layer.name}' has no feature {number}: it has {layer.channels} features, "
                f"0 to {layer.channels - 1}."
            )
        return number

    def batch(self, images: Any, finite: bool = True) -> Float[Tensor, "n c h w"]:
        """Return images as a batch that this network takes, on its device and in its precision.

        That their values are finite is checked unless ``finite`` is False.

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
        found = images if images.ndim == 4 else images[None]
        if found.ndim != 4 or tuple(found.shape[1:]) != self.input_shape:
            raise Rot180Error(
                f"The image has shape {tuple(images.shape)}; this network was captured for "
                f"(channels, height, width) = {self.input_shape}, or a batch of such images."
            )
        if finite:
            check_finite(found)
        return found.to(self.device, self.dtype)

    def needed(self, *targets: int) -> list[int]:
        """Return, in order, the steps that the outputs of the targets depend on, these included."""
        return self._ancestors.of(targets)

    @cached_property
    def score_layer(self) -> Layer | None:
        """The layer that gives the first output, as scores for classes; None: no layer does."""
        below = set(self.needed(self.outputs[0])) if self.outputs else set()
        found = [one for one in self.layers.values() if one.linear in below]
        return found[-1] if found else None

    @cached_property
    def _ancestors(self) -> Ancestors:
        return Ancestors(self.steps)

    def size_of(self, place: int, axis: int) -> int:
        """Return how many rows or columns a value has; 1 where it has none."""
        if place < 0:
            return self.input_shape[1 + axis]
        step = self.steps[place]
        return 1 if step.axes is None else step.shape[step.axes[axis]]

    def axes_of(self, place: int) -> Axes | None:
        """Return which axes of a value are rows and columns; None where it has none."""
        return MAPS if place < 0 else self.steps[place].axes

    def trace(
        self, places: list[int], wanted: Mapping[int, tuple[Span, Span]]
    ) -> tuple[Trace, Trace]:
        """Follow spans of rows and columns down to the image."""
        return (
            self._trace(places, {place: one[ROWS] for place, one in wanted.items()}, ROWS),
            self._trace(places, {place: one[COLUMNS] for place, one in wanted.items()}, COLUMNS),
        )

    def _trace(self, places: list[int], wanted: Mapping[int, Span], axis: int) -> Trace:
        return trace(self.steps, lambda place: self.size_of(place, axis), places, wanted, axis)

    def whole(self, method: str | None, held: frozenset[int] | None) -> Plan:
        """Return the plan of all steps on whole maps; see
        :class:`rot180.graph.forward_pass.ForwardPass`."""
        if held is None:
            held = frozenset(layer.step for layer in self.layers.values())
        held |= {one.ranking for one in self.layers.values() if one.step in held}
        key = ("whole", method, held)
        if key not in self._cache:
            targets = {*self.outputs, *(layer.step for layer in self.layers.values()), *held}
            places = self.needed(*sorted(targets))
            wanted = {place: self._all_of(place) for place in [-1, *places]}
            rows, columns = self.trace(places, wanted)
            self._cache[key] = Plan(
                self.steps, places, self.outputs[0], rows, columns, method, held
            )
        found: Plan = self._cache[key]
        return found

    def forward_only(self, *targets: int) -> Plan:
        """Return the plan of whole maps up to some places that keeps nothing for a way back."""
        places = self.needed(*targets)
        wanted = {place: self._all_of(place) for place in [-1, *places]}
        return Plan(
            self.steps, places, max(targets), *self.trace(places, wanted), None, keeps=False
        )

    @cached_property
    def products(self) -> tuple[int, ...]:
        """How many products each step sums on the whole maps of one image, about; by its place."""
        found = [0] * len(self.steps)
        for work in self.whole("deconvnet", frozenset()).works:
            found[work.place] = work.operator.multiply_adds(work.part)
        return tuple(found)

    def multiply_adds(self, layer: Layer) -> int:
        """Return how many products a forward pass of one image to a layer sums, about."""
        return sum(self.products[place] for place in self.needed(layer.linear))

    def _all_of(self, place: int) -> tuple[Span, Span]:
        return Span(0, self.size_of(place, ROWS)), Span(0, self.size_of(place, COLUMNS))

    def aim(self, layer: Layer, position: tuple[int, int] | None, method: str) -> Aim:
        """Return the plan of one unit of a layer, or (None) of its whole maps.

        Units that lie in the same way share one plan.
        """
        key = ("aim", layer.linear, position, method)
        found: Aim | None = self._cache.get(key)
        if found is not None:
            return found
        spans = self._all_of(layer.linear)
        if position is not None and layer.axes is not None:
            spans = tuple(Span(one, one + 1) for one in position)  # type: ignore[assignment]
        rows = self._traced(layer, ROWS, spans[ROWS])
        columns = self._traced(layer, COLUMNS, spans[COLUMNS])
        shared = ("plan", layer.linear, rows.key, columns.key, method)
        planned: tuple[Plan, Part, Cut | None] | None = self._cache.get(shared)
        if planned is None:
            (source,) = self.steps[layer.linear].inputs
            below = [one for one in self.needed(layer.linear) if one != layer.linear]
            plan = Plan(self.steps, below, source, rows, columns, method)
            whole = Plan(self.steps, [layer.linear], layer.linear, rows, columns, method)
            planned = plan, whole.works[0].part, whole.works[0].cuts[0]
            self._remember(shared, planned)
        return self._remember(key, Aim(layer, *planned, dict(rows.starts), dict(columns.starts)))

    def _traced(self, layer: Layer, axis: int, span: Span) -> Trace:
        key = ("trace", layer.linear, axis, span)
        found: Trace | None = self._cache.get(key)
        if found is None:
            places = self.needed(layer.linear)
            found = self._remember(key, self._trace(places, {layer.linear: span}, axis))
        return found

    def _remember(self, key: Any, value: Remembered) -> Remembered:
        """Keep what is made for units, and forget the oldest of very many."""
        self._cache[key] = value
        if len(self._cache) > _REMEMBERED:
            with suppress(KeyError, RuntimeError):  # another thread was here at the same time
                del self._cache[next(iter(self._cache))]
        return value

    def receptive_field(self, layer: Layer, position: tuple[int, int]) -> Box:
        """Return the box of pixels that the unit (y, x) of a layer can see, cut to the image."""
        spans = [
            self._traced(layer, axis, Span(place, place + 1) if layer.axes else Span(0, 1))
            for axis, place in enumerate(position)
        ]
        return Box.of(*(Span(one.starts[-1], one.starts[-1] + one.sizes[-1]) for one in spans))

    def seen(self, place: int) -> tuple[tuple[int, int], tuple[float, float]]:
        """Return size and stride of the receptive field of a step's positions, far from borders.

        The whole image with stride 0 where they depend on whole maps.
        """
        sizes, strides = [], []
        for axis in (ROWS, COLUMNS):
            found = self._nominals[axis][place]
            image = self.size_of(-1, axis)
            size = image if found is None else int(found.high - found.low)
            stride: Any = 0 if found is None else found.scale
            sizes.append(min(size, image))
            strides.append(int(stride) if stride == int(stride) else float(stride))
        return (sizes[0], sizes[1]), (strides[0], strides[1])

    @cached_property
    def _nominals(self) -> tuple[list[Nominal | None], list[Nominal | None]]:
        return nominals(self.steps, ROWS), nominals(self.steps, COLUMNS)

    def operator(self, layer: Layer) -> LayerOperator:
        """Return the convolution or the linear step of a layer."""
        found = self.steps[layer.linear].operator
        assert isinstance(found, LayerOperator)
        return found


def check_finite(images: Tensor) -> None:
    """Refuse values that are infinite or not numbers."""
    if not isfinite(float(images.sum())) and not torch.isfinite(images).all():
        raise Rot180Error("The image holds values that are infinite or not numbers (NaN).")
