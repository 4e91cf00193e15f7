"""Pictures of features on an opened image: their maps, and their projections to pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from rot180.projection.imaging import signed_to_rgb
from rot180.projection.result import Projection
from rot180.projection.rules import CHOICES, UNPOOLINGS, Rules
from rot180.web.collection import ServedAtlas
from rot180.web.errors import NotFound
from rot180.web.feature_pictures import heat, overlay
from rot180.web.imaging import EncodedImage, encode
from rot180.web.views.image_page import example_box, image_pixels, opened_image

KINDS = ("map", "whole", "peak", "unit", "over", "tile")


@dataclass(frozen=True)
class ImagePicture:
    """A picture of a feature on an open image.

    Attributes:
        kind: "map" (its activations), or a projection: "whole" (of its whole map), "peak" (of its
            strongest unit), "unit" (of the unit at a position), "over" (the same over the image),
            or "tile" (the same, cropped to the receptive field).
        rules: method and unpooling of the projection; None for a map.
        position: None: the whole map; "peak"; or (y, x).
    """

    kind: str
    rules: Rules | None
    position: tuple[int, int] | str | None

    @classmethod
    def parse(cls, name: str) -> "ImagePicture":
        """Parse the name of a picture: ``map``, ``peak-guided-repeat``, ``over-3-5-guided-repeat``.

        Raises:
            NotFound: there is no such picture.
        """
        kind, *words = name.split("-")
        placed = kind in ("unit", "over", "tile")
        if kind not in KINDS or len(words) != (0 if kind == "map" else 4 if placed else 2):
            raise NotFound(f"There is no picture '{name}' of a feature on an image.")
        if kind == "map":
            return cls(kind, None, None)
        method, unpooling = words[-2:]
        if method not in CHOICES or unpooling not in UNPOOLINGS:
            raise NotFound(f"There is no method and unpooling '{method}-{unpooling}'.")
        position: Any = "peak" if kind == "peak" else None
        if placed and words[:2] == ["peak", "peak"]:
            position = "peak"
        elif placed and words[:2] != ["all", "all"]:
            if not all(one.isascii() and one.isdecimal() and len(one) < 6 for one in words[:2]):
                raise NotFound(
                    f"'{name}' contains no position: write over-Y-X-{method}-{unpooling}."
                )
            position = int(words[0]), int(words[1])
        return cls(kind, Rules(method, unpooling), position)


def picture_files(
    served: ServedAtlas,
    image: str,
    layer: str,
    picture: ImagePicture,
    channels: Sequence[int],
    form: str,
) -> list[EncodedImage]:
    """Return pictures of features of a layer on an open image; they are projected together.

    Raises:
        NotFound: there is no such image, layer, feature or position.
    """
    layer = served.layer(layer).name
    for channel in channels:
        served.feature(layer, channel)
    if isinstance(picture.position, tuple):
        example_box(served, layer, picture.position)
    if picture.rules is None:
        maps = served.model.maps(opened_image(served, image), layer).numpy()
        largest = float(maps.max(initial=0.0))
        served.model.update_size(image)
        return [encode(heat(maps[one], largest), form, exact=True) for one in channels]
    signals = project_cached(served, image, layer, picture, channels)
    return [_draw_projection(served, image, layer, picture, one, form) for one in signals]


def project_cached(
    served: ServedAtlas, image: str, layer: str, picture: ImagePicture, channels: Sequence[int]
) -> list[Projection]:
    """Project features of an open image to pixels; the results are cached."""
    assert picture.rules is not None
    kept = served.caches.signals

    def key(channel: int) -> tuple[object, ...]:
        return (served.name, image, layer, channel, picture.position, picture.rules)

    found = {one: kept.get(key(one)) for one in channels}
    missing = [one for one, signals in found.items() if signals is None]
    if missing:
        opened = opened_image(served, image)
        made = served.model.project(opened, layer, missing, picture.position, picture.rules)
        served.model.update_size(image)
        for channel, signal in zip(missing, made, strict=True):
            found[channel] = kept.put(key(channel), [signal])
    return [signals[0] for signals in found.values() if signals is not None]


def _draw_projection(
    served: ServedAtlas,
    image: str,
    layer: str,
    picture: ImagePicture,
    signal: Projection,
    form: str,
) -> EncodedImage:
    whole: Float[np.ndarray, "c h w"] = signal.full().float().cpu().numpy()
    if picture.kind == "over":
        return encode(overlay(whole, image_pixels(served, image)), form)
    if picture.kind == "tile" and isinstance(picture.position, tuple):
        tiles = served.tiles(layer)
        return encode(tiles.signal(whole, example_box(served, layer, picture.position)), form, True)
    return encode(signed_to_rgb(whole), form, exact=max(whole.shape[1:]) <= 96)
