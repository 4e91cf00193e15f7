"""What the server answers with: pages, the same as JSON, errors as sentences."""

from http import HTTPStatus

from fastapi import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from rot180.errors import Rot180Error
from rot180.web.links import Links
from rot180.web.render import render


class NotFound(Rot180Error):
    """There is no such thing."""

    status = 404


class Busy(Rot180Error):
    """There is too much to do already; try again."""

    status = 503


class TooLarge(Rot180Error):
    """What was sent is larger than is taken."""

    status = 413


def page(template: str, links: Links, *, fresh: bool = False, **values: object) -> HTMLResponse:
    """Answer with a page; ``fresh`` ones are not kept by the browser."""
    headers = {"Cache-Control": "no-store" if fresh else "no-cache"}
    return HTMLResponse(render(template, links=links, **values), headers=headers)


def failed(request: Request, error: Exception, links: Links) -> Response:
    """Say what went wrong, as JSON where JSON or a picture was asked for."""
    status = getattr(error, "status", 400 if isinstance(error, Rot180Error) else 500)
    words = str(error) if isinstance(error, Rot180Error) else _UNFORESEEN
    headers = {"Cache-Control": "no-store"}
    if status == Busy.status:
        headers["Retry-After"] = "2"
    if "text/html" not in request.headers.get("accept", "") or request.url.path.endswith(".json"):
        return JSONResponse({"error": words}, status, headers)
    title = HTTPStatus(status).phrase
    content = render("error.html", links=links, title=title, words=words, status=status)
    return HTMLResponse(content, status, headers)


_UNFORESEEN = "Something went wrong that was not foreseen; the server's log says where."
