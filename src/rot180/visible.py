"""Text from files as it may be shown: what would act on a terminal or a page stands as its code.

Names that are not valid text (a file's name may be any bytes) are made so by :func:`valid_name`
where they come in, so that they can be stored and sent. :func:`visible` is for where text is shown.
"""

import re

_ACTS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tab and line feed
    "\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069"  # what turns the direction of text
    "\u2028\u2029\ud800-\udfff]"  # other line ends, and halves of characters
)
# A half of a character, and what already looks like one that is written as its code.
_NOT_VALID = re.compile(r"[\ud800-\udfff]|\\(?=x(?:5c|[89a-f][0-9a-f])|ud[89a-f][0-9a-f]{2})")


def valid_name(name: str) -> str:
    r"""Return a name as text that UTF-8 can hold; two different names stay different.

    A byte that is no text (Python keeps it as a surrogate) is written as its number, as ``visible``
    does; a backslash that would read as the start of such a number becomes one itself.

    Example:
        >>> from rot180.visible import valid_name
        >>> valid_name("caf\udce9.png"), valid_name(r"caf\xe9.png"), valid_name("café.png")
        ('caf\\xe9.png', 'caf\\x5cxe9.png', 'café.png')
    """
    return _NOT_VALID.sub(_code, name)


def visible(text: str) -> str:
    r"""Return a text in which characters that do something are written as escapes.

    A byte of a file's name that is no text (Python keeps it as a surrogate) becomes its number.

    Example:
        >>> from rot180.visible import visible
        >>> visible("cat\x1b]0;owned\x07"), visible("caf\udce9.png")
        ('cat\\x1b]0;owned\\x07', 'caf\\xe9.png')
    """
    return _ACTS.sub(_code, text)


def _code(found: re.Match[str]) -> str:
    number = ord(found[0])
    if 0xDC80 <= number <= 0xDCFF:
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
