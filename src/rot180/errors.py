"""The exception that rot180 raises on purpose, and its warning: sentences for the user."""

from collections.abc import Iterable
from difflib import get_close_matches
from operator import index
from typing import Any

from rot180.visible import visible

LARGEST = 2**63
"""Whole numbers stay below it: NumPy, PyTorch and SQLite hold no larger ones."""


class Rot180Error(Exception):
    """Something the user can put right: the message says what was wrong and what to do.

    What the message quotes of files and names can be printed and sent: see ``visible``.
    """

    def __init__(self, *words: object) -> None:
        super().__init__(*_visible(words))


class Rot180Warning(UserWarning):
    """Something the user may want to know, while the work goes on; shown as errors are."""

    def __init__(self, *words: object) -> None:
        super().__init__(*_visible(words))


def _visible(words: Iterable[object]) -> list[object]:
    return [visible(one) if isinstance(one, str) else one for one in words]


def suggest(names: Iterable[str], wanted: str = "", limit: int = 12) -> str:
    """Name what exists, the names nearest to ``wanted`` first, at most ``limit`` of them."""
    everything = list(names)
    near = get_close_matches(wanted, everything, n=limit, cutoff=0.3)
    ordered = near + [name for name in everything if name not in near]
    shown = ", ".join(ordered[:limit])
    return shown + (f", … ({len(ordered)} in all)" if len(ordered) > limit else "")


def check_choice(name: str, what: str, known: Iterable[str]) -> None:
    """See that there is something of this name; ``what`` says what is named.

    Raises:
        Rot180Error: there is not; the message says what there is.
    """
    known = list(known)
    if name not in known:
        raise Rot180Error(f"There is no {what} '{name}'. There are: {suggest(known, name)}.")


def as_int(value: Any, what: str) -> int:
    """Return what Python, NumPy or PyTorch write for a whole number as an int.

    Raises:
        Rot180Error: it is something else; ``what`` names it in the message.
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
    """Return how Python writes a value, cut where it is long: for sentences about input."""
    try:
        words = repr(value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits; deep lists
        return f"a {type(value).__name__} that is too long to be shown"
    return words if len(words) <= most else f"{words[:most]}…"
