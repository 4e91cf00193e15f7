"""Options that several commands share, and functions that parse their values."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rot180.cli.console import ProgressBar, echo
from rot180.errors import Rot180Error, suggest
from rot180.files import is_file

if TYPE_CHECKING:
    from rot180.atlas.atlas import Atlas
    from rot180.datasets import ArrayDataset
    from rot180.figures.context import FigureContext
    from rot180.models.model import Model

Data = Annotated[
    str,
    typer.Option(
        help="Images: photos, cifar10, torchvision:NAME, a directory (class folders, plain images, "
        "Parquet files, the binary CIFAR-10), or a Parquet file."
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        help="two-layer (comes with rot180), efficientnet-lite0 (where its packages are "
        "installed), a checkpoint that 'rot180 train' wrote, torchvision:NAME[:WEIGHTS], "
        "timm:NAME[:pretrained], package.module:callable, or path/to/file.py:callable."
    ),
]
TwoLayerModel = Annotated[
    str,
    typer.Option(
        "--model",
        help="A checkpoint that 'rot180 train' wrote, or two-layer (comes with rot180).",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Weights for the model: a file of safetensors, or .pt, .pth, .bin."),
]
Size = Annotated[
    str | None,
    typer.Option(help="Size of the model's images: HEIGHTxWIDTH, or a number for a square."),
]
Mean = Annotated[
    str | None,
    typer.Option(help="Mean of each channel, as 0.485,0.456,0.406, for values from 0 to 1."),
]
Std = Annotated[
    str | None, typer.Option(help="Standard deviation of each channel, as 0.229,0.224,0.225.")
]
OutputClasses = Annotated[
    Path | None,
    typer.Option(
        "--output-classes",
        help="A file of the names of the model's classes: one a line, or a table with their "
        "numbers (index, folder, name).",
    ),
]
DataClasses = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        help="A file of names for class folders, such as tench for n01440764; by default "
        "classes.txt or classes.json in the data folder.",
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, or auto: the GPU where there is one.")]
OnBadImage = Annotated[str, typer.Option(help="What to do with a broken image: skip or fail.")]
Method = Annotated[
    str,
    typer.Option(
        help="auto (the most faithful one at the layer, as measured), deconvnet, gradient, "
        "guided, gradient_times_image or smoothgrad_squared."
    ),
]
BasicMethod = Annotated[str, typer.Option(help="deconvnet, gradient or guided.")]
Unpool = Annotated[str, typer.Option(help="switches (to where the maxima were) or repeat.")]
ScannedData = Annotated[
    str | None, typer.Option(help="The data that was scanned, if the atlas has no pictures.")
]
ScannedSplit = Annotated[str, typer.Option(help="Split of these data: train, test or all.")]
ScannedModelName = Annotated[
    str | None, typer.Option(help="The model that was scanned, if its name has changed.")
]
LayerPatterns = Annotated[
    str | None, typer.Option(help="Names or patterns, as 'layer4.*,fc'; by default all.")
]
AtlasFile = Annotated[Path, typer.Argument(help="An atlas that 'rot180 scan' made.")]
SORTS = (
    "strongest, weakest, rarest, most-common, class (most selective for one), colour (most "
    "explained by it), bright, dark."
)
Formats = Annotated[str, typer.Option("--format", help="png, svg, pdf, or several: png,pdf.")]
ImageClass = Annotated[
    str | None, typer.Option("--class", help="Look at the first image of this class.")
]


def draw(
    subject: "FigureContext",
    out: Path,
    channels: tuple[int | None, int | None],
    formats: tuple[str, ...],
) -> None:
    """Draw all figures, and print the path of each."""
    from rot180.figures.two_layer import draw as draw_all

    def told(sheet: Any, path: Path) -> None:
        echo(f"Written: {path}  ({sheet.title})")

    draw_all(subject, out, channels=channels, formats=formats, told=told)


def decode_with_progress(
    data: str, split: str, size: tuple[int, int], channels: int, on_bad_image: str
) -> "ArrayDataset":
    """Open a data set and decode it with a progress bar; print which images were left out."""
    from rot180.datasets import decode_all, open_dataset

    with ProgressBar(f"reading {data}") as bar:
        images = decode_all(
            open_dataset(data, split), size, channels, on_bad_image=on_bad_image, progress=bar
        )
    if images.bad:
        shown = "; ".join(f"{where}: {reason}" for where, reason in images.bad[:5])
        more = " …" if len(images.bad) > 5 else ""
        echo(f"Left out {len(images.bad)} broken images of the {split} split: {shown}{more}")
    return images


def choose_image(images: "ArrayDataset", number: int | None, image_class: str | None) -> int:
    """Return the number of the image to show: by default the most colourful of the first ones."""
    from rot180.figures.context import first_of_class, most_colourful

    if image_class is None:
        return most_colourful(images) if number is None else number
    if number is not None:
        raise Rot180Error("--image and --class both choose an image; give one of them.")
    return first_of_class(images, image_class)


def load_model_option(
    name: str,
    weights: Path | None,
    size: str | None,
    mean: str | None,
    std: str | None,
    classes: Path | None,
    device: str,
) -> "Model":
    """Load the model that the options name, and print its notices."""
    from rot180.models.load import load_model

    found = load_model(name, weights, **model_options(size, mean, std, classes, device))
    for notice in found.notices:
        echo(notice)
    return found


def load_scanned_model_option(
    atlas: "Atlas", model: str | None, weights: Path | None, *given: Any
) -> "Model":
    """Load the model of an atlas, and print its notices."""
    from rot180.atlas.model import load_scanned_model

    found = load_scanned_model(atlas, model, weights, **model_options(*given))
    for notice in found.notices:
        echo(notice)
    return found


def model_options(
    size: str | None, mean: str | None, std: str | None, classes: Path | None, device: str
) -> dict[str, Any]:
    """Return the options of a model as keyword arguments of ``load_model``."""
    return {
        "size": _side_or_size(size),
        "mean": _numbers_of(mean, "mean"),
        "std": _numbers_of(std, "std"),
        "classes": classes,
        "device": device,
    }


def read_image(path: Path, named: "Model") -> "ArrayDataset":
    """Read an image file as a data set of one image, at the size of the model's images."""
    from rot180.datasets import ArrayDataset, decode_file

    if not is_file(path):
        raise Rot180Error(f"There is no file {path}.")
    found = decode_file(path, target=(named.size, named.channels))
    return ArrayDataset(found[None], name=path.name, describe=lambda _: path.name)


def parse_size(words: str) -> tuple[int, int]:
    """Return (height, width) from text like 32x32."""
    height, cross, width = words.lower().partition("x")
    sides = parse_int(height), parse_int(width)
    if cross and sides[0] and sides[1]:
        return sides[0], sides[1]
    raise Rot180Error(f"A size is HEIGHTxWIDTH, as 32x32; this one is '{words[:80]}'.")


def parse_int(words: str) -> int | None:
    """Return text as a whole number; None if it is none, or has more than 18 digits."""
    words = words.strip()
    return int(words) if words.isascii() and words.isdecimal() and len(words) <= 18 else None


def _side_or_size(words: str | None) -> int | tuple[int, int] | None:
    """Return the side of a square from text like 224, or (height, width) from 224x256."""
    if words is None:
        return None
    side = parse_int(words)
    if side is not None:
        return side
    first, cross, second = words.lower().partition("x")
    height, width = parse_int(first), parse_int(second)
    if cross and height is not None and width is not None:
        return height, width
    raise Rot180Error(
        f"A size is HEIGHTxWIDTH, as 224x224, or one number for a square; this one is "
        f"'{words[:80]}'."
    )


def _numbers_of(words: str | None, what: str) -> tuple[float, ...] | None:
    """Return the numbers in text like 0.485,0.456,0.406."""
    if words is None:
        return None
    try:
        return tuple(float(one) for one in words.split(","))
    except ValueError:
        raise Rot180Error(
            f"--{what} is one number for each channel, as 0.5,0.5,0.5; this is '{words[:80]}'."
        ) from None


def parse_position(words: str) -> Any:
    """Return None for "map", "peak" for "peak", and (y, x) for text like 3,5."""
    if words in ("map", "peak"):
        return None if words == "map" else "peak"
    first, comma, second = words.partition(",")
    y, x = parse_int(first), parse_int(second)
    if not comma or y is None or x is None:
        raise Rot180Error(f"A position is map, peak, or Y,X as 3,5; this one is '{words[:80]}'.")
    return y, x


def parse_formats(words: str) -> tuple[str, ...]:
    """Return the formats in text like png,pdf."""
    from rot180.figures.two_layer import FORMATS

    chosen = tuple(one.strip() for one in words.split(","))
    for one in chosen:
        if one not in FORMATS:
            raise Rot180Error(f"There is no format '{one}'. There are: {suggest(FORMATS, one)}.")
    return chosen
