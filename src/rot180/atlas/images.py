"""The images of an atlas as the network takes them: from the atlas, or from the data set."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from rot180.atlas.atlas import Atlas
from rot180.atlas.identity import ScanIdentity
from rot180.datasets import BadImage, Dataset, resize_and_crop
from rot180.errors import Rot180Error
from rot180.models.model import Model

Pixels = UInt8[np.ndarray, "h w c"]


class AtlasImages:
    """Where the images come from: the atlas, or the data set that was scanned."""

    def __init__(self, atlas: Atlas, data: Any) -> None:
        self.atlas, self.data = atlas, data
        self.stored = ScanIdentity.for_atlas(atlas).pictures
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
        elif data.fingerprint != ScanIdentity.for_atlas(atlas).data:
            raise Rot180Error(
                f"These are other images than those of {atlas.path}, which is a scan of "
                f"{atlas.data}: give that data and that split."
            )

    def pixels(self, image: int) -> Pixels:
        """Return an image as the network takes it before normalisation."""
        if self.data is not None:
            try:
                return resize_and_crop(self.data.image(image), self.atlas.size, self.atlas.channels)
            except BadImage as error:
                raise Rot180Error(
                    f"{error.description} was read during the scan and cannot be read now: "
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


class PreparedImages:
    """Normalised images (c, h, w) by their number, as ``project_units`` takes them."""

    def __init__(self, model: Model, pixels: Callable[[int], Pixels]) -> None:
        self.model, self.pixels = model, pixels

    def __getitem__(self, image: int) -> Tensor:
        return self.model.prepare(self.pixels(image))
