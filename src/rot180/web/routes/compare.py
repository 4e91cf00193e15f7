"""The comparison of two atlases, and series of atlases."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from rot180.web import pages
from rot180.web.routes.common import From, explorer, html
from rot180.web.views.compare import CompareView, SeriesView, compare_view, series_view

router = APIRouter(tags=["comparison"])
_pages = APIRouter(include_in_schema=False)

First = Annotated[str, Query(description="Name of an atlas; by default the first.")]
Second = Annotated[str, Query(description="Name of the other atlas; by default the last.")]
Layer = Annotated[str, Query(description="A layer of the first.")]
Other = Annotated[str, Query(description="A layer of the second; by default of the same name.")]


@router.get("/compare.json")
def comparison(
    request: Request, first: First = "", second: Second = "", layer: Layer = "", other: Other = ""
) -> CompareView:
    """Return which features of two layers correspond."""
    return compare_view(explorer(request).collection, first, second, layer, other)


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


@_pages.get("/compare")
def compare_page(
    request: Request,
    first: str = "",
    second: str = "",
    layer: str = "",
    other: str = "",
    start: From = 0,
) -> HTMLResponse:
    """Show two atlases side by side, a page of the pairs at a time."""
    view = comparison(request, first, second, layer, other)
    return html(pages.compare_page(explorer(request).urls, view, start))


@_pages.get("/series")
def series_page(
    request: Request,
    layer: str = "",
    channel: int = 0,
    follow: str = "number",
    at: int | None = None,
    of: str = "",
) -> HTMLResponse:
    """Show a feature through all atlases."""
    view = series(request, layer, channel, follow, at, of)
    return html(pages.series_page(explorer(request).urls, view))


router.include_router(_pages)
