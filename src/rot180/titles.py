"""What a feature is called, everywhere: by its layer and number, and by its class if it is one."""

from rot180.visible import visible

_LONGEST = 40
"""Characters of a class in a label below a tile."""


def feature_title(layer: str, channel: int, name: str = "") -> str:
    """Return what a feature is called where it stands alone: in headings and captions.

    Args:
        layer: its layer.
        channel: its number there.
        name: of the class whose score it is; "" for any other feature.

    Example:
        >>> from rot180.titles import feature_title
        >>> feature_title("fc", 0, "tench"), feature_title("conv1", 3)
        ('fc · tench (0)', 'conv1, feature 3')
    """
    if name:
        return f"{visible(layer)} · {visible(name)} ({channel})"
    return f"{visible(layer)}, feature {channel}"


def feature_label(channel: int, name: str = "") -> str:
    """Return what a feature is called where its layer is known: in tables and below tiles.

    A long name is cut.

    Example:
        >>> from rot180.titles import feature_label
        >>> feature_label(0, "tench"), feature_label(3)
        ('tench (0)', '3')
    """
    if not name:
        return str(channel)
    shown = visible(name)
    cut = shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1].rstrip()}…"
    return f"{cut} ({channel})"
