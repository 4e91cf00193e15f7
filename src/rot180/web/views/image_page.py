"""The data of an image's page: its features, layer by layer, and the units at a pixel."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from rot180.atlas.atlas import Atlas
from rot180.atlas.feature import Example, is_number
from rot180.atlas.images import Pixels
from rot180.errors import check_choice
from rot180.graph.box import Box
from rot180.web.collection import ServedAtlas
from rot180.web.errors import NotFound
from rot180.web.percentiles import peak_histograms
from rot180.web.session import OpenedImage
from rot180.web.views.network import Availability, LayerRow, layer_rows

MOST_UNITS = 48
"""Most units at a pixel that are listed."""
MOST_EXAMPLES = 48
PAGE = 500
"""Features of a layer in one response."""
ORDERS = ("unusual", "strongest")
"""Of the features of a layer on an image."""


@dataclass(frozen=True)
class FeatureExample:
    """A feature that the image excites strongly: the image's rank, from 0, and activation."""

    layer: str
    channel: int
    rank: int
    activation: float
    title: str


@dataclass(frozen=True)
class ClassProbability:
    """A class and its probability."""

    name: str
    probability: float


@dataclass(frozen=True)
class ImageView:
    """An image of the atlas, or an upload.

    Attributes:
        atlas: name of the atlas in addresses.
        image: its name in URLs: a number, or a random word for an upload.
        uploaded: whether it is an upload, which is kept in memory for a while.
        name: its name in the data set.
        class_name: its class; None if it has none.
        size: (height, width).
        layers: layers of the network.
        opens: name of the layer that is shown first: the last layer with maps.
        example_of: features of which it is an example, best ranks first.
        network: state of the network.
    """

    atlas: str
    image: str
    uploaded: bool
    name: str
    class_name: str | None
    size: tuple[int, int]
    layers: list[LayerRow]
    opens: str
    example_of: list[FeatureExample]
    network: Availability


@dataclass(frozen=True)
class Peak:
    """The strongest unit of a feature on an image; ``label`` is the feature's label."""

    channel: int
    activation: float
    position: tuple[int, int]
    label: str


@dataclass(frozen=True)
class FeaturePeak(Peak):
    """The strongest unit of a feature on an image, and how unusual that is for the feature.

    Attributes:
        lower: approximate share of the atlas' images with a lower peak, from 0 to 1.
    """

    lower: float


@dataclass(frozen=True)
class ImageLayerView:
    """The features of a layer on an image, a page of them.

    Attributes:
        layer: name of the layer.
        order: "unusual" or "strongest".
        peaks: the strongest unit of each feature of the page; the most unusual first (ties: the
            nearest to the feature's largest activation), or the strongest first.
        top_classes: the network's predictions; empty if it has no classes.
        total: number of features of the layer.
        next: URL of the next page of features; None for the last one.
    """

    layer: str
    order: str
    peaks: list[FeaturePeak]
    top_classes: list[ClassProbability]
    total: int
    next: str | None


@dataclass(frozen=True)
class PixelView:
    """The units that fire at a pixel.

    Attributes:
        layer: name of the layer.
        pixel: (y, x).
        position: (y, x) in the maps: the unit whose receptive field lies around the pixel.
        box: that receptive field.
        firing: number of the layer's features that are above 0 there.
        units: the strongest of these.
    """

    layer: str
    pixel: tuple[int, int]
    position: tuple[int, int]
    box: Box
    firing: int
    units: list[Peak]


def image_pixels(served: ServedAtlas, image: str) -> Pixels:
    """Return an image of the atlas, or an upload.

    Raises:
        NotFound: there is no such image, or the upload has expired.
    """
    if image.isascii() and image.isdecimal() and len(image) < 16:
        held = served.atlas.rows("SELECT 1 FROM image WHERE number = ?", int(image))
        if not held:
            raise NotFound(
                f"Image {image} is not an example of any feature, so the atlas does not hold it."
            )
        return served.pixels(int(image))
    found = served.caches.uploads.get((served.name, image))
    if found is None:
        raise NotFound(
            "This upload has expired: uploaded images are kept in memory only, for a while. "
            "Upload it again."
        )
    return found


def image_view(served: ServedAtlas, image: str) -> ImageView:
    """Return the data of an image's page.

    Raises:
        NotFound: there is no such image, or the upload has expired.
    """
    image_pixels(served, image)
    rows = layer_rows(served)
    name, label, examples = "your image", None, []
    if image.isdecimal():
        name, label = served.atlas.image_info(int(image))
        examples = _example_of(served.atlas, int(image))
    kind = None if label is None else served.atlas.classes[label]
    return ImageView(
        served.name,
        image,
        not image.isdecimal(),
        name,
        kind,
        served.atlas.size,
        rows,
        next((one for one in reversed(rows) if one.height * one.width > 1), rows[-1]).name,
        examples,
        Availability.of(served),
    )


def _example_of(atlas: Atlas, image: int) -> list[FeatureExample]:
    """Return the features of which an image is an example."""
    found = atlas.rows(
        "SELECT layer, channel, rank, activation FROM examples WHERE image = ? "
        "AND activation > 0 ORDER BY rank, activation DESC LIMIT ?",
        image,
        MOST_EXAMPLES,
    )
    for layer, channel, rank, activation in found:
        whole = all(isinstance(one, int) and one >= 0 for one in (channel, rank))
        known = layer in atlas.layers and whole and channel < len(atlas.layers[layer])
        atlas.check(known and is_number(activation), "example")
    return [
        FeatureExample(layer, channel, rank, activation, atlas.title(layer, channel))
        for layer, channel, rank, activation in found
    ]


def opened_image(served: ServedAtlas, image: str) -> OpenedImage:
    """Return an image with its forward pass, computed as far as needed so far."""
    return served.model.open(image, lambda: image_pixels(served, image))


def image_layer_view(
    served: ServedAtlas,
    image: str,
    layer: str,
    order: str = "unusual",
    first: int = 0,
    count: int = PAGE,
) -> ImageLayerView:
    """Return the strongest unit of each feature of a layer on an image, a page at a time.

    Args:
        served: the atlas.
        image: the image, by its name in URLs.
        layer: the layer.
        order: "unusual" or "strongest".
        first: number of features before the page.
        count: most features on the page.

    Raises:
        Rot180Error: there is no such image, layer or order.
    """
    check_choice(order, "order of features", ORDERS)
    layer = served.layer(layer).name
    histograms = peak_histograms(served, layer)
    opened = opened_image(served, image)
    strongest, positions = served.model.peaks(opened, layer)
    classes = served.model.top_classes(opened)
    served.model.update_size(image)
    lower = histograms.shares_below(strongest)
    activations = np.asarray(strongest)
    near = activations / np.maximum(np.nan_to_num(histograms.largest), 1e-30)
    keys = (near, lower) if order == "unusual" else (activations,)
    ranked = np.lexsort([-key for key in keys])[first : first + count].tolist()  # equal: by number
    peaks = [
        FeaturePeak(
            channel,
            strongest[channel],
            positions[channel],
            served.atlas.label(layer, channel),
            float(lower[channel]),
        )
        for channel in ranked
    ]
    return ImageLayerView(
        layer,
        order,
        peaks,
        [ClassProbability(*one) for one in classes],
        len(strongest),
        None,
    )


def pixel_view(served: ServedAtlas, image: str, layer: str, y: int, x: int) -> PixelView:
    """Return the units that fire at a pixel of an image.

    Raises:
        NotFound: there is no such pixel.
    """
    part = served.layer(layer)
    layer = part.name
    height, width = served.atlas.size
    if not (0 <= y < height and 0 <= x < width):
        raise NotFound(f"There is no pixel ({y}, {x}): the image has {height} x {width}.")
    position = served.tiles(layer).nearest((y, x))
    opened = opened_image(served, image)
    values = served.model.maps(opened, layer)[:, position[0], position[1]]
    served.model.update_size(image)
    order = values.argsort(descending=True, stable=True)[:MOST_UNITS].tolist()
    label = partial(served.atlas.label, layer)
    units = [Peak(n, float(values[n]), position, label(n)) for n in order if values[n] > 0]
    return PixelView(
        layer, (y, x), position, part.fields.box(position), int((values > 0).sum()), units
    )


def example_box(served: ServedAtlas, layer: str, position: tuple[int, int]) -> Example:
    """Return a unit as an example, to draw its receptive field.

    Raises:
        NotFound: there is no such position.
    """
    part = served.layer(layer)
    y, x = position
    if not (0 <= y < part.height and 0 <= x < part.width):
        raise NotFound(
            f"There is no position ({y}, {x}) in layer '{layer}', whose maps are {part.height} x "
            f"{part.width}."
        )
    return Example(-1, 0.0, position, part.fields.box(position), 0.0)
