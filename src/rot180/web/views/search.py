"""The search: layers, features by number, class scores, classes, and images by name."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rot180.atlas.statistics import BY_NAME
from rot180.web.collection import ServedAtlas
from rot180.web.urls import Urls

MOST = 60
_MOST_CLASSES = 200


@dataclass(frozen=True)
class Hit:
    """A layer or feature among the results.

    Attributes:
        layer: name of the layer.
        channel: number of the feature; None for a layer.
        title: its title.
        address: its URL.
        words: why it is a result.
    """

    layer: str
    channel: int | None
    title: str
    address: str
    words: str


@dataclass(frozen=True)
class ImageHit:
    """An image among the results: number, name, class and URL."""

    image: int
    name: str
    class_name: str | None
    address: str


@dataclass(frozen=True)
class SearchView:
    """The results of a search.

    Attributes:
        asked: the query.
        layers: layers whose name contains the query.
        outputs: scores of classes whose name contains it.
        features: features that are most selective for such a class.
        images: images whose name or class contains it.
        more: whether some results are not listed.
        only: URL of the only result; None if there are several or none.
    """

    asked: str
    layers: list[Hit]
    outputs: list[Hit]
    features: list[Hit]
    images: list[ImageHit]
    more: bool
    only: str | None


def search_view(urls: Urls, served: ServedAtlas, asked: str) -> SearchView:
    """Search an atlas."""
    atlas, words = served.atlas, asked.strip()[:200]
    exact = _named(urls, served, words)
    if exact is not None:
        return SearchView(asked, [], [], [], [], False, exact)
    if not words:
        return SearchView(asked, [], [], [], [], False, None)
    layers = [
        Hit(name, None, name, urls.layer(served.name, name), "layer")
        for name in _holding(words, atlas.layers)
    ]
    output = atlas.output_layer
    outputs = [
        Hit(output, n, atlas.title(output, n), urls.feature(served.name, output, n), "class score")
        for n, name in enumerate(atlas.outputs)
        if _holds(words, name)
    ]
    numbers = [
        n
        for n, name in enumerate(atlas.classes)
        if _holds(words, name) or (atlas.folders and _holds(words, atlas.folders[n]))
    ]
    features = _selective(urls, served, numbers[:_MOST_CLASSES])
    images = _images(urls, served, words, numbers[:_MOST_CLASSES])
    more = any(len(one) > MOST for one in (layers, outputs, features, images))
    found = [one.address for hits in (layers, outputs, features, images) for one in hits]
    return SearchView(
        asked,
        layers[:MOST],
        outputs[:MOST],
        features[:MOST],
        images[:MOST],
        more,
        found[0] if len(found) == 1 else None,
    )


def _holds(words: str, name: str) -> bool:
    """Return whether a name contains a query; blanks, underscores and hyphens are equal."""
    return _plain(words) in _plain(name)


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ").replace("-", " ")


def _holding(words: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if _holds(words, name)]


def _selective(urls: Urls, served: ServedAtlas, numbers: list[int]) -> list[Hit]:
    """Return features that are most selective for some classes, one more than are listed."""
    atlas = served.atlas
    features = []
    if numbers:
        marks = ", ".join("?" * len(numbers))
        found = atlas.rows(
            "SELECT layer, channel, best_class, class_selectivity FROM feature "
            f"WHERE best_class IN ({marks}) AND class_selectivity IS NOT NULL "
            "ORDER BY class_selectivity DESC, id LIMIT ?",
            *numbers,
            MOST + 1,
        )
        for layer, channel, best, selectivity in found:
            known = layer in atlas.layers and isinstance(channel, int)
            atlas.check(known and 0 <= channel < len(atlas.layers[layer]), "feature")
            good = BY_NAME["class_selectivity"].allows((selectivity,), len(atlas.classes))
            atlas.check(good and isinstance(best, int), "feature.class_selectivity")
            said = f"{atlas.classes[best]}, selectivity {selectivity:.2f}"
            address = urls.feature(served.name, layer, channel)
            features.append(Hit(layer, channel, atlas.title(layer, channel), address, said))
    return features


def _images(urls: Urls, served: ServedAtlas, words: str, numbers: list[int]) -> list[ImageHit]:
    """Return images of some classes, or whose name contains a query, one more than are listed."""
    atlas = served.atlas
    wanted = re.sub(r"([%_\\])", r"\\\1", words)
    marks = ", ".join("?" * len(numbers))
    found = atlas.rows(
        f"SELECT number FROM image WHERE name LIKE ? ESCAPE '\\' OR class IN ({marks}) "
        "ORDER BY number LIMIT ?",
        f"%{wanted}%",
        *numbers,
        MOST + 1,
    )
    hits = []
    for (number,) in found:
        atlas.check(isinstance(number, int), "image")
        name, label = atlas.image_info(number)
        kind = None if label is None else atlas.classes[label]
        hits.append(ImageHit(number, name, kind, urls.image(served.name, number)))
    return hits


def _named(urls: Urls, served: ServedAtlas, words: str) -> str | None:
    """Return the URL of the layer or feature that a query names."""
    if words in served.atlas.layers:
        return urls.layer(served.name, words)
    match = re.fullmatch(r"(.+?)[\s/,:#]+([0-9]{1,7})", words)
    if match and match[1] in served.atlas.layers:
        channel = int(match[2])
        if channel < len(served.atlas.layers[match[1]]):
            return urls.feature(served.name, match[1], channel)
    return None
