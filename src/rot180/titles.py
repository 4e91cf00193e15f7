"""Titles and labels of features: layer and number, and the class name of a class score."""

from rot180.visible import visible

_LONGEST = 40
"""Maximal number of characters of a class name in the label below a tile."""


def feature_title(layer: str, channel: int, name: str = "") -> str:
    """Return the title of a feature for headings and captions, where it stands alone.

    Args:
        layer: its layer.
        channel: its number in the layer.
        name: class whose score the feature is; "" for any other feature.

    Example:
        >>> from rot180.titles import feature_title
        >>> feature_title("fc", 0, "tench"), feature_title("conv1", 3)
        ('fc · tench (0)', 'conv1, feature 3')
    """
    if name:
        return f"{visible(layer)} · {visible(name)} ({channel})"
    return f"{visible(layer)}, feature {channel}"


def feature_label(channel: int, name: str = "") -> str:
    """Return the label of a feature for tables and tiles, where its layer is known.

    A long class name is cut.

    Example:
        >>> from rot180.titles import feature_label
        >>> feature_label(0, "tench"), feature_label(3)
        ('tench (0)', '3')
    """
    if not name:
        return str(channel)
    shown = visible(name)
    short = shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1].rstrip()}…"
    return f"{short} ({channel})"
