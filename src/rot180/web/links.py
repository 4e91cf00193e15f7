"""Where everything is: one address for each thing, of the server or inside an exported site."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote, urlencode

from rot180.projection.rules import CHOICES, UNPOOLINGS
from rot180.web.names import word_of
from rot180.web.render import version_of_static


@runtime_checkable
class Links(Protocol):
    """The addresses that a page needs, as they are written on that page.

    Attributes:
        served: whether a server answers; else the page lies in a folder.
        comparable: whether there is anything to compare.
        projected: whether a folder holds projections.
        methods, unpoolings: those of which there are projections.
        lessons: whether the lessons are there.
    """

    served: bool
    comparable: bool
    projected: bool
    methods: tuple[str, ...]
    unpoolings: tuple[str, ...]
    lessons: bool

    def static(self, name: str) -> str:
        """A file that pages refer to."""

    def home(self) -> str:
        """The atlases."""

    def network(self, atlas: str) -> str:
        """The network of an atlas."""

    def shows(self, layer: str) -> bool:
        """Say whether a layer has a page."""

    def layer(self, atlas: str, layer: str) -> str:
        """A layer."""

    def layer_from(self, atlas: str, layer: str, first: int, **state: Any) -> str:
        """A layer's page that begins so many features further on, in the order of a state."""

    def feature(self, atlas: str, layer: str, channel: int | str) -> str:
        """A feature."""

    def tile(self, atlas: str, layer: str, channel: int | str, show: str) -> str:
        """A picture of a feature; ``show`` says what of it."""

    def image(self, atlas: str, image: int | str, **state: Any) -> str:
        """An image, opened."""

    def picture(self, atlas: str, image: int | str) -> str:
        """An image's own pixels."""

    def images(self, atlas: str) -> str:
        """The images of an atlas, to choose one."""

    def compare(self, **state: Any) -> str:
        """Two atlases side by side."""

    def series(self, **state: Any) -> str:
        """A feature through all atlases."""

    def search(self, atlas: str) -> str:
        """What is found by words."""

    def status(self, atlas: str) -> str:
        """Whether the network is at hand, as JSON."""

    def query(self, **state: Any) -> str:
        """The end of an address that holds the state of a page."""

    def learn(self, lesson: str = "", **state: Any) -> str:
        """A lesson; "" for the list of them."""

    def api(self) -> str:
        """The list of all addresses."""


class ServedLinks:
    """Addresses on the server; see :class:`Links`."""

    served = True
    projected = True
    methods: tuple[str, ...] = CHOICES
    unpoolings: tuple[str, ...] = UNPOOLINGS
    lessons = True

    def __init__(self, comparable: bool = False) -> None:
        self.comparable = comparable

    def static(self, name: str) -> str:
        """A file that pages refer to."""
        return f"/static/{version_of_static()}/{name}"

    def home(self) -> str:
        """The atlases."""
        return "/"

    def network(self, atlas: str) -> str:
        """The network of an atlas."""
        return f"/atlas/{part(atlas)}"

    def shows(self, layer: str) -> bool:
        """Say whether a layer has a page: all have."""
        return True

    def layer(self, atlas: str, layer: str) -> str:
        """A layer."""
        return f"{self.network(atlas)}/layers/{part(word_of(layer))}"

    def layer_from(self, atlas: str, layer: str, first: int, **state: Any) -> str:
        """A layer's page that begins so many features further on, in the order of a state."""
        return f"{self.layer(atlas, layer)}{query({**state, 'first': first or None})}"

    def feature(self, atlas: str, layer: str, channel: int | str) -> str:
        """A feature."""
        return f"{self.network(atlas)}/features/{part(word_of(layer))}/{part(channel)}"

    def tile(self, atlas: str, layer: str, channel: int | str, show: str) -> str:
        """A picture of a feature; ``show`` says what of it."""
        return f"{self.feature(atlas, layer, channel)}/{part(show)}.webp"

    def image(self, atlas: str, image: int | str, **state: Any) -> str:
        """An image, opened."""
        return f"{self.network(atlas)}/images/{part(image)}{query(state)}"

    def picture(self, atlas: str, image: int | str) -> str:
        """An image's own pixels."""
        return f"{self.network(atlas)}/images/{part(image)}.webp"

    def images(self, atlas: str) -> str:
        """The images of an atlas, to choose one."""
        return f"{self.network(atlas)}/images"

    def search(self, atlas: str) -> str:
        """What is found by words."""
        return f"{self.network(atlas)}/search"

    def status(self, atlas: str) -> str:
        """Whether the network is at hand, as JSON."""
        return f"{self.network(atlas)}/status.json"

    def query(self, **state: Any) -> str:
        """The end of an address that holds the state of a page."""
        return query(state)

    def compare(self, **state: Any) -> str:
        """Two atlases side by side."""
        return f"/compare{query(state)}"

    def series(self, **state: Any) -> str:
        """A feature through all atlases."""
        return f"/series{query(state)}"

    def learn(self, lesson: str = "", **state: Any) -> str:
        """A lesson; "" for the list of them."""
        return f"/learn{f'/{lesson}' if lesson else ''}{query(state)}"

    def api(self) -> str:
        """The list of all addresses."""
        return "/api"


def part(value: int | str) -> str:
    """Write a part of a path; braces, which scripts look for, stay as they are."""
    return quote(str(value), safe="{}")


def query(state: Mapping[str, Any]) -> str:
    """Write the end of an address; what is None or empty is left out."""
    told = {key: value for key, value in state.items() if value is not None and value != ""}
    return f"?{urlencode(told)}" if told else ""
