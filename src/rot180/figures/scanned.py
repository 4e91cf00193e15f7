"""What the plates of an atlas are drawn from: its images, and the network that was scanned."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from rot180.atlas.features import Example
from rot180.atlas.identity import Identity
from rot180.atlas.reading import Atlas
from rot180.atlas.scanned import Scanned
from rot180.datasets import BadImage, Dataset, fitted
from rot180.errors import Rot180Error
from rot180.graph.operators.operator import BackwardNeeds
from rot180.networks.model import NamedModel
from rot180.projection.automatic import rules_at
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
    """How units of a layer are carried back: by the network of the atlas, and by rules."""

    def __init__(self, scanned: Scanned, layer: str, rules: Rules) -> None:
        self.scanned, self.network, self.rules = scanned, scanned.network, rules
        self.layer = self.network.layer(layer)
        self.rules = rules_at(self.network, self.layer, rules.method, rules.unpooling)

    def depends_on_image(self, method: str) -> bool:
        """Whether the way back depends on the image, and not on the activation alone."""
        steps, linear = self.network.steps, self.layer.weight_step
        below = [steps[one].operator for one in self.network.ancestors(linear) if one != linear]
        backward = Rules(method).backward
        by_switches = self.rules.unpooling == "switches"
        return any(
            one.backward_needs(backward) != BackwardNeeds() or (one.switches and by_switches)
            for one in below
        )

    def back(
        self, examples: Sequence[tuple[int, Example]], pixels: dict[int, Pixels]
    ) -> Iterator[Projection]:
        """Carry units of features back; the images are given by their numbers."""
        units = [(one.image, self.layer.name, channel, one.position) for channel, one in examples]
        return project_units(
            self.network,
            _Prepared(self.scanned.named, pixels),
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
