"""Images of the atlas and uploads, and their features."""

from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from rot180.web import pages, uploads
from rot180.web.collection import ServedAtlas
from rot180.web.errors import ModelUnavailable, NotFound
from rot180.web.image_pictures import ImagePicture, picture_files
from rot180.web.imaging import EncodedImage, encode
from rot180.web.requests import Count, From, explorer, html, picture
from rot180.web.routes.pictures import check_form
from rot180.web.views.image_list import ImagesView, UploadedImage, images_view
from rot180.web.views.image_page import PAGE as FEATURES
from rot180.web.views.image_page import (
    ImageLayerView,
    ImageView,
    PixelView,
    image_layer_view,
    image_pixels,
    image_view,
    pixel_view,
)

router = APIRouter(tags=["images"])
_pages = APIRouter(include_in_schema=False)

Order = Annotated[str, Query(description="unusual (for the feature) or strongest.")]


@router.get("/atlas/{atlas}/images.json")
def images(request: Request, atlas: str, first: From = 0) -> ImagesView:
    """List the images of an atlas, a page of them at a time."""
    return images_view(explorer(request).collection[atlas], first)


@router.post("/atlas/{atlas}/images", status_code=201)
async def upload(request: Request, atlas: str) -> UploadedImage:
    """Upload an image: the body is the file. The server keeps it in memory for a while."""
    found = explorer(request)
    served = found.collection[atlas]
    if served.model.state == "absent":
        raise ModelUnavailable(served.model.reason)
    data = await _body(request)
    name = await found.drawing.submit(request, object(), partial(uploads.save_upload, served, data))
    return UploadedImage(name, found.urls.image(served.name, name))


async def _body(request: Request) -> bytes:
    """Read the body of an upload, up to the size limit."""
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > uploads.MOST_BYTES:
        raise uploads.too_large_error()
    parts, size = [], 0
    with uploads.PENDING.another() as taken:
        async for part in request.stream():
            size += len(part)
            if size > uploads.MOST_BYTES:
                raise uploads.too_large_error()
            taken(len(part))
            parts.append(part)
        return b"".join(parts)


@router.get("/atlas/{atlas}/images/{image}/layers/{layer:path}.json")
async def image_layer(
    request: Request,
    atlas: str,
    image: str,
    layer: str,
    order: Order = "unusual",
    first: From = 0,
    count: Count = FEATURES,
) -> ImageLayerView:
    """Return how strongly, and where, the features of a layer fire on an image."""
    found, served = explorer(request), _served(request, atlas)
    key = ("layer", served.name, image, layer, order, first, count)
    make = partial(image_layer_view, served, image, layer, order, first, count)
    view = await found.computing.submit(request, key, make, urgent=True)
    if first + count >= view.total:
        return view
    state = {
        "order": None if order == "unusual" else order,
        "from": first + count,
        "count": None if count == FEATURES else count,
    }
    return replace(view, next=found.urls.image_layer(atlas, image, view.layer, state))


@router.get("/atlas/{atlas}/images/{image}/pixels/{layer:path}/{y:int}/{x:int}.json")
async def pixel(request: Request, atlas: str, image: str, layer: str, y: int, x: int) -> PixelView:
    """Return the units of a layer that fire at a pixel, strongest first."""
    found, served = explorer(request), _served(request, atlas)
    key = ("pixel", served.name, image, layer, y, x)
    make = partial(pixel_view, served, image, layer, y, x)
    return await found.computing.submit(request, key, make, urgent=True)


@router.get("/atlas/{atlas}/images/{image}/features/{layer:path}/{channel:int}/{look}.{form}")
async def look(
    request: Request, atlas: str, image: str, layer: str, channel: int, look: str, form: str
) -> Response:
    """Draw a feature on an image: ``map``, ``peak-guided-repeat``, ``over-3-5-guided-repeat``."""
    served = _served(request, atlas)
    served.feature(layer, channel)
    asked = ImagePicture.parse(look)
    check_form(form)
    key = (served.name, image, layer, channel, look, form)
    urgent = asked.kind in ("over", "unit")
    make = partial(_several, served, image, layer, asked, form)
    group = None if urgent else (served.name, image, layer, look, form)
    return await picture(
        request, _version_tag(served, image), key, make, True, group, channel, urgent
    )


def _several(
    served: ServedAtlas, image: str, layer: str, look: ImagePicture, form: str, channels: list[int]
) -> list[EncodedImage]:
    return picture_files(served, image, layer, look, channels, form)


@router.get("/atlas/{atlas}/images/{image}.json")
def image(request: Request, atlas: str, image: str) -> ImageView:
    """Return an image."""
    return image_view(_served(request, atlas), image)


@router.get("/atlas/{atlas}/images/{image}.{form}")
async def pixels(request: Request, atlas: str, image: str, form: str) -> Response:
    """Return the pixels of an image in the network's input size, before normalisation."""
    check_form(form)
    served = _served(request, atlas)

    def make() -> EncodedImage:
        return encode(image_pixels(served, image), form, exact=True)

    key = (served.name, "image", image, form)
    return await picture(request, _version_tag(served, image), key, make, False)


@_pages.get("/atlas/{atlas}/images")
def images_page(request: Request, atlas: str, first: From = 0) -> HTMLResponse:
    """Show the images of an atlas, with the form for uploads."""
    found = explorer(request)
    view = images(request, atlas, first)
    return html(pages.images_page(found.urls, found.collection[atlas], view))


@_pages.get("/atlas/{atlas}/images/{image}")
def image_page(request: Request, atlas: str, image: str) -> HTMLResponse:
    """Show an image."""
    found = explorer(request)
    served = found.collection[atlas]
    return html(pages.image_page(found.urls, served, image_view(served, image)))


def _served(request: Request, atlas: str) -> ServedAtlas:
    return explorer(request).collection[atlas]


def _version_tag(served: ServedAtlas, image: str) -> str:
    """Return the version tag of an image; expired uploads raise NotFound."""
    if not image.isdecimal() and (served.name, image) not in served.caches.uploads:
        raise NotFound("This upload has expired. Upload it again.")
    return served.version_tag


router.include_router(_pages)
