"""A feature through a series of atlases: its data, its page, and its JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isnan
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from rot180.atlas.compare import common_peaks, correlation_matrix
from rot180.errors import suggest
from rot180.web.collection import AtlasCollection, ServedAtlas
from rot180.web.errors import NotFound
from rot180.web.names import layer_of
from rot180.web.pages.compare import cached_comparison
from rot180.web.requests import explorer, html
from rot180.web.templates import render
from rot180.web.urls import Urls

router = APIRouter(tags=["comparison"])


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
    a, b = common_peaks(one.atlas, two.atlas, layer, layer)
    found = float(correlation_matrix(a[:, [channel]], b[:, [other]])[0, 0])
    return None if isnan(found) else found


def series_page(urls: Urls, view: SeriesView) -> str:
    """Return the page of a feature through all atlases."""
    state = {
        "of": view.of,
        "layer": view.layer,
        "channel": view.channel,
        "follow": view.follow,
    }
    return render(
        "series.html",
        urls=urls,
        view=view,
        tiles=[urls.tile(one.atlas, view.layer, "{channel}", "{show}") for one in view.steps],
        json_link=f"/series.json{urls.query(**state)}",
    )


@router.get("/series.json")
def series(
    request: Request,
    layer: str = "",
    channel: int = 0,
    follow: Annotated[str, Query(description="number or likeness.")] = "number",
    at: int | None = None,
    of: Annotated[str, Query(description="Name of the feature's atlas; else the last.")] = "",
) -> SeriesView:
    """Follow a feature of an atlas through the others over the same data."""
    return series_view(explorer(request).collection, layer, channel, follow, at, of)


@router.get("/series", include_in_schema=False)
def show_series(
    request: Request,
    layer: str = "",
    channel: int = 0,
    follow: str = "number",
    at: int | None = None,
    of: str = "",
) -> HTMLResponse:
    """Show a feature through all atlases."""
    view = series(request, layer, channel, follow, at, of)
    return html(series_page(explorer(request).urls, view))
