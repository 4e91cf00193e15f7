"""An atlas as a site that needs no server: the same pages, in a folder that opens from a disk."""

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
from rot180.web.encoding import File
from rot180.web.encoding import picture as encoded
from rot180.web.folder import FolderLinks, lesson_file
from rot180.web.pictures import Show, drawn
from rot180.web.render import static_files
from rot180.web.shelf import Book
from rot180.web.views.blocks import blocks_of
from rot180.web.views.feature import feature_view
from rot180.web.views.image import image_view
from rot180.web.views.images import images_view
from rot180.web.views.layer import PAGE, ZOOMS, layer_view
from rot180.web.views.network import NetworkView, network_view

MARK = "rot180-site.json"
"""The file by which an exported site is known, and may be replaced by another."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """What of an atlas is exported.

    Attributes:
        layers: their names, in the order of the network.
        methods, unpoolings: of the projections; empty: none are drawn.
        lessons: whether to write the lessons, too.
    """

    layers: tuple[str, ...]
    methods: tuple[str, ...]
    unpoolings: tuple[str, ...]
    lessons: bool = True

    @property
    def rules(self) -> list[Rules]:
        """All methods with all unpoolings, the usual one first."""
        return [Rules(one, other) for one in self.methods for other in self.unpoolings]


def wanted(
    book: Book,
    layers: Sequence[str] | None = None,
    methods: Sequence[str] = (AUTO, *WAYS_BACK),
    unpoolings: Sequence[str] = UNPOOLINGS,
    lessons: bool = True,
) -> Wanted:
    """Return what is asked for, checked.

    Args:
        book: the atlas; without its network no projections are drawn.
        layers: names, or patterns like ``layer4.*``; None: all.
        methods, unpoolings: names.
        lessons: whether to write the lessons, too.

    Raises:
        Rot180Error: there is no such layer, method or unpooling.
    """
    for one in methods:
        check_choice(one, "method", CHOICES)
    for one in unpoolings:
        check_choice(one, "unpooling", UNPOOLINGS)
    names = tuple(book.atlas.layers)
    chosen = names if layers is None else match_layers(names, tuple(layers))
    if methods and unpoolings:
        book.live.load()
        if book.live.state == "absent":
            methods, unpoolings = (), ()
    return Wanted(tuple(chosen), tuple(methods), tuple(unpoolings), lessons)


def export(book: Book, out: Path, asked: Wanted, progress: Progress | None = None) -> Path:
    """Write a site into a folder, whole or not at all.

    Args:
        book: the atlas.
        out: the folder: new, empty, or an earlier export, which is replaced.
        asked: what of the atlas.
        progress: called with how many of all features are done.

    Returns:
        The page to open.

    Raises:
        Rot180Error: the folder holds something else, or cannot be written.
    """
    out = out.resolve()
    _check_folder(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with private_folder(out) as folder:
            beside = folder / "new"
            beside.mkdir()
            _Site(book, beside, asked).write(progress)
            _put_in_place(beside, out, folder / "old")
    except OSError as error:
        raise Rot180Error(f"Cannot write {out}: {error.strerror or error}.") from error
    return out / "index.html"


def _check_folder(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise Rot180Error(
            f"{out} holds files that no export of rot180 wrote: give a new folder, or empty it."
        )
    if out.exists() and not out.is_dir():
        raise Rot180Error(f"{out} is a file: give a folder.")


def _put_in_place(new: Path, out: Path, old: Path) -> None:
    """Let a folder take the place of another; that one, if it is there, is moved to ``old``."""
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
    """The files of a site, written one after the other."""

    def __init__(self, book: Book, folder: Path, asked: Wanted) -> None:
        self.book, self.folder, self.asked = book, folder, asked
        self.links = FolderLinks(asked.layers, 0, asked.methods, asked.unpoolings, asked.lessons)
        self.network = _restricted(network_view(book), asked.layers)

    def write(self, progress: Progress | None) -> None:
        """Write everything."""
        for name, content in static_files().items():
            if not name.endswith(".js"):
                self._file(f"static/{name}", content)
        self._file("static/site.js", bundled_scripts().encode())
        self._file("index.html", pages.network_page(self.links, self.book, self.network))
        if self.asked.lessons:
            self._lessons()
        self._images()
        total = sum(len(self.book.atlas.layers[name]) for name in self.asked.layers)
        done = 0
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for layer in self.asked.layers:
                self._layer(layer)
                for channel in range(len(self.book.atlas.layers[layer])):
                    self._feature(pool, layer, channel)
                    done += 1
                    if progress is not None:
                        progress(done, total)
        about = {"rot180": __version__, "atlas": self.book.name, "layers": self.asked.layers}
        self._file(MARK, json.dumps(about))

    def _layer(self, name: str) -> None:
        view = layer_view(self.book, name)
        at = self.asked.layers.index(name)
        before = self.asked.layers[at - 1] if at else None
        after = self.asked.layers[at + 1] if at + 1 < len(self.asked.layers) else None
        view = replace(view, before=before, after=after)
        links = self.links.below(1)
        for first in range(0, len(view.order), PAGE):
            page = pages.layer_page(links, self.book, view, first)
            self._file(self.links.layer_from("", name, first), page)

    def _feature(self, pool: ThreadPoolExecutor, layer: str, channel: int) -> None:
        rules = self.asked.rules[0] if self.asked.rules else Rules()
        view = feature_view(self.book, layer, channel, rules.method, rules.unpooling)
        page = pages.feature_page(self.links.below(2), self.book, view)
        self._file(self.links.feature("", layer, channel), page)
        if self.book.pictures_missing:
            return
        feature = self.book.feature(layer, channel)
        made: list[tuple[str, Future[File]]] = []
        for show in self._shows(len(feature.firing)):
            path = self.links.tile("", layer, channel, show)
            call = partial(drawn, self.book, feature, Show.named(show), "webp")
            if Show.named(show).rules is None:
                made.append((path, pool.submit(call)))
            else:
                self._file(path, call().content)
        for path, file in made:
            self._file(path, file.result().content)

    def _shows(self, examples: int) -> Iterator[str]:
        """Name the pictures of a feature with so many examples."""
        endings = [f"-{one.method}-{one.unpooling}" for one in self.asked.rules]
        for ending in endings:  # the first asks for all examples, which the others then find
            yield from (f"projection-{rank}{ending}" for rank in range(examples))
        for count in ZOOMS.values():
            yield f"patches-{count}"
            yield from (f"projections-{count}{ending}" for ending in endings[:1])
        yield f"mean-9{endings[0] if endings else ''}"
        yield from (f"patch-{rank}" for rank in range(examples))

    def _images(self) -> None:
        links, total = self.links.below(1), images_view(self.book).total
        view = images_view(self.book, 0, total)
        page = pages.images_page(links, self.book, view)
        self._file("images/index.html", page)
        kept = set(self.asked.layers)
        for row in view.images:
            name = str(row.image)
            one = image_view(self.book, name)
            one = replace(one, example_of=[of for of in one.example_of if of.layer in kept])
            self._file(f"images/{name}.html", pages.image_page(links, self.book, one))
            if not self.book.pictures_missing:
                content = encoded(self.book.pixels(row.image), "webp", exact=True).content
                self._file(f"pictures/{name}.webp", content)

    def _lessons(self) -> None:
        links = self.links.below(1)
        for lesson, state in taught.PAGES:
            page = taught.rendered(links, lesson, state)
            self._file(f"learn/{lesson_file(lesson, state)}", page)

    def _file(self, path: str, content: str | bytes) -> None:
        whole = self.folder / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_bytes(content.encode() if isinstance(content, str) else content)


def _restricted(view: NetworkView, layers: Sequence[str]) -> NetworkView:
    """Leave layers out of a network; what they fed is fed by what fed them."""
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
"""The modules that pages of the server load; they import the others."""

_IMPORT = re.compile(r'^import (?:\{[^}]*\} from )?"\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class|let) )", re.MULTILINE)


def bundled_scripts() -> str:
    """Return all modules in one script, in an order in which each comes after those it imports.

    Browsers do not load modules from a disk. The modules' top-level names differ, so they can share
    one function's scope.
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
