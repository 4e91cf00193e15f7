"""Errors as answers: a sentence on a page, or as JSON where data or a picture was asked for."""

from http import HTTPStatus

from fastapi import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from rot180.errors import Rot180Error
from rot180.visible import visible
from rot180.web.failures import Busy, status_of
from rot180.web.links import Links
from rot180.web.render import render

_UNFORESEEN = "Something went wrong that was not foreseen; the server's log says where."


def failed(request: Request, error: Exception, links: Links) -> Response:
    """Say what went wrong."""
    status = status_of(error)
    words = visible(str(error)) if isinstance(error, Rot180Error) else _UNFORESEEN
    headers = {"Cache-Control": "no-store"}
    if status == Busy.status:
        headers["Retry-After"] = "2"
    if "text/html" not in request.headers.get("accept", "") or request.url.path.endswith(".json"):
        return JSONResponse({"error": words}, status, headers)
    title = HTTPStatus(status).phrase
    content = render("error.html", links=links, title=title, words=words, status=status)
    return HTMLResponse(content, status, headers)
