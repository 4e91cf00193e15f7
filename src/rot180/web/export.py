"""Exports an atlas as a static site: the same pages, in a folder that a browser opens from disk."""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rot180 import __version__
from rot180.atlas.options import match_layers
from rot180.errors import Rot180Error, check_choice
from rot180.files import private_folder, sync_directories
from rot180.projection.rules import AUTO, CHOICES, UNPOOLINGS, WAYS_BACK, Rules
from rot180.web import lessons as taught
from rot180.web import pages
from rot180.web.blocks import blocks_of
from rot180.web.collection import ServedAtlas
from rot180.web.feature_pictures import FeaturePicture, picture_file
from rot180.web.imaging import EncodedImage, encode
from rot180.web.templates import static_files
from rot180.web.urls import StaticUrls, lesson_file
from rot180.web.views.feature import feature_view
from rot180.web.views.image_list import images_view
from rot180.web.views.image_page import image_view
from rot180.web.views.layer import PAGE, ZOOMS, layer_view
from rot180.web.views.network import NetworkView, network_view

MARK = "rot180-site.json"
"""The file that marks a folder as an exported site, which the next export may replace."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ExportOptions:
    """What an export contains.

    Attributes:
        layers: names of the layers, in the order of the network.
        methods, unpoolings: those of the projections; empty: no projections.
        lessons: whether to include the lessons.
    """

    layers: tuple[str, ...]
    methods: tuple[str, ...]
    unpoolings: tuple[str, ...]
    lessons: bool = True

    @property
    def rules(self) -> list[Rules]:
        """All pairs of a method and an unpooling, the default first."""
        return [Rules(one, other) for one in self.methods for other in self.unpoolings]


def export_options(
    served: ServedAtlas,
    layers: Sequence[str] | None = None,
    methods: Sequence[str] = (AUTO, *WAYS_BACK),
    unpoolings: Sequence[str] = UNPOOLINGS,
    lessons: bool = True,
) -> ExportOptions:
    """Check and return the options of an export.

    Args:
        served: the atlas; without its network the export has no projections.
        layers: names, or patterns like ``layer4.*``; None: all layers.
        methods, unpoolings: names; empty: no projections.
        lessons: whether to include the lessons.

    Raises:
        Rot180Error: a layer, method or unpooling does not exist.
    """
    for one in methods:
        check_choice(one, "method", CHOICES)
    for one in unpoolings:
        check_choice(one, "unpooling", UNPOOLINGS)
    names = tuple(served.atlas.layers)
    chosen = names if layers is None else match_layers(names, tuple(layers))
    if methods and unpoolings:
        served.model.load()
        if served.model.state == "absent":
            methods, unpoolings = (), ()
    return ExportOptions(tuple(chosen), tuple(methods), tuple(unpoolings), lessons)


def export(
    served: ServedAtlas, out: Path, options: ExportOptions, progress: Progress | None = None
) -> Path:
    """Write a site into a folder; on failure, leave the folder as it was.

    Args:
        served: the atlas.
        out: a folder that is new or empty, or an earlier export, which is replaced.
        options: what to export.
        progress: called with the numbers of features that are done, and of all.

    Returns:
        The page to open.

    Raises:
        Rot180Error: the folder contains other files, or cannot be written.
    """
    out = out.resolve()
    _check_folder(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with private_folder(out) as folder:
            beside = folder / "new"
            beside.mkdir()
            _Site(served, beside, options).write(progress)
            _put_in_place(beside, out, folder / "old")
    except OSError as error:
        raise Rot180Error(f"Cannot write {out}: {error.strerror or error}.") from error
    return out / "index.html"


def _check_folder(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise Rot180Error(
            f"{out} contains files that were not written by an export of rot180: name a new "
            "folder, or empty this one."
        )
    if out.exists() and not out.is_dir():
        raise Rot180Error(f"{out} is a file: name a folder.")


def _put_in_place(new: Path, out: Path, old: Path) -> None:
    """Move a folder to ``out``; an existing one is moved to ``old`` first."""
    new.chmod(0o755)
    if out.exists():
        out.replace(old)
        try:
            new.replace(out)
        except OSError:
            old.replace(out)
            raise
    else:
        new.replace(out)
    sync_directories([out.parent])


class _Site:
    """Writes the files of a site."""

    def __init__(self, served: ServedAtlas, folder: Path, options: ExportOptions) -> None:
        self.served, self.folder, self.options = served, folder, options
        self.urls = StaticUrls(
            options.layers, 0, options.methods, options.unpoolings, options.lessons
        )
        self.network = _restricted(network_view(served), options.layers)

    def write(self, progress: Progress | None) -> None:
        """Write everything."""
        for name, content in static_files().items():
            if not name.endswith(".js"):
                self._file(f"static/{name}", content)
        self._file("static/site.js", bundled_scripts().encode())
        self._file("index.html", pages.network_page(self.urls, self.served, self.network))
        if self.options.lessons:
            self._lessons()
        self._images()
        total = sum(len(self.served.atlas.layers[name]) for name in self.options.layers)
        done = 0
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for layer in self.options.layers:
                self._layer(layer)
                for channel in range(len(self.served.atlas.layers[layer])):
                    self._feature(pool, layer, channel)
                    done += 1
                    if progress is not None:
                        progress(done, total)
        about = {"rot180": __version__, "atlas": self.served.name, "layers": self.options.layers}
        self._file(MARK, json.dumps(about))

    def _layer(self, name: str) -> None:
        view = layer_view(self.served, name)
        at = self.options.layers.index(name)
        before = self.options.layers[at - 1] if at else None
        after = self.options.layers[at + 1] if at + 1 < len(self.options.layers) else None
        view = replace(view, before=before, after=after)
        urls = self.urls.below(1)
        for first in range(0, len(view.order), PAGE):
            page = pages.layer_page(urls, self.served, view, first)
            self._file(self.urls.layer_page("", name, first), page)

    def _feature(self, pool: ThreadPoolExecutor, layer: str, channel: int) -> None:
        rules = self.options.rules[0] if self.options.rules else Rules()
        view = feature_view(self.served, layer, channel, rules.method, rules.unpooling)
        page = pages.feature_page(self.urls.below(2), self.served, view)
        self._file(self.urls.feature("", layer, channel), page)
        if self.served.pictures_missing:
            return
        feature = self.served.feature(layer, channel)
        made: list[tuple[str, Future[EncodedImage]]] = []
        for show in self._shows(len(feature.firing)):
            path = self.urls.tile("", layer, channel, show)
            call = partial(picture_file, self.served, feature, FeaturePicture.parse(show), "webp")
            if FeaturePicture.parse(show).rules is None:
                made.append((path, pool.submit(call)))
            else:
                self._file(path, call().content)
        for path, file in made:
            self._file(path, file.result().content)

    def _shows(self, examples: int) -> Iterator[str]:
        """Yield the names of the pictures of a feature with so many examples."""
        endings = [f"-{one.method}-{one.unpooling}" for one in self.options.rules]
        for (
            ending
        ) in endings:  # the first projects all examples, which the cache keeps for the others
            yield from (f"projection-{rank}{ending}" for rank in range(examples))
        for count in ZOOMS.values():
            yield f"patches-{count}"
            yield from (f"projections-{count}{ending}" for ending in endings[:1])
        yield f"mean-9{endings[0] if endings else ''}"
        yield from (f"patch-{rank}" for rank in range(examples))

    def _images(self) -> None:
        urls, total = self.urls.below(1), images_view(self.served).total
        view = images_view(self.served, 0, total)
        page = pages.images_page(urls, self.served, view)
        self._file("images/index.html", page)
        kept = set(self.options.layers)
        for row in view.images:
            name = str(row.image)
            one = image_view(self.served, name)
            one = replace(one, example_of=[of for of in one.example_of if of.layer in kept])
            self._file(f"images/{name}.html", pages.image_page(urls, self.served, one))
            if not self.served.pictures_missing:
                content = encode(self.served.pixels(row.image), "webp", exact=True).content
                self._file(f"pictures/{name}.webp", content)

    def _lessons(self) -> None:
        urls = self.urls.below(1)
        for lesson, state in taught.PAGES:
            page = taught.render_lesson(urls, lesson, state)
            self._file(f"learn/{lesson_file(lesson, state)}", page)

    def _file(self, path: str, content: str | bytes) -> None:
        whole = self.folder / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_bytes(content.encode() if isinstance(content, str) else content)


def _restricted(view: NetworkView, layers: Sequence[str]) -> NetworkView:
    """Remove layers from a network; their inputs are connected to the layers that they fed."""
    kept = [row for row in view.layers if row.name in layers]
    if len(kept) == len(view.layers):
        return view
    place = {row.number: number for number, row in enumerate(kept)}
    feeds: dict[int, set[int]] = {}
    for source, target in view.connections or []:
        known = {source} if source < 0 or source in place else feeds.get(source, set())
        feeds.setdefault(target, set()).update(known)
    connections = [
        (source if source < 0 else place[source], place[target])
        for target in place
        for source in sorted(feeds.get(target, set()))
    ]
    rows = [replace(row, number=number) for number, row in enumerate(kept)]
    told = None if view.connections is None else connections
    tiles = {row.name: view.tiles[row.name] for row in rows}
    return replace(
        view,
        layers=rows,
        connections=told,
        tiles=tiles,
        blocks=blocks_of(list(tiles), tiles),
        features=sum(row.channels for row in rows),
    )


ENTRIES = ("site.js", "lesson-convolution.js", "lesson-deconvnet.js")
"""The modules that the server's pages load; they import the others."""

_IMPORT = re.compile(r'^import (?:\{[^}]*\} from )?"\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class|let) )", re.MULTILINE)


def bundled_scripts() -> str:
    """Return all modules as one script, each after the modules that it imports.

    Browsers do not load modules from disk. The modules' top-level names differ, so they can share
    the scope of one function.
    """
    sources = {
        name: content.decode() for name, content in static_files().items() if name.endswith(".js")
    }
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in order:
            for one in _IMPORT.findall(sources[name]):
                visit(one)
            order.append(name)

    for one in ENTRIES:
        visit(one)
    parts = [_EXPORT.sub("", _IMPORT.sub("", sources[name])) for name in order]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"
