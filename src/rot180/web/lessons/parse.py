"""Parses grids and numbers in the URLs of lessons."""

import math
import re

from rot180.errors import Rot180Error

LARGEST = 10_000
"""Largest number of a lesson; squares and exponentials stay finite."""


def parse_grid(text: str, what: str, most: tuple[int, int]) -> list[list[float]]:
    """Parse a grid like ``1,2,3;4,5,6``, with semicolons between rows.

    Args:
        text: the grid.
        what: its name in error messages.
        most: most rows and columns.

    Raises:
        Rot180Error: it is not a grid, or too large.
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
    """Parse a number.

    Raises:
        Rot180Error: it is not a number, or out of range.
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
    """Parse a size like ``4x5`` as (rows, columns).

    Raises:
        Rot180Error: it is not a size, or too large.
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
    """Format a grid for a URL."""
    return ";".join(",".join(format_number(one) for one in line) for line in grid)


def format_number(value: float) -> str:
    """Format a number exactly; whole numbers without a decimal point."""
    return str(int(value)) if value == int(value) else repr(value)
