"""The data of a layer's page: its features, sorted and filtered by any statistic."""

from dataclasses import dataclass, fields

from rot180.errors import check_choice
from rot180.projection.rules import Rules
from rot180.web.collection import ServedAtlas
from rot180.web.filters import select
from rot180.web.urls import Urls
from rot180.web.views.network import Availability, LayerRow, layer_rows

SHOWN = ("patches", "fields", "masked", "projections", "mean")
PAGE = 500
"""Features on a page; scripts and links load the next ones."""
ZOOMS = {"small": 1, "medium": 4, "large": 9}
"""Sizes of tiles, and the number of examples that each shows."""


@dataclass(frozen=True)
class LayerView:
    """A layer and the state of its page.

    Attributes:
        atlas: its name in addresses.
        layer: the layer at a glance.
        before, after: names of the layers around it; None at the ends.
        order: numbers of the features that meet the conditions, in order.
        statistics: statistics by name; a value for every feature, None if it is undefined.
        classes: names of the classes; ``best_class`` counts them.
        names: names of the features if they are class scores; else empty.
        sort, where, show, zoom, method, unpool: the state of the page.
        network: state of the network.
        pictures_missing: why there are no pictures; "" if there are.
    """

    atlas: str
    layer: LayerRow
    before: str | None
    after: str | None
    order: list[int]
    statistics: dict[str, list[float | None]]
    classes: list[str]
    names: list[str]
    sort: str
    where: str
    show: str
    zoom: str
    method: str
    unpool: str
    network: Availability
    pictures_missing: str


@dataclass(frozen=True)
class LayerPage(LayerView):
    """A page of a layer's features: ``order``, ``statistics`` and ``names`` hold only these.

    Attributes:
        total: number of features that meet the conditions.
        next: URL of the next page; None for the last one.
    """

    total: int
    next: str | None


def layer_view(
    served: ServedAtlas,
    name: str,
    sort: str = "channel",
    where: str = "",
    show: str = "patches",
    zoom: str = "medium",
    method: str = "auto",
    unpool: str = "switches",
) -> LayerView:
    """Return the data of a layer's page.

    Raises:
        Rot180Error: a layer, order, condition or other value does not exist.
    """
    layer = served.layer(name)
    check_choice(show, "way to show features", SHOWN)
    check_choice(zoom, "zoom", ZOOMS)
    rules = Rules(method, unpool)
    rows = layer_rows(served)
    number = served.atlas.layer_index(layer.name)
    statistics = layer.statistics
    return LayerView(
        served.name,
        rows[number],
        rows[number - 1].name if number else None,
        rows[number + 1].name if number + 1 < len(rows) else None,
        select(statistics, sort, where),
        statistics,
        list(served.atlas.classes),
        list(served.atlas.names_of(layer.name)),
        sort,
        where,
        show,
        zoom,
        rules.method,
        rules.unpooling,
        Availability.of(served),
        served.pictures_missing,
    )


def layer_page(urls: Urls, view: LayerView, first: int, count: int) -> LayerPage:
    """Return a page of a layer's features.

    Args:
        urls: the URLs of the server.
        view: the whole layer.
        first: number of features before the page, in the order of the view.
        count: most features on the page.
    """
    whole = {field.name: getattr(view, field.name) for field in fields(view)}
    order, end = view.order[first : first + count], first + count
    whole["order"] = order
    whole["statistics"] = {
        name: [values[channel] for channel in order] for name, values in view.statistics.items()
    }
    whole["names"] = [view.names[channel] for channel in order] if view.names else []
    state = {**layer_state(view), "from": end, "count": None if count == PAGE else count}
    address = f"{urls.layer(view.atlas, view.layer.name)}.json{urls.query(**state)}"
    return LayerPage(
        **whole, total=len(view.order), next=address if end < len(view.order) else None
    )


def layer_state(view: LayerView) -> dict[str, str | None]:
    """Return the state of a layer's page as in its URL; None where it is the default."""
    usual = {"sort": "channel", "where": "", "show": "patches", "zoom": "medium"}
    usual |= {"method": "auto", "unpool": "switches"}
    return {
        name: None if getattr(view, name) == value else getattr(view, name)
        for name, value in usual.items()
    }
