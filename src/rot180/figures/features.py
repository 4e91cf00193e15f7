"""Sheets of features carried back to pixels: all of one image, one over many, the strongest."""

import numpy as np
from jaxtyping import Float

from rot180.figures.sheet import MARGIN, Sheet
from rot180.figures.subject import Subject
from rot180.graph.network import Layer
from rot180.projection.pictures import signed_picture

_TILE = 96
_GAP = 8
_LABEL = 16
_FOOT = 28


def of_one_image(subject: Subject, layer: Layer, name: str) -> Sheet:
    """Draw every feature of a layer for the chosen image, each on its own scale."""
    signals = subject.projections(layer, [subject.image], None)
    maps = subject.maps(layer, [subject.image])[0]
    order = range(layer.channels)
    columns = 8
    rows = -(-layer.channels // columns)
    sheet = Sheet(
        name,
        f"{layer.channels} features of {layer.name}, carried back to the pixels of one image",
        2 * MARGIN + columns * (_TILE + _GAP) - _GAP,
        rows * (_TILE + _GAP + _LABEL) + _FOOT,
    )
    factor = _TILE / max(signals[0].shape[1:])
    for channel in order:
        x = MARGIN + (channel % columns) * (_TILE + _GAP)
        y = (channel // columns) * (_TILE + _GAP + _LABEL)
        sheet.picture(x, y, signed_picture(signals[channel]), factor)
        peak = maps[channel].max()
        sheet.text(x, y + _TILE + 8, f"{channel}", 11, weight="bold")
        words = f"{peak:.2f}" if peak > 0 else "silent"
        sheet.text(x + _TILE, y + _TILE + 8, words, 10, ha="right")
    sheet.text(
        MARGIN,
        sheet.foot,
        "Below each tile: the feature's number and its strongest activation. Grey is zero; "
        "each tile has its own scale.",
        11,
    )
    sheet.caption = (
        f"All features of layer {layer.name} for image {subject.image} "
        f"({subject.label(subject.image)}), each whole feature map carried back to pixels "
        f"({subject.way}). Zero is mid-grey; each tile is scaled to its own largest absolute "
        f"value. {subject.origin}."
    )
    sheet.numbers = {
        "layer": layer.name,
        "image": subject.image,
        "largest_activation": maps.max((1, 2)),
        "tile_scale": np.array([np.abs(one).max() for one in signals]),
    }
    return sheet


def over_many_images(subject: Subject, layer: Layer, channel: int, name: str) -> Sheet:
    """Draw one feature on many images, beside the images, on one scale."""
    images = list(range(min(subject.many, len(subject.data))))
    signals = subject.projections(layer, images, channel)
    peaks = subject.maps(layer, images)[:, channel].max((1, 2))
    scale = float(max(np.abs(one).max() for one in signals))
    columns = 4
    rows = -(-len(images) // columns)
    sheet = Sheet(
        name,
        f"Feature {channel} of {layer.name} on {len(images)} images",
        2 * MARGIN + columns * (2 * _TILE + 18) - 18,
        rows * (_TILE + _GAP + _LABEL) + _FOOT,
    )
    factor = _TILE / max(signals[0].shape[1:])
    for place, image in enumerate(images):
        x = MARGIN + (place % columns) * (2 * _TILE + 18)
        y = (place // columns) * (_TILE + _GAP + _LABEL)
        sheet.picture(x, y, subject.picture(image), factor)
        sheet.picture(x + _TILE + 2, y, signed_picture(signals[place], scale), factor)
        sheet.text(x, y + _TILE + 8, subject.label(image), 11)
        sheet.text(x + 2 * _TILE + 2, y + _TILE + 8, f"{peaks[place]:.2f}", 10, ha="right")
    sheet.text(
        MARGIN,
        sheet.foot,
        "Left the image, right the feature's map carried back to pixels, below its strongest "
        "activation. Grey is zero; one scale for all.",
        11,
    )
    sheet.caption = (
        f"Feature {channel} of layer {layer.name} on the first {len(images)} images, beside the "
        f"images ({subject.way}). Zero is mid-grey; one scale for the whole sheet. "
        f"{subject.origin}."
    )
    sheet.numbers = {
        "layer": layer.name,
        "channel": channel,
        "images": images,
        "largest_activation": peaks,
        "scale": scale,
    }
    return sheet


def strongest(subject: Subject, layer: Layer, name: str) -> Sheet:
    """Draw, for each feature, the image of a large batch that excites it most, and its way back."""
    maps = subject.maps(layer, subject.large)
    best = maps.max((2, 3)).argmax(0)
    columns = 4
    rows = -(-layer.channels // columns)
    sheet = Sheet(
        name,
        f"What excites each feature of {layer.name} most, among {len(maps)} images",
        2 * MARGIN + columns * (2 * _TILE + 18) - 18,
        rows * (_TILE + _GAP + _LABEL) + _FOOT,
    )
    rows_of_numbers = []
    for channel in range(layer.channels):
        image = int(best[channel])
        one: Float[np.ndarray, "h w"] = maps[image, channel]
        position = divmod(int(one.argmax()), layer.width)
        box = subject.network.receptive_field(layer, position)
        signal = subject.projections(layer, [image], channel)[0]
        factor = _TILE / max(signal.shape[1:])
        x = MARGIN + (channel % columns) * (2 * _TILE + 18)
        y = (channel // columns) * (_TILE + _GAP + _LABEL)
        sheet.picture(x, y, subject.picture(image), factor)
        sheet.picture(x + _TILE + 2, y, signed_picture(signal), factor)
        sheet.mark(x, y, box, factor)
        sheet.mark(x + _TILE + 2, y, box, factor)
        sheet.text(x, y + _TILE + 8, f"{channel}", 11, weight="bold")
        sheet.text(x + 24, y + _TILE + 8, subject.label(image), 11)
        words = f"{one.max():.2f}" if one.max() > 0 else "silent"
        sheet.text(x + 2 * _TILE + 2, y + _TILE + 8, words, 10, ha="right")
        rows_of_numbers.append(
            {
                "channel": channel,
                "image": subject.large[image],
                "position": position,
                "box": box,
                "activation": one.max(),
            }
        )
    sheet.text(
        MARGIN,
        sheet.foot,
        "Left the image, right the feature carried back to its pixels; the frame is the receptive "
        "field of the strongest unit.",
        11,
    )
    sheet.caption = (
        f"For each feature of layer {layer.name} the image, of {len(maps)}, with its strongest "
        f"activation, and the feature's whole map carried back to the pixels of that image "
        f"({subject.way}). The frame is the receptive field of the strongest unit. Zero is "
        f"mid-grey; each projection has its own scale. {subject.origin}."
    )
    sheet.numbers = {"layer": layer.name, "strongest": rows_of_numbers}
    return sheet
