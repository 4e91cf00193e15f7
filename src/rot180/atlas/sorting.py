"""The orders in which features are listed, each by one of their statistics."""

from typing import Any, NamedTuple

from rot180.atlas.statistics import STATISTICS
from rot180.errors import Rot180Error, check_choice


class SortOrder(NamedTuple):
    """A column of the table ``feature``, and a direction: ASC (ascending) or DESC."""

    column: str
    direction: str


SORT_ORDERS = {
    name: SortOrder(statistic.name, direction)
    for statistic in STATISTICS
    for name, direction in statistic.orders.items()
}


def sort_order(name: Any) -> SortOrder:
    """Return the order of this name.

    Raises:
        Rot180Error: there is no such order; the message lists those that there are.
    """
    if not isinstance(name, str):
        raise Rot180Error(f"An order is a word, as 'strongest', not {name!r}.")
    check_choice(name, "order", SORT_ORDERS)
    return SORT_ORDERS[name]
