"""Small networks, each with one construct that people write, between convolutions."""

from campaign.cases import Case
from campaign.constructs import (
    attention,
    batches,
    blocks,
    functions,
    inputs,
    layers,
    norms,
    outputs,
    pools,
    programs,
    rectifiers,
    sequences,
)

_THEMES = (
    batches,
    attention,
    norms,
    rectifiers,
    functions,
    pools,
    layers,
    sequences,
    blocks,
    outputs,
    inputs,
    programs,
)


def constructs() -> list[Case]:
    """Return all of them."""
    return [case for theme in _THEMES for case in theme.CASES]
