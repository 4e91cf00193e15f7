"""All figures of a network, into a directory."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rot180.figures.context import FigureContext
from rot180.figures.features import of_one_image, over_many_images, strongest
from rot180.figures.overview import kernels_and_correlation, the_image, two_features
from rot180.figures.sheet import Sheet

FORMATS = ("png", "svg", "pdf")


def figures(
    subject: FigureContext, channels: tuple[int | None, int | None] = (None, None)
) -> Iterator[Sheet]:
    """Make the figures one after the other.

    Args:
        subject: the network and its images.
        channels: the feature of the first and of the second layer to show on many images; None for
            the one whose strongest activation is the largest on the chosen image.
    """
    first, second = subject.layer(0), subject.layer(1)
    shown = [
        subject.network.check_channel(layer, channel)
        if channel is not None
        else int(subject.maps(layer, [subject.image])[0].max((1, 2)).argmax())
        for layer, channel in zip((first, second), channels, strict=True)
    ]
    yield the_image(subject)
    yield of_one_image(subject, first, "2-first-layer")
    yield over_many_images(subject, first, shown[0], "3-first-layer-one-feature")
    yield strongest(subject, first, "4-strongest")
    yield two_features(subject, first)
    yield of_one_image(subject, second, "6-second-layer")
    yield over_many_images(subject, second, shown[1], "7-second-layer-one-feature")
    yield kernels_and_correlation(subject)


def draw(
    subject: FigureContext,
    directory: str | Path,
    *,
    channels: tuple[int | None, int | None] = (None, None),
    formats: Sequence[str] = ("png",),
    told: Callable[[Sheet, Path], None] = lambda sheet, path: None,
) -> list[Path]:
    """Draw all figures and return the files.

    Raises:
        Rot180Error: a feature does not exist, or the directory cannot be written to.
    """
    paths: list[Path] = []
    for sheet in figures(subject, channels):
        written = sheet.save(directory, formats)
        told(sheet, written[0])
        paths += written
    return paths
