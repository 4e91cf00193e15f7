"""The orders in which features are suggest, each by one of their statistics."""

from typing import Any, NamedTuple

from rot180.errors import Rot180Error, check_choice


class Order(NamedTuple):
    """A column of the features' statistics, and whether it goes up (ASC) or down (DESC)."""

    column: str
    direction: str


ORDERS = {
    "strongest": Order("max", "DESC"),
    "weakest": Order("max", "ASC"),
    "rarest": Order("firing_images", "ASC"),
    "most-common": Order("firing_images", "DESC"),
    "class": Order("class_selectivity", "DESC"),
    "colour": Order("colour_r2", "DESC"),
    "bright": Order("brightness", "DESC"),
    "dark": Order("brightness", "ASC"),
}


def checked_order(name: Any) -> Order:
    """Return the order of this name.

    Raises:
        Rot180Error: there is none; the message says which there are.
    """
    if not isinstance(name, str):
        raise Rot180Error(f"An order is a word, as 'strongest', not {name!r}.")
    check_choice(name, "order", ORDERS)
    return ORDERS[name]
