"""Filters and orders of a layer's features, as URLs write them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rot180.atlas.sorting import SORT_ORDERS
from rot180.errors import Rot180Error, check_choice, suggest
from rot180.web.formulas import FORMULAS

Columns = Mapping[str, Sequence[float | None]]
"""Statistics by name; each has a value for every feature."""

NAMED = {name: (order.column, order.direction == "DESC") for name, order in SORT_ORDERS.items()}
PRESETS = {
    "colour-driven": "colour_r2>=0.25",
    "class-selective": "class_selectivity>=0.5",
    "rare": "firing_images<=0.1",
    "common": "firing_images>=0.5",
    "alive": "max>0",
}
"""Conditions with a button on the page."""
_CONDITION = re.compile(r"([a-z_0-9]+)(>=|<=)(-?[0-9]*\.?[0-9]+(?:e-?[0-9]+)?)")


@dataclass(frozen=True)
class Condition:
    """A lower or upper bound of a statistic."""

    column: str
    least: bool
    value: float

    def holds(self, value: float | None) -> bool:
        """Return whether a value meets the condition; None does not."""
        if value is None:
            return False
        return value >= self.value if self.least else value <= self.value


def parse_conditions(words: str) -> list[Condition]:
    """Parse conditions like ``colour_r2>=0.25,firing_images<=0.1``.

    Raises:
        Rot180Error: the text is not a list of conditions on statistics.
    """
    found = []
    for one in filter(None, words.split(",")):
        match = _CONDITION.fullmatch(one.strip())
        if match is None or match[1] not in FORMULAS:
            raise Rot180Error(
                f"'{one}' is not a condition: write a statistic, >= or <=, and a number, as "
                f"colour_r2>=0.25. Statistics are {suggest(FORMULAS, limit=20)}."
            )
        found.append(Condition(match[1], match[2] == ">=", float(match[3])))
    return found


def parse_order(name: str) -> tuple[str, bool]:
    """Return the statistic of an order, and whether it descends: ``rarest``, ``-max``, ``red``.

    Raises:
        Rot180Error: there is no such order.
    """
    if name in NAMED:
        return NAMED[name]
    column = name.removeprefix("-")
    check_choice(column, "statistic or order", [*NAMED, *FORMULAS])
    return column, name.startswith("-")


def select(columns: Columns, sort: str = "channel", where: str = "") -> list[int]:
    """Return the features that meet all conditions, in order; features without a value come last.

    Args:
        columns: statistics by name; ``channel`` need not be among them.
        sort: an order; see :func:`parse_order`.
        where: conditions; see :func:`parse_conditions`.

    Raises:
        Rot180Error: the order or the conditions are invalid.
    """
    count = len(next(iter(columns.values())))
    whole = {**columns, "channel": list(range(count))}
    conditions = parse_conditions(where)
    kept = [n for n in range(count) if all(one.holds(whole[one.column][n]) for one in conditions)]
    column, down = parse_order(sort)
    values = whole[column]

    def place(number: int) -> tuple[bool, float, int]:
        value = values[number]
        return value is None, 0.0 if value is None else -value if down else value, number

    return sorted(kept, key=place)
