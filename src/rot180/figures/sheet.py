"""A sheet: pictures and words laid out in pixels, saved with their caption and their numbers.

The background is transparent and the words are of a grey that can be read on white and on black.
"""

import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from rot180.files import atomic_write
from rot180.graph.box import Box

INK = "#767676"
"""Contrast 4.5 to 1 against white, 4.6 to 1 against black."""
MARK = "#ff9500"
MARGIN = 16
_HEAD = 40
_POINT = 72 / 100
_FONT = "DejaVu Sans"
_STYLE: dict[Any, Any] = {
    "font.family": _FONT,
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
        self.text(MARGIN, 22 - _HEAD, self.title, 14, weight="bold")

    @property
    def foot(self) -> float:
        """Middle of the last line of words, as :meth:`text` takes it."""
        return self.height - _HEAD - 18

    def text(self, x: float, y: float, words: str, size: float = 11, **style: Any) -> None:
        """Write words with their left end at (x, y), ``size`` pixels high; y is their middle.

        They are written as they stand, dollar signs included.
        """
        style = {"va": "center", "color": INK, "parse_math": False, **style}
        self.page.text(x, y + _HEAD, drawable(words), size=size * _POINT, **style)

    def head(self, words: str) -> None:
        """Write words at the right end of the title's line."""
        self.text(self.width - MARGIN, 22 - _HEAD, words, 11, ha="right")

    def picture(
        self, x: float, y: float, picture: UInt8[np.ndarray, "h w c"], factor: float
    ) -> None:
        """Put a picture with its upper left corner at (x, y), each of its pixels a square.

        It has three channels, or a fourth that says how opaque it is (0 to 255).
        """
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
            with atomic_write(path) as beside, rc_context(_STYLE):
                self.figure.savefig(
                    beside, dpi=200, transparent=True, metadata=self._metadata(ending)
                )
            paths.append(path)
        about = {"title": self.title, "caption": self.caption, **self.numbers}
        path = stem.with_name(f"{stem.name}.json")
        with atomic_write(path) as beside:
            beside.write_text(json.dumps(about, indent=1, default=_plain) + "\n")
        return [*paths, path]

    def _repr_png_(self) -> bytes:
        """Show itself in a notebook."""
        buffer = io.BytesIO()
        with rc_context(_STYLE):
            self.figure.savefig(
                buffer, format="png", dpi=160, transparent=True, metadata=self._metadata("png")
            )
        return buffer.getvalue()

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


def save_pages(
    pages: Iterable[Sheet], path: str | Path, told: Callable[[Sheet], None] = lambda page: None
) -> list[Path]:
    """Write sheets as the pages of one PDF, and the numbers of all of them beside it as JSON.

    Title and caption are the first one's. Each page is drawn when its turn has come.

    Raises:
        Rot180Error: the directory cannot be written to.
    """
    path = Path(path)
    numbers: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    with atomic_write(path) as beside, rc_context(_STYLE), PdfPages(beside) as pdf:
        for page in pages:
            if not about:
                about = {"title": page.title, "caption": page.caption}
                pdf.infodict().update(page._metadata("pdf"))
                pdf.infodict().pop("CreationDate")
            pdf.savefig(page.figure, dpi=200, transparent=True)
            numbers.append(page.numbers)
            told(page)
    beside_it = path.with_suffix(".json")
    with atomic_write(beside_it) as beside:
        about["pages"] = numbers
        beside.write_text(json.dumps(about, indent=1, default=_plain) + "\n")
    return [path, beside_it]


def drawable(words: str) -> str:
    """Replace what the font of the sheets cannot show, and what would break a line or turn it."""
    known = _characters()
    return "".join(one if one.isprintable() and ord(one) in known else "\ufffd" for one in words)


def shortened(words: str, width: float, size: float, weight: str = "normal") -> str:
    """Cut words to a width in pixels, as :meth:`Sheet.text` writes them; the end becomes "…"."""
    style = FontProperties(family=_FONT, size=size, weight=weight)
    words = drawable(words[: round(width)])  # of more, none is a pixel wide

    def wide(words: str) -> float:
        return float(text_to_path.get_text_width_height_descent(words, style, False)[0])

    if wide(words) <= width:
        return words
    while words and wide(words + "…") > width:
        words = words[:-1].rstrip(" ;,")
    return words + "…"


@cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=_FONT))).get_charmap())


def _plain(value: Any) -> Any:
    """Turn NumPy numbers and arrays into what JSON knows, with six significant digits."""
    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value]
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    return float(f"{float(value):.6g}")
