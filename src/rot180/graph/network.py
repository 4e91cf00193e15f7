"""A captured network: its steps in order, its layers by name, its forward pass up to a layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rot180.errors import Rot180Error, listed, whole_number
from rot180.graph.boxes import Box
from rot180.graph.operators import Operator


@dataclass(frozen=True)
class Step:
    """One operator of a network in its place.

    ``inputs`` are the positions, in the list of steps, of the steps whose outputs it takes; -1 is
    the image. ``shape`` is the shape of its output for one image, without the batch axis.
    """

    name: str
    operator: Operator
    inputs: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A convolution with the normalisation and the rectifier that directly follow it.

    Its features are the channels of that output; only ReLU, however written, counts as a rectifier
    here. ``receptive_field`` (height, width) is the size of
    the box of pixels that a unit far from the border can see, and ``stride`` (vertical, horizontal)
    how far the boxes of neighbouring units lie apart, both in pixels of the network's input. Above
    an operator that is not listed every unit counts as seeing the whole image (stride 0).
    """

    name: str
    channels: int
    height: int
    width: int
    receptive_field: tuple[int, int]
    stride: tuple[int, int]
    rectified: bool
    step: int


@dataclass(frozen=True)
class ForwardPass:
    """What a forward pass left: the maps of a layer, and what each step kept, by its place."""

    maps: Tensor
    kept: Mapping[int, Any]


@dataclass(frozen=True)
class Network:
    """A PyTorch model captured for projection; made by :func:`rot180.capture`.

    It reads the model's own parameters (they are not copied), and never writes to them.
    """

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    layers: Mapping[str, Layer]
    input_shape: tuple[int, int, int]
    dtype: torch.dtype
    device: torch.device

    def __repr__(self) -> str:
        head = "Network(input {}x{}x{}, {} steps)".format(*self.input_shape, len(self.steps))
        rows = [
            f"  {one.name}: {one.channels} features of {one.height}x{one.width}, receptive field "
            f"{one.receptive_field[0]}x{one.receptive_field[1]}, stride {one.stride[0]}"
            for one in self.layers.values()
        ]
        return "\n".join([head, *rows])

    def layer(self, name: str) -> Layer:
        """Return the layer of this name.

        Raises:
            Rot180Error: there is none; the message names those there are, the nearest first.
        """
        if name not in self.layers:
            raise Rot180Error(
                f"There is no layer '{name}' in this network. It has: {listed(self.layers, name)}."
            )
        return self.layers[name]

    def checked_channel(self, layer: Layer, channel: Any) -> int:
        """Return the channel as an int if the layer has it.

        Raises:
            Rot180Error: it has not, or this is no whole number.
        """
        number = whole_number(channel, "The number of a feature")
        if not 0 <= number < layer.channels:
            raise Rot180Error(
                f"Layer '{layer.name}' has no feature {number}: it has {layer.channels} features, "
                f"0 to {layer.channels - 1}."
            )
        return number

    def batch(self, images: Any) -> Float[Tensor, "n c h w"]:
        """Return images as a batch that this network takes, on its device and in its precision.

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
        if not torch.isfinite(found).all():
            raise Rot180Error("The image holds values that are infinite or not numbers (NaN).")
        return found.to(self.device, self.dtype)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "n c h w"], layer: Layer) -> ForwardPass:
        """Run a batch up to a layer and keep what the way back needs.

        Raises:
            Rot180Error: the layer's values are not finite, with the first step where that is so.
        """
        values, kept = self._run(images, layer.step)
        maps = values[layer.step]
        if not torch.isfinite(maps).all():
            raise Rot180Error(self._first_not_finite(images, layer.step))
        return ForwardPass(maps, kept)

    def maps(self, images: Tensor, layer: str) -> Float[Tensor, "n c h w"]:
        """Return the feature maps of a layer for one normalised image or a batch of them."""
        return self.forward(self.batch(images), self.layer(layer)).maps

    @torch.no_grad()
    def outputs_for(self, images: Tensor) -> list[Tensor]:
        """Return the model's outputs for images, made step by step."""
        values, _ = self._run(self.batch(images), *self.outputs)
        return [values[place] for place in self.outputs]

    def _run(self, images: Tensor, *targets: int) -> tuple[dict[int, Any], dict[int, Any]]:
        """Run the steps that the targets need; drop each value after its last use.

        Returns the values of the targets, and what each step kept.
        """
        needed = self.needed(*targets)
        last_use = {source: place for place in needed for source in self.steps[place].inputs}
        values: dict[int, Any] = {-1: images}
        kept: dict[int, Any] = {}
        for place in needed:
            step = self.steps[place]
            values[place], kept[place] = step.operator.forward(*(values[i] for i in step.inputs))
            for source in step.inputs:
                if last_use[source] == place and source not in targets:
                    values.pop(source, None)
        return values, kept

    def needed(self, *targets: int) -> list[int]:
        """Return, in order, the steps that the outputs of the targets depend on, these included."""
        wanted = set(targets)
        for place in range(max(targets), -1, -1):
            if place in wanted:
                wanted.update(self.steps[place].inputs)
        return sorted(wanted - {-1})

    def region(self, box: Box, last: int, clip: bool = True) -> Box:
        """Return the box of image pixels that a box of the output of step ``last`` depends on.

        With ``clip`` each box on the way is cut to its map, since the padding around a map depends
        on nothing; without it the box is that of a unit far from every border.
        """
        boxes: dict[int, Box] = {last: box}
        for index in reversed(self.needed(last)):
            step = self.steps[index]
            shapes = tuple(self._shape(source) for source in step.inputs)
            for source, shape, found in zip(
                step.inputs, shapes, step.operator.region(boxes[index], shapes), strict=True
            ):
                if clip and len(shape) == 4:
                    found = found.clipped(*shape[2:])
                boxes[source] = boxes[source].joined(found) if source in boxes else found
        return boxes.get(-1, Box(0, 0, 0, 0))

    def receptive_field(self, layer: Layer, position: tuple[int, int]) -> Box:
        """Return the box of image pixels that one unit can see, cut to the image."""
        y, x = position
        return self.region(Box(y, x, y + 1, x + 1), layer.step)

    def _shape(self, source: int) -> tuple[int, ...]:
        return (1, *(self.input_shape if source < 0 else self.steps[source].shape))

    def _first_not_finite(self, images: Tensor, last: int) -> str:
        values: dict[int, Any] = {-1: images}
        for index in self.needed(last):
            step = self.steps[index]
            values[index], _ = step.operator.forward(*(values[i] for i in step.inputs))
            found = values[index]
            if isinstance(found, Tensor) and not torch.isfinite(found).all():
                return (
                    "The network gives values that are infinite or not numbers (NaN), first in the "
                    f"step {step.name} ({step.operator.kind}). Check its weights."
                )
        return "The network gives values that are infinite or not numbers (NaN)."
