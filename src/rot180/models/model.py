"""A model and its preprocessing: the class that loading returns and every command starts from."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rot180.errors import Rot180Error
from rot180.graph.capture import capture
from rot180.graph.network import PREPARE, Network


@dataclass
class Model:
    """A model and its preprocessing.

    Attributes:
        model: network in evaluation mode.
        classes: names of the classes in the order of the scores; empty if they are not known.
        mean, std: mean and standard deviation of each channel, for values from 0 to 1.
        size: (height, width) of the images in pixels.
        name: name that the model was loaded by, as ``--model`` takes it.
        notices: sentences about what was assumed or changed when the model was loaded.
        weights: name of the file that the weights were loaded from; "" if none was given.
    """

    model: nn.Module
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    name: str = field(default="", kw_only=True)
    notices: tuple[str, ...] = field(default=(), kw_only=True)
    weights: str = field(default="", kw_only=True)
    _network: Network | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return len(self.mean)

    @property
    def device(self) -> torch.device:
        """Device of the network's weights."""
        return reference_tensor(self.model).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network's weights."""
        return reference_tensor(self.model).dtype

    @property
    def caption(self) -> str:
        """Description of the model for the captions of figures."""
        return self.name

    def prepare(self, images: np.ndarray) -> Float[Tensor, "c h w"] | Float[Tensor, "n c h w"]:
        """Turn 8-bit images into the network's input: (value / 255 - mean) / std.

        Args:
            images: one image (h, w, c) or several (n, h, w, c), uint8.

        Raises:
            Rot180Error: the images are not 8-bit, or have another size or number of channels.
        """
        if images.dtype != np.uint8 or images.shape[-3:] != (*self.size, self.channels):
            raise Rot180Error(
                f"The image holds {images.dtype} values of shape {images.shape}; this network "
                f"takes 8-bit images of (height, width, channels) = {(*self.size, self.channels)}."
            )
        values = torch.from_numpy(np.array(images)).to(self.device)
        return torch.movedim(normalise(values, self.mean, self.std), -1, -3).to(self.dtype)

    def network(self) -> Network:
        """Capture the network for projection. Later calls return the same capture.

        Change or move the model before the first call.

        Raises:
            Rot180Error: the model cannot be captured (see :func:`rot180.capture`).
        """
        if self._network is None:
            generator = torch.Generator().manual_seed(0)
            example = torch.randn(1, self.channels, *self.size, generator=generator)
            self._network = capture(self.model, example.to(self.device, self.dtype))
            self._network.measured[PREPARE] = self.prepare
        return self._network

    def output_name(self, layer: str, channel: int) -> str:
        """Return the name of the class whose score this feature is; "" for any other feature."""
        return self.classes[channel] if layer and layer == self.output_layer else ""

    @property
    def output_layer(self) -> str:
        """Name of the layer whose features are the class scores; "" if it is not known."""
        scores = self.network().score_layer
        if scores is None or scores.channels != len(self.classes):
            return ""
        return scores.name

    def top_class(self, image: Float[Tensor, "c h w"]) -> tuple[str, float] | None:
        """Return the most probable class of a prepared image, and its probability.

        The result is None if the classes have no names, or the network does not score them.
        """
        with torch.no_grad():
            scores = self.model(image[None])
        best = self.top_classes(scores, 1)
        return best[0] if best else None

    def top_classes(self, scores: object, most: int) -> list[tuple[str, float]]:
        """Return the most probable classes of the first image of a batch, with probabilities.

        The list is empty if the classes have no names, or ``scores`` are not scores of them.

        Args:
            scores: output of the model, (n, classes).
            most: maximal number of classes to return.
        """
        if not self.classes or class_count(scores) != len(self.classes):
            return []
        assert isinstance(scores, Tensor)
        best = torch.softmax(scores[0].float(), 0).topk(min(most, len(self.classes)))
        indices, probabilities = best.indices.tolist(), best.values.tolist()
        return [(self.classes[n], p) for n, p in zip(indices, probabilities, strict=True)]


def reference_tensor(model: nn.Module) -> Tensor:
    """Return an empty tensor with the device and precision of the model's first real weights.

    For a model without weights it is float32 on the CPU.
    """
    for weights in (*model.parameters(), *model.buffers()):
        if weights.is_floating_point():
            return torch.empty(0, dtype=weights.dtype, device=weights.device)
    return torch.empty(0)


def class_count(output: object) -> int:
    """Return the number of scores in a model's output, (n, classes); 0 if it has another form."""
    if isinstance(output, Tensor) and output.ndim == 2 and output.is_floating_point():
        return output.shape[1]
    return 0


def normalise(
    values: Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "... c"]:
    """Normalise 8-bit values (channels last) by the mean and deviation of the training images."""
    scale = torch.tensor(std, device=values.device) * 255
    offset = torch.tensor(mean, device=values.device) * 255
    return (values.float() - offset) / scale
