"""The URLs of all pages and pictures, on the server and inside an exported site."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote, urlencode

from rot180.projection.rules import CHOICES, UNPOOLINGS
from rot180.web.names import word_of
from rot180.web.templates import version_of_static


@runtime_checkable
class Urls(Protocol):
    """The URLs that a page contains.

    Attributes:
        has_server: whether a server answers; else the page is part of an exported site.
        comparable: whether there are atlases to compare.
        projected: whether there are projections.
        methods, unpoolings: those of the projections.
        lessons: whether there are lessons.
    """

    has_server: bool
    comparable: bool
    projected: bool
    methods: tuple[str, ...]
    unpoolings: tuple[str, ...]
    lessons: bool

    def static(self, name: str) -> str:
        """A static file."""

    def home(self) -> str:
        """The atlases."""

    def network(self, atlas: str) -> str:
        """The network of an atlas."""

    def shows(self, layer: str) -> bool:
        """Return whether a layer has a page."""

    def layer(self, atlas: str, layer: str) -> str:
        """A layer."""

    def layer_page(self, atlas: str, layer: str, first: int, **state: Any) -> str:
        """The page of a layer from the feature ``first`` on, in the order of a page's state."""

    def feature(self, atlas: str, layer: str, channel: int | str) -> str:
        """A feature."""

    def tile(self, atlas: str, layer: str, channel: int | str, show: str) -> str:
        """A picture of a feature; ``show`` is the picture's name."""

    def image(self, atlas: str, image: int | str, **state: Any) -> str:
        """The page of an image."""

    def picture(self, atlas: str, image: int | str) -> str:
        """An image's own pixels."""

    def images(self, atlas: str) -> str:
        """The list of the images of an atlas."""

    def compare(self, **state: Any) -> str:
        """Two atlases side by side."""

    def series(self, **state: Any) -> str:
        """A feature through all atlases."""

    def search(self, atlas: str) -> str:
        """The search."""

    def status(self, atlas: str) -> str:
        """The state of the network, as JSON."""

    def query(self, **state: Any) -> str:
        """The query of a URL that holds the state of a page."""

    def learn(self, lesson: str = "", **state: Any) -> str:
        """A lesson; "" for the list of them."""

    def api(self) -> str:
        """The list of all addresses."""


class ServerUrls:
    """Addresses on the server; see :class:`Urls`."""

    has_server = True
    projected = True
    methods: tuple[str, ...] = CHOICES
    unpoolings: tuple[str, ...] = UNPOOLINGS
    lessons = True

    def __init__(self, comparable: bool = False) -> None:
        self.comparable = comparable

    def static(self, name: str) -> str:
        """A static file."""
        return f"/static/{version_of_static()}/{name}"

    def home(self) -> str:
        """The atlases."""
        return "/"

    def network(self, atlas: str) -> str:
        """The network of an atlas."""
        return f"/atlas/{quote_segment(atlas)}"

    def shows(self, layer: str) -> bool:
        """Return True: every layer has a page."""
        return True

    def layer(self, atlas: str, layer: str) -> str:
        """A layer."""
        return f"{self.network(atlas)}/layers/{quote_segment(word_of(layer))}"

    def layer_page(self, atlas: str, layer: str, first: int, **state: Any) -> str:
        """The page of a layer from the feature ``first`` on, in the order of a page's state."""
        return f"{self.layer(atlas, layer)}{query({**state, 'from': first or None})}"

    def feature(self, atlas: str, layer: str, channel: int | str) -> str:
        """A feature."""
        feature = f"{quote_segment(word_of(layer))}/{quote_segment(channel)}"
        return f"{self.network(atlas)}/features/{feature}"

    def tile(self, atlas: str, layer: str, channel: int | str, show: str) -> str:
        """A picture of a feature; ``show`` is the picture's name."""
        return f"{self.feature(atlas, layer, channel)}/{quote_segment(show)}.webp"

    def image(self, atlas: str, image: int | str, **state: Any) -> str:
        """The page of an image."""
        return f"{self.network(atlas)}/images/{quote_segment(image)}{query(state)}"

    def image_layer(
        self, atlas: str, image: int | str, layer: str, state: Mapping[str, Any]
    ) -> str:
        """The features of a layer on an image, as JSON."""
        return (
            f"{self.image(atlas, image)}/layers/{quote_segment(word_of(layer))}.json{query(state)}"
        )

    def picture(self, atlas: str, image: int | str) -> str:
        """An image's own pixels."""
        return f"{self.network(atlas)}/images/{quote_segment(image)}.webp"

    def images(self, atlas: str) -> str:
        """The list of the images of an atlas."""
        return f"{self.network(atlas)}/images"

    def search(self, atlas: str) -> str:
        """The search."""
        return f"{self.network(atlas)}/search"

    def status(self, atlas: str) -> str:
        """The state of the network, as JSON."""
        return f"{self.network(atlas)}/status.json"

    def query(self, **state: Any) -> str:
        """The query of a URL that holds the state of a page."""
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


class StaticUrls:
    """URLs inside an exported site, relative to a page; see :class:`Urls`.

    Args:
        layers: names of the layers, in order; files are named after number and name.
        depth: number of folders between the page and the top of the site.
        methods, unpoolings: those of the projections; empty: no projections.
        lessons: whether there are lessons.
    """

    has_server = False
    comparable = False

    def __init__(
        self,
        layers: Sequence[str],
        depth: int,
        methods: tuple[str, ...] = (),
        unpoolings: tuple[str, ...] = (),
        lessons: bool = True,
    ) -> None:
        self.methods, self.unpoolings, self.lessons = methods, unpoolings, lessons
        self.projected = bool(methods and unpoolings)
        self._layers, self._depth = layers, depth
        self._files = {name: file_name(number, name) for number, name in enumerate(layers)}

    def below(self, depth: int) -> "StaticUrls":
        """Return the URLs for pages that lie so many folders down."""
        return StaticUrls(self._layers, depth, self.methods, self.unpoolings, self.lessons)

    def _to(self, path: str) -> str:
        return "../" * self._depth + path

    def static(self, name: str) -> str:
        """A static file."""
        return self._to(f"static/{name}")

    def home(self) -> str:
        """The page of the only network."""
        return self._to("index.html")

    def network(self, atlas: str) -> str:
        """The network of an atlas."""
        return self._to("index.html")

    def shows(self, layer: str) -> bool:
        """Return whether a layer has a page."""
        return layer in self._files

    def layer(self, atlas: str, layer: str) -> str:
        """A layer."""
        return self._to(f"layers/{self._files[layer]}.html")

    def layer_page(self, atlas: str, layer: str, first: int, **state: Any) -> str:
        """The page of a layer from the feature ``first`` on, in the order of their numbers."""
        return self._to(f"layers/{self._files[layer]}{f'-from-{first}' if first else ''}.html")

    def feature(self, atlas: str, layer: str, channel: int | str) -> str:
        """A feature."""
        return self._to(f"features/{self._files[layer]}/{quote_segment(channel)}.html")

    def tile(self, atlas: str, layer: str, channel: int | str, show: str) -> str:
        """A picture of a feature; ``show`` is the picture's name."""
        return self._to(
            f"tiles/{self._files[layer]}/{quote_segment(channel)}-{quote_segment(show)}.webp"
        )

    def images(self, atlas: str) -> str:
        """The images of the atlas."""
        return self._to("images/index.html")

    def image(self, atlas: str, image: int | str, **state: Any) -> str:
        """An image."""
        return self._to(f"images/{quote_segment(image)}.html")

    def picture(self, atlas: str, image: int | str) -> str:
        """An image's own pixels."""
        return self._to(f"pictures/{quote_segment(image)}.webp")

    def learn(self, lesson: str = "", **state: Any) -> str:
        """A lesson, in one of the states that are exported."""
        return self._to(f"learn/{lesson_file(lesson, state)}")

    def query(self, **state: Any) -> str:
        """The query of a URL that holds the state of a page."""
        return query(state)

    def compare(self, **state: Any) -> str:
        """The network's page: an export has nothing to compare."""
        return self.home()

    def series(self, **state: Any) -> str:
        """The network's page: an export has none."""
        return self.home()

    def search(self, atlas: str) -> str:
        """Empty: the page's script searches."""
        return ""

    def status(self, atlas: str) -> str:
        """Empty: there is no server."""
        return ""

    def api(self) -> str:
        """The network's page: an export has none."""
        return self.home()


def quote_segment(value: int | str) -> str:
    """Quote a segment of a path; braces, which scripts fill in, stay as they are."""
    return quote(str(value), safe="{}")


def query(state: Mapping[str, Any]) -> str:
    """Return the query of a URL; values that are None or empty are left out."""
    told = {key: value for key, value in state.items() if value is not None and value != ""}
    return f"?{urlencode(told)}" if told else ""


def file_name(number: int, layer: str) -> str:
    """Return the file name of a layer: safe on any file system, and different for each layer."""
    return f"{number:03}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', layer)[:60].strip('.')}"


def lesson_file(lesson: str, state: Mapping[str, Any]) -> str:
    """Return the name of a lesson's page in a state."""
    if not lesson:
        return "index.html"
    words = [lesson, *(str(state[name]) for name in sorted(state))]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", "-".join(words)) + ".html"
