"""The ASGI application: routes, error handlers, startup and shutdown."""

import logging
import threading
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from rot180 import __version__
from rot180.errors import Rot180Error
from rot180.visible import visible
from rot180.web.collection import AtlasCollection, ServedAtlas
from rot180.web.errors import Busy, NotFound, status_of
from rot180.web.jobs import ClientDisconnected, JobQueue
from rot180.web.pages import compare, series
from rot180.web.requests import Explorer
from rot180.web.routes import atlases, images, lessons, pictures, static
from rot180.web.security import LOOPBACK, SecurityMiddleware
from rot180.web.templates import render
from rot180.web.urls import ServerUrls, Urls
from rot180.web.views.network import network_view

log = logging.getLogger("rot180.web")


def application(
    collection: AtlasCollection | None = None,
    hosts: Collection[str] = LOOPBACK,
    token: str | None = None,
    loaded: Callable[[ServedAtlas], None] = lambda served: None,
) -> ASGIApp:
    """Return the explorer as an ASGI application.

    Args:
        collection: the atlases to show.
        hosts: names that the Host header may have; requests with others are refused.
        token: the token that every request needs; None: no token.
        loaded: called for each atlas once its network is loaded, or known to be unavailable.
    """
    collection = AtlasCollection() if collection is None else collection
    urls = ServerUrls(comparable=len(collection) > 1)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        found = Explorer(collection, urls, JobQueue(threads=1), JobQueue(threads=2))
        app.state.explorer = found
        ending = threading.Event()
        loading = threading.Thread(
            target=_load, args=(collection, ending, loaded), name="rot180-load"
        )
        loading.start()
        yield
        ending.set()
        found.computing.close()
        found.drawing.close()
        loading.join()  # PyTorch does not survive the end of the interpreter around it

    app = FastAPI(
        title="rot180 explorer",
        version=__version__,
        description="A network's features, what excites them, and the pixels responsible.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.urls = urls

    @app.exception_handler(Rot180Error)
    async def known(request: Request, error: Rot180Error) -> Response:
        return error_response(request, error, urls)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(one) for one in first["loc"][1:])
        return error_response(
            request, Rot180Error(f"The value of {place} is wrong: {first['msg']}."), urls
        )

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return error_response(
                request, NotFound(f"There is no page at {request.url.path}."), urls
            )
        failure = Rot180Error(f"{error.detail}.")
        failure.status = error.status_code  # type: ignore[attr-defined]
        return error_response(request, failure, urls)

    @app.exception_handler(ClientDisconnected)
    async def left(request: Request, error: ClientDisconnected) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        log.exception("%s %s", request.method, request.url.path, exc_info=error)
        return error_response(request, error, urls)

    for routes in (static, lessons, compare, series, pictures, images, atlases):
        app.include_router(routes.router)
    return SecurityMiddleware(GZipMiddleware(app, minimum_size=1000), hosts, token)


def _load(
    collection: AtlasCollection, ending: threading.Event, loaded: Callable[[ServedAtlas], None]
) -> None:
    """Choose the tiles of all atlases and load their networks ahead of the first request."""
    for served in collection.values():
        if not ending.is_set():
            with suppress(Rot180Error):  # a damaged atlas: its pages show the error
                network_view(served)
    for served in collection.values():
        if not ending.is_set():
            served.model.load()
            loaded(served)


_UNFORESEEN = "An unexpected error occurred; see the server's log."


def error_response(request: Request, error: Exception, urls: Urls) -> Response:
    """Return an error as a page, or as JSON where data or a picture was requested."""
    status = status_of(error)
    words = visible(str(error)) if isinstance(error, Rot180Error) else _UNFORESEEN
    headers = {"Cache-Control": "no-store"}
    if status == Busy.status:
        headers["Retry-After"] = "2"
    if "text/html" not in request.headers.get("accept", "") or request.url.path.endswith(".json"):
        return JSONResponse({"error": words}, status, headers)
    title = HTTPStatus(status).phrase
    content = render("error.html", urls=urls, title=title, words=words, status=status)
    return HTMLResponse(content, status, headers)
