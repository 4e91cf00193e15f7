"""Sentences about the statistics of features."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rot180.atlas.atlas import Atlas
    from rot180.atlas.feature import Feature
    from rot180.projection.faithfulness import Faithfulness

NAMES = ("red", "green", "blue")
BY_COLOUR, SELECTIVE, IMAGES_OF_CLASS = 0.25, 0.5, 10
"""From which share explained by colour that is said of a feature, and from which selectivity its
class, if the data have so many images of it: a mean over fewer says little."""


def describe_colour(coefficients: Sequence[float]) -> str:
    """Say the strongest effects of colours: "more with green, less with blue".

    Args:
        coefficients: activation for the full range of each channel, the others fixed; of three, or
            of brightness alone.
    """
    if not any(coefficients):
        return "nothing"
    if len(coefficients) == 1:
        return "more where it is bright" if coefficients[0] > 0 else "more where it is dark"
    largest = max(abs(one) for one in coefficients)
    parts = [
        f"{'more' if value > 0 else 'less'} with {name}"
        for name, value in sorted(
            zip(NAMES, coefficients, strict=True), key=lambda pair: -abs(pair[1])
        )
        if abs(value) > 0.3 * largest
    ]
    return ", ".join(parts)


def describe_feature(atlas: "Atlas", feature: "Feature") -> str:
    """Say what the statistics of a feature tell of it: its colours and its class, or nothing.

    Each where it is marked; see ``BY_COLOUR``, ``SELECTIVE``.
    """
    parts = []
    if (feature.colour_r2 or 0) >= BY_COLOUR:
        channels = [one for one in (feature.red, feature.green, feature.blue) if one is not None]
        parts.append(describe_colour(channels or [feature.brightness or 0.0]))
    best = feature.best_class
    if best is not None and (feature.class_selectivity or 0) >= SELECTIVE:
        atlas.check(best in range(len(atlas.classes)), "feature.best_class")
        if atlas.class_images[best] >= IMAGES_OF_CLASS:
            parts.append(f"most on {atlas.classes[best]}")
    return "; ".join(parts)


def describe_firing(atlas: "Atlas", feature: "Feature") -> str:
    """Say how often a feature fires: "12 % of images, 0.3 % of positions"."""
    layer, images = (
        atlas[feature.layer],
        f"{format_percent(feature.firing_images or 0.0)} of images",
    )
    if layer.height * layer.width == 1:
        return images
    return f"{images}, {format_percent(feature.firing_positions or 0.0)} of positions"


def format_percent(value: float) -> str:
    """Write a share in per cent; two digits of the small ones, and 100 only of all."""
    if value < 0.1:
        return f"{100 * value:.2g} %"
    return f"{100 * value:.0f} %" if value < 0.995 or value == 1 else "99 %"


def describe_faithfulness(found: "Faithfulness", layer: str) -> str:
    """Say how faithful the best method's pictures of a layer are, beside chance and the map."""
    left, kept = found.score
    where = "" if found.layer == layer else f" (measured at {found.layer})"
    words = (
        f"Most faithful here: {found.method.replace('_', ' ')}{where}. With the fifth of the "
        f"pixels that it marks blurred, {_percent(left)} of a unit's value is left (chance: "
        f"{_percent(found.chance.left)}); with all others blurred, {_percent(kept)} (chance: "
        f"{_percent(found.chance.kept)})."
    )
    if not found.beats_chance:
        words += " That is no better than chance: do not read these pictures as causes."
    elif not found.beats_map:
        words += (
            " The layer's own map, enlarged, marks them better: "
            f"{_percent(found.map.left)} is left, {_percent(found.map.kept)} kept."
        )
    return words


def _percent(share: float) -> str:
    return f"{100 * max(share, 0.0):.0f} %"
