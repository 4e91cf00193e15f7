"""The commands that draw what an atlas holds."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rot180.cli.console import ProgressBar, echo, report_errors
from rot180.cli.options import (
    SORTS,
    AtlasFile,
    Device,
    Mean,
    Method,
    OutputClasses,
    Size,
    Std,
    Unpool,
    Weights,
    scanned_model,
)
from rot180.errors import Rot180Error, check_choice

if TYPE_CHECKING:
    from rot180.figures.sheet import Sheet

_FORMATS = ("png", "pdf")


def sheet(
    atlas: AtlasFile,
    layer: Annotated[str, typer.Option(help="Name of the layer whose features to draw.")],
    features: Annotated[
        str | None, typer.Option(help="Their numbers, as 3,17,40-47; else all that fire.")
    ] = None,
    sort: Annotated[str | None, typer.Option(help=f"{SORTS} Else by number.")] = None,
    most: Annotated[int | None, typer.Option(min=1, help="Features to draw at most.")] = None,
    projections: Annotated[
        bool,
        typer.Option(
            "--projections/--no-projections",
            help="Whether to carry the units back to pixels, for which the model is needed.",
        ),
    ] = True,
    method: Method = "auto",
    unpool: Unpool = "switches",
    masked: Annotated[
        bool, typer.Option("--masked", help="Let patches fade where the projection has no energy.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Name of the files; by default the layer's.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="png (a file a page, NAME-1.png), or pdf (one file)."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The data that was scanned, if the atlas has no pictures.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of these data: train, test or all.")] = "all",
    model: Annotated[
        str | None, typer.Option(help="The model that was scanned, if named otherwise now.")
    ] = None,
    weights: Weights = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    output_classes: OutputClasses = None,
    device: Device = "auto",
) -> None:
    """Draw the strongest patches of a layer's features, and these units carried back to pixels."""
    with report_errors():
        from rot180.atlas.reading import open_atlas
        from rot180.datasets import open_dataset
        from rot180.figures.patches import patches
        from rot180.figures.sheet import save_pages

        path, form = _file(out, form, layer)
        with open_atlas(atlas) as opened:
            numbers = None if features is None else _numbers(features, len(opened[layer]))
            dataset = None if data is None else open_dataset(data, split)
            given = (weights, size, mean, std, output_classes, device)
            named = scanned_model(opened, model, *given) if projections else None
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
