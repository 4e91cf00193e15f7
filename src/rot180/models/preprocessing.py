"""Checks of preprocessing settings: size, mean and deviation of the images, and class names."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from rot180.datasets.class_names import read_class_file
from rot180.errors import Rot180Error, as_int, shortened

SIZE = (224, 224)
DEFAULT_STATS = {3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 1: ((0.449,), (0.226,))}
"""Default mean and deviation by the number of channels: those of ImageNet, which most published
networks were trained with; for one channel their averages."""
LARGEST = 2**12
"""Maximal height and width of images in pixels."""
_EXTREME = 1e6
"""Bound on means and deviations, and on the inverse of deviations: beyond it, float32 cannot
represent the differences between pixels."""


def image_size(size: Any) -> tuple[int, int]:
    """Return (height, width) for a pair or, for a square, one number.

    Raises:
        Rot180Error: the value is neither, not positive, or larger than 4096.
    """
    size = size.tolist() if hasattr(size, "tolist") else size  # of NumPy or PyTorch
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if isinstance(size, str) or len(sides) != 2:
        raise Rot180Error(
            f"A size is (height, width), or one number; this one is {shortened(size)}."
        )
    height, width = (as_int(side, "A side of an image's size") for side in sides)
    if not (1 <= height <= LARGEST and 1 <= width <= LARGEST):
        raise Rot180Error(
            f"The images cannot be {height}x{width} pixels: give a size (--size) from 1x1 to "
            f"{LARGEST}x{LARGEST}."
        )
    return height, width


def per_channel(values: Any, what: str) -> tuple[float, ...]:
    """Return the values as a tuple of one number per channel.

    Args:
        values: sequence of numbers.
        what: "mean" or "std".

    Raises:
        Rot180Error: the values are not finite numbers, or a deviation is not positive.
    """
    try:
        if isinstance(values, str):
            raise TypeError
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        raise Rot180Error(
            f"The {what} is one number for each channel, as (0.5, 0.5, 0.5); this one is "
            f"{shortened(values)}."
        ) from None
    shown = shortened(numbers)
    if not numbers or not all(map(isfinite, numbers)):
        raise Rot180Error(f"The {what} is one finite number for each channel, not {shown}.")
    if what == "std" and min(numbers) <= 0:
        raise Rot180Error(
            f"A standard deviation is greater than 0: pixels are divided by it. It is {shown}."
        )
    least = 1 / _EXTREME if what == "std" else 0
    if not all(least <= abs(number) <= _EXTREME or number == 0 for number in numbers):
        raise Rot180Error(
            f"The {what} {shown} is out of proportion for values from 0 to 1: it is at most "
            f"{_EXTREME:g}{f', at least {least:g}' if least else ''}."
        )
    return numbers


def check_channels(values: Sequence[float], channels: int, what: str) -> None:
    """Raise Rot180Error if there is not one value for each channel."""
    if len(values) != channels:
        raise Rot180Error(
            f"The model takes images of {channels} channels, and --{what} has {len(values)} "
            f"values ({', '.join(f'{value:g}' for value in values)}): give {channels}."
        )


def class_names(classes: Any) -> tuple[str, ...]:
    """Return class names from a sequence or a file (see ``rot180.datasets.class_names``).

    Raises:
        Rot180Error: the file cannot be read or has no names, or the values are not names.
    """
    if isinstance(classes, str | Path):
        return read_class_file(classes).outputs
    if not isinstance(classes, Sequence) or not all(isinstance(name, str) for name in classes):
        raise Rot180Error(f"Classes are names, or a file of them; these are {shortened(classes)}.")
    return tuple(classes)
