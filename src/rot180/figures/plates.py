"""Plates of a layer's features: the patches that excite each most, beside their projections.

After figure 2 of Zeiler & Fergus, Visualizing and understanding convolutional networks, ECCV 2014:
for each feature, the patches of images that its strongest units see, and beside them the
projections of these units to pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rot180.atlas.atlas import Atlas
from rot180.atlas.describe import describe_feature, describe_firing
from rot180.atlas.feature import AtlasLayer, Example, Feature
from rot180.atlas.images import AtlasImages
from rot180.atlas.model import ScannedModel
from rot180.atlas.sorting import sort_order
from rot180.errors import Rot180Error, as_int
from rot180.figures.projector import LayerProjector
from rot180.figures.sheet import MARGIN, Sheet, drawable, shortened
from rot180.figures.tiles import Tile, Tiles
from rot180.projection.imaging import scale_of
from rot180.projection.rules import rules as named_rules

MOST = 9
"""Maximal number of examples shown for each feature."""
_GAP, _FINE = 4, 2
"""Between tiles and around them, in pixels of a picture, of which so many make one of the sheet."""
_BETWEEN, _APART, _WORDS = 6, 28, 52
"""Patches and projections, one feature and the next, the words below: in pixels of the sheet."""
_SMALL, _LINE = 10.5, 15
_MOUNT = (118, 118, 118, 56)
"""What tiles lie on: seen on white and on black, and between white tiles and between black ones."""


def patches(
    atlas: Any,
    layer: Any,
    model: Any = None,
    *,
    features: Any = None,
    sort: Any = None,
    most: Any = None,
    method: Any = "auto",
    unpool: Any = "switches",
    masked: Any = False,
    data: Any = None,
    name: Any = "patches",
) -> Iterator[Sheet]:
    """Draw the strongest patches of a layer's features, and these units projected back to pixels.

    Features that never fire are left out, and the caption says how many. The ``numbers`` of each
    sheet hold ``page`` and ``pages``, so that the first tells how many are to come.

    Args:
        atlas: from :func:`rot180.open`, with pictures.
        layer: name of one of its layers.
        model: the model that was scanned, as :func:`rot180.load` gives it; None: patches alone.
        features: their numbers, in the order in which to show them; None: all.
        sort: an order by a statistic, such as "strongest"; see
            :data:`rot180.atlas.sorting.SORT_ORDERS`.
        most: show so many features at most.
        method, unpool: see :func:`rot180.project`.
        masked: whether patches fade where the projection has no energy; with a model only.
        data: the data set that was scanned, to take the images from it instead of from the atlas.
        name: of the files, to which the number of the page is added.

    Yields:
        The pages. Each is computed when it is asked for.

    Raises:
        Rot180Error: there is no such layer, feature, order or method, the atlas holds no pictures
            and there is no data, or the model or the data are not those of the atlas. All this is
            found before the first page.
    """
    if not isinstance(atlas, Atlas):
        raise Rot180Error(f"The atlas is what rot180.open returns, not {type(atlas).__name__}.")
    part = atlas[layer]
    limit = len(part) if most is None else as_int(most, "The number of features to show")
    if limit < 1:
        raise Rot180Error(f"At least one feature is shown; this would be {limit}.")
    chosen = _chosen(atlas, part, features, sort)
    alive = [one for one in chosen if one.firing[:MOST]]
    if not alive:
        raise Rot180Error(
            f"None of the {len(chosen)} features of layer '{part.name}' that were asked for fires "
            f"on any image of {atlas.path}: there is nothing to show."
        )
    which = f"{len(alive)} features" if len(alive) <= limit else f"{limit} of {len(alive)} features"
    which += "" if sort is None else f", sorted as {sort},"
    source, rules = AtlasImages(atlas, data), named_rules(method, unpool)
    projector = (
        None
        if model is None
        else LayerProjector(ScannedModel.for_atlas(atlas, model), part.name, rules)
    )
    shown, silent = tuple(alive[:limit]), len(chosen) - len(alive)
    if masked and projector is None:
        raise Rot180Error("Masked patches are made by projections, for which the model is needed.")
    plates = _Plates(atlas, part, source, projector, shown, silent, which, bool(masked))
    return plates.sheets(str(name))


def _chosen(atlas: Atlas, layer: AtlasLayer, features: Any, sort: Any) -> list[Feature]:
    """Return the features that are asked for, in order."""
    numbers = list(range(len(layer)))
    if features is not None:
        if isinstance(features, str) or not hasattr(features, "__iter__"):
            raise Rot180Error(f"The features are a list of their numbers, not {features!r}.")
        numbers = list(dict.fromkeys(as_int(one, "A feature") for one in features))
        for one in numbers:
            if not 0 <= one < len(layer):
                raise Rot180Error(
                    f"Layer '{layer.name}' has no feature {one}: it has {len(layer)} features, 0 "
                    f"to {len(layer) - 1}."
                )
        if not numbers:
            raise Rot180Error("The list of features is empty: leave it out to see all of them.")
    found = [layer[one] for one in numbers]
    if sort is None:
        return found
    column, direction = sort_order(sort)
    known = [one for one in found if one.statistics[column] is not None]
    if not known:
        raise Rot180Error(
            f"{atlas.path} holds nothing by which to sort as '{sort}': its {column} is empty. "
            "(Classes need images of at least two of them.)"
        )
    sign = -1 if direction == "DESC" else 1
    known.sort(key=lambda one: (sign * one.statistics[column], one.channel))
    return known + [one for one in found if one.statistics[column] is None]


@dataclass(frozen=True)
class _Block:
    """The tiles of one feature, in rows and columns; in pixels of the sheet where nothing is said.

    Attributes:
        tiles: of the layer.
        most: how many there are at most.
        pairs: whether there is a second such block, of projections, beside it.
        lines: of words below.
    """

    tiles: Tiles
    most: int
    pairs: bool
    lines: int

    @property
    def across(self) -> int:
        """How many tiles stand side by side."""
        return ceil(sqrt(self.most))

    @property
    def down(self) -> int:
        """How many stand one below the other."""
        return -(-self.most // self.across)

    @property
    def height(self) -> float:
        """Of the tiles."""
        return (self.down * (self.tiles.height + _GAP) + _GAP) / _FINE

    @property
    def width(self) -> float:
        """Of the tiles."""
        return (self.across * (self.tiles.width + _GAP) + _GAP) / _FINE

    @property
    def whole(self) -> float:
        """The width of all that belongs to a feature."""
        return 2 * self.width + _BETWEEN if self.pairs else self.width

    @property
    def page(self) -> tuple[int, int]:
        """How many features stand one below the other on a page, and how many side by side."""
        return (6, 3) if self.pairs else (4, 5)

    def corner(self, place: int) -> tuple[float, float]:
        """Return x and y of the upper left corner of a feature on its page."""
        row, column = divmod(place, self.page[1])
        return MARGIN + column * (self.whole + _APART), row * (self.height + self.words)

    @property
    def words(self) -> int:
        """The height of the words below a feature, and of the gap to the next."""
        return _WORDS + _LINE * (self.lines - 2)

    def sheet(self, name: str, title: str, features: int, lines: int) -> Sheet:
        """Return a sheet that has room for features, and lines of words below them."""
        columns = self.page[1]
        wide = 2 * MARGIN + columns * (self.whole + _APART) - _APART
        high = -(-features // columns) * (self.height + self.words) + 20 + _LINE * (lines - 1)
        return Sheet(name, title, ceil(wide), ceil(high))

    def together(self, tiles: Sequence[Tile]) -> UInt8[np.ndarray, "rows columns 4"]:
        """Lay tiles out on their mount, which is seen where they are empty."""
        high, wide = self.tiles.height + _GAP, self.tiles.width + _GAP
        block = np.empty((self.down * high + _GAP, self.across * wide + _GAP, 4), np.uint8)
        block[:] = _MOUNT
        for place, tile in enumerate(tiles):
            y, x = _GAP + place // self.across * high, _GAP + place % self.across * wide
            part = block[y : y + self.tiles.height, x : x + self.tiles.width]
            part[:] = np.where(tile[..., 3:], tile, part)
        return block


@dataclass(frozen=True)
class _Plates:
    """All pages of a layer.

    Attributes:
        atlas, layer: whose features these are.
        source: of the images.
        projector: None for patches alone.
        features: those to show, with their examples.
        silent: how many of those that were asked for never fire.
        which: features these are, in words.
    """

    atlas: Atlas
    layer: AtlasLayer
    source: AtlasImages
    projector: LayerProjector | None
    features: tuple[Feature, ...]
    silent: int
    which: str
    masked: bool

    def sheets(self, name: str) -> Iterator[Sheet]:
        """Draw page after page."""
        most = max(len(one.firing[:MOST]) for one in self.features)
        pairs = self.projector is not None
        lines = (1 if pairs else 2) + any(
            describe_feature(self.atlas, one) for one in self.features
        )
        block = _Block(Tiles(self.layer, self.atlas.size), most, pairs, lines)
        each = block.page[0] * block.page[1]
        pages = -(-len(self.features) // each)
        for page in range(pages):
            some = self.features[page * each : (page + 1) * each]
            title = f"Layer {drawable(self.layer.name)}: what excites its features"
            number = f"{page + 1:0{len(str(pages))}}"
            sheet = block.sheet(f"{name}-{number}", title, len(some), 2)
            high, wide = self.layer.receptive_field
            head = f"receptive field {high}x{wide} pixels"
            sheet.head(head if pages == 1 else f"{head}, page {page + 1} of {pages}")
            sheet.caption = self._caption(block)
            sheet.numbers = self._about() | {"page": page + 1, "pages": pages}
            sheet.numbers["features"] = self._drawn(sheet, block, some)
            for line, words in enumerate(reversed(self._foot(sheet, block))):
                sheet.text(MARGIN, sheet.foot - _LINE * line, words, _SMALL)
            yield sheet

    def _drawn(
        self, sheet: Sheet, block: _Block, features: Sequence[Feature]
    ) -> list[dict[str, Any]]:
        """Draw a page of features, and return what they are."""
        units = [(one.channel, example) for one in features for example in one.firing[:MOST]]
        images = sorted({one.image for _, one in units})
        pixels = {image: self.source.pixels(image) for image in images}
        back = None if self.projector is None else self.projector.project(units, pixels)
        found = []
        for place, feature in enumerate(features):
            (x, y), shown = block.corner(place), feature.firing[:MOST]
            tiles = [block.tiles.patch(pixels[one.image], one) for one in shown]
            about: list[dict[str, Any]] = [_as_numbers(one) for one in shown]
            if back is not None:
                signals = []
                for n, (unit, example) in enumerate(zip(about, shown, strict=True)):
                    projection = next(back)
                    signal = projection.full().float().cpu().numpy()
                    unit["method"] = projection.rules.method
                    unit["scale"] = scale_of(signal)
                    signals.append(block.tiles.signal(signal, example))
                    if self.masked:
                        tiles[n] = block.tiles.masked(pixels[example.image], signal, example)
                right = x + block.width + _BETWEEN
                sheet.picture(right, y, block.together(signals), 1 / _FINE)
            sheet.picture(x, y, block.together(tiles), 1 / _FINE)
            self._write(sheet, block, place, feature)
            words = {
                "words": drawable(describe_feature(self.atlas, feature)),
                "fires": describe_firing(self.atlas, feature),
            }
            statistics = feature.statistics
            called = {"channel": feature.channel, "title": feature.title}
            found.append({**called, **words, **statistics, "units": about})
        return found

    def _write(self, sheet: Sheet, block: _Block, place: int, feature: Feature) -> None:
        """Write below a feature: its number, how often it fires, its largest activation, and more.

        Where there is little room, how often it fires has a line of its own.
        """
        x, y = block.corner(place)
        line, number = y + block.height + 12, f"{feature.channel}"
        if feature.name:
            behind = f" ({feature.channel})"
            room = block.whole * (0.5 if block.pairs else 0.8) - 9 * len(behind)
            number = shortened(feature.name, room, 12, "bold") + behind
        sheet.text(x, line, number, 12, weight="bold")
        sheet.text(x + block.whole, line, f"{feature.firing[0].activation:.3g}", _SMALL, ha="right")
        fires, says = describe_firing(self.atlas, feature), describe_feature(self.atlas, feature)
        if block.pairs:
            sheet.text(x + 9 * len(number) + 6, line, fires, _SMALL)
            sheet.text(x, line + _LINE, shortened(says, block.whole, _SMALL), _SMALL)
            return
        room = block.whole + _APART / 2
        for down, words in enumerate((fires, says), 1):
            sheet.text(x, line + _LINE * down, shortened(words, room, _SMALL - 1), _SMALL - 1)

    def _foot(self, sheet: Sheet, block: _Block) -> list[str]:
        """Return the two lines below the plates."""
        inside = block.tiles.whole or block.tiles.effective is not None
        border = "" if inside else " (less at the image's border)"
        seen = f"what the units that fire strongest see, best first{border}."
        below = "Below: the feature's number, where it fires, its largest activation."
        if self.projector is None:
            return [f"Of each feature {seen}", below]
        left = (
            f"Left: {seen} Right: these units projected back to pixels; zero is grey, own scales."
        )
        if not self.projector.depends_on_image(self.projector.rules.method):
            below += " These projections do not depend on the image, only on the feature."
        elif any(unit["scale"] == 0 for one in sheet.numbers["features"] for unit in one["units"]):
            below += " All grey: the projection is zero."
        return [left, below]

    def _caption(self, block: _Block) -> str:
        atlas, layer = self.atlas, self.layer
        height, width = layer.receptive_field
        found = (
            f"Layer {layer.name} of {atlas.model or 'a network'}: for each of "
            f"{self.which} the {block.most} images with the largest "
            f"activations, of {atlas.scanned} of {atlas.data}, best first; of each what the unit "
            f"at the peak sees ({height}x{width} pixels)."
        )
        if block.tiles.effective is not None:
            side = block.tiles.effective
            found += (
                f" The tiles show {side}x{side} pixels around each unit, where most of what "
                "matters to it lies: a little more than the typical effective receptive field."
            )
        if any(unit.effective for one in self.features for unit in one.firing[:MOST]):
            found += (
                " Examples whose effective receptive field was measured show that: the square that "
                "holds 80 % of the energy of the projection."
            )
        if self.masked:
            found += " The patches fade where the projection has no energy."
        if self.silent:
            found += f" Features that never fire are left out: {self.silent}."
        if block.tiles.whole:
            found += " That is all of the image."
        elif block.tiles.effective is None:
            found += " A tile is empty where that reaches over the border of the image."
        projector = self.projector
        if projector is not None:
            method, unpooling = projector.rules.method, projector.rules.unpooling
            found += (
                f" On the right these units projected back to pixels (method {method}, unpooling "
                f"by {unpooling}); zero is mid-grey, each on its own scale, the 99.5th percentile "
                "of its absolute values."
            )
            if not projector.depends_on_image(method):
                found += (
                    " These projections do not depend on the image: those of a feature differ "
                    "only in strength, and at the border"
                )
                other = method != "guided" and projector.depends_on_image("guided")
                found += "; the method guided shows what made each fire." if other else "."
            if not projector.scanned.same_preprocessing:
                found += " The images are normalised differently than in the scan."
        if self.source.compressed:
            found += (
                " The pictures in the atlas are compressed, and differ slightly from those scanned."
            )
        return drawable(found)

    def _about(self) -> dict[str, Any]:
        projector = self.projector
        return {
            "layer": self.layer.name,
            "model": self.atlas.model,
            "data": self.atlas.data,
            "images": self.atlas.scanned,
            "receptive_field": self.layer.receptive_field,
            "method": None if projector is None else projector.rules.method,
            "unpooling": None if projector is None else projector.rules.unpooling,
            "silent": self.silent,
        }


def _as_numbers(one: Example) -> dict[str, Any]:
    return {
        "image": one.image,
        "position": one.position,
        "box": one.box,
        "effective": one.effective,
        "activation": one.activation,
    }
