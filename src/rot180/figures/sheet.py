"""A sheet: pictures and words laid out in pixels, saved with their caption and their numbers.

The background is transparent and the words are of a grey that can be read on white and on black.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rot180.files import written_whole
from rot180.graph.boxes import Box
from rot180.projection.pictures import Picture

INK = "#767676"
"""Contrast 4.5 to 1 against white, 4.6 to 1 against black."""
MARK = "#ff9500"
MARGIN = 16
_HEAD = 40
_POINT = 72 / 100
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "rot180",
}


@dataclass
class Sheet:
    """A page of ``width`` by ``height`` pixels (before the doubling of a PNG for fine screens).

    Attributes:
        name: of the files, without ending.
        title: stands above, short.
        caption: says what is seen and how it was made; goes into the files.
        numbers: what a program would want to know of the figure; goes into the JSON file.
    """

    name: str
    title: str
    width: int
    height: int
    caption: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.height += _HEAD
        with rc_context(_STYLE):
            self.figure = Figure(figsize=(self.width / 100, self.height / 100), dpi=100)
            self.page = self.figure.add_axes((0, 0, 1, 1))
        self.page.set_axis_off()
        self.page.set_xlim(0, self.width)
        self.page.set_ylim(self.height, 0)
        self.page.text(
            MARGIN, 22, self.title, size=14 * _POINT, weight="bold", va="center", color=INK
        )

    @property
    def foot(self) -> float:
        """Middle of the last line of words, as :meth:`text` takes it."""
        return self.height - _HEAD - 18

    def text(self, x: float, y: float, words: str, size: float = 11, **style: Any) -> None:
        """Write words with their left end at (x, y), ``size`` pixels high; y is their middle."""
        self.page.text(
            x, y + _HEAD, words, size=size * _POINT, **{"va": "center", "color": INK, **style}
        )

    def picture(self, x: float, y: float, picture: Picture, factor: float) -> None:
        """Put a picture with its upper left corner at (x, y), each of its pixels a square."""
        height, width = picture.shape[:2]
        extent = (x, x + factor * width, y + _HEAD + factor * height, y + _HEAD)
        self.page.imshow(picture, extent=extent, interpolation="nearest", aspect="auto")
        self.page.set_xlim(0, self.width)
        self.page.set_ylim(self.height, 0)

    def mark(self, x: float, y: float, box: Box, factor: float) -> None:
        """Frame a box of a picture that was put at (x, y)."""
        corner = (x + factor * box.left, y + _HEAD + factor * box.top)
        frame = Rectangle(corner, factor * box.width, factor * box.height)
        frame.set(fill=False, edgecolor=MARK, linewidth=1.2)
        self.page.add_patch(frame)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Return axes for a plot; its frame takes the given box of pixels."""
        with rc_context(_STYLE):
            place = (
                x / self.width,
                1 - (y + _HEAD + height) / self.height,
                width / self.width,
                height / self.height,
            )
            axes = self.figure.add_axes(place, facecolor="none")
        axes.tick_params(labelsize=10 * _POINT, length=3)
        axes.xaxis.label.set_fontsize(11 * _POINT)
        axes.yaxis.label.set_fontsize(11 * _POINT)
        return axes

    def save(self, directory: str | Path, formats: Sequence[str] = ("png",)) -> list[Path]:
        """Write the picture in each format, and the numbers beside it as JSON.

        Raises:
            Rot180Error: the directory cannot be written to.
        """
        stem = Path(directory) / self.name
        paths = []
        for ending in formats:
            path = stem.with_name(f"{stem.name}.{ending}")
            with written_whole(path) as beside, rc_context(_STYLE):
                self.figure.savefig(
                    beside, dpi=200, transparent=True, metadata=self._metadata(ending)
                )
            paths.append(path)
        about = {"title": self.title, "caption": self.caption, **self.numbers}
        path = stem.with_name(f"{stem.name}.json")
        with written_whole(path) as beside:
            beside.write_text(json.dumps(about, indent=1, default=_plain) + "\n")
        return [*paths, path]

    def _metadata(self, ending: str) -> dict[str, Any]:
        match ending:
            case "png":
                return {"Title": self.title, "Description": self.caption, "Software": "rot180"}
            case "svg":
                about = {"Title": self.title, "Description": self.caption}
                return {**about, "Date": None, "Creator": "rot180"}
            case _:
                about = {"Title": self.title, "Subject": self.caption}
                return {**about, "CreationDate": None, "Creator": "rot180"}


def _plain(value: Any) -> Any:
    """Turn NumPy numbers and arrays into what JSON knows, with six significant digits."""
    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value]
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    return float(f"{float(value):.6g}")
