"""The application: its routes, and what stands around them."""

import logging
from collections.abc import Collection

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from rot180 import __version__
from rot180.errors import Rot180Error
from rot180.web.answers import NotFound, failed
from rot180.web.guard import LOOPBACK, Guard
from rot180.web.links import ServedLinks
from rot180.web.routes import learn, site

log = logging.getLogger("rot180.web")


def application(hosts: Collection[str] = LOOPBACK, token: str | None = None) -> ASGIApp:
    """Return the explorer as an ASGI application.

    Args:
        hosts: names that the server is known by; others are refused.
        token: that every request has to show; None: none.
    """
    links = ServedLinks()
    app = FastAPI(
        title="rot180 explorer",
        version=__version__,
        description="A network's features, what excites them, and the pixels responsible.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.links = links

    @app.exception_handler(Rot180Error)
    async def known(request: Request, error: Rot180Error) -> Response:
        return failed(request, error, links)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return failed(request, NotFound(f"There is nothing at {request.url.path}."), links)
        failure = Rot180Error(str(error.detail))
        failure.status = error.status_code  # type: ignore[attr-defined]
        return failed(request, failure, links)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        log.exception("%s %s", request.method, request.url.path, exc_info=error)
        return failed(request, error, links)

    for routes in (site, learn):
        app.include_router(routes.router)
    return Guard(GZipMiddleware(app, minimum_size=1000), hosts, token)
