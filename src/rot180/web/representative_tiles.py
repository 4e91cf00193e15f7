"""Selects tiles that represent a layer: features that few images excite, in varied regions.

The largest activations alone are a poor choice: in the first layers they lie in the sky and at the
border, and if a rectifier has an upper limit, hundreds of features share them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from rot180.atlas.feature import AtlasLayer, Example, is_number
from rot180.errors import Rot180Error
from rot180.graph.box import Box
from rot180.web.collection import ServedAtlas

STRIP = 8
"""Number of tiles for a layer, and for a block of layers."""
_FEATURES, _RANKS = 16, 5
"""Features of each layer that are considered, and strongest images of each."""
_MEASURED = 64
"""Most images that are decoded to measure their variety."""
_VARIED, _FLAT = 64.0, 0.08
"""Standard deviation (of 255) from which on a region has the full variety of 1; and the variety
below which it counts as flat, and is chosen last."""
_PER_RANK, _PER_USE, _INSIDE = 0.05, 0.3, 0.5
"""Penalties for a lower rank and for a repeated image; bonus for a complete receptive field."""


@dataclass(frozen=True)
class RepresentativeTile:
    """A tile that represents a layer: the receptive field of a feature's unit on an example.

    Attributes:
        layer: name of the layer.
        channel: number of the feature.
        rank: rank of the example.
        image: number of its image.
    """

    layer: str
    channel: int
    rank: int
    image: int


class _Candidate(NamedTuple):
    """A candidate for a representative tile.

    Attributes:
        tile: the tile.
        box: the region of the image that it shows.
        score: its score, independent of other tiles.
        flat: whether its region has hardly any variety.
    """

    tile: RepresentativeTile
    box: Box
    score: float
    flat: bool = False


_CHOOSING = Lock()


def representative_tiles(served: ServedAtlas) -> dict[str, list[RepresentativeTile]]:
    """Choose tiles for every layer, of different features, images and classes if possible.

    Deep layers choose first, and an image that was chosen has a lower score for other layers.
    """
    with _CHOOSING:  # concurrent requests wait for one computation
        return _representative_tiles(served)


@lru_cache(maxsize=16)
def _representative_tiles(served: ServedAtlas) -> dict[str, list[RepresentativeTile]]:
    classes = _classes(served)
    found = _candidates(served, classes)
    varied = _variety(served, found)
    uses: Counter[int] = Counter()
    chosen: dict[str, list[RepresentativeTile]] = {}
    for name in reversed(served.atlas.layers):
        scored = []
        for one in found.get(name, ()):
            seen = varied.get((one.tile.image, one.box), 0.0)
            scored.append(one._replace(score=one.score + seen, flat=seen < _FLAT))
        chosen[name] = _chosen(scored, classes, uses)
        uses.update(one.image for one in chosen[name])
    return chosen


def _classes(served: ServedAtlas) -> Mapping[int, int | None]:
    """Return the class of each image by number."""
    found = served.atlas.rows("SELECT number, class FROM image")
    whole = all(isinstance(one, int) and isinstance(kind, int | None) for one, kind in found)
    served.atlas.check(whole, "image")
    return dict(found)


def _candidates(
    served: ServedAtlas, images: Mapping[int, int | None]
) -> dict[str, list[_Candidate]]:
    """Return the strongest examples of features that are strong on few images, for each layer.

    A feature is strong if it reaches half of the layer's largest activation; weaker features are
    used only if there are too few strong ones.
    """
    atlas = served.atlas
    features = atlas.rows(
        "WITH strong AS (SELECT layer AS of, MAX(max) AS most FROM feature GROUP BY layer) "
        "SELECT id, layer, channel, usual FROM (SELECT id, layer, channel, usual, ROW_NUMBER() "
        "OVER (PARTITION BY layer ORDER BY weak, usual, channel) AS place FROM (SELECT id, layer, "
        "channel, max < most / 2 AS weak, COALESCE(MAX(mean_peak, 0), 0) / max AS usual "
        "FROM feature JOIN strong ON layer = of WHERE max > 0)) WHERE place <= ?",
        _FEATURES,
    )
    known = {}
    for number, name, channel, usual in features:
        good = name in atlas.layers and isinstance(channel, int) and is_number(usual)
        atlas.check(good and 0 <= channel < len(atlas.layers[name]), "feature")
        known[number] = name, channel, float(usual)
    examples = atlas.rows(
        "SELECT feature, rank, image, y, x FROM json_each(?) CROSS JOIN example "
        "ON feature = value WHERE rank < ? AND activation > 0 ORDER BY feature, rank",
        json.dumps(list(known)),
        _RANKS,
    )
    found: dict[str, list[_Candidate]] = {}
    inner = {name: _inner(layer, atlas.size) for name, layer in atlas.layers.items()}
    boxes = {name: served.tiles(name) for name in atlas.layers}
    for number, rank, image, y, x in examples:
        name, channel, usual = known[number]
        layer = atlas.layers[name]
        whole = all(isinstance(one, int) for one in (rank, image, y, x))
        inside = whole and 0 <= y < layer.height and 0 <= x < layer.width
        atlas.check(inside and image in images, "example")
        rows, columns = inner[name]
        score = 1 - min(usual, 1.0) - _PER_RANK * rank + _INSIDE * bool(rows[y] and columns[x])
        tile = RepresentativeTile(name, channel, rank, image)
        example = Example(image, 0.0, (y, x), layer.fields.box((y, x)), 0.0)
        found.setdefault(name, []).append(_Candidate(tile, boxes[name].box(example), score))
    return found


def _inner(layer: AtlasLayer, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each row and column of the maps, whether its field lies inside the image."""
    return _whole(layer.fields.rows, size[0]), _whole(layer.fields.columns, size[1])


def _whole(spans: Int64[np.ndarray, "places 2"], size: int) -> np.ndarray:
    lengths = spans[:, 1] - spans[:, 0]
    longest: np.ndarray = lengths == lengths.max()
    free = longest & (spans[:, 0] > 0) & (spans[:, 1] < size)
    return free if free.any() else longest  # fields as large as the image always touch the border


def _variety(
    served: ServedAtlas, found: Mapping[str, Iterable[_Candidate]]
) -> dict[tuple[int, Box], float]:
    """Return the variety of the regions that tiles show, from 0 to 1.

    A region larger than half of its image is not measured; its variety is 0.5.
    """
    if served.pictures_missing:
        return {}
    height, width = served.atlas.size
    parts: dict[int, set[Box]] = {}
    for one in (one for some in found.values() for one in some):
        parts.setdefault(one.tile.image, set()).add(one.box)
    large = {
        (image, box): 0.5
        for image, boxes in parts.items()
        for box in boxes
        if 2 * box.height * box.width > height * width
    }
    small = {
        image: [box for box in boxes if (image, box) not in large] for image, boxes in parts.items()
    }
    most = sorted(small, key=lambda image: (-len(small[image]), image))[:_MEASURED]
    for image in (one for one in most if small[one]):
        try:
            pixels = served.pixels(image)
        except Rot180Error:  # a damaged picture; its own page shows the error
            continue
        for box in small[image]:
            every = max(1, min(box.height, box.width) // 16)
            part = pixels[box.top : box.bottom : every, box.left : box.right : every]
            spread = float(part.std(axis=(0, 1)).mean()) if part.size else 0.0
            large[image, box] = min(spread / _VARIED, 1.0)
    return large


def _chosen(
    candidates: list[_Candidate], classes: Mapping[int, int | None], uses: Mapping[int, int]
) -> list[RepresentativeTile]:
    """Choose tiles greedily: the best of those that are least like the tiles chosen so far."""
    left = [
        one._replace(score=one.score - _PER_USE * uses.get(one.tile.image, 0)) for one in candidates
    ]
    made: list[RepresentativeTile] = []

    def likeness(tile: RepresentativeTile) -> int:
        if any(one.image == tile.image for one in made):
            return 2
        kind = classes[tile.image]
        return int(kind is not None and any(classes[one.image] == kind for one in made))

    while left and len(made) < STRIP:
        best = min(left, key=lambda one: (one.flat, likeness(one.tile), -one.score)).tile
        made.append(best)
        left = [one for one in left if one.tile.channel != best.channel]
    return made
