"""The pages of networks, layers and features, and the same as JSON."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from rot180.projection.rules import CHOICES
from rot180.web import pages
from rot180.web.requests import Count, From, explorer, html
from rot180.web.views.feature import FeatureView, feature_view
from rot180.web.views.layer import PAGE, LayerPage, layer_page, layer_view
from rot180.web.views.network import Availability, NetworkView, network_view
from rot180.web.views.search import SearchView, search_view

router = APIRouter(tags=["atlases"])
_pages = APIRouter(include_in_schema=False)

Sort = Annotated[
    str, Query(description="An order, or a statistic; -statistic sorts in descending order.")
]
Where = Annotated[
    str, Query(description="Conditions, for example colour_r2>=0.25,firing_images<=0.1.")
]
FeaturePicture = Annotated[str, Query(description="patches, masked, projections or mean.")]
Zoom = Annotated[str, Query(description="small, medium or large.")]
Method = Annotated[str, Query(description=f"One of {', '.join(CHOICES)}.")]
Unpool = Annotated[str, Query(description="switches or repeat.")]


@router.get("/index.json")
def atlases(request: Request) -> list[NetworkView]:
    """List the served atlases."""
    return [network_view(served) for served in explorer(request).collection.values()]


@router.get("/atlas/{atlas}/status.json")
def status(request: Request, atlas: str) -> Availability:
    """Return the state of an atlas' network."""
    return Availability.of(explorer(request).collection[atlas])


@router.get("/atlas/{atlas}/search.json")
def search(request: Request, atlas: str, q: str = "") -> SearchView:
    """Search layers, features, classes and images."""
    found = explorer(request)
    return search_view(found.urls, found.collection[atlas], q)


@router.get("/atlas/{atlas}/layers/{layer:path}.json")
def layer(
    request: Request,
    atlas: str,
    layer: str,
    sort: Sort = "channel",
    where: Where = "",
    show: FeaturePicture = "patches",
    zoom: Zoom = "medium",
    method: Method = "auto",
    unpool: Unpool = "switches",
    first: From = 0,
    count: Count = PAGE,
) -> LayerPage:
    """Return a layer: a page of its features with their statistics, in order."""
    found = explorer(request)
    view = layer_view(found.collection[atlas], layer, sort, where, show, zoom, method, unpool)
    return layer_page(found.urls, view, first, count)


@router.get("/atlas/{atlas}/features/{layer:path}/{channel:int}.json")
def feature(
    request: Request,
    atlas: str,
    layer: str,
    channel: int,
    method: Method = "auto",
    unpool: Unpool = "switches",
) -> FeatureView:
    """Return a feature."""
    return feature_view(explorer(request).collection[atlas], layer, channel, method, unpool)


@router.get("/atlas/{atlas}.json")
def network(request: Request, atlas: str) -> NetworkView:
    """Return a network: its layers and their connections."""
    return network_view(explorer(request).collection[atlas])


@_pages.get("/")
def home_page(request: Request) -> Response:
    """Show the list of atlases; redirect to the network if there is only one."""
    found = explorer(request)
    if len(found.collection) == 1:
        return RedirectResponse(found.urls.network(next(iter(found.collection))), 307)
    return html(pages.home_page(found.urls, atlases(request)))


@_pages.get("/atlas/{atlas}/search")
def search_page(request: Request, atlas: str, q: str = "") -> Response:
    """Show search results; redirect to the result if there is only one."""
    found = explorer(request)
    view = search(request, atlas, q)
    if view.only is not None:
        return RedirectResponse(view.only, 303)
    return html(pages.search_page(found.urls, found.collection[atlas], view))


@_pages.get("/atlas/{atlas}/layers/{layer:path}")
def show_layer(
    request: Request, atlas: str, layer: str, first: From = 0, count: Count = PAGE
) -> HTMLResponse:
    """Show a layer, a page of its features at a time."""
    found = explorer(request)
    asked = _asked(request, "sort", "where", "show", "zoom", "method", "unpool")
    view = layer_view(found.collection[atlas], layer, **asked)
    return html(pages.layer_page(found.urls, found.collection[atlas], view, first, count))


@_pages.get("/atlas/{atlas}/features/{layer:path}/{channel:int}")
def feature_page(request: Request, atlas: str, layer: str, channel: int) -> HTMLResponse:
    """Show a feature."""
    found = explorer(request)
    asked = _asked(request, "method", "unpool")
    view = feature_view(found.collection[atlas], layer, channel, **asked)
    return html(pages.feature_page(found.urls, found.collection[atlas], view))


@_pages.get("/atlas/{atlas}")
def network_page(request: Request, atlas: str) -> HTMLResponse:
    """Show a network."""
    found = explorer(request)
    return html(pages.network_page(found.urls, found.collection[atlas], network(request, atlas)))


def _asked(request: Request, *names: str) -> dict[str, Any]:
    """Return the query parameters of some names that are not empty."""
    return {name: value for name in names if (value := request.query_params.get(name))}


router.include_router(_pages)
