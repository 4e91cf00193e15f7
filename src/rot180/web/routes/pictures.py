"""The pictures of features and the images of an atlas."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from rot180.atlas.features import Feature
from rot180.projection.result import Projection
from rot180.projection.rules import Rules
from rot180.web.answers import NotFound
from rot180.web.encoding import FORMS, File
from rot180.web.encoding import picture as encoded
from rot180.web.pictures import COUNTS, Show, shown
from rot180.web.routes.common import explorer, picture
from rot180.web.shelf import Book

router = APIRouter(tags=["pictures"])


@router.get("/atlas/{atlas}/features/{layer:path}/{channel:int}/{show}.{form}")
async def feature(
    request: Request, atlas: str, layer: str, channel: int, show: str, form: str
) -> Response:
    """Draw a feature: ``patch-0``, ``patches-9``, ``projections-4-guided-switches``, ``mean-9``."""
    book = explorer(request).shelf[atlas]
    found, asked = book.feature(layer, channel), Show.named(show)
    check_form(form)
    key = (book.name, layer, channel, show, form)
    make = partial(drawn, book, found, asked, form)
    return await picture(request, book.mark, key, make, asked.rules is not None)


def drawn(book: Book, feature: Feature, show: Show, form: str) -> File:
    """Draw a picture of a feature into a file."""
    signals: list[Projection] = []
    if show.rules is not None:
        most = max(COUNTS) if show.single else show.number
        signals = carried_back(book, feature, most, show.rules)
    exact = show.rules is not None or book.tiles(feature.layer).factor > 2
    return encoded(shown(book, feature, show, signals), form, exact)


def carried_back(book: Book, feature: Feature, most: int, rules: Rules) -> list[Projection]:
    """Carry a feature's strongest units back, or remember them."""
    signals = book.stores.signals
    for count in (one for one in COUNTS if one >= most):
        found = signals.get((book.name, feature.number, count, rules))
        if found is not None:
            return found
    key = (book.name, feature.number, most, rules)
    return signals.put(key, book.live.examples(feature, most, rules))


def check_form(form: str) -> None:
    """See that there are pictures of this form.

    Raises:
        NotFound: there are none.
    """
    if form not in FORMS:
        raise NotFound(f"There are no pictures of the form '{form}'; there are webp and png.")
