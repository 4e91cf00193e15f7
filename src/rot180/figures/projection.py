"""One projection beside its image."""

from rot180.figures.context import FigureContext, describe_method
from rot180.figures.sheet import MARGIN, Sheet
from rot180.projection.imaging import scale_of, signed_to_rgb
from rot180.projection.project import Position, project
from rot180.projection.result import Projection
from rot180.projection.rules import AUTO
from rot180.titles import feature_title

_LARGEST = 640
"""The longer side of a picture, in pixels of the sheet."""


def projection_sheet(subject: FigureContext, layer: str, channel: int, position: Position) -> Sheet:
    """Draw the chosen image, and one feature of it projected back to pixels.

    Raises:
        Rot180Error: the layer, the feature or the position does not exist.
    """
    image = subject.inputs([subject.image])[0]
    found = project(
        subject.network,
        image,
        layer,
        channel,
        position,
        method=subject.method,
        unpool=subject.unpool,
    )
    assert isinstance(found, Projection)
    way = describe_method(found.rules.method, found.rules.unpooling)
    if subject.method == AUTO:
        way += ", measured to be the most faithful here"
    height, width = found.image_size
    longer = max(height, width)
    factor = max(1, 320 // longer) if longer <= _LARGEST else _LARGEST / longer
    wide, high = round(factor * width), round(factor * height)
    right = MARGIN + wide + 8
    title = feature_title(layer, channel, subject.model.output_name(layer, channel))
    sheet = Sheet("projection", title, max(2 * wide + 8, 480) + 2 * MARGIN, high + 62)
    sheet.picture(MARGIN, 0, subject.picture(subject.image), factor)
    sheet.picture(right, 0, signed_to_rgb(found.full().cpu().numpy()), factor)
    unit = "the whole map"
    if found.position is not None:
        unit = f"the unit at row {found.position[0]}, column {found.position[1]}"
        if subject.network.layer(layer).axes is None:
            unit = "the neuron"
        sheet.mark(MARGIN, 0, found.box, factor)
        sheet.mark(right, 0, found.box, factor)
    sheet.text(MARGIN, high + 14, subject.label(subject.image), 11)
    sheet.text(right, high + 14, f"{unit}, activation {found.activation:.3g}", 11)
    sheet.text(MARGIN, sheet.foot, f"{way}; grey is zero".capitalize(), 11)
    sheet.caption = (
        f"{title} for image {subject.image} "
        f"({subject.label(subject.image)}): {unit}, activation {found.activation:.4g}, projected "
        f"back to pixels ({way}). Zero is mid-grey. {subject.source_caption}."
    )
    answer = subject.model.top_class(image)
    if answer is not None:
        sheet.caption += f" Prediction: {answer[0]} ({answer[1]:.1%})."
    sheet.numbers = {
        "layer": layer,
        "channel": channel,
        "title": title,
        "position": found.position,
        "activation": found.activation,
        "box": found.box,
        "image": subject.image,
        "answer": answer,
        "method": found.rules.method,
        "scale": scale_of(found.pixels.float().cpu().numpy()),
    }
    return sheet
