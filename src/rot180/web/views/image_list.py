"""The images of an atlas, to choose one."""

from dataclasses import dataclass

from rot180.web.collection import ServedAtlas
from rot180.web.views.network import Availability

PAGE = 120


@dataclass(frozen=True)
class ImageRow:
    """An image: its number, name and class, and of how many features it is the strongest."""

    image: int
    name: str
    class_name: str | None
    wins: int


@dataclass(frozen=True)
class ImagesView:
    """A page of the images of an atlas.

    Attributes:
        atlas: its name in addresses.
        images: the ones that are the strongest of most features first.
        first: how many come before.
        total: how many there are.
        pictures_missing: why no pictures can be shown; "" if they can.
        network: whether the network is at hand.
    """

    atlas: str
    images: list[ImageRow]
    first: int
    total: int
    pictures_missing: str
    network: Availability


@dataclass(frozen=True)
class UploadedImage:
    """A picture that was taken: what it is called, and where it is."""

    image: str
    address: str


def images_view(served: ServedAtlas, first: int = 0, most: int = PAGE) -> ImagesView:
    """Look at the images of an atlas."""
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
