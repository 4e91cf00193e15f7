"""The data of the list of an atlas' images."""

from dataclasses import dataclass

from rot180.web.collection import ServedAtlas
from rot180.web.views.network import Availability

PAGE = 120


@dataclass(frozen=True)
class ImageRow:
    """An image: number, name, class, and number of features that it excites most."""

    image: int
    name: str
    class_name: str | None
    wins: int


@dataclass(frozen=True)
class ImagesView:
    """A page of the images of an atlas.

    Attributes:
        atlas: its name in addresses.
        images: the images of the page, those that excite most features most first.
        first: number of images before the page.
        total: number of all images.
        pictures_missing: why there are no pictures; "" if there are.
        network: state of the network.
    """

    atlas: str
    images: list[ImageRow]
    first: int
    total: int
    pictures_missing: str
    network: Availability


@dataclass(frozen=True)
class UploadedImage:
    """An uploaded image: its name and its URL."""

    image: str
    address: str


def images_view(served: ServedAtlas, first: int = 0, most: int = PAGE) -> ImagesView:
    """Return a page of the images of an atlas."""
    atlas = served.atlas
    first = max(0, min(first, 2**31))
    ((total,),) = atlas.rows("SELECT COUNT(*) FROM image")
    found = atlas.rows(
        # Counted first: no index of examples begins with the image, so a join would read all of
        # them again for each image.
        "WITH won AS (SELECT image, COUNT(*) AS wins FROM example WHERE rank = 0 GROUP BY image) "
        "SELECT image.number, image.name, class.name, COALESCE(won.wins, 0) AS wins FROM image "
        "LEFT JOIN class ON class.number = image.class "
        "LEFT JOIN won ON won.image = image.number "
        "ORDER BY wins DESC, image.number LIMIT ? OFFSET ?",
        most,
        first,
    )
    for number, name, kind, _ in found:
        words = isinstance(name, str) and (kind is None or isinstance(kind, str))
        atlas.check(isinstance(number, int) and words, "image")
    return ImagesView(
        served.name,
        [ImageRow(*row) for row in found],
        first,
        total,
        served.pictures_missing,
        Availability.of(served),
    )
