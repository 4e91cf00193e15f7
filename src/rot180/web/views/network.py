"""The data of a network's page: its layers, their connections, and summary statistics."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rot180.atlas.describe import BY_COLOUR, IMAGES_OF_CLASS, SELECTIVE
from rot180.atlas.feature import AtlasLayer
from rot180.figures.context import colour_entropy
from rot180.visible import visible
from rot180.web.blocks import Block, blocks_of
from rot180.web.collection import ServedAtlas
from rot180.web.representative_tiles import RepresentativeTile, representative_tiles


@dataclass(frozen=True)
class Availability:
    """Whether the network is loaded, so that features can be projected to pixels.

    Attributes:
        state: "waiting" (it will be loaded), "loading", "ready", or "absent".
        reason: why it is absent.
        notices: assumptions that were made when it was loaded.
    """

    state: Literal["waiting", "loading", "ready", "absent"]
    reason: str
    notices: list[str]

    @classmethod
    def of(cls, served: ServedAtlas) -> "Availability":
        """Return the present state of an atlas' network."""
        live = served.model
        return cls(live.state, visible(live.reason), [visible(one) for one in live.notices])


@dataclass(frozen=True)
class LayerRow:
    """A summary of a layer.

    Attributes:
        number: its number in the order of the network.
        name, kind, rectifier, channels, height, width: see :class:`rot180.Layer`.
        receptive_field: (height, width), in pixels.
        stride: (vertical, horizontal) pixels between neighbouring units' receptive fields.
        sees_all: whether the receptive field of its units is the whole image.
        mostly: typical side of their effective receptive fields, in pixels; None if it was not
            measured, or is hardly smaller than the receptive field.
        dead: number of features that fire on no image.
        by_colour: number of features whose variance colour explains by a quarter or more.
        selective: number of features with a class selectivity of at least a half, for a class of
            at least ten images; None if no class has so many.
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
    """The network of an atlas.

    Attributes:
        atlas: its name in addresses.
        model, data: names of the model and of the data set.
        images, scanned: number of images of the data set, and of those scanned.
        finished: whether the scan is over.
        features: number of features of all layers.
        size: (height, width) of the images.
        classes: names of the classes of the data.
        layers: the layers in the order of the network.
        connections: pairs (source, target) of layer numbers; -1 is the image. None if the atlas
            does not record them.
        tiles: representative tiles of each layer, by name; see
            :func:`rot180.web.representative_tiles.representative_tiles`.
        blocks: neighbouring layers with a common name, in the order of the network.
        sample: number of a varied image, to draw receptive fields on; None if there is none.
        pictures_missing: why there are no pictures; "" if there are.
        network: state of the network.
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
    """Return the data of a network's page."""
    atlas, tiles = served.atlas, representative_tiles(served)
    return NetworkView(
        served.name,
        visible(atlas.model) or "a network without a name",
        visible(atlas.data),
        atlas.images,
        atlas.scanned,
        atlas.finished,
        atlas.index.features,
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
    """Return the most colourful of the images that excite most features most."""
    found = served.atlas.rows(
        "SELECT image FROM example WHERE rank = 0 GROUP BY image ORDER BY COUNT(*) DESC LIMIT 20"
    )
    numbers: list[int] = [number for (number,) in found]
    if not numbers or served.pictures_missing:
        return numbers[0] if numbers else None
    every = max(1, min(served.atlas.size) // 32)  # a small image is enough
    return max(numbers, key=lambda one: colour_entropy(served.pixels(one)[::every, ::every]))


@lru_cache(maxsize=64)
def layer_rows(served: ServedAtlas) -> list[LayerRow]:
    """Return summaries of all layers of an atlas."""
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
    """Return the typical side of a layer's effective receptive fields, if it is informative."""
    found = layer.faithfulness
    if found is None or found.effective > 0.9 * min(layer.receptive_field):
        return None
    return max(1, round(found.effective))
