"""Tiles of one size for what the units of a layer see, with every peak at the same place.

A unit at the border sees less of the image than its receptive field: what is there is put where it
would be if the image went on, and the rest of the tile stays empty. Where the receptive field is as
high or as wide as the image, the tile shows all of the image along that side instead.

Of a large receptive field few pixels matter. Where an example's own effective receptive field was
measured (see :mod:`rot180.atlas.effective_fields`), its tile shows that square. Elsewhere, if the
typical effective size at the layer is known (see :mod:`rot180.projection.effective`) and clearly
smaller, a tile shows a square of that size around the place of the unit, moved inwards at the
border.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import Image

from rot180.atlas.feature import AtlasLayer, Example
from rot180.graph.box import Box, Span
from rot180.projection.effective import LARGE_FIELD
from rot180.projection.imaging import opacity, signed_to_rgb

Tile = UInt8[np.ndarray, "h w 4"]
"""Red, green, blue, and 255 where there is something, 0 where the tile is empty."""

_USUAL, _LEAST, _MOST = 112, 96, 128
"""The longer side of a tile: the usual one, and the bounds of those that enlarge by whole factors;
in pixels of a picture."""

_SMALLER, _AROUND = 0.75, 1.25
"""Receptive fields of 64 pixels and more are cut to the typical effective size, if that is so much
smaller, and so much of what is around it is shown."""

_LEAST_OWN = 32
"""The least side of a square around an example's own effective receptive field, in pixels of the
image: smaller ones are recognised by their surroundings alone."""


class _Side(NamedTuple):
    """One axis of a layer's tiles, in pixels of the image.

    Attributes:
        size: of the image.
        extent: how much of it a tile shows.
        starts: where the tile of each row (or column) of the layer's map starts; before 0 for those
            that would reach over the border.
        cut: whether the tiles show less than the units see.
    """

    size: int
    extent: int
    starts: Int64[np.ndarray, " places"]
    cut: bool = False

    def nearest(self, pixel: int) -> int:
        """Return the row whose tile has its middle nearest to a pixel, if the image went on."""
        if self.extent == self.size:
            return min(pixel * len(self.starts) // self.size, len(self.starts) - 1)
        return int(np.abs(self.starts + (self.extent - 1) / 2 - pixel).argmin())

    def middle(self, place: int) -> int:
        """Return the pixel in the middle of a row's tile, or the nearest one inside the image."""
        if self.extent == self.size:
            return (2 * place + 1) * self.size // (2 * len(self.starts))
        middle = int(self.starts[place]) + (self.extent - 1) // 2
        return min(max(middle, 0), self.size - 1)

    def shown(self, span: Span, place: int) -> Span:
        """Return what a tile shows of the image, of a unit in a row that sees a span of it."""
        if self.cut:
            return Span(int(self.starts[place]), int(self.starts[place]) + self.extent)
        return Span(0, self.size) if self.extent == self.size else span

    def effective(self, extent: int) -> "_Side":
        """Return the side of tiles that show so much of the image around the place of each unit."""
        middles = np.array([self.middle(place) for place in range(len(self.starts))])
        starts = np.clip(middles - extent // 2, 0, self.size - extent)
        return _Side(self.size, extent, starts.astype(np.int64), True)


class Tiles:
    """The tiles of a layer.

    Attributes:
        height, width: in pixels of a picture.
        factor: pixels of the picture for each of the image: a whole number, or one below or above 1
            that a filter (Lanczos) makes.
        whole: whether every tile without an effective field of its own shows the whole image.
        effective: the side of the square that tiles are cut to, in pixels of the image; None: they
            show the receptive fields.
    """

    def __init__(
        self, layer: AtlasLayer, size: tuple[int, int], receptive_fields: bool = False
    ) -> None:
        """Lay out the tiles of a layer.

        Args:
            layer: the layer.
            size: (height, width) of the image, in pixels.
            receptive_fields: whether tiles show the theoretical receptive fields all the same.
        """
        self._sides = tuple(
            _side(spans, nominal, every, length)
            for spans, nominal, every, length in zip(
                layer.fields, layer.receptive_field, layer.stride, size, strict=True
            )
        )
        self._seen = self._sides
        large = max(one.extent for one in self._sides) >= LARGE_FIELD
        self._large = large and not receptive_fields
        extents = [one.extent for one in self._sides]
        self.effective = None if receptive_fields else _effective_side(layer, extents)
        if self.effective is not None:
            self._sides = tuple(one.effective(self.effective) for one in self._seen)
        extents = [one.extent for one in self._sides]
        self.factor = _factor(max(extents))
        self.height, self.width = (max(1, round(self.factor * one)) for one in extents)
        self.whole = all(one.extent == one.size for one in self._sides)

    def box(self, example: Example) -> Box:
        """Return the part of the image that a tile shows."""
        rows, columns = self._sides
        own = self._own(example)
        if own is not None:
            return Box.of(_grown(own.rows, rows.size), _grown(own.columns, columns.size))
        y, x = example.position
        return Box.of(rows.shown(example.box.rows, y), columns.shown(example.box.columns, x))

    def nearest(self, pixel: tuple[int, int]) -> tuple[int, int]:
        """Return the position of the layer's maps that lies nearest to a pixel (y, x) of the image.

        That is the one whose receptive field has its middle nearest to the pixel; where units see
        all of the image, the one that has the place in the map that the pixel has in the image.
        """
        rows, columns = self._seen
        return rows.nearest(pixel[0]), columns.nearest(pixel[1])

    def middle(self, position: tuple[int, int]) -> tuple[int, int]:
        """Return the pixel (y, x) in the middle of what a unit sees, or nearest to it."""
        rows, columns = self._seen
        return rows.middle(position[0]), columns.middle(position[1])

    def patch(self, pixels: UInt8[np.ndarray, "height width c"], example: Example) -> Tile:
        """Show what an example's unit sees of its image."""
        box = self.box(example)
        cut = pixels[box.top : box.bottom, box.left : box.right]
        return self._placed(cut.repeat(3, axis=2) if cut.shape[2] == 1 else cut, example)

    def signal(self, signal: Float[np.ndarray, "c height width"], example: Example) -> Tile:
        """Show a signal at the size of the image likewise: zero as mid-grey, on its own scale."""
        box = self.box(example)
        cut = signal[:, box.top : box.bottom, box.left : box.right]
        if self._enlarges(example):
            return self._placed(signed_to_rgb(cut), example)
        # Made smaller before it is scaled: fine detail, which the filter weakens, stays visible.
        small = self._resized(np.moveaxis(cut, 0, -1).astype(np.float32), example)
        return self._placed(signed_to_rgb(np.moveaxis(small, -1, 0)), example, resize=False)

    def masked(
        self,
        pixels: UInt8[np.ndarray, "height width c"],
        signal: Float[np.ndarray, "c height width"],
        example: Example,
    ) -> Tile:
        """Show what an example's unit sees, fading where the signal has no energy."""
        box, tile = self.box(example), self.patch(pixels, example)
        cut = signal[:, box.top : box.bottom, box.left : box.right]
        if not cut.size:
            return tile
        alpha = np.rint(255 * opacity(cut)).astype(np.uint8)[..., None]
        there = tile[..., 3] > 0
        tile[..., 3] = self._placed(alpha.repeat(3, axis=2), example)[..., 0] * there
        return tile

    def _own(self, example: Example) -> Box | None:
        return example.effective if self._large else None

    def _enlarges(self, example: Example) -> bool:
        return self.factor == round(self.factor) and self._own(example) is None

    def _target(self, example: Example) -> Box:
        """Return where in the tile the box of the image comes to lie."""
        box, spans = self.box(example), []
        if self._own(example) is not None:
            return _centred(box, (self.height, self.width))
        for side, limit, span, place in zip(
            self._sides,
            (self.height, self.width),
            (box.rows, box.columns),
            example.position,
            strict=True,
        ):
            start = span.start - int(side.starts[place])
            first = min(round(self.factor * start), limit - 1)
            last = round(self.factor * (start + span.size))
            spans.append(Span(first, max(last, first + 1) if span.size else first))
        return Box.of(*spans)

    def _placed(
        self, picture: UInt8[np.ndarray, "a b 3"], example: Example, resize: bool = True
    ) -> Tile:
        tile = np.zeros((self.height, self.width, 4), np.uint8)
        at = self._target(example)
        if at.height and at.width:
            shown = self._resized(picture, example) if resize else picture
            part = tile[at.top : at.bottom, at.left : at.right]
            part[..., :3], part[..., 3] = shown, 255
        return tile

    def _resized(self, values: np.ndarray, example: Example) -> np.ndarray:
        """Resize a part of an image, bytes or floating-point, to its size in the tile."""
        at = self._target(example)
        if self._enlarges(example):
            return values.repeat(int(self.factor), axis=0).repeat(int(self.factor), axis=1)
        if not values.size:
            return np.zeros((at.height, at.width, values.shape[2]), values.dtype)
        planes = [
            Image.fromarray(np.ascontiguousarray(values[..., channel])).resize(
                (at.width, at.height), Image.Resampling.LANCZOS
            )
            for channel in range(values.shape[2])
        ]
        return np.stack([np.asarray(one) for one in planes], axis=-1)


def _effective_side(layer: AtlasLayer, extents: Sequence[int]) -> int | None:
    """Return the effective size of a layer's receptive fields, where tiles are to be cut to it."""
    found = layer.faithfulness
    if found is None or max(extents) < LARGE_FIELD:
        return None
    side = max(1, round(_AROUND * found.effective))
    return side if side <= _SMALLER * min(extents) else None


def _grown(span: Span, size: int) -> Span:
    """Return a span around another one, inside an axis, of the least length that is shown."""
    length = min(max(span.size, _LEAST_OWN), size)
    start = min(max((span.start + span.stop - length) // 2, 0), size - length)
    return Span(start, start + length)


def _centred(box: Box, size: tuple[int, int]) -> Box:
    """Return where a box lies in a tile that it fills in its height or its width."""
    factor = min(size[0] / box.height, size[1] / box.width)
    spans = []
    for length, limit in zip((box.height, box.width), size, strict=True):
        shown = min(max(round(factor * length), 1), limit)
        spans.append(Span((limit - shown) // 2, (limit - shown) // 2 + shown))
    return Box.of(*spans)


def _side(spans: Int64[np.ndarray, "places 2"], nominal: int, every: float, size: int) -> _Side:
    """Find where the tiles start that their units' receptive fields would fill without a border."""
    lengths = spans[:, 1] - spans[:, 0]
    extent = min(size, max(1, nominal, int(lengths.max())))
    if extent == size:
        return _Side(size, extent, np.zeros(len(spans), np.int64))
    places = np.arange(len(spans))
    starts, stops = spans.T
    known, start = 0, int(starts[0])  # a row that tells where its field starts: the surest that is
    for good, first in (
        (lengths == extent, starts),
        (starts > starts.min(), starts),
        (stops < stops.max(), stops - extent),
    ):
        if good.any():
            known = int(good.argmax())
            start = int(first[known])
            break
    found = np.rint(start + (places - known) * every).astype(np.int64)
    # Whatever a network does at its border, nothing that a unit sees is cut off.
    return _Side(size, extent, np.clip(found, stops - extent, starts))


def _factor(longest: int) -> float:
    whole = max(1, round(_USUAL / longest))
    return float(whole) if _LEAST <= whole * longest <= _MOST else _USUAL / longest
