"""What of an opened image a picture shows: a feature's map, or what carries it back to pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from rot180.projection.imaging import signed_to_rgb
from rot180.projection.result import Projection
from rot180.projection.rules import CHOICES, UNPOOLINGS, Rules
from rot180.web.encoding import File
from rot180.web.encoding import picture as encoded
from rot180.web.failures import NotFound
from rot180.web.pictures import heat, overlay
from rot180.web.shelf import Book
from rot180.web.views.image import example_box, image_pixels, opened_image

KINDS = ("map", "whole", "peak", "unit", "over", "tile")


@dataclass(frozen=True)
class Look:
    """A picture of a feature on an open image.

    Attributes:
        kind: "map" (its activations), "whole" (its whole map, carried back), "peak" (its strongest
            unit), "unit" (the unit at a position), "over" (that unit over the image), or "tile"
            (what it sees, as large as other tiles).
        rules: of the way back; None for a map.
        position: None: the whole map; "peak"; or (y, x).
    """

    kind: str
    rules: Rules | None
    position: tuple[int, int] | str | None

    @classmethod
    def named(cls, name: str) -> "Look":
        """Return what a name asks for: ``map``, ``peak-guided-repeat``, ``over-3-5-guided-repeat``.

        Raises:
            NotFound: it asks for nothing that there is.
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
                raise NotFound(f"'{name}' names no position: write over-Y-X-{method}-{unpooling}.")
            position = int(words[0]), int(words[1])
        return cls(kind, Rules(method, unpooling), position)


def looked_at(
    book: Book, image: str, layer: str, look: Look, channels: Sequence[int], form: str
) -> list[File]:
    """Draw features of a layer on an open image, carried back together.

    Raises:
        NotFound: there is no such image, layer, feature or position.
    """
    layer = book.layer(layer).name
    for channel in channels:
        book.feature(layer, channel)
    if isinstance(look.position, tuple):
        example_box(book, layer, look.position)
    if look.rules is None:
        maps = book.live.maps(opened_image(book, image), layer).numpy()
        largest = float(maps.max(initial=0.0))
        book.live.close(image)
        return [encoded(heat(maps[one], largest), form, exact=True) for one in channels]
    signals = carried(book, image, layer, look, channels)
    return [_drawn(book, image, layer, look, one, form) for one in signals]


def carried(
    book: Book, image: str, layer: str, look: Look, channels: Sequence[int]
) -> list[Projection]:
    """Carry features back from an open image; what was carried back before is remembered."""
    assert look.rules is not None
    kept = book.stores.signals

    def key(channel: int) -> tuple[object, ...]:
        return (book.name, image, layer, channel, look.position, look.rules)

    found = {one: kept.get(key(one)) for one in channels}
    missing = [one for one, signals in found.items() if signals is None]
    if missing:
        opened = opened_image(book, image)
        made = book.live.project(opened, layer, missing, look.position, look.rules)
        book.live.close(image)
        for channel, signal in zip(missing, made, strict=True):
            found[channel] = kept.put(key(channel), [signal])
    return [signals[0] for signals in found.values() if signals is not None]


def _drawn(book: Book, image: str, layer: str, look: Look, signal: Projection, form: str) -> File:
    whole: Float[np.ndarray, "c h w"] = signal.full().float().cpu().numpy()
    if look.kind == "over":
        return encoded(overlay(whole, image_pixels(book, image)), form)
    if look.kind == "tile" and isinstance(look.position, tuple):
        tiles = book.tiles(layer)
        return encoded(tiles.signal(whole, example_box(book, layer, look.position)), form, True)
    return encoded(signed_to_rgb(whole), form, exact=max(whole.shape[1:]) <= 96)
