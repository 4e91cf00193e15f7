"""Charts of a feature's page, as numbers that templates write into SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from sys import float_info

from rot180.atlas.feature import HistogramBin
from rot180.web.templates import number

WIDTH, HEIGHT = 420, 130
"""Size of a histogram, without its labels."""


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram; ``zero``: whether it counts the images without firing."""

    x: float
    y: float
    width: float
    height: float
    words: str
    zero: bool


@dataclass(frozen=True)
class Tick:
    """A label below a histogram."""

    x: float
    words: str
    anchor: str


def histogram(peaks: Sequence[HistogramBin]) -> tuple[list[Bar], list[Tick]]:
    """Return the histogram of a feature's peaks over the images, on a logarithmic scale.

    Peaks of 0 or below share one bar at the left. The height of a bar is the square root of its
    number of images, so that small counts stay visible.
    """
    most = max((one.images for one in peaks), default=0)
    if not most:
        return [], []
    silent = sum(one.images for one in peaks if not _fires(one))
    firing = [one for one in peaks if _fires(one)]
    bars, ticks, left = [], [], 0.0
    if silent:
        bars.append(_bar(0, 26, silent, max(most, silent), f"0 or below: {_images(silent)}", True))
        ticks.append(Tick(13, "0", "middle"))
        left = 40.0
    most = max(most, silent)
    if firing:
        first = log(firing[0].low or 1e-30)
        last = max(log(_end(one)) for one in firing)
        scale = (WIDTH - left) / max(last - first, 1e-9)
        for one in firing:
            low, high = one.low or 0.0, _end(one)
            x = left + (log(low) - first) * scale
            width = max((log(high) - log(low)) * scale - 1, 1)
            words = f"{number(one.low)} to {number(one.high)}: {_images(one.images)}"
            bars.append(_bar(x, width, one.images, most, words, False))
        ticks.append(Tick(left, number(firing[0].low), "start"))
        ticks.append(Tick(WIDTH, number(firing[-1].high), "end"))
    return bars, ticks


def _fires(one: HistogramBin) -> bool:
    return one.low is not None and one.low > 0


def _end(one: HistogramBin) -> float:
    """Return the upper end of a bin; one without a bound is an octave wide."""
    return one.high or min((one.low or 1) * 2, float_info.max)


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _bar(x: float, width: float, count: int, most: int, words: str, zero: bool) -> Bar:
    height = (HEIGHT - 6) * sqrt(count / most)
    return Bar(
        round(x, 1), round(HEIGHT - height, 1), round(width, 1), round(height, 1), words, zero
    )


@dataclass(frozen=True)
class ColourEffect:
    """The effect of a colour on the activation, as a bar from the middle of the chart."""

    name: str
    value: float
    x: float
    width: float


def colour_effects(statistics: Mapping[str, float | bool | None]) -> list[ColourEffect]:
    """Return how much the activation grows with each colour, on one scale."""
    names = [one for one in ("red", "green", "blue") if statistics[one] is not None]
    names = names or (["brightness"] if statistics["brightness"] is not None else [])
    values = {name: float(statistics[name] or 0) for name in names}
    largest = max((abs(one) for one in values.values()), default=0.0) or 1.0
    found = []
    for name, value in values.items():
        width = round(120 * (abs(value) / largest), 1)
        found.append(ColourEffect(name, value, 210 - width if value < 0 else 210, width))
    return found
