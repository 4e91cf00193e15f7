"""A model and how images become its input: what every command and every picture starts from."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rot180.errors import Rot180Error
from rot180.graph.capture import capture
from rot180.graph.network import PREPARE, Network


@dataclass
class NamedModel:
    """A model and how to use it.

    Attributes:
        model: the network, in evaluation mode.
        classes: name of each class, in the order of the scores; empty where they are not known.
        mean, std: of each channel of the training images, for values from 0 to 1.
        size: (height, width) of the images.
        name: how it was named, as ``--model`` takes it.
        remarks: sentences about what was assumed or changed when it was loaded.
        weights: name of the file that its weights were loaded from; "" where none was given.
    """

    model: nn.Module
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    name: str = field(default="", kw_only=True)
    remarks: tuple[str, ...] = field(default=(), kw_only=True)
    weights: str = field(default="", kw_only=True)
    _network: Network | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return len(self.mean)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return placed(self.model).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the network's weights."""
        return placed(self.model).dtype

    @property
    def origin(self) -> str:
        """Whose features these are, in words, for captions."""
        return self.name

    def prepare(self, images: np.ndarray) -> Float[Tensor, "c h w"] | Float[Tensor, "n c h w"]:
        """Turn 8-bit images into the network's input: 0 to 1, less the mean, over the deviation.

        Args:
            images: one (h, w, c) or several (n, h, w, c), uint8.

        Raises:
            Rot180Error: the images are not 8-bit, or of another size or number of channels.
        """
        if images.dtype != np.uint8 or images.shape[-3:] != (*self.size, self.channels):
            raise Rot180Error(
                f"The image holds {images.dtype} values of shape {images.shape}; this network "
                f"takes 8-bit images of (height, width, channels) = {(*self.size, self.channels)}."
            )
        values = torch.from_numpy(np.array(images)).to(self.device)
        return torch.movedim(normalised(values, self.mean, self.std), -1, -3).to(self.dtype)

    def network(self) -> Network:
        """Capture the network for projection; once, so change or move the model before.

        Raises:
            Rot180Error: it cannot be captured (see :func:`rot180.capture`).
        """
        if self._network is None:
            generator = torch.Generator().manual_seed(0)
            example = torch.randn(1, self.channels, *self.size, generator=generator)
            self._network = capture(self.model, example.to(self.device, self.dtype))
            self._network.measured[PREPARE] = self.prepare
        return self._network

    def output_name(self, layer: str, channel: int) -> str:
        """Return the class whose score a feature of a layer is; "" for any other feature."""
        return self.classes[channel] if layer and layer == self.output_layer else ""

    @property
    def output_layer(self) -> str:
        """Name of the layer whose features are the scores of the classes; "" if none is known."""
        scores = self.network().score_layer
        if scores is None or scores.channels != len(self.classes):
            return ""
        return scores.name

    def answer(self, image: Float[Tensor, "c h w"]) -> tuple[str, float] | None:
        """Return the most probable class of a prepared image, and its probability.

        None where the classes have no names, or the network gives no scores for them.
        """
        with torch.no_grad():
            scores = self.model(image[None])
        found = self.best_classes(scores, 1)
        return found[0] if found else None

    def best_classes(self, scores: object, most: int) -> list[tuple[str, float]]:
        """Return the most probable classes of the first of some scores, with probabilities.

        Empty where the classes have no names, or these are no scores for them.
        """
        if not self.classes or score_count(scores) != len(self.classes):
            return []
        assert isinstance(scores, Tensor)
        best = torch.softmax(scores[0].float(), 0).topk(min(most, len(self.classes)))
        numbers, chances = best.indices.tolist(), best.values.tolist()
        return [(self.classes[n], chance) for n, chance in zip(numbers, chances, strict=True)]


def placed(model: nn.Module) -> Tensor:
    """Return an empty tensor where a model computes and in its precision; float32 without weights.

    That is where the first of its weights is that holds real numbers.
    """
    for one in (*model.parameters(), *model.buffers()):
        if one.is_floating_point():
            return torch.empty(0, dtype=one.dtype, device=one.device)
    return torch.empty(0)


def score_count(output: object) -> int:
    """Return how many scores a model's output for one image holds; 0 if it is something else."""
    if isinstance(output, Tensor) and output.ndim == 2 and output.is_floating_point():
        return output.shape[1]
    return 0


def normalised(
    values: Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "... c"]:
    """Bring 8-bit values (channels last) to mean 0 and deviation 1 of the training images."""
    scale = torch.tensor(std, device=values.device) * 255
    offset = torch.tensor(mean, device=values.device) * 255
    return (values.float() - offset) / scale
