"""The application: its routes, and what stands around them."""

import logging
import threading
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from rot180 import __version__
from rot180.errors import Rot180Error
from rot180.web.answers import failed
from rot180.web.failures import NotFound
from rot180.web.guard import LOOPBACK, Guard
from rot180.web.links import ServedLinks
from rot180.web.routes import atlases, compare, images, learn, pictures, site
from rot180.web.routes.common import Explorer
from rot180.web.shelf import Book, Shelf
from rot180.web.views.network import network_view
from rot180.web.work import Gone, Work

log = logging.getLogger("rot180.web")


def application(
    shelf: Shelf | None = None,
    hosts: Collection[str] = LOOPBACK,
    token: str | None = None,
    loaded: Callable[[Book], None] = lambda book: None,
) -> ASGIApp:
    """Return the explorer as an ASGI application.

    Args:
        shelf: the atlases to show.
        hosts: names that the server is known by; others are refused.
        token: that every request has to show; None: none.
        loaded: called for each atlas as soon as its network is at hand, or known not to be.
    """
    shelf = Shelf() if shelf is None else shelf
    links = ServedLinks(comparable=len(shelf) > 1)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        found = Explorer(shelf, links, Work(threads=1), Work(threads=2))
        app.state.explorer = found
        ending = threading.Event()
        loading = threading.Thread(target=_load, args=(shelf, ending, loaded), name="rot180-load")
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
    app.state.links = links

    @app.exception_handler(Rot180Error)
    async def known(request: Request, error: Rot180Error) -> Response:
        return failed(request, error, links)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(one) for one in first["loc"][1:])
        return failed(
            request, Rot180Error(f"The value of {place} is wrong: {first['msg']}."), links
        )

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return failed(request, NotFound(f"There is nothing at {request.url.path}."), links)
        failure = Rot180Error(f"{error.detail}.")
        failure.status = error.status_code  # type: ignore[attr-defined]
        return failed(request, failure, links)

    @app.exception_handler(Gone)
    async def left(request: Request, error: Gone) -> Response:
        return Response(status_code=499)  # which nobody reads

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        log.exception("%s %s", request.method, request.url.path, exc_info=error)
        return failed(request, error, links)

    for routes in (site, learn, compare, pictures, images, atlases):
        app.include_router(routes.router)
    return Guard(GZipMiddleware(app, minimum_size=1000), hosts, token)


def _load(shelf: Shelf, ending: threading.Event, loaded: Callable[[Book], None]) -> None:
    """Choose the tiles of all networks, and load these, before somebody asks."""
    for book in shelf.values():
        if not ending.is_set():
            with suppress(Rot180Error):  # of a damaged atlas: its pages say what it is
                network_view(book)
    for book in shelf.values():
        if not ending.is_set():
            book.live.load()
            loaded(book)
