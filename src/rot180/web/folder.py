"""The addresses inside an exported site: files refer to each other, wherever the folder lies."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rot180.web.links import part, query


class FolderLinks:
    """Addresses as a page of an exported site writes them; see :class:`rot180.web.links.Links`.

    Args:
        layers: names of the layers, in order; their pages are called by number and name.
        depth: how many folders down the page lies.
        methods, unpoolings: of which there are projections; empty: there are none.
        lessons: whether they are there.
    """

    served = False
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

    def below(self, depth: int) -> "FolderLinks":
        """Return the addresses as pages write them that lie so many folders down."""
        return FolderLinks(self._layers, depth, self.methods, self.unpoolings, self.lessons)

    def _to(self, path: str) -> str:
        return "../" * self._depth + path

    def static(self, name: str) -> str:
        """A file that pages refer to."""
        return self._to(f"static/{name}")

    def home(self) -> str:
        """The network: there is one."""
        return self._to("index.html")

    def network(self, atlas: str) -> str:
        """The network of an atlas."""
        return self._to("index.html")

    def shows(self, layer: str) -> bool:
        """Say whether a layer has a page."""
        return layer in self._files

    def layer(self, atlas: str, layer: str) -> str:
        """A layer."""
        return self._to(f"layers/{self._files[layer]}.html")

    def layer_from(self, atlas: str, layer: str, first: int, **state: Any) -> str:
        """A layer's page that begins so many features further on, in the order of their numbers."""
        return self._to(f"layers/{self._files[layer]}{f'-from-{first}' if first else ''}.html")

    def feature(self, atlas: str, layer: str, channel: int | str) -> str:
        """A feature."""
        return self._to(f"features/{self._files[layer]}/{part(channel)}.html")

    def tile(self, atlas: str, layer: str, channel: int | str, show: str) -> str:
        """A picture of a feature; ``show`` says what of it."""
        return self._to(f"tiles/{self._files[layer]}/{part(channel)}-{part(show)}.webp")

    def images(self, atlas: str) -> str:
        """The images of the atlas."""
        return self._to("images/index.html")

    def image(self, atlas: str, image: int | str, **state: Any) -> str:
        """An image."""
        return self._to(f"images/{part(image)}.html")

    def picture(self, atlas: str, image: int | str) -> str:
        """An image's own pixels."""
        return self._to(f"pictures/{part(image)}.webp")

    def learn(self, lesson: str = "", **state: Any) -> str:
        """A lesson, in one of the states that are exported."""
        return self._to(f"learn/{lesson_file(lesson, state)}")

    def query(self, **state: Any) -> str:
        """The end of an address that holds the state of a page."""
        return query(state)

    def compare(self, **state: Any) -> str:
        """Nowhere: one atlas is exported."""
        return self.home()

    def series(self, **state: Any) -> str:
        """Nowhere, likewise."""
        return self.home()

    def search(self, atlas: str) -> str:
        """Nowhere: what is searched for is found by the page's script."""
        return ""

    def status(self, atlas: str) -> str:
        """Nowhere: there is no server."""
        return ""

    def api(self) -> str:
        """Nowhere, likewise."""
        return self.home()


def file_name(number: int, layer: str) -> str:
    """Return the name of a layer's files: safe on any disk, and different for each layer."""
    return f"{number:03}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', layer)[:60].strip('.')}"


def lesson_file(lesson: str, state: Mapping[str, Any]) -> str:
    """Return the name of a lesson's page in a state."""
    if not lesson:
        return "index.html"
    words = [lesson, *(str(state[name]) for name in sorted(state))]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", "-".join(words)) + ".html"
