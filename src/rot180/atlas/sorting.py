"""The orders in which features are suggest, each by one of their statistics."""

from typing import Any, NamedTuple

from rot180.errors import Rot180Error, check_choice


class SortOrder(NamedTuple):
    """A column of the features' statistics, and whether it goes up (ASC) or down (DESC)."""

    column: str
    direction: str


SORT_ORDERS = {
    "strongest": SortOrder("max", "DESC"),
    "weakest": SortOrder("max", "ASC"),
    "rarest": SortOrder("firing_images", "ASC"),
    "most-common": SortOrder("firing_images", "DESC"),
    "class": SortOrder("class_selectivity", "DESC"),
    "colour": SortOrder("colour_r2", "DESC"),
    "bright": SortOrder("brightness", "DESC"),
    "dark": SortOrder("brightness", "ASC"),
}


def sort_order(name: Any) -> SortOrder:
    """Return the order of this name.

    Raises:
        Rot180Error: there is none; the message says which there are.
    """
    if not isinstance(name, str):
        raise Rot180Error(f"An order is a word, as 'strongest', not {name!r}.")
    check_choice(name, "order", SORT_ORDERS)
    return SORT_ORDERS[name]
