"""Images: those of the atlas, and those that people bring; what a network makes of them."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from rot180.web import pages, uploads
from rot180.web.encoding import File
from rot180.web.encoding import picture as encoded
from rot180.web.failures import Absent, NotFound
from rot180.web.looks import Look, looked_at
from rot180.web.routes.common import explorer, html, picture
from rot180.web.routes.pictures import check_form
from rot180.web.shelf import Book
from rot180.web.views.image import (
    ImageLayerView,
    ImageView,
    PixelView,
    image_layer_view,
    image_pixels,
    image_view,
    pixel_view,
)
from rot180.web.views.images import Brought, ImagesView, images_view

router = APIRouter(tags=["images"])
_pages = APIRouter(include_in_schema=False)

Order = Annotated[str, Query(description="unusual (for the feature) or strongest.")]


@router.get("/atlas/{atlas}/images.json")
def images(request: Request, atlas: str, first: int = 0) -> ImagesView:
    """List the images of an atlas, a page of them at a time."""
    return images_view(explorer(request).shelf[atlas], first)


@router.post("/atlas/{atlas}/images", status_code=201)
async def bring(request: Request, atlas: str) -> Brought:
    """Take a picture: the body is the file. It is kept in memory, for a while."""
    found = explorer(request)
    book = found.shelf[atlas]
    if book.live.state == "absent":
        raise Absent(book.live.reason)
    data = await _body(request)
    name = await found.drawing.one(request, object(), partial(uploads.brought, book, data))
    return Brought(name, found.links.image(book.name, name))


async def _body(request: Request) -> bytes:
    """Read what was sent, but no more than is taken."""
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told) > uploads.MOST_BYTES:
        raise uploads.too_many_bytes()
    parts, size = [], 0
    with uploads.UNFINISHED.another() as taken:
        async for part in request.stream():
            size += len(part)
            if size > uploads.MOST_BYTES:
                raise uploads.too_many_bytes()
            taken(len(part))
            parts.append(part)
        return b"".join(parts)


@router.get("/atlas/{atlas}/images/{image}/layers/{layer:path}.json")
async def image_layer(
    request: Request, atlas: str, image: str, layer: str, order: Order = "unusual"
) -> ImageLayerView:
    """Say of each feature of a layer how strongly, and where, it fires on an image."""
    found, book = explorer(request), _book(request, atlas)
    key = ("layer", book.name, image, layer, order)
    make = partial(image_layer_view, book, image, layer, order)
    return await found.computing.one(request, key, make, urgent=True)


@router.get("/atlas/{atlas}/images/{image}/pixels/{layer:path}/{y:int}/{x:int}.json")
async def pixel(request: Request, atlas: str, image: str, layer: str, y: int, x: int) -> PixelView:
    """Say which units of a layer fire at a pixel, the strongest first."""
    found, book = explorer(request), _book(request, atlas)
    key = ("pixel", book.name, image, layer, y, x)
    make = partial(pixel_view, book, image, layer, y, x)
    return await found.computing.one(request, key, make, urgent=True)


@router.get("/atlas/{atlas}/images/{image}/features/{layer:path}/{channel:int}/{look}.{form}")
async def look(
    request: Request, atlas: str, image: str, layer: str, channel: int, look: str, form: str
) -> Response:
    """Draw a feature on an image: its map, or it carried back; see the names of looks."""
    book = _book(request, atlas)
    book.feature(layer, channel)
    asked = Look.named(look)
    check_form(form)
    key = (book.name, image, layer, channel, look, form)
    urgent = asked.kind in ("over", "unit")
    make = partial(_several, book, image, layer, asked, form)
    group = None if urgent else (book.name, image, layer, look, form)
    return await picture(request, _mark(book, image), key, make, True, group, channel, urgent)


def _several(
    book: Book, image: str, layer: str, look: Look, form: str, channels: list[int]
) -> list[File]:
    return looked_at(book, image, layer, look, channels, form)


@router.get("/atlas/{atlas}/images/{image}.json")
def image(request: Request, atlas: str, image: str) -> ImageView:
    """Look at an image."""
    return image_view(_book(request, atlas), image)


@router.get("/atlas/{atlas}/images/{image}.{form}")
async def pixels(request: Request, atlas: str, image: str, form: str) -> Response:
    """Return an image, as the network takes it before normalisation."""
    check_form(form)
    book = _book(request, atlas)

    def make() -> File:
        return encoded(image_pixels(book, image), form, exact=True)

    key = (book.name, "image", image, form)
    return await picture(request, _mark(book, image), key, make, False)


@_pages.get("/atlas/{atlas}/images")
def images_page(request: Request, atlas: str, first: int = 0) -> HTMLResponse:
    """Show the images of an atlas, and take others."""
    found = explorer(request)
    view = images(request, atlas, first)
    return html(pages.images_page(found.links, found.shelf[atlas], view))


@_pages.get("/atlas/{atlas}/images/{image}")
def image_page(request: Request, atlas: str, image: str) -> HTMLResponse:
    """Show an image."""
    found = explorer(request)
    book = found.shelf[atlas]
    return html(pages.image_page(found.links, book, image_view(book, image)))


def _book(request: Request, atlas: str) -> Book:
    return explorer(request).shelf[atlas]


def _mark(book: Book, image: str) -> str:
    """Return what changes with an image; one that was brought and forgotten is not to be had."""
    if not image.isdecimal() and (book.name, image) not in book.stores.uploads:
        raise NotFound("This picture is not here any more. Bring it again.")
    return book.mark


router.include_router(_pages)
