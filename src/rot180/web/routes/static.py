"""Static files, and the list of all URLs."""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from rot180.web import pages
from rot180.web.errors import NotFound
from rot180.web.requests import explorer, html
from rot180.web.templates import TYPES, static_files

router = APIRouter(include_in_schema=False)


@router.get("/static/{version}/{name}")
def static(version: str, name: str) -> Response:
    """Return a static file; its URL changes with its content."""
    content = static_files().get(name)
    if content is None:
        raise NotFound(f"There is no file '{name}'.")
    kind = TYPES[f".{name.rsplit('.', 1)[1]}"]
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(content, media_type=kind, headers=headers)


@router.get("/api")
def api(request: Request) -> HTMLResponse:
    """List all URLs of the API; ``/openapi.json`` describes them."""
    paths = request.app.openapi()["paths"]
    return html(pages.api_page(explorer(request).urls, paths))
