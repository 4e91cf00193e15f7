"""Names of layers in URLs: every name that a file can hold has an address."""

from collections.abc import Collection

_MARK = "~"


def word_of(layer: str) -> str:
    r"""Return the URL segment of a layer: its name, if that is safe.

    Names that browsers, forms or routes would change or misread (line ends, ``..``, percent signs,
    braces, numbers after a slash) become a tilde and the hexadecimal digits of their UTF-8.

    Example:
        >>> from rot180.web.names import word_of
        >>> word_of("layer4.1.conv2"), word_of("a\n")
        ('layer4.1.conv2', '~610a')
    """
    first, *others = layer.split("/")
    plain = (
        layer.isprintable()
        and not set(layer) & set("{}%\\")
        and "  " not in layer
        and not layer.startswith(_MARK)
        and not layer.endswith(".json")
        and all(one.strip(" .") for one in (first, *others))
        and not any(one.isdecimal() for one in others)
    )
    # Scripts fill in the placeholder of a layer, so it stays as it is.
    return layer if plain or layer == "{layer}" else _MARK + layer.encode().hex()


def layer_of(word: str, layers: Collection[str]) -> str | None:
    """Return the layer of a URL segment, or of its name; None if there is none."""
    if word in layers:
        return word
    try:
        name = bytes.fromhex(word.removeprefix(_MARK)).decode() if word.startswith(_MARK) else ""
    except ValueError:
        return None
    return name if name in layers else None
