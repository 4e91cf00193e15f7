"""The type checker of a test run: shapes by jaxtyping; a whole number counts as a float."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
_known: dict[Any, Callable[..., Any]] = {}


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the types of a function's arguments and of what it returns.

    A function within a function is made, and comes here, each time that the outer one runs. To
    write its checks takes longer than most of them do to run, so each are written once. What comes
    here is a stand-in that jaxtyping made, which does nothing but take arguments of these types.
    """
    annotations = tuple(function.__annotations__.items())
    key = function.__module__, function.__qualname__, function.__code__, annotations
    try:
        if key not in _known:
            _known[key] = _checked(function)
    except TypeError:  # an annotation that has no hash
        return _checked(function)
    return _known[key]
