"""What is found by words: layers, features by number, and features by their best class."""

import re
from dataclasses import dataclass

from rot180.atlas.features import can_be
from rot180.web.links import Links
from rot180.web.shelf import Book

MOST = 60


@dataclass(frozen=True)
class Hit:
    """A layer or a feature that was found.

    Attributes:
        layer: name of the layer.
        channel: number of the feature; None for a layer.
        address: where it is.
        words: why it was found.
    """

    layer: str
    channel: int | None
    address: str
    words: str


@dataclass(frozen=True)
class SearchView:
    """What was found.

    Attributes:
        asked: the words.
        layers: whose name holds them.
        features: with this number, or most selective for a class whose name holds them.
        only: the address of the one thing that was meant; None if there are several or none.
    """

    asked: str
    layers: list[Hit]
    features: list[Hit]
    only: str | None


def search_view(links: Links, book: Book, asked: str) -> SearchView:
    """Search an atlas."""
    atlas, words = book.atlas, asked.strip()[:200]
    exact = _named(links, book, words)
    if exact is not None:
        return SearchView(asked, [], [], exact)
    small = words.lower()
    layers = [
        Hit(name, None, links.layer(book.name, name), "layer")
        for name in atlas.layers
        if small and small in name.lower()
    ][:MOST]
    numbers = [n for n, name in enumerate(atlas.classes) if small and small in name.lower()][:200]
    features = []
    if numbers:
        marks = ", ".join("?" * len(numbers))
        found = atlas.rows(
            "SELECT layer, channel, best_class, class_selectivity FROM feature "
            f"WHERE best_class IN ({marks}) AND class_selectivity IS NOT NULL "
            "ORDER BY class_selectivity DESC, id LIMIT ?",
            *numbers,
            MOST,
        )
        for layer, channel, best, selectivity in found:
            known = layer in atlas.layers and isinstance(channel, int)
            atlas.check(known and 0 <= channel < len(atlas.layers[layer]), "feature")
            good = can_be("class_selectivity", (selectivity,), len(atlas.classes))
            atlas.check(good and isinstance(best, int), "feature.class_selectivity")
            said = f"{atlas.classes[best]}, selectivity {selectivity:.2f}"
            address = links.feature(book.name, layer, channel)
            features.append(Hit(layer, channel, address, said))
    only = layers[0].address if len(layers) == 1 and not features else None
    return SearchView(asked, layers, features, only)


def _named(links: Links, book: Book, words: str) -> str | None:
    """Return the address of what the words name: a layer, or a layer and a number."""
    if words in book.atlas.layers:
        return links.layer(book.name, words)
    match = re.fullmatch(r"(.+?)[\s/,:#]+([0-9]{1,7})", words)
    if match and match[1] in book.atlas.layers:
        channel = int(match[2])
        if channel < len(book.atlas.layers[match[1]]):
            return links.feature(book.name, match[1], channel)
    return None
