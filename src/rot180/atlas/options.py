"""The arguments of :func:`rot180.scan`, checked: its options, its model, its data and its file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
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
class ScanOptions:
    """How a scan is made: the options of :func:`rot180.scan`, which documents them.

    Attributes:
        layers: names and patterns of layers; None: all layers.
        examples: number of strongest images stored for each feature.
        sample: number of images whose peaks are stored for all features.
        images: form of the stored pictures, one of :data:`rot180.atlas.imaging.IMAGES`.
        batch: number of images in a batch; None: chosen by their size.
        shard: (i, n): the i-th of n parts of the data set, from 1.
        on_bad_image: "skip" or "fail".
        checkpoint_seconds: minimal number of seconds between two checkpoints.
        methods: whether the faithfulness of the methods is measured.
    """

    layers: tuple[str, ...] | None = None
    examples: int = 9
    sample: int = 1000
    images: str = "lossless"
    batch: int | None = None
    shard: tuple[int, int] = (1, 1)
    on_bad_image: str = "skip"
    checkpoint_seconds: float = 30.0
    methods: bool = True

    @classmethod
    def checked(cls, **arguments: Any) -> "ScanOptions":
        """Return options of arguments of any type; those left out have their defaults.

        Raises:
            Rot180Error: an argument is of the wrong type, or out of range.
        """
        return cls(**{name: _CHECKS[name](value) for name, value in arguments.items()})


@dataclass(frozen=True)
class ScanModel:
    """A network to scan, and how pictures become its input.

    Attributes:
        network: captured network.
        name: name of the model; "" where it has none.
        classes: names of the model's classes; empty where it has none.
        mean, std: mean and standard deviation of each channel, for values from 0 to 1.
        weights: name of the file of weights; "" where none was given.
    """

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

    def prepare(self, images: UInt8[np.ndarray, "n h w c"]) -> Float[Tensor, "n c h w"]:
        """Return pictures as input of the network, on its device."""
        values = normalise(torch.from_numpy(images).to(self.network.device), self.mean, self.std)
        return torch.movedim(values, -1, -3).to(self.network.dtype)


def resolve_model(model: Any, mean: Any, std: Any) -> ScanModel:
    """Return the model of a scan: what ``rot180.load`` returned, or a captured network.

    Raises:
        Rot180Error: ``model`` is neither of them, or ``mean`` and ``std`` are missing for a network
            or given for a model that has its own.
    """
    if isinstance(model, Model):
        if mean is not None or std is not None:
            raise Rot180Error(
                f"{model.name or 'The model'} has its own mean and std: leave them out."
            )
        return ScanModel(
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
    channels = model.input_shape[0]
    mean, std = per_channel(mean, "mean"), per_channel(std, "std")
    check_channels(mean, channels, "mean")
    check_channels(std, channels, "std")
    if channels not in (1, 3):
        raise Rot180Error(f"The network takes {channels} channels; pictures have 1 or 3.")
    return ScanModel(model, "", (), mean, std)


def resolve_dataset(data: Any, split: Any) -> Dataset:
    """Return the data set of a scan: one that is given, named, or made of an array of images.

    Raises:
        Rot180Error: ``data`` is none of these, or holds no images.
    """
    if isinstance(data, str | Path):
        return open_dataset(str(data), str(split))
    dataset = ArrayDataset(data) if isinstance(data, np.ndarray) else data
    if not isinstance(dataset, Dataset):
        raise Rot180Error(
            "The data are the name of a data set, a data set of rot180.open_dataset, or an array "
            f"of images (n, h, w, c); not {type(data).__name__}."
        )
    if not len(dataset):
        raise Rot180Error(f"There are no images in {dataset.name} ({dataset.split}).")
    return dataset


def check_output(path: Any) -> Path:
    """Return the path of an atlas to write.

    Raises:
        Rot180Error: the path is a directory, or its directory does not exist.
    """
    file = Path(path)
    if file.is_dir():
        raise Rot180Error(f"Cannot write {file}: it is a directory; name a file in it.")
    if not file.parent.is_dir():
        raise Rot180Error(f"Cannot write {file}: there is no directory {file.parent}.")
    return file


def layer_patterns(layers: Any) -> tuple[str, ...] | None:
    """Return names and patterns of layers as a tuple; None stands for all layers.

    Raises:
        Rot180Error: they are not strings, or there are none.
    """
    if layers is None:
        return None
    patterns = (layers,) if isinstance(layers, str) else layers
    if not isinstance(patterns, list | tuple) or not all(isinstance(p, str) for p in patterns):
        raise Rot180Error(f"Layers are named by strings, as net.layers does; not by {layers!r}.")
    if not patterns:
        raise Rot180Error("No layer is named; leave the layers out to scan all.")
    return tuple(patterns)


def select_layers(network: Network, patterns: tuple[str, ...] | None) -> list[Layer]:
    """Return the layers that match any of the patterns, in the order of the network.

    Raises:
        Rot180Error: a pattern matches no layer.
    """
    if patterns is None:
        return list(network.layers.values())
    return [network.layers[name] for name in match_layers(list(network.layers), patterns)]


def match_layers(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names of layers that match any of the patterns, in their order.

    Raises:
        Rot180Error: a pattern matches no name.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise Rot180Error(
                f"There is no layer '{pattern}' in this network. It has: {suggest(names, pattern)}."
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _checked_seconds(seconds: Any) -> float:
    if isinstance(seconds, int | float) and seconds >= 0:
        return float(seconds)
    raise Rot180Error(f"The seconds between checkpoints are a number from 0 on, not {seconds!r}.")


def _at_least(value: Any, least: int, what: str) -> int:
    number = as_int(value, what)
    if number < least:
        raise Rot180Error(f"{what} is at least {least}, not {number}.")
    return number


def _checked_shard(shard: Any) -> tuple[int, int]:
    if not isinstance(shard, list | tuple) or len(shard) != 2:
        raise Rot180Error(f"A part is (i, n), the i-th of n; this one is {shard!r}.")
    number, parts = (as_int(value, "The number of a part, and of parts,") for value in shard)
    if not 1 <= number <= parts:
        raise Rot180Error(f"There is no part {number} of {parts}: parts go from 1 to {parts}.")
    return number, parts


def _checked_images(name: Any) -> str:
    check_choice(str(name), "way to store images", IMAGES)
    return str(name)


def _checked_batch(batch: Any) -> int | None:
    return None if batch is None else _at_least(batch, 1, "The batch")


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "layers": layer_patterns,
    "examples": partial(_at_least, least=1, what="The number of examples"),
    "sample": partial(_at_least, least=0, what="The number of sampled images"),
    "images": _checked_images,
    "batch": _checked_batch,
    "shard": _checked_shard,
    "on_bad_image": bad_image_policy,
    "checkpoint_seconds": _checked_seconds,
    "methods": bool,
}
"""What checks and converts each option."""

_BATCH_PIXELS, _SMALLEST_BATCH, _LARGEST_BATCH = 2**20, 16, 256
"""Pixels in a batch, and the bounds of its number of images."""


def default_batch_size(size: tuple[int, int]) -> int:
    """Return how many images of a size are run together by default, a power of two."""
    images = max(_SMALLEST_BATCH, min(_LARGEST_BATCH, _BATCH_PIXELS // (size[0] * size[1])))
    return int(2 ** (images.bit_length() - 1))
