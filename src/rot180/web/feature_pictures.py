"""Pictures of features: the receptive fields of their strongest units, and their projections."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from jaxtyping import Float, UInt8

from rot180.atlas.feature import Example, Feature
from rot180.atlas.images import Pixels
from rot180.figures.tiles import Tile, Tiles
from rot180.projection.imaging import grid, scale_of, signed_to_rgb
from rot180.projection.result import Projection
from rot180.projection.rules import CHOICES, UNPOOLINGS, Rules
from rot180.web.collection import ServedAtlas
from rot180.web.errors import NotFound
from rot180.web.imaging import EncodedImage, encode

KINDS = ("patches", "fields", "masked", "projections", "mean")
_SINGLE = ("patch", "field", "mask", "projection")
_BY_RULES = ("mask", "masked", "projection", "projections")
COUNTS = (1, 4, 9)
_GAP = 4


@dataclass(frozen=True)
class FeaturePicture:
    """Which picture of a feature.

    Attributes:
        kind: "patch", "field", "mask" or "projection" (of one example); "patches", "fields",
            "masked" or "projections" (of the strongest; patches are cut to the effective receptive
            fields, fields are the theoretical ones, masked is the image where the projection has
            energy); "mean" (of the patches, and beside it of the projections).
        number: rank of the example, or number of examples.
        rules: method and unpooling; None for patches, and for a mean of patches alone.
    """

    kind: str
    number: int
    rules: Rules | None

    @classmethod
    def parse(cls, name: str) -> "FeaturePicture":
        """Parse the name of a picture: ``patches-4``, ``projection-0-guided-repeat``.

        Raises:
            NotFound: there is no such picture.
        """
        kind, _, rest = name.partition("-")
        words = rest.split("-") if rest else []
        with_rules = kind in _BY_RULES or (kind == "mean" and len(words) > 1)
        known = kind in (*KINDS, *_SINGLE) and len(words) == (3 if with_rules else 1)
        if not known or not (words[0].isdecimal() and words[0].isascii() and len(words[0]) < 4):
            raise NotFound(f"There is no picture '{name}' of a feature.")
        number, rules = int(words[0]), None
        if with_rules:
            if words[1] not in CHOICES or words[2] not in UNPOOLINGS:
                raise NotFound(f"There is no method and unpooling '{words[1]}-{words[2]}'.")
            rules = Rules(words[1], words[2])
        if kind in KINDS and number not in COUNTS:
            raise NotFound(f"A picture shows 1, 4 or 9 examples, not {number}.")
        return cls(kind, number, rules)

    @property
    def single(self) -> bool:
        """Whether it shows a single example."""
        return self.kind in _SINGLE


def picture_file(
    served: ServedAtlas, feature: Feature, picture: FeaturePicture, form: str
) -> EncodedImage:
    """Return a picture of a feature as an image file."""
    signals: list[Projection] = []
    if picture.rules is not None:
        most = max(COUNTS) if picture.single else picture.number
        signals = project_examples(served, feature, most, picture.rules)
    exact = picture.rules is not None or served.tiles(feature.layer).factor > 2
    return encode(draw(served, feature, picture, signals), form, exact)


def project_examples(
    served: ServedAtlas, feature: Feature, most: int, rules: Rules
) -> list[Projection]:
    """Project a feature's strongest units to pixels; the results are cached."""
    signals = served.caches.signals
    for count in (one for one in COUNTS if one >= most):
        found = signals.get((served.name, feature.number, count, rules))
        if found is not None:
            return found
    key = (served.name, feature.number, most, rules)
    return signals.put(key, served.model.examples(feature, most, rules))


def draw(
    served: ServedAtlas,
    feature: Feature,
    picture: FeaturePicture,
    signals: Sequence[Projection] = (),
) -> UInt8[np.ndarray, "h w 4"]:
    """Draw a picture of a feature.

    Args:
        served: the atlas of the feature.
        feature: the feature.
        picture: which picture of it.
        signals: the projections of its examples, if the picture shows them.

    Raises:
        NotFound: the feature has no such example, or the atlas has no images.
    """
    tiles = served.tiles(feature.layer, picture.kind in ("field", "fields"))
    examples = feature.firing
    if picture.single:
        if picture.number >= len(examples):
            raise NotFound(
                f"{feature.title} has {len(examples)} examples on "
                f"which it fires; there is no example {picture.number}."
            )
        example = examples[picture.number]
        if picture.rules is None:
            return tiles.patch(served.pixels(example.image), example)
        return _draw_projection(served, tiles, picture, example, signals[picture.number])
    some = examples[: picture.number]
    if picture.kind == "mean":
        return _means(served, tiles, some, signals[: len(some)])
    if picture.rules is None:
        made = [tiles.patch(served.pixels(one.image), one) for one in some]
    else:
        pairs = zip(some, signals, strict=False)
        made = [_draw_projection(served, tiles, picture, one, signal) for one, signal in pairs]
    return mosaic(made, picture.number, (tiles.height, tiles.width))


def _draw_projection(
    served: ServedAtlas, tiles: Tiles, picture: FeaturePicture, example: Example, signal: Projection
) -> Tile:
    """Draw the projection of an example, or the image where the projection has energy."""
    if picture.kind in ("mask", "masked"):
        return tiles.masked(served.pixels(example.image), _whole(signal), example)
    return tiles.signal(_whole(signal), example)


def _whole(signal: Projection) -> Float[np.ndarray, "c h w"]:
    found: np.ndarray = signal.full().float().cpu().numpy()
    return found


def mosaic(
    tiles: Sequence[Tile], room: int, size: tuple[int, int]
) -> UInt8[np.ndarray, "rows columns 4"]:
    """Arrange tiles in a square with room for so many; empty places are transparent."""
    empty = np.zeros((*size, 4), np.uint8)
    filled = [*tiles, *[empty] * (room - len(tiles))]
    return grid(filled, ceil(sqrt(room)), _GAP, between=0)


def _means(
    served: ServedAtlas, tiles: Tiles, examples: Sequence[Example], signals: Sequence[Projection]
) -> UInt8[np.ndarray, "rows columns 4"]:
    """Draw the mean of patches and of projections, if given, aligned at the peaks."""
    examples = [one._replace(effective=None) for one in examples]  # of one scale
    patches = [tiles.patch(served.pixels(one.image), one) for one in examples]
    made = [mean_tile(patches)] if patches else []
    if patches and signals:
        made.append(mean_signal(tiles, signals, examples))
    sides = 2 if signals else 1
    empty = np.zeros((tiles.height, tiles.width, 4), np.uint8)
    return grid([*made, *[empty] * (sides - len(made))], sides, _GAP, between=0)


def mean_tile(tiles: Sequence[Tile]) -> Tile:
    """Return the mean of tiles; each pixel averages the tiles that are not empty there."""
    stacked = np.stack(tiles).astype(np.float64)
    there = stacked[..., 3:] > 0
    count = there.sum(0)
    mean = (stacked[..., :3] * there).sum(0) / np.maximum(count, 1)
    alpha = np.where(count > 0, 255, 0)
    found: Tile = np.concatenate([np.rint(mean), alpha], axis=2).astype(np.uint8)
    return found


def mean_signal(tiles: Tiles, signals: Sequence[Projection], examples: Sequence[Example]) -> Tile:
    """Return the mean of projections, each divided by its own scale.

    So each image has the same weight, however strongly the feature fires on it.
    """
    drawn = []
    for signal, example in zip(signals, examples, strict=True):
        whole = _whole(signal)
        largest = scale_of(whole)
        drawn.append(tiles.signal(whole / largest if largest > 0 else whole, example))
    mean = mean_tile(drawn)
    # Grey is zero; the mean is scaled to the full range again.
    around = mean[..., :3].astype(np.float64) - 128
    largest = np.abs(around[mean[..., 3] > 0]).max(initial=0.0)
    if largest > 0:
        mean[..., :3] = np.rint(np.clip(128 + 127 * around / largest, 0, 255))
    return mean


def heat(map_: Float[np.ndarray, "h w"], largest: float) -> UInt8[np.ndarray, "h w 1"]:
    """Draw a feature's map in grey: black is 0 or below, white the largest activation."""
    share = np.clip(map_ / largest, 0, 1) if largest > 0 else np.zeros_like(map_)
    return _bytes(255 * share)[:, :, None]


def overlay(signal: Float[np.ndarray, "c h w"], pixels: Pixels) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a projection over its dimmed image, opaque where the projection is strong.

    Args:
        signal: the projection, in the size of the image.
        pixels: the image.
    """
    strength = np.abs(signal).max(0)[:, :, None]
    share = np.sqrt(strength / max(float(strength.max(initial=0.0)), 1e-30))
    dim = np.repeat(0.35 * pixels.mean(2, keepdims=True) + 25, 3, axis=2)
    return _bytes(dim * (1 - share) + signed_to_rgb(signal) * share)


def _bytes(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return found
