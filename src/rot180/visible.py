"""Escapes for text from files, which may hold anything.

:func:`valid_name` makes names valid Unicode where they are read (the name of a file may be any
bytes), so that they can be stored and sent. :func:`visible` escapes control characters where text
is shown on a terminal or a page.
"""

import re

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters except tab and line feed
    "\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069"  # marks that change the direction of text
    "\u2028\u2029\ud800-\udfff]"  # other line ends, and surrogates
)
# A surrogate, and a backslash that already begins an escape of one.
_NOT_VALID = re.compile(r"[\ud800-\udfff]|\\(?=x(?:5c|[89a-f][0-9a-f])|ud[89a-f][0-9a-f]{2})")


def valid_name(name: str) -> str:
    r"""Return a name that can be encoded in UTF-8; two different names stay different.

    A byte that is not valid text (a surrogate in Python) becomes an escape, as in ``visible``. A
    backslash that could be read as the start of such an escape is escaped itself.

    Example:
        >>> from rot180.visible import valid_name
        >>> valid_name("caf\udce9.png"), valid_name(r"caf\xe9.png"), valid_name("café.png")
        ('caf\\xe9.png', 'caf\\x5cxe9.png', 'café.png')
    """
    return _NOT_VALID.sub(_escape, name)


def visible(text: str) -> str:
    r"""Return a text in which control characters are escaped.

    A byte that is not valid text (a surrogate in Python) is escaped as its number.

    Example:
        >>> from rot180.visible import visible
        >>> visible("cat\x1b]0;owned\x07"), visible("caf\udce9.png")
        ('cat\\x1b]0;owned\\x07', 'caf\\xe9.png')
    """
    return _CONTROL.sub(_escape, text)


def _escape(character: re.Match[str]) -> str:
    number = ord(character[0])
    if 0xDC80 <= number <= 0xDCFF:
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
