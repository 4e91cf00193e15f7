"""The comparison of two atlases, and a feature through a series of atlases."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import isnan
from typing import Literal

import numpy as np

from rot180.atlas.compare import LIKE, Comparison, compare, correlated, shared_peaks
from rot180.errors import Rot180Error, suggest
from rot180.visible import visible
from rot180.web.collection import AtlasCollection, ServedAtlas
from rot180.web.errors import NotFound
from rot180.web.names import layer_of
from rot180.web.views.network import Availability


@dataclass(frozen=True)
class Pair:
    """A feature of the first atlas and its most correlated feature of the second.

    Attributes:
        channel: feature of the first atlas.
        other: feature of the second; None if the first never varies.
        correlation: correlation of their peaks over the images that both sampled; None likewise.
        mutual: whether the first is also the best match of the second.
    """

    channel: int
    other: int | None
    correlation: float | None
    mutual: bool


@dataclass(frozen=True)
class ComparedAtlas:
    """One of the two atlases of a comparison.

    Attributes:
        atlas, model: their names.
        layers: its layers.
        layer: the compared layer.
        names: names of its features if they are class scores; else empty.
        projected: whether its network is available, or may become so.
    """

    atlas: str
    model: str
    layers: list[str]
    layer: str
    names: list[str]
    projected: bool


@dataclass(frozen=True)
class CompareView:
    """How the features of two layers correspond.

    Attributes:
        atlases: names of all served atlases.
        first, second: the two sides.
        reason: why the comparison is impossible; "" if it is possible.
        images: number of images of the correlations.
        pairs: a pair for each feature of the first, most similar first.
        mutual: number of pairs that are each other's best match.
        middle: the median correlation; None if there is none.
        vanished, appeared: features of the first, of the second, without a counterpart.
        died, revived: features that fire only in the first, only in the second, by number.
        like: the correlation from which on features count as counterparts.
    """

    atlases: list[str]
    first: ComparedAtlas
    second: ComparedAtlas
    reason: str
    images: int
    pairs: list[Pair]
    mutual: int
    middle: float | None
    vanished: list[int]
    appeared: list[int]
    died: list[int]
    revived: list[int]
    like: float


@dataclass(frozen=True)
class SeriesStep:
    """A feature in one atlas of a series.

    Attributes:
        atlas: the atlas.
        channel: its number there; None if no feature matches.
        title: its title there; "" likewise.
        correlation: with the stage before, over the images that both have sampled; None for the
            first, and where one of them never varies.
        maximum, firing_images: its largest activation, and the share of images it fires on.
    """

    atlas: str
    channel: int | None
    title: str
    correlation: float | None
    maximum: float | None
    firing_images: float | None


@dataclass(frozen=True)
class SeriesView:
    """A feature through the atlases in their order.

    Attributes:
        of: the atlas of the feature.
        layer, channel: the feature in that atlas.
        title: its title, as "fc · tench (0)", or "conv1, feature 3".
        channels: number of features of the layer.
        layers: the layers that this atlas shares with others.
        follow: "number" (the same number everywhere) or "likeness" (from each atlas to the next,
            seen from this one, the feature that goes with it most).
        at: which stage is shown first.
        steps: in the order of the atlases.
        projected: whether the networks are available.
    """

    of: str
    layer: str
    channel: int
    title: str
    channels: int
    layers: list[str]
    follow: Literal["number", "likeness"]
    at: int
    steps: list[SeriesStep]
    projected: bool


def compare_view(
    collection: AtlasCollection, first: str = "", second: str = "", layer: str = "", other: str = ""
) -> CompareView:
    """Compare a layer of an atlas with a layer of another; arguments that are "" get a default.

    Raises:
        NotFound: there are no two atlases, or no such atlas or layer.
    """
    names = list(collection)
    if len(names) < 2:
        raise NotFound(
            "A comparison needs two atlases or more, as in 'rot180 serve early.atlas late.atlas'."
        )
    one = collection[first or names[0]]
    two = collection[second or next(name for name in reversed(names) if name != one.name)]
    layer = one.layer(layer).name if layer else _usual(one, two)
    other = other or (layer if layer in two.atlas.layers else next(iter(two.atlas.layers)))
    layer, other = one.layer(layer).name, two.layer(other).name
    sides = _side(one, layer), _side(two, other)
    try:
        found = cached_comparison(one, two, layer, other)
    except Rot180Error as error:
        return CompareView(names, *sides, str(error), 0, [], 0, None, [], [], [], [], LIKE)
    pairs = [
        Pair(m.channel, m.other, None if m.other is None else m.correlation, m.mutual)
        for m in found.matches
    ]
    pairs.sort(key=lambda pair: (pair.correlation is None, -(pair.correlation or 0), pair.channel))
    known = [pair.correlation for pair in pairs if pair.correlation is not None]
    return CompareView(
        names,
        *sides,
        "",
        found.images,
        pairs,
        sum(pair.mutual for pair in pairs),
        float(np.median(known)) if known else None,
        list(found.vanished),
        list(found.appeared),
        list(found.died),
        list(found.revived),
        LIKE,
    )


def _side(served: ServedAtlas, layer: str) -> ComparedAtlas:
    return ComparedAtlas(
        served.name,
        visible(served.atlas.model),
        list(served.atlas.layers),
        layer,
        list(served.atlas.names_of(layer)),
        Availability.of(served).state != "absent",
    )


def _usual(one: ServedAtlas, two: ServedAtlas) -> str:
    """Return the second layer that both have, or the first, or any."""
    common = [name for name in one.atlas.layers if name in two.atlas.layers]
    return (common[1:2] or common or list(one.atlas.layers))[0]


@lru_cache(maxsize=64)
def cached_comparison(one: ServedAtlas, two: ServedAtlas, layer: str, other: str) -> Comparison:
    """Compare two layers; the result is cached."""
    (found,) = compare(one.atlas, two.atlas, layer, other)
    return found


def series_view(
    collection: AtlasCollection,
    layer: str = "",
    channel: int = 0,
    follow: str = "number",
    at: int | None = None,
    of: str = "",
) -> SeriesView:
    """Follow a feature of one atlas through all others over the same data, in their order.

    Args:
        collection: the atlases.
        layer, channel: the feature; layer "" is one that all of them have.
        follow: "number" or "likeness"; see :class:`SeriesView`.
        at: which stage is shown first; None: that of the feature's own atlas.
        of: the feature's own atlas; "": the last.

    Raises:
        NotFound: there are no two atlases with a layer in common, or no such layer or feature.
    """
    if not collection:
        raise NotFound(_NO_SERIES)
    own = collection[of or next(reversed(collection.atlases))]
    atlases = [collection[name] for name in collection.comparable_with(own.name)]
    common = [
        name
        for name in own.atlas.layers
        if sum(name in served.atlas.layers for served in atlases) > 1
    ]
    if not common:
        raise NotFound(_NO_SERIES)
    layer = layer_of(layer, common) or layer
    if layer and layer not in common:
        raise NotFound(
            f"No two atlases over the data of {own.name} have a layer '{layer}'. They have: "
            f"{suggest(common, layer)}."
        )
    layer = layer or common[min(1, len(common) - 1)]
    atlases = [served for served in atlases if layer in served.atlas.layers]
    own.feature(layer, channel)
    if follow not in FOLLOW:
        raise NotFound(f"Features are matched by 'number' or by 'likeness', not by '{follow}'.")
    place = atlases.index(own)
    before = _followed(list(reversed(atlases[: place + 1])), layer, channel, follow)
    after = _followed(atlases[place:], layer, channel, follow)
    channels = [*reversed(before), *after[1:]]
    steps = []
    for number, (served, one) in enumerate(zip(atlases, channels, strict=True)):
        last = (atlases[number - 1], channels[number - 1]) if number else None
        steps.append(_series_step(served, layer, one, last))
    return SeriesView(
        own.name,
        layer,
        channel,
        own.atlas.title(layer, channel),
        len(own.layer(layer)),
        common,
        "number" if follow == "number" else "likeness",
        place if at is None else max(0, min(at, len(steps) - 1)),
        steps,
        all(served.model.state != "absent" for served in atlases),
    )


_NO_SERIES = "A series needs two atlases or more over the same data with a layer in common."
FOLLOW = ("number", "likeness")


def _followed(
    atlases: Sequence[ServedAtlas], layer: str, channel: int, follow: str
) -> list[int | None]:
    """Follow a feature of the first atlas through the others; None once nothing goes with it."""
    found: list[int | None] = [channel]
    for served, next_ in pairwise(atlases):
        last = found[-1]
        if follow == "number":
            found.append(channel if channel < len(next_.layer(layer)) else None)
        elif last is None:
            found.append(None)
        else:
            found.append(cached_comparison(served, next_, layer, layer).matches[last].other)
    return found


def _series_step(
    served: ServedAtlas,
    layer: str,
    channel: int | None,
    before: tuple[ServedAtlas, int | None] | None,
) -> SeriesStep:
    if channel is None:
        return SeriesStep(served.name, None, "", None, None, None)
    correlation = None
    if before is not None and before[1] is not None:
        correlation = _correlation(before[0], served, layer, before[1], channel)
    feature = served.feature(layer, channel)
    return SeriesStep(
        served.name, channel, feature.title, correlation, feature.max, feature.firing_images
    )


def _correlation(
    one: ServedAtlas, two: ServedAtlas, layer: str, channel: int, other: int
) -> float | None:
    """Correlate the peaks of two features; None where one never varies."""
    a, b = shared_peaks(one.atlas, two.atlas, layer, layer)
    found = float(correlated(a[:, [channel]], b[:, [other]])[0, 0])
    return None if isnan(found) else found
