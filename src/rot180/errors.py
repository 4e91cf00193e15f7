"""The exception and the warning of rot180, and helpers that write their sentences."""

from collections.abc import Iterable
from difflib import get_close_matches
from operator import index
from typing import Any

from rot180.visible import visible

LARGEST = 2**63
"""Upper bound of whole numbers: NumPy, PyTorch and SQLite store no larger ones."""


class Rot180Error(Exception):
    """An error that the user can correct: the message says what was wrong and what to do.

    Control characters in the message are escaped (see ``visible``), so that it is safe to print.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*_escaped(args))


class Rot180Warning(UserWarning):
    """Something the user may want to know that does not stop the work; escaped as errors are."""

    def __init__(self, *args: object) -> None:
        super().__init__(*_escaped(args))


def _escaped(args: Iterable[object]) -> list[object]:
    return [visible(arg) if isinstance(arg, str) else arg for arg in args]


def suggest(names: Iterable[str], wanted: str = "", limit: int = 12) -> str:
    """List names for a sentence, those most similar to ``wanted`` first, at most ``limit``."""
    known = list(names)
    similar = get_close_matches(wanted, known, n=limit, cutoff=0.3)
    ordered = similar + [name for name in known if name not in similar]
    shown = ", ".join(ordered[:limit])
    return shown + (f", … ({len(ordered)} in all)" if len(ordered) > limit else "")


def check_choice(name: str, what: str, known: Iterable[str]) -> None:
    """Check that a name is one of the known ones.

    Args:
        name: the name.
        what: the kind of thing that it names, for the message.
        known: all names of this kind.

    Raises:
        Rot180Error: the name is unknown; the message lists the known ones.
    """
    known = list(known)
    if name not in known:
        raise Rot180Error(f"There is no {what} '{name}'. There are: {suggest(known, name)}.")


def as_int(value: Any, what: str) -> int:
    """Return a whole number of Python, NumPy or PyTorch as an int.

    Raises:
        Rot180Error: the value is not a whole number; ``what`` names it in the message.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = index(value)
    except TypeError:
        raise Rot180Error(f"{what} has to be a whole number, not {shortened(value)}.") from None
    if abs(number) >= LARGEST:
        raise Rot180Error(f"{what} has to be a whole number below 2 to the power of 63.")
    return number


def shortened(value: Any, most: int = 80) -> str:
    """Return the ``repr`` of a value, cut after ``most`` characters: for sentences about input."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits; deep lists
        return f"a {type(value).__name__} that is too long to be shown"
    return text if len(text) <= most else f"{text[:most]}…"
