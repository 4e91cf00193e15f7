"""Sheets about one image, about colour, about the kernels, and about the training."""

from collections.abc import Sequence

import numpy as np
import torch

from rot180.atlas.describe import NAMES
from rot180.figures.colour import ColourResponse, colour_response
from rot180.figures.context import FigureContext
from rot180.figures.sheet import INK, MARGIN, Sheet
from rot180.graph.network import Layer
from rot180.projection.imaging import signed_to_rgb

_CHANNELS = ("#d62728", "#2ca02c", "#1f77b4")
_GREY = ("#767676",)


def the_image(subject: FigureContext) -> Sheet:
    """Draw the chosen image, as it is and as the network sees it, and the network's answer."""
    x = subject.inputs([subject.image])
    with torch.no_grad():
        chances = torch.softmax(subject.model.model(x)[0].float(), 0).cpu().numpy()
    signal = x[0].cpu().numpy()
    sheet = Sheet("1-image", "One image, as the network sees it", 856, 226)
    factor = 192 / max(signal.shape[1:])
    sheet.picture(MARGIN, 0, subject.picture(subject.image), factor)
    sheet.picture(MARGIN + 208, 0, signed_to_rgb(signal), factor)
    h, w = signal.shape[1:]
    sheet.text(MARGIN, 204, f"{subject.label(subject.image)}, {w}x{h} pixels", 11)
    sheet.text(MARGIN + 208, 204, "less the mean, over the deviation", 11)
    best = chances.argsort()[::-1][:5]
    axes = sheet.axes(560, 4, 256, 168)
    names = [subject.model.classes[one] for one in best]
    axes.barh(range(len(best)), chances[best], color=INK, height=0.6)
    axes.set_yticks(range(len(best)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability that the network gives")
    sheet.caption = (
        f"Image {subject.image} ({subject.label(subject.image)}): its pixels; the network's input, "
        f"zero as mid-grey; the classes with the highest probabilities. {subject.source_caption}."
    )
    sheet.numbers = {
        "image": subject.image,
        "class": subject.label(subject.image),
        "probabilities": dict(zip(subject.model.classes, chances.tolist(), strict=True)),
    }
    return sheet


def two_features(subject: FigureContext, layer: Layer) -> Sheet:
    """Draw the two features that the chosen image excites most, and how colour explains them."""
    maps = subject.maps(layer, [subject.image])[0]
    excited = maps.mean((1, 2)).argsort()[::-1][:2].tolist()
    signals = subject.projections(layer, [subject.image], None)
    many = subject.large_batch[:250]
    over_many = subject.maps(layer, many)
    responses = [
        colour_response(subject.network, layer, subject.data.images[many], over_many[:, channel])
        for channel in excited
    ]
    sheet = Sheet("5-two-features", "Two features that the same image excites most", 856, 250)
    factor = 128 / max(signals[0].shape[1:])
    sheet.picture(MARGIN, 0, subject.picture(subject.image), factor)
    sheet.text(MARGIN, 140, subject.label(subject.image), 11)
    for place, (channel, response) in enumerate(zip(excited, responses, strict=True)):
        x = 176 + place * 340
        sheet.picture(x, 0, signed_to_rgb(signals[channel]), factor)
        sheet.text(x, 140, f"feature {channel}", 11, weight="bold")
        sheet.text(x, 158, response.words(), 11)
        sheet.text(x, 176, f"colour explains {response.explained:.0%} of its map", 11)
        _coefficients(sheet, x + 178, 4, response)
    sheet.text(
        MARGIN,
        214,
        "Bars: how the activation changes when the mean red, green or blue under the receptive "
        "field goes from 0 to 255,",
        11,
    )
    sheet.text(MARGIN, 230, f"the other two fixed (least squares over {len(many)} images).", 11)
    sheet.caption = (
        f"The two features of layer {layer.name} with the largest mean activation on image "
        f"{subject.image} ({subject.label(subject.image)}), projected back to its pixels "
        f"({subject.method_caption}), and a linear model of each feature's map by the mean colour "
        f"under the receptive field, over {len(many)} images. {subject.source_caption}."
    )
    sheet.numbers = {
        "layer": layer.name,
        "image": subject.image,
        "features": [
            {
                "channel": channel,
                "mean_activation": maps[channel].mean(),
                "colour_coefficients": response.coefficients,
                "colour_explains": response.explained,
            }
            for channel, response in zip(excited, responses, strict=True)
        ],
    }
    return sheet


def _coefficients(sheet: Sheet, x: float, y: float, response: ColourResponse) -> None:
    axes = sheet.axes(x, y, 110, 112)
    values = response.coefficients
    colours, names = (_CHANNELS, NAMES) if len(values) == 3 else (_GREY, ("brightness",))
    axes.bar(range(len(values)), values, color=colours, width=0.6)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks(range(len(values)), names)
    axes.tick_params(bottom=False)
    axes.margins(y=0.15)


def kernels_and_correlation(subject: FigureContext) -> Sheet:
    """Draw the kernels of the first layer, and how alike the features of each layer are."""
    first, second = subject.layer(0), subject.layer(1)
    weights = subject.model.model.get_parameter(f"{first.name}.weight")
    kernels = weights.detach().cpu().numpy()
    correlations = [
        correlation(subject.maps(layer, subject.large_batch[:250])) for layer in (first, second)
    ]
    sheet = Sheet("8-kernels", "Kernels of the first layer; correlation of features", 856, 580)
    for channel, kernel in enumerate(kernels):
        x, y = MARGIN + (channel % 16) * 52, (channel // 16) * 66
        sheet.picture(
            x, y, signed_to_rgb(kernel, float(np.abs(kernel).max())), 44 / kernel.shape[1]
        )
        sheet.text(x, y + 53, f"{channel}", 10)
    sheet.text(
        MARGIN, 146, "Kernels as the network's correlation uses them, each on its own scale.", 11
    )
    for place, (layer, matrix) in enumerate(zip((first, second), correlations, strict=True)):
        axes = sheet.axes(MARGIN + 34 + place * 400, 196, 330, 330)
        drawn = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        step = 4 if layer.channels <= 32 else 8
        axes.set_xticks(range(0, layer.channels, step))
        axes.set_yticks(range(0, layer.channels, step))
        axes.set_xlabel("feature")
        if place == 0:
            axes.set_ylabel("feature")
        sheet.text(MARGIN + 34 + place * 400, 180, f"{layer.name}: correlation of two features", 11)
    bar = sheet.axes(MARGIN + 34 + 400 + 342, 196, 10, 330)
    sheet.figure.colorbar(drawn, cax=bar)
    sheet.caption = (
        "Above, the 32 kernels of the first layer, zero as mid-grey, each scaled to its own "
        "largest absolute value. Below, for each pair of features of a layer, the correlation of "
        f"their maps over all positions of {len(subject.large_batch[:250])} images. "
        f"{subject.source_caption}."
    )
    sheet.numbers = {
        "kernel_scale": np.abs(kernels).max((1, 2, 3)),
        "correlation": {
            layer.name: matrix for layer, matrix in zip((first, second), correlations, strict=True)
        },
    }
    return sheet


def correlation(maps: np.ndarray) -> np.ndarray:
    """Return the correlation of each pair of features over all images and positions.

    ``maps`` has the shape (n, c, h, w), the result (c, c). A feature that never changes has
    correlation 0 with the others.
    """
    values = np.moveaxis(maps, 1, 0).reshape(maps.shape[1], -1).astype(np.float64)
    values -= values.mean(1, keepdims=True)
    length = np.sqrt((values**2).sum(1, keepdims=True))
    unit = np.divide(values, length, out=np.zeros_like(values), where=length > 0)
    result: np.ndarray = unit @ unit.T
    return result


def learning_curve(history: Sequence[dict[str, float]], title: str = "Training") -> Sheet:
    """Draw loss and accuracy of each epoch of a training."""
    sheet = Sheet("learning-curve", title, 856, 266)
    epochs = [one["epoch"] for one in history]
    left = sheet.axes(64, 6, 330, 210)
    left.plot(epochs, [one["loss"] for one in history], color=INK, marker="o", markersize=3)
    left.set(xlabel="epoch", ylabel="training loss (cross-entropy, nats)")
    right = sheet.axes(492, 6, 330, 210)
    for key, name, style in (("accuracy", "training", "--"), ("held_out", "held-out", "-")):
        values = [100 * one[key] for one in history]
        name = f"{name} images, {values[-1]:.1f} % in the end"
        right.plot(epochs, values, style, color=_CHANNELS[2], marker="o", markersize=3, label=name)
    right.legend(loc="lower right", frameon=False, labelcolor=INK, fontsize=8)
    right.set(xlabel="epoch", ylabel="accuracy (%)")
    sheet.caption = (
        "Training loss and accuracy of each epoch; held-out accuracy of averaged weights."
    )
    sheet.numbers = {"history": list(history)}
    return sheet
