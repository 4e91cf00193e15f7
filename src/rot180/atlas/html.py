"""Atlases, layers and features as a notebook shows them. All words of a file are escaped."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from rot180.projection.imaging import encode_png, upscale
from rot180.titles import feature_label

if TYPE_CHECKING:
    from rot180.atlas.atlas import Atlas
    from rot180.atlas.feature import AtlasLayer, Feature

_ROWS = 12
_TILE = 64


def atlas_html(atlas: "Atlas") -> str:
    """Return a table of the layers."""
    rows = [
        (
            one.name,
            one.kind,
            one.channels,
            f"{one.height}×{one.width}",
            f"{one.receptive_field[0]}×{one.receptive_field[1]}",
            sum(filter(None, one.statistics["dead"])),
        )
        for one in atlas.layers.values()
    ]
    head = f"{atlas.model or 'A network'} over {atlas.scanned} images of {atlas.data}"
    return _titled(head) + _table(
        ("layer", "kind", "features", "maps", "receptive field", "dead"), rows
    )


def layer_html(layer: "AtlasLayer") -> str:
    """Return a table of the strongest features."""
    found = sorted(layer, key=lambda one: -(one.max if one.max is not None else float("-inf")))
    rows = [
        (
            feature_label(one.channel, one.name),
            _number(one.max),
            _percent(one.firing_positions),
            _percent(one.firing_images),
            _number(one.class_selectivity),
            _number(one.colour_r2),
        )
        for one in found[:_ROWS]
    ]
    more = f"; the {_ROWS} strongest" if len(layer) > _ROWS else ""
    return _titled(f"{layer.name}: {len(layer)} features{more}") + _table(
        ("feature", "max", "fires at", "on images", "class selectivity", "colour R²"), rows
    )


def feature_html(feature: "Feature", atlas: "Atlas") -> str:
    """Return the strongest patches and the statistics."""
    tiles = []
    for example in feature.examples:
        pixels = atlas.picture(example.image).pixels
        if pixels is None:
            continue
        box = example.box
        patch = pixels[box.top : box.bottom, box.left : box.right]
        if not patch.size:
            continue
        patch = patch.repeat(3, axis=2) if patch.shape[2] == 1 else patch
        shown = upscale(patch, max(1, _TILE // max(patch.shape[:2])))
        data = b64encode(encode_png(shown)).decode()
        words = f"image {example.image}, activation {example.activation:.3g}"
        tiles.append(
            f'<img src="data:image/png;base64,{data}" alt="{words}" title="{words}" '
            f'style="height:{_TILE}px;margin:1px;display:inline">'
        )
    rows = [
        (name.replace("_", " "), value if isinstance(value, bool | int) else _number(value))
        for name, value in feature.statistics.items()
        if value is not None and name != "best_class"
    ]
    if feature.best_class is not None:
        rows.append(("best class", atlas.classes[feature.best_class]))
    return _titled(feature.title) + f"<div>{''.join(tiles)}</div>" + _table(("statistic", ""), rows)


def _titled(words: str) -> str:
    return f"<p><strong>{escape(words)}</strong></p>"


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(one))}</td>" for one in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.3g} %"
