"""What :func:`rot180.scan` is asked to do: its arguments, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from rot180.atlas.imaging import IMAGES
from rot180.datasets import ArrayDataset, Dataset, bad_image_policy, open_dataset
from rot180.errors import Rot180Error, as_int, check_choice, suggest
from rot180.graph.network import Layer, Network
from rot180.models.model import Model, normalise
from rot180.models.preprocessing import check_channels, per_channel


@dataclass(frozen=True)
class Settings:
    """How a scan is made; see :func:`rot180.scan`, whose arguments these are.

    Attributes:
        layers: names and patterns; None: all.
        batch: None: chosen by the size of the images.
    """

    layers: tuple[str, ...] | None
    examples: int
    sample: int
    images: str
    batch: int | None
    shard: tuple[int, int]
    on_bad_image: str
    checkpoint_seconds: float
    methods: bool


def settings(
    layers: Any,
    examples: Any,
    sample: Any,
    images: Any,
    batch: Any,
    shard: Any,
    on_bad_image: Any,
    checkpoint_seconds: Any,
    methods: Any,
) -> Settings:
    """Check the settings of a scan.

    Raises:
        Rot180Error: one is out of range, or of another kind.
    """
    return Settings(
        layer_patterns(layers),
        _at_least(examples, 1, "The number of examples"),
        _at_least(sample, 0, "The number of sampled images"),
        _kind_of_images(images),
        None if batch is None else _at_least(batch, 1, "The batch"),
        _checked_shard(shard),
        bad_image_policy(on_bad_image),
        _seconds(checkpoint_seconds),
        bool(methods),
    )


@dataclass(frozen=True)
class FigureContext:
    """A network, and how pictures become its input."""

    network: Network
    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return self.network.input_shape[1:]

    def prepared(self, images: UInt8[np.ndarray, "n h w c"]) -> Float[Tensor, "n c h w"]:
        """Return pictures as the network takes them, on its device."""
        values = normalise(torch.from_numpy(images).to(self.network.device), self.mean, self.std)
        return torch.movedim(values, -1, -3).to(self.network.dtype)


def resolve_model(model: Any, mean: Any, std: Any) -> FigureContext:
    """Take a model as :func:`rot180.scan` does.

    Raises:
        Rot180Error: it is none, or says too little or too much about its images.
    """
    if isinstance(model, Model):
        if mean is not None or std is not None:
            raise Rot180Error(
                f"{model.name or 'The model'} knows its own mean and std: leave them out."
            )
        return FigureContext(
            model.network(), model.name, model.classes, model.mean, model.std, model.weights
        )
    if not isinstance(model, Network):
        raise Rot180Error(
            f"scan takes what rot180.load or rot180.capture returned, not {type(model).__name__}."
        )
    if mean is None or std is None:
        raise Rot180Error(
            "A captured network does not say how its images are normalised: give mean and std, as "
            "mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)."
        )
    given = {what: per_channel(one, what) for what, one in (("mean", mean), ("std", std))}
    for what, values in given.items():
        check_channels(values, model.input_shape[0], what)
    if model.input_shape[0] not in (1, 3):
        raise Rot180Error(
            f"The network takes {model.input_shape[0]} channels; pictures have 1 or 3."
        )
    return FigureContext(model, "", (), given["mean"], given["std"])


def resolve_dataset(data: Any, split: Any) -> Dataset:
    """Take data as :func:`rot180.scan` does.

    Raises:
        Rot180Error: these are none, or there are no images.
    """
    if isinstance(data, str | Path):
        return open_dataset(str(data), str(split))
    found = ArrayDataset(data) if isinstance(data, np.ndarray) else data
    if not isinstance(found, Dataset):
        raise Rot180Error(
            "The data are the name of a data set, a data set of rot180.open_dataset, or an array "
            f"of images (n, h, w, c); not {type(data).__name__}."
        )
    if not len(found):
        raise Rot180Error(f"There are no images in {found.name} ({found.split}).")
    return found


def check_output(path: Any) -> Path:
    """Return the path of an atlas that can be written.

    Raises:
        Rot180Error: it is a directory, or in none.
    """
    found = Path(path)
    if found.is_dir():
        raise Rot180Error(f"Cannot write {found}: it is a directory; name a file in it.")
    if not found.parent.is_dir():
        raise Rot180Error(f"Cannot write {found}: there is no directory {found.parent}.")
    return found


def layer_patterns(layers: Any) -> tuple[str, ...] | None:
    """Check the names and patterns of layers; None: all layers.

    Raises:
        Rot180Error: they are no strings, or there are none.
    """
    if layers is None:
        return None
    found = (layers,) if isinstance(layers, str) else layers
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise Rot180Error(f"Layers are named by strings, as net.layers does; not by {layers!r}.")
    if not found:
        raise Rot180Error("No layer is named; leave the layers out to scan all.")
    return tuple(found)


def select_layers(network: Network, patterns: tuple[str, ...] | None) -> list[Layer]:
    """Return the layers that any of the patterns fits, in the order of the network.

    Raises:
        Rot180Error: one fits none.
    """
    if patterns is None:
        return list(network.layers.values())
    return [network.layers[name] for name in match_layers(list(network.layers), patterns)]


def match_layers(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names of layers that any of the patterns fits, in their order.

    Raises:
        Rot180Error: a pattern fits none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise Rot180Error(
                f"There is no layer '{pattern}' in this network. It has: {suggest(names, pattern)}."
            )
    return [name for name in names if any(fnmatchcase(name, one) for one in patterns)]


def _seconds(seconds: Any) -> float:
    if isinstance(seconds, int | float) and seconds >= 0:
        return float(seconds)
    raise Rot180Error(f"The seconds between checkpoints are a number from 0 on, not {seconds!r}.")


def _at_least(value: Any, least: int, what: str) -> int:
    number = as_int(value, what)
    if number < least:
        raise Rot180Error(f"{what} is at least {least}, not {number}.")
    return number


def _kind_of_images(name: Any) -> str:
    check_choice(str(name), "way to store images", IMAGES)
    return str(name)


def _checked_shard(shard: Any) -> tuple[int, int]:
    if not isinstance(shard, list | tuple) or len(shard) != 2:
        raise Rot180Error(f"A part is (i, n), the i-th of n; this one is {shard!r}.")
    number, parts = (as_int(one, "The number of a part, and of parts,") for one in shard)
    if not 1 <= number <= parts:
        raise Rot180Error(f"There is no part {number} of {parts}: parts go from 1 to {parts}.")
    return number, parts


_PIXELS, _FEWEST, _MOST = 2**20, 16, 256
"""Pixels in a batch, and the bounds of its number of images."""


def default_batch_size(size: tuple[int, int]) -> int:
    """Return how many images of a size go through a network together, a power of two."""
    images = max(_FEWEST, min(_MOST, _PIXELS // (size[0] * size[1])))
    return int(2 ** (images.bit_length() - 1))
