"""A network: its layers as they are connected, with statistics at a glance."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rot180.atlas.features import AtlasLayer
from rot180.atlas.words import BY_COLOUR, IMAGES_OF_CLASS, SELECTIVE
from rot180.figures.subject import colour_entropy
from rot180.visible import visible
from rot180.web.blocks import Block, blocks_of
from rot180.web.collection import ServedAtlas
from rot180.web.representative_tiles import RepresentativeTile, representative_tiles


@dataclass(frozen=True)
class Availability:
    """Whether the network is at hand, so that features can be carried back to pixels.

    Attributes:
        state: "waiting" (it will be loaded), "loading", "ready", or "absent".
        reason: why it is absent.
        notices: what was assumed when it was loaded.
    """

    state: Literal["waiting", "loading", "ready", "absent"]
    reason: str
    notices: list[str]

    @classmethod
    def of(cls, served: ServedAtlas) -> "Availability":
        """Say how it is now."""
        live = served.model
        return cls(live.state, visible(live.reason), [visible(one) for one in live.notices])


@dataclass(frozen=True)
class LayerRow:
    """A layer at a glance.

    Attributes:
        number: in the order of the network.
        name, kind, rectifier, channels, height, width: see :class:`rot180.Layer`.
        receptive_field: (height, width), in pixels.
        stride: (vertical, horizontal) pixels between neighbouring units' receptive fields.
        sees_all: whether its units see the whole image.
        mostly: typical side of their effective receptive fields, in pixels; None where it was not
            measured, or is hardly smaller than the receptive field.
        dead: features that fire on no image.
        by_colour: features of whose variance colour explains a quarter or more.
        selective: features with a class selectivity of a half or more, on a class of at least ten
            images. None: no class has so many.
    """

    number: int
    name: str
    kind: str
    rectifier: str
    channels: int
    height: int
    width: int
    receptive_field: tuple[int, int]
    stride: tuple[float, float]
    sees_all: bool
    mostly: int | None
    dead: int
    by_colour: int
    selective: int | None


@dataclass(frozen=True)
class NetworkView:
    """A network, as an atlas knows it.

    Attributes:
        atlas: its name in addresses.
        model, data: how model and data set are called.
        images, scanned: of the data set, and of it scanned.
        finished: whether the scan is over.
        features: of all layers.
        size: (height, width) of the images.
        classes: names of the classes of the data.
        layers: in the order of the network.
        connections: pairs of layers' numbers of which one feeds the other; -1 is the image. None:
            the atlas does not say.
        tiles: pictures that stand for each layer, by its name; see
            :func:`rot180.web.representative_tiles.representative_tiles`.
        blocks: neighbouring layers whose names begin alike, in the order of the network.
        sample: number of an image with much in it, to draw on; None: there is none.
        pictures_missing: why no pictures can be shown; "" if they can.
        network: whether it is at hand.
    """

    atlas: str
    model: str
    data: str
    images: int
    scanned: int
    finished: bool
    features: int
    size: tuple[int, int]
    classes: list[str]
    layers: list[LayerRow]
    connections: list[tuple[int, int]] | None
    tiles: dict[str, list[RepresentativeTile]]
    blocks: list[Block]
    sample: int | None
    pictures_missing: str
    network: Availability


def network_view(served: ServedAtlas) -> NetworkView:
    """Look at the network of an atlas."""
    atlas, tiles = served.atlas, representative_tiles(served)
    return NetworkView(
        served.name,
        visible(atlas.model) or "a network without a name",
        visible(atlas.data),
        atlas.images,
        atlas.scanned,
        atlas.finished,
        atlas.layout.features,
        atlas.size,
        list(atlas.classes),
        layer_rows(served),
        atlas.connections,
        tiles,
        blocks_of(list(atlas.layers), tiles),
        sample_image(served),
        served.pictures_missing,
        Availability.of(served),
    )


@lru_cache(maxsize=64)
def sample_image(served: ServedAtlas) -> int | None:
    """Return the most varied of the images that are the strongest of most features."""
    found = served.atlas.rows(
        "SELECT image FROM example WHERE rank = 0 GROUP BY image ORDER BY COUNT(*) DESC LIMIT 20"
    )
    numbers: list[int] = [number for (number,) in found]
    if not numbers or served.pictures_missing:
        return numbers[0] if numbers else None
    every = max(1, min(served.atlas.size) // 32)  # as many pixels as a small image has
    return max(numbers, key=lambda one: colour_entropy(served.pixels(one)[::every, ::every]))


@lru_cache(maxsize=64)
def layer_rows(served: ServedAtlas) -> list[LayerRow]:
    """Return all layers of an atlas at a glance."""
    atlas = served.atlas
    counted = atlas.rows(
        "SELECT layer, COALESCE(SUM(dead), 0), COALESCE(SUM(colour_r2 >= ?), 0), "
        "COALESCE(SUM(class_selectivity >= ? AND class.images >= ?), 0) "
        "FROM feature LEFT JOIN class ON best_class = number GROUP BY layer",
        BY_COLOUR,
        SELECTIVE,
        IMAGES_OF_CLASS,
    )
    counts = {name: numbers for name, *numbers in counted}
    for name, layer in atlas.layers.items():
        for one in counts.get(name, ()):
            atlas.check(isinstance(one, int) and 0 <= one <= len(layer), "feature")
    judged = any(count >= IMAGES_OF_CLASS for count in atlas.class_images)
    rows = []
    for number, layer in enumerate(atlas.layers.values()):
        dead, by_colour, selective = counts.get(layer.name, (0, 0, 0))
        rows.append(
            LayerRow(
                number,
                layer.name,
                layer.kind,
                layer.rectifier,
                layer.channels,
                layer.height,
                layer.width,
                layer.receptive_field,
                layer.stride,
                layer.receptive_field == atlas.size,
                _mostly(layer),
                dead,
                by_colour,
                selective if judged else None,
            )
        )
    return rows


def _mostly(layer: AtlasLayer) -> int | None:
    """Return the typical side of a layer's effective receptive fields, where it tells something."""
    found = layer.faithfulness
    if found is None or found.effective > 0.9 * min(layer.receptive_field):
        return None
    return max(1, round(found.effective))
