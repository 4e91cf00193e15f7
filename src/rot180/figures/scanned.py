"""What the plates of an atlas are drawn from: its images, and the network that was scanned."""

from collections.abc import Iterator, Sequence
from math import isclose
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from rot180.atlas.features import AtlasLayer, Example
from rot180.atlas.identity import Identity
from rot180.atlas.reading import Atlas
from rot180.datasets import BadImage, Dataset, fitted
from rot180.errors import Rot180Error
from rot180.graph.fingerprint import fingerprint
from rot180.graph.network import Network
from rot180.graph.operators.base import Looks
from rot180.networks.model import NamedModel
from rot180.projection.result import Projection
from rot180.projection.rules import Rules
from rot180.projection.units import project_units

Pixels = UInt8[np.ndarray, "h w c"]


class Source:
    """Where the images come from: the atlas, or the data set that was scanned."""

    def __init__(self, atlas: Atlas, data: Any) -> None:
        self.atlas, self.data = atlas, data
        self.stored = Identity.of(atlas).pictures
        if data is None:
            if self.stored == "none":
                raise Rot180Error(
                    f"{atlas.path} holds no pictures: it was scanned with --images none. Give the "
                    "data that was scanned (--data and --split), or scan again with --images "
                    "lossless."
                )
        elif not isinstance(data, Dataset):
            raise Rot180Error(
                f"The data is what rot180.open_dataset returns, not {type(data).__name__}."
            )
        elif data.fingerprint != Identity.of(atlas).data:
            raise Rot180Error(
                f"These are other images than those of {atlas.path}, which is a scan of "
                f"{atlas.data}: give that data and that split."
            )

    def pixels(self, image: int) -> Pixels:
        """Return an image as the network takes it before normalisation."""
        if self.data is not None:
            try:
                return fitted(self.data.image(image), self.atlas.size, self.atlas.channels)
            except BadImage as error:
                raise Rot180Error(
                    f"{error.where} was read during the scan and cannot be read now: "
                    f"{error.reason}."
                ) from error
        pixels = self.atlas.picture(image).pixels
        if pixels is None:
            raise Rot180Error(
                f"{self.atlas.path} does not hold the picture of image {image}: give the command "
                "that scanned it again, which stores what is missing; or the data."
            )
        return pixels

    @property
    def compressed(self) -> bool:
        """Whether the pictures are not exactly those that were scanned."""
        return self.data is None and self.stored == "compact"


class Carrying:
    """How units are carried back: the network, which is that of the atlas, and the rules."""

    def __init__(self, atlas: Atlas, layer: AtlasLayer, model: Any, rules: Rules) -> None:
        if not isinstance(model, NamedModel):
            raise Rot180Error(f"The model is what rot180.load returns, not {type(model).__name__}.")
        self.named, self.rules = model, rules
        self.network: Network = model.network()
        who = Identity.of(atlas)
        if fingerprint(self.network) != who.network:
            size = "x".join(map(str, self.network.input_shape[1:]))
            raise Rot180Error(
                f"{model.name or 'This model'} at {size} is another network than that of "
                f"{atlas.path}, which is a scan of {atlas.model or 'a network without a name'} at "
                f"{atlas.size[0]}x{atlas.size[1]}: give the same model, with the same weights."
            )
        self.layer = self.network.layer(layer.name)
        given = (*model.mean, *model.std)
        told = [number for row in who.preprocessing[:2] for number in row]
        self.prepared_alike = len(told) == len(given) and all(
            isclose(one, other, rel_tol=1e-5) for one, other in zip(told, given, strict=True)
        )

    def depends_on_image(self, method: str) -> bool:
        """Whether the way back depends on the image, and not on the activation alone."""
        steps, linear = self.network.steps, self.layer.linear
        below = [steps[one].operator for one in self.network.needed(linear) if one != linear]
        by_switches = self.rules.unpooling == "switches"
        return any(
            one.looks_at(method) != Looks() or (one.switches and by_switches) for one in below
        )

    def back(
        self, examples: Sequence[tuple[int, Example]], pixels: dict[int, Pixels]
    ) -> Iterator[Projection]:
        """Carry units of features back; the images are given by their numbers."""
        units = [(one.image, self.layer.name, channel, one.position) for channel, one in examples]
        return project_units(
            self.network,
            _Prepared(self.named, pixels),
            units,
            self.rules.method,
            self.rules.unpooling,
        )


class _Prepared:
    """Images as the network takes them, by their number."""

    def __init__(self, named: NamedModel, pixels: dict[int, Pixels]) -> None:
        self.named, self.pixels = named, pixels

    def __getitem__(self, image: int) -> Tensor:
        return self.named.prepare(self.pixels[image])
