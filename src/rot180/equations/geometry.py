"""Where windows lie: strides, borders of zeros, and the sizes that follow."""

from typing import Any, Literal

from rot180.errors import Rot180Error, as_int

Margins = tuple[tuple[int, int], tuple[int, int]]
"""Rows above and below, columns to the left and to the right."""

OPERATIONS = ("correlation", "convolution")

Padding = Literal["valid", "same", "full"] | int | tuple[int, int] | Margins


def pair(value: Any, what: str, least: int = 1) -> tuple[int, int]:
    """Return (rows, columns) of something given as one number or as two.

    Raises:
        Rot180Error: it is neither, or less than ``least``.
    """
    two = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(two) == 2:
        rows, columns = (as_int(one, f"The {what}") for one in two)
        if min(rows, columns) >= least:
            return rows, columns
    raise Rot180Error(
        f"The {what} is one whole number from {least} up, or two (rows, columns); "
        f"this one is {value!r}."
    )


def count_of(value: Any, what: str) -> int:
    """Return a whole number from 1 up; ``what`` are the things that it counts, as "epochs".

    Raises:
        Rot180Error: it is something else.
    """
    number = as_int(value, f"The number of {what}")
    if number < 1:
        raise Rot180Error(f"The number of {what} has to be at least 1, not {number}.")
    return number


def seed_of(value: Any) -> int:
    """Return the seed of a generator, a whole number from 0 up.

    Raises:
        Rot180Error: it is something else.
    """
    seed = as_int(value, "The seed")
    if seed < 0:
        raise Rot180Error(f"The seed is a number from 0 up, not {seed}.")
    return seed


def check_groups(channels: int, features: int, groups: int) -> None:
    """See that each group has as many channels, and as many features, as any other.

    Raises:
        Rot180Error: they cannot be split so.
    """
    if groups < 1 or channels % groups or features % groups:
        raise Rot180Error(
            f"{channels} channels and {features} features cannot be split into {groups} groups."
        )


def margins(
    padding: Any, kernel: tuple[int, ...], stride: tuple[int, int], rotated: bool = False
) -> Margins:
    """Return the border of zeros in numbers.

    Args:
        padding: "valid", "same", "full", or numbers (see ``convolution.correlation``).
        kernel: its (height, width).
        stride: "same" is only defined for 1.
        rotated: the odd row and column of "same" go to the top and left.

    Raises:
        Rot180Error: no such padding.
    """
    kh, kw = kernel
    match padding:
        case "valid":
            return (0, 0), (0, 0)
        case "full":
            return (kh - 1, kh - 1), (kw - 1, kw - 1)
        case "same":
            if stride != (1, 1):
                raise Rot180Error(f"Padding 'same' needs stride 1; the stride is {stride}.")
            small = ((kh - 1) // 2, (kw - 1) // 2)
            large = (kh // 2, kw // 2)
            first, last = (large, small) if rotated else (small, large)
            return (first[0], last[0]), (first[1], last[1])
        case ((_, _), (_, _)):
            rows, columns = padding
            return pair(rows, "padding", 0), pair(columns, "padding", 0)
        case str():
            raise Rot180Error(
                f"There is no padding '{padding}'. There are: valid, same, full, and numbers."
            )
    rows, columns = pair(padding, "padding", 0)
    return (rows, rows), (columns, columns)


def out_size(
    size: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int], borders: Margins
) -> tuple[int, int]:
    """Return how many windows there are in (rows, columns).

    Raises:
        Rot180Error: a window is larger than the padded image.
    """
    whole = [one + sum(border) for one, border in zip(size, borders, strict=True)]
    if any(k > one for k, one in zip(kernel, whole, strict=True)):
        raise Rot180Error(
            f"A window of {kernel[0]}x{kernel[1]} does not fit into the image, which is "
            f"{size[0]}x{size[1]} and {whole[0]}x{whole[1]} with its padding."
        )
    rows, columns = ((one - k) // s + 1 for one, k, s in zip(whole, kernel, stride, strict=True))
    return rows, columns
