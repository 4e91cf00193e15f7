"""The pictures of features and the images of an atlas."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from rot180.web.errors import NotFound
from rot180.web.feature_pictures import FeaturePicture, picture_file
from rot180.web.imaging import FORMS
from rot180.web.requests import explorer, picture

router = APIRouter(tags=["pictures"])


@router.get("/atlas/{atlas}/features/{layer:path}/{channel:int}/{show}.{form}")
async def feature(
    request: Request, atlas: str, layer: str, channel: int, show: str, form: str
) -> Response:
    """Draw a feature: ``patch-0``, ``patches-9``, ``projections-4-guided-switches``, ``mean-9``."""
    served = explorer(request).collection[atlas]
    found, asked = served.feature(layer, channel), FeaturePicture.parse(show)
    check_form(form)
    key = (served.name, layer, channel, show, form)
    make = partial(picture_file, served, found, asked, form)
    return await picture(request, served.version_tag, key, make, asked.rules is not None)


def check_form(form: str) -> None:
    """Check a picture format.

    Raises:
        NotFound: there is no such format.
    """
    if form not in FORMS:
        raise NotFound(f"There is no picture format '{form}': use webp or png.")
