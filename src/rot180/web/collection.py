"""The atlases that the explorer serves, each with its images and its network."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rot180.atlas.atlas import Atlas
from rot180.atlas.feature import AtlasLayer, Feature
from rot180.atlas.identity import ScanIdentity
from rot180.atlas.images import AtlasImages, Pixels
from rot180.datasets import Dataset
from rot180.errors import Rot180Error, suggest
from rot180.figures.tiles import Tiles
from rot180.projection.effective import LARGE_FIELD
from rot180.projection.result import Projection
from rot180.web import imaging, session
from rot180.web.cache import Cache
from rot180.web.errors import NotFound
from rot180.web.imaging import EncodedImage
from rot180.web.names import layer_of
from rot180.web.session import LiveModel, Loader, OpenedImage

MEGABYTE = 2**20


class Caches:
    """The caches of all atlases together, each with a limit.

    Args:
        megabytes: limit of all caches together.
    """

    def __init__(self, megabytes: int = 1024) -> None:
        whole = megabytes * MEGABYTE
        self.opened: Cache[OpenedImage] = Cache(whole * 6 // 10, session.size_in_bytes)
        self.pixels: Cache[Pixels] = Cache(whole * 15 // 100, lambda one: one.nbytes)
        self.files: Cache[EncodedImage] = Cache(whole * 15 // 100, imaging.size_in_bytes)
        self.uploads: Cache[Pixels] = Cache(64 * MEGABYTE, lambda one: one.nbytes)
        self.signals: Cache[list[Projection]] = Cache(whole // 10, _bytes_of_signals)


def _bytes_of_signals(signals: list[Projection]) -> int:
    return sum(one.pixels.nbytes for one in signals) + 200


class ServedAtlas:
    """An atlas that the explorer serves.

    Attributes:
        name: its name in URLs.
        atlas: the atlas.
        model: its network.
        version_tag: a string that changes with the atlas file, for ETags.
    """

    def __init__(
        self, name: str, atlas: Atlas, loaders: Sequence[Loader], data: Any, caches: Caches
    ) -> None:
        self.name, self.atlas, self.caches = name, atlas, caches
        self.model = LiveModel(atlas, loaders, caches.opened, self.pixels)
        changed = atlas.path.stat()
        self.version_tag = f"{name}-{changed.st_mtime_ns:x}-{changed.st_size:x}"
        self.pictures_missing = ""
        self._source: AtlasImages | None = None
        try:
            self._source = AtlasImages(atlas, data)
        except Rot180Error as error:
            if data is not None:
                raise
            # Visitors need not know the path of the file.
            self.pictures_missing = str(error).replace(str(atlas.path), atlas.path.name)
        self.tiles = lru_cache(maxsize=64)(self._tiles)

    def pixels(self, image: int) -> Pixels:
        """Return an image in the network's input size, before normalisation.

        Raises:
            NotFound: the image is not an example of any feature, or the atlas has no images.
        """
        if self._source is None:
            raise NotFound(self.pictures_missing)
        source = self._source
        return self.caches.pixels.get_or_make((self.name, image), lambda: source.pixels(image))

    def layer(self, name: str) -> AtlasLayer:
        """Return a layer.

        Args:
            name: its name, or its URL segment.

        Raises:
            NotFound: there is no layer of this name.
        """
        found = layer_of(name, self.atlas.layers)
        if found is None:
            raise NotFound(
                f"There is no layer '{name}' in {self.name}. It has: "
                f"{suggest(self.atlas.layers, name)}."
            )
        return self.atlas.layers[found]

    def feature(self, layer: str, channel: int) -> Feature:
        """Return a feature.

        Raises:
            NotFound: the layer has no feature of this number.
        """
        part = self.layer(layer)
        if not 0 <= channel < len(part):
            raise NotFound(
                f"Layer '{layer}' has no feature {channel}: it has {len(part)} features, 0 to "
                f"{len(part) - 1}."
            )
        found: Feature = part[channel]
        return found

    def _tiles(self, layer: str, receptive_fields: bool = False) -> Tiles:
        return Tiles(self.layer(layer), self.atlas.size, receptive_fields)

    def cuts_tiles(self, layer: str) -> bool:
        """Return whether tiles of a layer show less than the receptive fields of its units."""
        part = self.layer(layer)
        if max(part.receptive_field) < LARGE_FIELD:
            return False
        return self.tiles(layer).effective is not None or part.has_effective_fields

    @property
    def title(self) -> str:
        """A title: the model and the data that were scanned."""
        return f"{self.atlas.model or 'A network'} over {self.atlas.data}"


class AtlasCollection(Mapping[str, ServedAtlas]):
    """The served atlases by name, in the order in which they were given."""

    def __init__(
        self,
        atlases: Iterable[Atlas] = (),
        loaders: Sequence[Loader] = (),
        data: Any = None,
        caches: Caches | None = None,
    ) -> None:
        self.caches = caches or Caches()
        self.atlases: dict[str, ServedAtlas] = {}
        shown = list(atlases)
        fitting = [one for one in shown if _is_of(one, data)]
        for atlas in shown:
            name = _name(atlas.path, self.atlases)
            # Data that fit no atlas are given to the first, which raises the error.
            given = data if atlas in fitting or not fitting else None
            self.atlases[name] = ServedAtlas(name, atlas, loaders, given, self.caches)

    def __getitem__(self, name: str) -> ServedAtlas:
        if name not in self.atlases:
            there = (
                f"There are: {suggest(self.atlases, name)}."
                if self.atlases
                else "No atlas is open."
            )
            raise NotFound(f"There is no atlas '{name}' here. {there}")
        return self.atlases[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.atlases)

    def __len__(self) -> int:
        return len(self.atlases)

    def comparable_with(self, name: str) -> list[str]:
        """Return the names of the atlases over the same data as one, itself included."""
        data = ScanIdentity.for_atlas(self[name].atlas).data
        return [
            other
            for other, served in self.items()
            if ScanIdentity.for_atlas(served.atlas).data == data
        ]


def _is_of(atlas: Atlas, data: Any) -> bool:
    """Return whether an atlas is a scan of these data."""
    return isinstance(data, Dataset) and data.fingerprint == ScanIdentity.for_atlas(atlas).data


def _name(path: Path, taken: Mapping[str, Any]) -> str:
    """Return a unique name for URLs from the name of a file."""
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.") or "atlas"
    name, number = word, 2
    while name in taken:
        name, number = f"{word}-{number}", number + 1
    return name
