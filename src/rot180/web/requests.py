"""Helpers of the routes: the explorer of a request, paging, and cached pictures."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import HTMLResponse, Response

from rot180.web.collection import AtlasCollection
from rot180.web.jobs import JobQueue
from rot180.web.urls import ServerUrls

MOST_ITEMS = 500
"""Most items of a list in one response; links lead to the others."""

From = Annotated[
    int, Query(alias="from", ge=0, le=2**31, description="Items to skip at the start of the list.")
]
Count = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="Most items to return.")]


@dataclass
class Explorer:
    """The state of the application.

    Attributes:
        collection: the atlases.
        urls: the URLs of the server.
        computing: queue of the jobs that need the network.
        drawing: queue of all other jobs.
    """

    collection: AtlasCollection
    urls: ServerUrls
    computing: JobQueue
    drawing: JobQueue


def explorer(request: Request) -> Explorer:
    """Return the explorer of a request."""
    found: Explorer = request.app.state.explorer
    return found


def html(text: str) -> HTMLResponse:
    """Return a page as a response; browsers revalidate it."""
    return HTMLResponse(text, headers={"Cache-Control": "no-cache"})


async def picture(
    request: Request,
    version_tag: str,
    key: tuple[object, ...],
    make: Callable[..., Any],
    live: bool,
    group: Hashable = None,
    item: Any = None,
    urgent: bool = False,
) -> Response:
    """Return a picture as a response, from the browser's or the server's cache, or computed.

    Args:
        request: the request.
        mark: a string that changes with the picture's sources.
        key: key of the picture.
        make: computes it; if there is an item, it is called with the items of several pictures
            at once, and returns a list.
        live: whether it needs the network.
        group, item: see :meth:`rot180.web.jobs.JobQueue.submit_grouped`.
        urgent: whether it runs before other jobs.
    """
    tag = f'"{blake2b(repr((version_tag, key)).encode(), digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in (one.strip() for one in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    found = explorer(request)
    files = found.collection.caches.files
    file = files.get(key)
    if file is None:
        jobs = found.computing if live else found.drawing
        made: Any = (
            jobs.submit(request, key, make, urgent)
            if item is None
            else jobs.submit_grouped(request, key, group, item, make, urgent)
        )
        file = files.put(key, await made)
    return Response(file.content, media_type=file.kind, headers=headers)
