"""The commands that draw."""

from pathlib import Path
from typing import Annotated

import typer

from rot180.cli.console import echo, report_errors
from rot180.cli.options import (
    Data,
    Device,
    Formats,
    ImageClass,
    Mean,
    Method,
    ModelName,
    OnBadImage,
    OutputClasses,
    Size,
    Std,
    TwoLayerModel,
    Unpool,
    WayBack,
    Weights,
    chosen_number,
    decoded_with_bar,
    draw,
    formats_of,
    one_image,
    position_of,
    the_model,
)
from rot180.device import resolve_device
from rot180.errors import Rot180Error


def figures(
    model: TwoLayerModel = "two-layer",
    data: Data = "photos",
    out: Annotated[Path, typer.Option(help="Directory to write to.")] = Path("figures"),
    image: Annotated[int | None, typer.Option(help="Number of the image to look at.")] = None,
    image_class: ImageClass = None,
    feature1: Annotated[
        int | None, typer.Option(help="Feature of the first layer for many images.")
    ] = None,
    feature2: Annotated[
        int | None, typer.Option(help="Feature of the second layer for many images.")
    ] = None,
    method: WayBack = "deconvnet",
    unpool: Unpool = "switches",
    formats: Formats = "png",
    device: Device = "auto",
    on_bad_image: OnBadImage = "skip",
) -> None:
    """Draw what a two-layer network's features show: eight figures, each with numbers as JSON."""
    with report_errors():
        from rot180.figures.subject import Subject
        from rot180.models.load import load_two_layer

        endings = formats_of(formats)
        checkpoint = load_two_layer(model, resolve_device(device), "'rot180 figures'")
        images = decoded_with_bar(data, "test", checkpoint.size, checkpoint.channels, on_bad_image)
        number = chosen_number(images, image, image_class)
        subject = Subject(checkpoint, images, number, method=method, unpool=unpool)
        draw(subject, out, (feature1, feature2), endings)


def project(
    layer: Annotated[
        str, typer.Argument(help="Name of the layer in the model, as conv2 or layer3.1.conv2.")
    ],
    feature: Annotated[int, typer.Argument(help="Number of the feature.")],
    picture: Annotated[
        Path | None, typer.Option("--picture", help="An image file; instead of --data.")
    ] = None,
    data: Data = "photos",
    image: Annotated[int | None, typer.Option(help="Number of the image in the data.")] = None,
    image_class: ImageClass = None,
    position: Annotated[
        str, typer.Option(help="map, peak, or Y,X: a unit of the feature.")
    ] = "map",
    model: ModelName = "two-layer",
    weights: Weights = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    output_classes: OutputClasses = None,
    out: Annotated[
        Path | None, typer.Option(help="The picture to write (.png, .svg, .pdf).")
    ] = None,
    method: Method = "auto",
    unpool: Unpool = "switches",
    device: Device = "auto",
) -> None:
    """Carry one feature of one image back to pixels, and draw it beside the image."""
    with report_errors():
        from rot180.figures.single import one_projection
        from rot180.figures.subject import Subject

        out = out or Path(f"{layer}-{feature}.png")
        formats = formats_of(out.suffix.removeprefix(".").lower() or out.name)
        if picture is not None and picture.exists() and out.exists() and out.samefile(picture):
            raise Rot180Error(f"--out {out} would overwrite the image itself; give another name.")
        named = the_model(model, weights, size, mean, std, output_classes, device)
        if picture is None:
            images = decoded_with_bar(data, "test", named.size, named.channels, "skip")
        elif image is None and image_class is None:
            images = one_image(picture, named)
        else:
            raise Rot180Error("--picture is one image; --image and --class choose from --data.")
        number = chosen_number(images, image, image_class)
        subject = Subject(named, images, number, method=method, unpool=unpool)
        sheet = one_projection(subject, layer, feature, position_of(position))
        sheet.name = out.stem
        written = sheet.save(out.parent, formats)
        echo(sheet.caption)
        echo(f"Written: {', '.join(map(str, written))}")
