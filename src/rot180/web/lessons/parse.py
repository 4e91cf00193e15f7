"""What an address asks a lesson for: grids and numbers written by hand, clear words if wrong."""

import math
import re

from rot180.errors import Rot180Error

LARGEST = 10_000
"""Numbers of a lesson are no larger than that: squares and exponentials of them stay finite."""


def parse_grid(text: str, what: str, most: tuple[int, int]) -> list[list[float]]:
    """Return the grid that ``1,2,3;4,5,6`` writes: rows between semicolons.

    Args:
        text: the grid.
        what: what it is called in an error.
        most: rows and columns that it may have.

    Raises:
        Rot180Error: it is no such grid, or larger.
    """
    lines = [line.split(",") for line in text.strip().strip(";").split(";")]
    if len({len(line) for line in lines}) > 1:
        lengths = ", ".join(str(len(line)) for line in lines)
        raise Rot180Error(
            f"The {what} has rows of different lengths ({lengths}). Write it like 1,2,3;4,5,6: "
            "commas within a row, semicolons between rows."
        )
    if len(lines) > most[0] or len(lines[0]) > most[1]:
        raise Rot180Error(
            f"The {what} is {len(lines)}x{len(lines[0])}; in this lesson it is at most "
            f"{most[0]}x{most[1]}."
        )
    return [[parse_number(one, f"an entry of the {what}") for one in line] for line in lines]


def parse_number(text: str, what: str) -> float:
    """Return a number that was written by hand.

    Raises:
        Rot180Error: it is none, or too large.
    """
    written = text.strip().replace("−", "-")
    try:
        value = float(written)
    except ValueError:
        shown = f"'{text.strip()}'" if text.strip() else "empty"
        raise Rot180Error(f"There is {shown} for {what}; write a number, like 3 or -0.5.") from None
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise Rot180Error(
            f"{written} is out of range for {what}: write a number from -{LARGEST} to {LARGEST}."
        )
    return value + 0.0


def parse_size(text: str, what: str, most: int) -> tuple[int, int]:
    """Return the (rows, columns) that ``4x5`` writes.

    Raises:
        Rot180Error: it is no size, or too large.
    """
    found = re.fullmatch(r"\s*(\d{1,3})x(\d{1,3})\s*", text)
    two = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(1 <= one <= most for one in two):
        raise Rot180Error(
            f"The {what} is written like 4x5, rows and columns, each from 1 to {most}; this one "
            f"is '{text}'."
        )
    return two


def format_grid(grid: list[list[float]]) -> str:
    """Write a grid as it stands in an address."""
    return ";".join(",".join(format_number(one) for one in line) for line in grid)


def format_number(value: float) -> str:
    """Write a number exactly, and whole ones without a point."""
    return str(int(value)) if value == int(value) else repr(value)
