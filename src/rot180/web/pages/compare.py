"""The comparison of two atlases: its data, its page, and its JSON."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from rot180.atlas.compare import MATCH_THRESHOLD, Comparison, compare
from rot180.errors import Rot180Error
from rot180.visible import visible
from rot180.web.collection import AtlasCollection, ServedAtlas
from rot180.web.errors import NotFound
from rot180.web.formulas import CORRELATION
from rot180.web.requests import From, explorer, html
from rot180.web.templates import render
from rot180.web.urls import Urls
from rot180.web.views.network import Availability

router = APIRouter(tags=["comparison"])

First = Annotated[str, Query(description="Name of an atlas; by default the first.")]
Second = Annotated[str, Query(description="Name of the other atlas; by default the last.")]
Layer = Annotated[str, Query(description="A layer of the first.")]
Other = Annotated[str, Query(description="A layer of the second; by default of the same name.")]

PAIRS = 240
"""Pairs of features on a page that compares two layers."""


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
        return CompareView(
            names, *sides, str(error), 0, [], 0, None, [], [], [], [], MATCH_THRESHOLD
        )
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
        MATCH_THRESHOLD,
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


def compare_page(urls: Urls, view: CompareView, first: int = 0) -> str:
    """Return the page of two atlases side by side, with some of the pairs.

    Args:
        urls: the URLs of the site.
        view: the comparison.
        first: number of pairs before those on this page.
    """
    first = max(0, min(first, len(view.pairs) - 1)) // PAIRS * PAIRS
    state = {
        "first": view.first.atlas,
        "second": view.second.atlas,
        "layer": view.first.layer,
        "other": view.second.layer,
    }
    return render(
        "compare.html",
        urls=urls,
        view=view,
        first=first,
        page=PAIRS,
        state=state,
        correlation=CORRELATION,
        json_link=f"/compare.json{urls.query(**state)}",
    )


@router.get("/compare.json")
def comparison(
    request: Request, first: First = "", second: Second = "", layer: Layer = "", other: Other = ""
) -> CompareView:
    """Return which features of two layers correspond."""
    return compare_view(explorer(request).collection, first, second, layer, other)


@router.get("/compare", include_in_schema=False)
def show_comparison(
    request: Request,
    first: str = "",
    second: str = "",
    layer: str = "",
    other: str = "",
    start: From = 0,
) -> HTMLResponse:
    """Show two atlases side by side, a page of the pairs at a time."""
    view = comparison(request, first, second, layer, other)
    return html(compare_page(explorer(request).urls, view, start))
