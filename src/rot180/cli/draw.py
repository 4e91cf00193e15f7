"""The commands that draw figures: of the two-layer network, of one feature, and of an atlas."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rot180.cli.console import ProgressBar, echo, report_errors
from rot180.cli.options import (
    SORTS,
    AtlasFile,
    BasicMethod,
    Data,
    Device,
    Formats,
    ImageClass,
    Mean,
    Method,
    ModelName,
    OnBadImage,
    OutputClasses,
    ScannedData,
    ScannedModelName,
    ScannedSplit,
    Size,
    Std,
    TwoLayerModel,
    Unpool,
    Weights,
    choose_image,
    decode_with_progress,
    draw,
    load_model_option,
    load_scanned_model_option,
    parse_formats,
    parse_position,
    read_image,
)
from rot180.device import resolve_device
from rot180.errors import Rot180Error, check_choice

if TYPE_CHECKING:
    from rot180.figures.sheet import Sheet

_FORMATS = ("png", "pdf")


def figures(
    model: TwoLayerModel = "two-layer",
    data: Data = "photos",
    out: Annotated[Path, typer.Option(help="Directory to write to.")] = Path("figures"),
    image: Annotated[int | None, typer.Option(help="Number of the image to show.")] = None,
    image_class: ImageClass = None,
    feature1: Annotated[
        int | None, typer.Option(help="Feature of the first layer for many images.")
    ] = None,
    feature2: Annotated[
        int | None, typer.Option(help="Feature of the second layer for many images.")
    ] = None,
    method: BasicMethod = "deconvnet",
    unpool: Unpool = "switches",
    formats: Formats = "png",
    device: Device = "auto",
    on_bad_image: OnBadImage = "skip",
) -> None:
    """Draw what a two-layer network's features show: eight figures, each with numbers as JSON."""
    with report_errors():
        from rot180.figures.context import FigureContext
        from rot180.models.load import load_two_layer

        endings = parse_formats(formats)
        checkpoint = load_two_layer(model, resolve_device(device), "'rot180 figures'")
        images = decode_with_progress(
            data, "test", checkpoint.size, checkpoint.channels, on_bad_image
        )
        number = choose_image(images, image, image_class)
        subject = FigureContext(checkpoint, images, number, method=method, unpool=unpool)
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
    """Project one feature of one image back to pixels, and draw it beside the image."""
    with report_errors():
        from rot180.figures.context import FigureContext
        from rot180.figures.projection import projection_sheet

        out = out or Path(f"{layer}-{feature}.png")
        formats = parse_formats(out.suffix.removeprefix(".").lower() or out.name)
        if picture is not None and picture.exists() and out.exists() and out.samefile(picture):
            raise Rot180Error(f"--out {out} would overwrite the image itself; give another name.")
        named = load_model_option(model, weights, size, mean, std, output_classes, device)
        if picture is None:
            images = decode_with_progress(data, "test", named.size, named.channels, "skip")
        elif image is None and image_class is None:
            images = read_image(picture, named)
        else:
            raise Rot180Error("--picture is one image; --image and --class choose from --data.")
        number = choose_image(images, image, image_class)
        subject = FigureContext(named, images, number, method=method, unpool=unpool)
        sheet = projection_sheet(subject, layer, feature, parse_position(position))
        sheet.name = out.stem
        written = sheet.save(out.parent, formats)
        echo(sheet.caption)
        echo(f"Written: {', '.join(map(str, written))}")


def sheet(
    atlas: AtlasFile,
    layer: Annotated[str, typer.Option(help="Name of the layer whose features to draw.")],
    features: Annotated[
        str | None,
        typer.Option(help="Numbers of features, as 3,17,40-47; by default all that fire."),
    ] = None,
    sort: Annotated[str | None, typer.Option(help=f"{SORTS} By default by number.")] = None,
    most: Annotated[int | None, typer.Option(min=1, help="Maximal number of features.")] = None,
    projections: Annotated[
        bool,
        typer.Option(
            "--projections/--no-projections",
            help="Whether to project the units back to pixels, for which the model is needed.",
        ),
    ] = True,
    method: Method = "auto",
    unpool: Unpool = "switches",
    masked: Annotated[
        bool, typer.Option("--masked", help="Fade patches where the projection has no energy.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Name of the files; by default the layer's.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="png (a file a page, NAME-1.png), or pdf (one file)."),
    ] = None,
    data: ScannedData = None,
    split: ScannedSplit = "all",
    model: ScannedModelName = None,
    weights: Weights = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    output_classes: OutputClasses = None,
    device: Device = "auto",
) -> None:
    """Draw a layer's features: the strongest patches of each, and their projections to pixels."""
    with report_errors():
        from rot180.atlas.atlas import open_atlas
        from rot180.datasets import open_dataset
        from rot180.figures.plates import patches
        from rot180.figures.sheet import save_pages

        path, form = _file(out, form, layer)
        with open_atlas(atlas) as opened:
            numbers = None if features is None else _numbers(features, len(opened[layer]))
            dataset = None if data is None else open_dataset(data, split)
            given = (weights, size, mean, std, output_classes, device)
            named = load_scanned_model_option(opened, model, *given) if projections else None
            pages = patches(
                opened,
                layer,
                named,
                features=numbers,
                sort=sort,
                most=most,
                method=method,
                unpool=unpool,
                masked=masked,
                data=dataset,
                name=path.name,
            )
            caption, written = "", []
            with ProgressBar("drawing") as bar:

                def told(page: "Sheet") -> None:
                    nonlocal caption
                    caption = page.caption
                    bar(page.numbers["page"], page.numbers["pages"])

                if form == "pdf":
                    written = save_pages(pages, path.with_name(f"{path.name}.pdf"), told)
                else:
                    for page in pages:
                        written += page.save(path.parent)
                        told(page)
        echo(caption)
        shown = [str(one) for one in written if one.suffix != ".json"]
        many = f" … {shown[-1]} ({len(shown)} pages)" if len(shown) > 1 else ""
        echo(f"Written: {shown[0]}{many}, with the numbers as JSON.")


def _file(out: Path | None, form: str | None, layer: str) -> tuple[Path, str]:
    """Return the files' path without number and ending, and the ending."""
    path = Path(re.sub(r"[^\w.-]", "_", layer)) if out is None else out
    ending = path.suffix.lower().removeprefix(".") if out is not None else ""
    if ending in _FORMATS:
        if form is not None and form != ending:
            raise Rot180Error(f"--out {out} is a file of {ending}, and --format says {form}.")
        path, form = path.with_suffix(""), ending
    form = form or "png"
    check_choice(form, "format", _FORMATS)
    if not path.name or path.name == "..":
        raise Rot180Error(f"--out {out} names no file: give a name, as plates/conv2.")
    return path, form


def _numbers(words: str, count: int) -> list[int]:
    """Return the numbers in words like 3,17,40-47, of a layer with ``count`` features.

    Raises:
        Rot180Error: the words are others, or there is no such feature.
    """
    found: list[int] = []
    for part in words.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", part)
        if match is None:
            raise Rot180Error(
                f"Features are numbers and ranges, as 3,17,40-47; '{part}' in '{words}' is neither."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise Rot180Error(f"The range {part.strip()} runs backwards: write {last}-{first}.")
        if last >= count:
            raise Rot180Error(
                f"There is no feature {last}: the layer has {count} features, 0 to {count - 1}."
            )
        found += range(first, last + 1)
    return found
