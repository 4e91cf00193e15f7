"""Renders pages as HTML, for the server and for exported sites."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from rot180.atlas.sorting import SORT_ORDERS
from rot180.titles import feature_label
from rot180.web.blocks import cover_tiles
from rot180.web.charts import colour_effects, histogram
from rot180.web.collection import ServedAtlas
from rot180.web.filters import NAMED, PRESETS, parse_order
from rot180.web.formulas import (
    CORRELATION,
    FORMULAS,
    METHOD_FORMULAS,
    RESPONSE,
    UNPOOLING_WORDS,
)
from rot180.web.templates import render
from rot180.web.uploads import MOST_BYTES, too_large_error
from rot180.web.urls import Urls
from rot180.web.views.feature import FeatureView
from rot180.web.views.image_list import PAGE, ImagesView
from rot180.web.views.image_page import ImageView
from rot180.web.views.layer import PAGE as FEATURES
from rot180.web.views.layer import ZOOMS, LayerView, layer_state
from rot180.web.views.network import Availability, NetworkView
from rot180.web.views.search import SearchView

METHOD_TITLES = {name: one.words for name, one in METHOD_FORMULAS.items()}
_AT_HAND = 5000
"""Most features of a layer whose page contains all statistics, to sort in the browser."""
_DIGITS = 4
"""Digits of the statistics in a page."""


def home_page(urls: Urls, views: list[NetworkView]) -> str:
    """Return the list of the served atlases."""
    covers = {
        view.atlas: cover_tiles(view.blocks, [one.height * one.width > 1 for one in view.layers])
        for view in views
    }
    return render("home.html", urls=urls, atlases=views, covers=covers, json_link="/index.json")


def network_page(urls: Urls, served: ServedAtlas, view: NetworkView) -> str:
    """Return the page of a network."""
    return render(
        "network.html",
        **_around(urls, served),
        view=view,
        fed=_fed(view),
        wiring=_wiring(view),
        json_link=f"{urls.network(served.name)}.json",
    )


def layer_page(
    urls: Urls, served: ServedAtlas, view: LayerView, first: int = 0, count: int | None = None
) -> str:
    """Return the page of a layer, with some of its features.

    Args:
        urls: the URLs of the site.
        served: the atlas.
        view: the layer, with the features to show in order.
        first: number of features before those on this page.
        count: number of features on a page; None: the usual one.
    """
    count = count or FEATURES
    first = max(0, min(first, len(view.order) - 1)) // count * count
    column = parse_order(view.sort)[0]
    at_hand = view.layer.channels <= _AT_HAND if urls.has_server else first == 0
    rules = f"{view.method}-{view.unpool}"
    number = 9 if view.show == "mean" else ZOOMS[view.zoom]
    alone = view.show in ("patches", "fields") or not _projected(urls, view.network)
    shown = f"{view.show}-{number}" if alone else f"{view.show}-{number}-{rules}"
    return render(
        "layer.html",
        **_around(urls, served),
        view=view,
        shown=shown,
        first=first,
        channels=view.order[first : first + count],
        page=count,
        values=[] if column == "channel" else view.statistics[column],
        state={**layer_state(view), "count": None if count == FEATURES else count},
        projected=_projected(urls, view.network),
        ways=_ways_to_show(urls, served, view),
        told={
            "columns": {name: [_short(x) for x in one] for name, one in view.statistics.items()}
            if at_hand
            else None,
            "page": count,
            "orders": {name: f"{'-' if down else ''}{one}" for name, (one, down) in NAMED.items()},
            "examples": ZOOMS,
            "labels": [feature_label(n, name) for n, name in enumerate(view.names)],
        },
        orders=SORT_ORDERS,
        presets=PRESETS,
        json_link=f"{urls.layer(served.name, view.layer.name)}.json",
    )


_WAYS = {
    "patches": "The receptive fields of the strongest units",
    "fields": "All that these units see",
    "masked": "The same, faded where the projection has no energy",
    "projections": "These units projected to pixels",
    "mean": "The mean of both, aligned at the peaks",
}


def _ways_to_show(urls: Urls, served: ServedAtlas, view: LayerView) -> dict[str, str]:
    """Return the ways to show a layer's features that there are here, with what they show."""
    projected = _projected(urls, view.network)
    there = {
        "fields": urls.has_server and served.cuts_tiles(view.layer.name),
        "masked": projected and urls.has_server,
        "projections": projected,
    }
    ways = {name: words for name, words in _WAYS.items() if there.get(name, True)}
    if "fields" in ways:
        ways["patches"] = "What matters most to the strongest units"
    return ways


def feature_page(urls: Urls, served: ServedAtlas, view: FeatureView) -> str:
    """Return the page of a feature."""
    bars, ticks = histogram(view.histogram)
    zero = sum(one.images for one in view.histogram if one.low is None or one.low <= 0)
    return render(
        "feature.html",
        **_around(urls, served),
        view=view,
        size=served.atlas.size,
        effective=served.tiles(view.layer.name).effective,
        own_fields=sum(one.effective is not None for one in view.examples),
        projected=_projected(urls, view.network),
        bars=bars,
        ticks=ticks,
        zero=zero,
        colours=colour_effects(view.statistics),
        largest_response=max([1e-30, *(one.mean_peak for one in view.responses)]),
        correlation_formula=CORRELATION,
        response_formula=RESPONSE,
        json_link=f"{urls.feature(served.name, view.layer.name, view.channel)}.json",
    )


def search_page(urls: Urls, served: ServedAtlas, view: SearchView) -> str:
    """Return the page of search results."""
    return render(
        "search.html",
        **_around(urls, served),
        view=view,
        pictures_missing=served.pictures_missing,
        json_link=f"{urls.search(served.name)}.json{urls.query(q=view.asked)}",
    )


def images_page(urls: Urls, served: ServedAtlas, view: ImagesView) -> str:
    """Return the list of images, with the form for uploads."""
    return render(
        "images.html",
        **_around(urls, served),
        view=view,
        page=PAGE,
        size=served.atlas.size,
        json_link=f"{urls.images(served.name)}.json",
    )


def image_page(urls: Urls, served: ServedAtlas, view: ImageView) -> str:
    """Return the page of an image."""
    return render(
        "image.html",
        **_around(urls, served),
        view=view,
        json_link=f"{urls.image(served.name, view.image)}.json",
    )


def api_page(urls: Urls, paths: Mapping[str, Any]) -> str:
    """Return the list of all URLs, from the paths of the OpenAPI description."""
    return render("api.html", urls=urls, paths=paths, json_link="/openapi.json")


def _around(urls: Urls, served: ServedAtlas) -> dict[str, Any]:
    """Return the values that every page of an atlas needs."""
    layers = [
        {
            "name": one.name,
            "channels": one.channels,
            "address": urls.layer(served.name, one.name),
            "feature": urls.feature(served.name, one.name, "{channel}"),
        }
        for one in served.atlas.layers.values()
        if urls.shows(one.name)
    ]
    return {
        "urls": urls,
        "atlas": served.name,
        "title": served.atlas.title,
        "names_of": served.atlas.names_of,
        "layer_links": layers,
        "formulas": FORMULAS,
        "method_titles": METHOD_TITLES,
        "most_bytes": MOST_BYTES,
        "too_large": str(too_large_error()),
        "method_formulas": METHOD_FORMULAS,
        "unpool_titles": UNPOOLING_WORDS,
    }


def _projected(urls: Urls, network: Availability) -> bool:
    """Return whether there are projections: the server computes them, an export may hold them."""
    return network.state != "absent" if urls.has_server else urls.projected


def _short(value: float | None) -> float | int | None:
    """Round a statistic for sorting in the browser; whole numbers stay short."""
    if value is None:
        return None
    rounded = float(f"{value:.{_DIGITS}g}")
    if abs(rounded) >= 10**_DIGITS:  # already short, or infinite after rounding
        return rounded if isfinite(rounded) else value
    return int(rounded) if rounded == int(rounded) else rounded


def _fed(view: NetworkView) -> Mapping[int, str]:
    """Return the names of each layer's inputs; "" if its only input is the layer before it."""
    said: dict[int, list[int]] = {}
    for source, target in view.connections or []:
        said.setdefault(target, []).append(source)
    found = {}
    for target, sources in said.items():
        if sources != [target - 1]:
            names = ["the image" if one < 0 else view.layers[one].name for one in sources]
            more = f" and {len(names) - 3} more" if len(names) > 4 else ""
            found[target] = ", ".join(names[-3:] if more else names) + more
    return {number: found.get(number, "") for number in range(len(view.layers))}


def _wiring(view: NetworkView) -> list[tuple[int, int]] | None:
    """Return the connections between blocks as pairs (source, target); -1 is the image.

    None if the atlas does not record them.
    """
    if view.connections is None:
        return None
    places = {layer: place for place, one in enumerate(view.blocks) for layer in one.layers}
    pairs = {(places.get(source, -1), places[target]) for source, target in view.connections}
    return sorted((source, target) for source, target in pairs if source != target)
