"""The names of layers as addresses hold them: any name that a file can give leads to its layer."""

from collections.abc import Collection

_MARK = "~"


def word_of(layer: str) -> str:
    r"""Return the word by which addresses call a layer: its name, wherever that is safe.

    Names with what browsers, forms or routes would change or take for something else (line ends,
    ``..``, percent signs, braces, numbers after a slash) become a tilde and their UTF-8 in
    hexadecimal digits.

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
    # The placeholder of a layer, which scripts fill in, is one of the words.
    return layer if plain or layer == "{layer}" else _MARK + layer.encode().hex()


def layer_of(word: str, layers: Collection[str]) -> str | None:
    """Return the layer that an address calls by a word, or by its name; None: there is none."""
    if word in layers:
        return word
    try:
        name = bytes.fromhex(word.removeprefix(_MARK)).decode() if word.startswith(_MARK) else ""
    except ValueError:
        return None
    return name if name in layers else None
