"""Sheets of features projected back to pixels: all of one image, one over many, the strongest."""

from dataclasses import dataclass

import numpy as np

from rot180.figures.context import FigureContext
from rot180.figures.sheet import MARGIN, Sheet
from rot180.graph.network import Layer
from rot180.projection.imaging import scale_of, signed_to_rgb

_TILE = 96
_LABEL = 24


@dataclass(frozen=True)
class _Grid:
    """Entries of one width in rows, each a tile or two with words below; all in pixels."""

    columns: int
    width: int
    gap: int

    def sheet(self, name: str, title: str, entries: int) -> Sheet:
        """Return a sheet that has room for the entries and a line below them."""
        rows = -(-entries // self.columns)
        wide = 2 * MARGIN + self.columns * (self.width + self.gap) - self.gap
        return Sheet(name, title, wide, rows * (_TILE + _LABEL) + 28)

    def corner(self, entry: int) -> tuple[int, int]:
        """Return x and y of an entry's upper left corner."""
        row, column = divmod(entry, self.columns)
        return MARGIN + column * (self.width + self.gap), row * (_TILE + _LABEL)

    def words(
        self, sheet: Sheet, entry: int, activation: float, words: str, bold: str = ""
    ) -> None:
        """Write below an entry: a number, a name, and at the right how strongly it fires."""
        x, y = self.corner(entry)
        line = y + _TILE + 8
        sheet.text(x, line, bold, 11, weight="bold")
        sheet.text(x + (24 if bold else 0), line, words, 11)
        strength = f"{activation:.2f}" if activation > 0 else "silent"
        sheet.text(x + self.width, line, strength, 10, ha="right")


_SINGLE = _Grid(columns=8, width=_TILE, gap=8)
_PAIR = _Grid(columns=4, width=2 * _TILE + 2, gap=16)


def of_one_image(subject: FigureContext, layer: Layer, name: str) -> Sheet:
    """Draw every feature of a layer for the chosen image, each on its own scale."""
    signals = subject.projections(layer, [subject.image], None)
    peaks = subject.maps(layer, [subject.image])[0].max((1, 2))
    sheet = _SINGLE.sheet(
        name,
        f"{layer.channels} features of {layer.name}, projected back to the pixels of one image",
        layer.channels,
    )
    for channel, signal in enumerate(signals):
        factor = _TILE / max(signal.shape[1:])
        sheet.picture(*_SINGLE.corner(channel), signed_to_rgb(signal), factor)
        _SINGLE.words(sheet, channel, float(peaks[channel]), "", bold=f"{channel}")
    sheet.text(
        MARGIN,
        sheet.foot,
        "Below each tile: the feature's number and its strongest activation. Grey is zero; "
        "each tile has its own scale.",
    )
    sheet.caption = (
        f"All features of layer {layer.name} for image {subject.image} "
        f"({subject.label(subject.image)}), each whole feature map projected back to pixels "
        f"({subject.method_caption}). Zero is mid-grey; each tile has its own scale, the 99.5th "
        f"percentile of its absolute values. {subject.source_caption}."
    )
    sheet.numbers = {
        "layer": layer.name,
        "image": subject.image,
        "largest_activation": peaks,
        "tile_scale": np.array([scale_of(one) for one in signals]),
    }
    return sheet


def over_many_images(subject: FigureContext, layer: Layer, channel: int, name: str) -> Sheet:
    """Draw one feature on many images, beside the images, on one scale."""
    images = list(range(min(subject.many, len(subject.data))))
    signals = subject.projections(layer, images, channel)
    peaks = subject.maps(layer, images)[:, channel].max((1, 2))
    scale = scale_of(np.concatenate(signals))
    title = f"Feature {channel} of {layer.name} on {len(images)} images"
    sheet = _PAIR.sheet(name, title, len(images))
    for entry, image in enumerate(images):
        _draw_pair(sheet, entry, subject, image, signals[entry], scale)
        _PAIR.words(sheet, entry, float(peaks[entry]), subject.label(image))
    sheet.text(
        MARGIN,
        sheet.foot,
        "Left the image, right the feature's map projected back to pixels, below its strongest "
        "activation. Grey is zero; one scale for all.",
    )
    sheet.caption = (
        f"Feature {channel} of layer {layer.name} on the first {len(images)} images, beside the "
        f"images ({subject.method_caption}). Zero is mid-grey; one scale for the whole sheet. "
        f"{subject.source_caption}."
    )
    sheet.numbers = {
        "layer": layer.name,
        "channel": channel,
        "images": images,
        "largest_activation": peaks,
        "scale": scale,
    }
    return sheet


def strongest(subject: FigureContext, layer: Layer, name: str) -> Sheet:
    """Draw, for each feature, the image of a large batch that excites it most, projected, too."""
    maps = subject.maps(layer, subject.large_batch)
    best = maps.max((2, 3)).argmax(0)
    title = f"What excites each feature of {layer.name} most, among {len(maps)} images"
    sheet = _PAIR.sheet(name, title, layer.channels)
    found = []
    for channel in range(layer.channels):
        image = int(best[channel])
        activation = float(maps[image, channel].max())
        position = divmod(int(maps[image, channel].argmax()), layer.width)
        box = subject.network.receptive_field(layer, position)
        signal = subject.projections(layer, [image], channel)[0]
        for x, y, factor in _draw_pair(sheet, channel, subject, image, signal, None):
            sheet.mark(x, y, box, factor)
        _PAIR.words(sheet, channel, activation, subject.label(image), bold=f"{channel}")
        found.append(
            {
                "channel": channel,
                "image": image,
                "position": position,
                "box": box,
                "activation": activation,
            }
        )
    sheet.text(
        MARGIN,
        sheet.foot,
        "Left the image, right the feature projected back to its pixels; the frame is the "
        "receptive field of the strongest unit.",
    )
    sheet.caption = (
        f"For each feature of layer {layer.name} the image, of {len(maps)}, with its strongest "
        f"activation, and the feature's whole map projected back to the pixels of that image "
        f"({subject.method_caption}). The frame is the receptive field of the strongest unit. "
        f"Zero is mid-grey; each projection has its own scale. {subject.source_caption}."
    )
    sheet.numbers = {"layer": layer.name, "strongest": found}
    return sheet


def _draw_pair(
    sheet: Sheet,
    entry: int,
    subject: FigureContext,
    image: int,
    signal: np.ndarray,
    scale: float | None,
) -> list[tuple[int, int, float]]:
    """Draw an image and a signal side by side; return corner and enlargement of both."""
    x, y = _PAIR.corner(entry)
    factor = _TILE / max(signal.shape[1:])
    sheet.picture(x, y, subject.picture(image), factor)
    sheet.picture(x + _TILE + 2, y, signed_to_rgb(signal, scale), factor)
    return [(x, y, factor), (x + _TILE + 2, y, factor)]
