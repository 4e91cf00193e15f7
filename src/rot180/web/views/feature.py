"""The data of a feature's page: its examples, statistics and correlated features."""

from dataclasses import dataclass

from rot180.atlas.describe import (
    BY_COLOUR,
    describe_colour,
    describe_faithfulness,
    describe_feature,
    describe_firing,
)
from rot180.atlas.feature import ClassResponse, CorrelatedFeature, HistogramBin
from rot180.graph.box import Box
from rot180.projection.rules import AUTO, METHODS, Rules
from rot180.web.collection import ServedAtlas
from rot180.web.views.network import Availability, LayerRow, layer_rows


@dataclass(frozen=True)
class ExampleView:
    """An image that excites the feature.

    Attributes:
        rank: from 0, the strongest first.
        image: its number in the data set.
        name: its name in the data set.
        class_name: its class; None if it has none.
        activation: the largest on it.
        strength: the value by which it is ranked: the activation, or the value before a rectifier
            with an upper limit.
        position: (y, x) of the peak in the map.
        box: the receptive field there, in pixels of the image.
        shown: the part of the box that tiles show: all of it, or a square of the effective size.
        effective: its own effective receptive field; None if it was not measured.
        pixel: (y, x) of the middle of the box.
    """

    rank: int
    image: int
    name: str
    class_name: str | None
    activation: float
    strength: float
    position: tuple[int, int]
    box: Box
    shown: Box
    effective: Box | None
    pixel: tuple[int, int]


@dataclass(frozen=True)
class FeatureView:
    """A feature and the state of its page.

    Attributes:
        atlas: its name in addresses.
        layer: the layer at a glance.
        channel: the feature's number.
        title: its title, as "fc · tench (0)", or "conv1, feature 3".
        name: name of the class if the feature is a class score; else "".
        before, after: numbers of its neighbours; None at the ends.
        words: a description of its colours or class; "" if nothing stands out.
        fires: how often it fires, in words.
        responds: how it responds to colours, in words; "" if colours explain little.
        statistics: see docs/reference/atlas.md.
        examples: the images that excite it most, among those on which it fires.
        histogram: histogram of the peaks of all images.
        responses: the classes on which it is strongest, best first.
        partners: the features most, and least, correlated with it, best first.
        best_class: name of the class of its largest mean peak.
        method, unpool: method and unpooling of the projections.
        image_matters: for each method, whether its projections depend on the image; empty while
            the network is not available.
        auto: the method that was measured to be most faithful at this layer; "" if not measured.
        faithful: how faithful its projections are, in a sentence; "" likewise.
        network: state of the network.
        pictures_missing: why there are no pictures; "" if there are.
    """

    atlas: str
    layer: LayerRow
    channel: int
    title: str
    name: str
    before: int | None
    after: int | None
    words: str
    fires: str
    responds: str
    statistics: dict[str, float | int | bool | None]
    examples: list[ExampleView]
    histogram: list[HistogramBin]
    responses: list[ClassResponse]
    partners: list[CorrelatedFeature]
    best_class: str | None
    method: str
    unpool: str
    image_matters: dict[str, bool]
    auto: str
    faithful: str
    network: Availability
    pictures_missing: str


def feature_view(
    served: ServedAtlas, layer: str, channel: int, method: str = "auto", unpool: str = "switches"
) -> FeatureView:
    """Return the data of a feature's page.

    Raises:
        Rot180Error: there is no such feature, method or unpooling.
    """
    feature, atlas = served.feature(layer, channel), served.atlas
    layer = feature.layer
    rules = Rules(method, unpool)
    examples = []
    for rank, one in enumerate(feature.firing):
        name, label = atlas.image_info(one.image)
        kind = None if label is None else atlas.classes[label]
        tiles = served.tiles(layer)
        pixel, shown = tiles.middle(one.position), tiles.box(one)
        examples.append(
            ExampleView(
                rank,
                one.image,
                name,
                kind,
                one.activation,
                one.strength,
                one.position,
                one.box,
                shown,
                one.effective,
                pixel,
            )
        )
    best = feature.best_class
    colours = [one for one in (feature.red, feature.green, feature.blue) if one is not None]
    found = atlas.faithfulness.get(layer)
    responds = (feature.colour_r2 or 0) >= BY_COLOUR / 2
    return FeatureView(
        served.name,
        layer_rows(served)[atlas.layer_index(layer)],
        channel,
        feature.title,
        feature.name,
        channel - 1 if channel else None,
        channel + 1 if channel + 1 < len(atlas.layers[layer]) else None,
        describe_feature(atlas, feature),
        describe_firing(atlas, feature),
        describe_colour(colours or [feature.brightness or 0.0]) if responds else "",
        feature.statistics,
        examples,
        list(feature.histogram),
        list(feature.class_responses),
        list(feature.correlated_features),
        None if best is None else atlas.classes[best],
        rules.method,
        rules.unpooling,
        _image_matters(served, layer, rules),
        "" if found is None else found.method,
        "" if found is None else describe_faithfulness(found, layer),
        Availability.of(served),
        served.pictures_missing,
    )


def _image_matters(served: ServedAtlas, layer: str, rules: Rules) -> dict[str, bool]:
    """Return, for each method, whether its projections depend on the image."""
    if served.model.state != "ready":
        return {}
    carrying = served.model.projector(layer, rules)
    found = {one: carrying.depends_on_image(one) for one in METHODS}
    auto = served.model.projector(layer, Rules(AUTO, rules.unpooling)).rules.method
    return {AUTO: found[auto], **found}
