"""Strides, padding, and the number of windows that follow from them."""

from typing import Any, Literal

from rot180.errors import Rot180Error, as_int

PadWidth = tuple[tuple[int, int], tuple[int, int]]
"""Padding in numbers: ((rows above, rows below), (columns to the left, columns to the right))."""

Padding = Literal["valid", "same", "full"] | int | tuple[int, int] | PadWidth
"""Padding as it may be given; :func:`resolve_padding` returns its numbers."""

OPERATIONS = ("correlation", "convolution")


def pair(value: Any, what: str, least: int = 1) -> tuple[int, int]:
    """Return (rows, columns) for one whole number or two.

    Raises:
        Rot180Error: the value is neither, or a number is less than ``least``.
    """
    numbers = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(numbers) == 2:
        rows, columns = (as_int(number, f"The {what}") for number in numbers)
        if min(rows, columns) >= least:
            return rows, columns
    raise Rot180Error(
        f"The {what} is one whole number from {least} up, or two (rows, columns); "
        f"this one is {value!r}."
    )


def check_count(value: Any, what: str) -> int:
    """Return a whole number that is at least 1; ``what`` is counted, for example "epochs".

    Raises:
        Rot180Error: the value is something else.
    """
    number = as_int(value, f"The number of {what}")
    if number < 1:
        raise Rot180Error(f"The number of {what} has to be at least 1, not {number}.")
    return number


def check_seed(value: Any) -> int:
    """Return the seed of a random generator, a whole number that is at least 0.

    Raises:
        Rot180Error: the value is something else.
    """
    seed = as_int(value, "The seed")
    if seed < 0:
        raise Rot180Error(f"The seed is a number from 0 up, not {seed}.")
    return seed


def check_groups(channels: int, features: int, groups: int) -> None:
    """Check that channels and features split into groups of equal size.

    Raises:
        Rot180Error: they do not.
    """
    if groups < 1 or channels % groups or features % groups:
        raise Rot180Error(
            f"{channels} channels and {features} features cannot be split into {groups} groups."
        )


def resolve_padding(
    padding: Any, kernel: tuple[int, ...], stride: tuple[int, int], rotated: bool = False
) -> PadWidth:
    """Return padding in numbers.

    Args:
        padding: "valid", "same", "full", or numbers (see ``convolution.correlation``).
        kernel: (height, width) of the kernel.
        stride: stride; "same" is only defined for 1.
        rotated: whether the odd row and column of "same" go to the top and left.

    Raises:
        Rot180Error: there is no such padding.
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
    size: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int], pad_width: PadWidth
) -> tuple[int, int]:
    """Return the number of windows in (rows, columns).

    Raises:
        Rot180Error: a window is larger than the padded image.
    """
    whole = [length + sum(border) for length, border in zip(size, pad_width, strict=True)]
    if any(k > length for k, length in zip(kernel, whole, strict=True)):
        raise Rot180Error(
            f"A window of {kernel[0]}x{kernel[1]} does not fit into the image, which is "
            f"{size[0]}x{size[1]} and {whole[0]}x{whole[1]} with its padding."
        )
    rows, columns = (
        (length - k) // step + 1 for length, k, step in zip(whole, kernel, stride, strict=True)
    )
    return rows, columns
