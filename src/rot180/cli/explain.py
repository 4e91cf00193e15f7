"""The commands that show the arithmetic: explain and trace."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rot180.cli.console import echo, page, report_errors
from rot180.cli.options import (
    BasicMethod,
    Data,
    ImageClass,
    TwoLayerModel,
    Unpool,
    choose_image,
    decode_with_progress,
    parse_int,
    parse_position,
    parse_size,
    read_image,
)
from rot180.errors import Rot180Error, suggest
from rot180.files import is_file

if TYPE_CHECKING:
    from rot180.datasets import ArrayDataset
    from rot180.equations.trace import Sum, Trace
    from rot180.models.checkpoint import Checkpoint

_KINDS = ("z", "delta", "weight", "bias", "projection")
_LARGEST_GRID = 4 * 2**20
"""Bytes of a file of numbers."""
_TITLE = "Back-propagation through a convolution"


def explain(
    image: Annotated[
        str | None,
        typer.Option(help='Numbers of the image, as "1 2 3; 4 5 6", or a text file of them.'),
    ] = None,
    kernel: Annotated[str | None, typer.Option(help="Numbers of the kernel, likewise.")] = None,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of a random image.")] = "3x3",
    kernel_size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of a random kernel.")] = "2x2",
    stride: Annotated[int, typer.Option(help="Distance between neighbouring windows.")] = 1,
    padding: Annotated[
        str, typer.Option(help="valid, same, full, or a number of rows and columns of zeros.")
    ] = "valid",
    operation: Annotated[
        str, typer.Option(help="correlation (as PyTorch's layers) or convolution.")
    ] = "correlation",
    activation: Annotated[
        str, typer.Option(help="Activation function of the output: none, relu, sigmoid or tanh.")
    ] = "none",
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    svg: Annotated[
        Path | None, typer.Option(help="Also write an SVG picture to this file.")
    ] = None,
    latex: Annotated[
        Path | None, typer.Option(help="Also write a LaTeX document to this file.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write JSON to this file.")] = None,
) -> None:
    """Walk through one convolution, forward and back: why the weights are rotated."""
    with report_errors():
        from rot180.explain import explanation
        from rot180.explain.blocks import as_json
        from rot180.explain.example import make_example
        from rot180.explain.latex import as_latex
        from rot180.explain.svg_document import as_svg
        from rot180.explain.terminal import show
        from rot180.files import atomic_write, check_writable

        paths = [path for path in (svg, latex, json) if path is not None]
        for one in paths:
            check_writable(one)
        if len({path.resolve() for path in paths}) < len(paths):
            raise Rot180Error("--svg, --latex and --json write different files: name each apart.")
        chosen = make_example(
            _grid(image, "image"),
            _grid(kernel, "kernel"),
            parse_size(size),
            parse_size(kernel_size),
            stride,
            padding if parse_int(padding) is None else parse_int(padding),
            operation,
            activation,
            seed,
        )
        sections = explanation.explain(chosen)
        show(sections, page())
        echo("")
        for path, write in (
            (svg, as_svg),
            (latex, as_latex),
            (json, as_json),
        ):
            if path is not None:
                with atomic_write(path) as beside:
                    beside.write_text(write(sections, _TITLE), encoding="utf-8")
                echo(f"Written: {path}")


def trace(
    what: Annotated[str, typer.Argument(help="z, delta, weight, bias, or projection.")],
    layer: Annotated[str, typer.Argument(help="Name of the layer, as conv2.")],
    index: Annotated[
        str,
        typer.Argument(
            help="FEATURE,Y,X of z and delta; FEATURE,CHANNEL,Y,X of a weight; FEATURE of a bias; "
            "CHANNEL,Y,X of a projection's pixel."
        ),
    ],
    feature: Annotated[
        int | None, typer.Option(help="Feature that is projected; for projections only.")
    ] = None,
    position: Annotated[
        str, typer.Option(help="Unit that is projected: map, peak, or Y,X.")
    ] = "map",
    method: BasicMethod = "deconvnet",
    unpool: Unpool = "switches",
    picture: Annotated[
        Path | None, typer.Option("--picture", help="An image file; instead of --data.")
    ] = None,
    data: Data = "photos",
    image: Annotated[int | None, typer.Option(help="Number of the image in the data.")] = None,
    image_class: ImageClass = None,
    model: TwoLayerModel = "two-layer",
    most: Annotated[int, typer.Option(min=0, help="Products to show, the largest first.")] = 12,
) -> None:
    """Show the products behind one number of a trained network, in float64."""
    with report_errors():
        from rot180.models.load import load_two_layer

        if what not in _KINDS:
            raise Rot180Error(f"There is no '{what}'. There are: {suggest(_KINDS, what)}.")
        if (feature is not None) != (what == "projection"):
            raise Rot180Error("--feature says which feature a projection is of, and only there.")
        if picture is not None and (image is not None or image_class is not None):
            raise Rot180Error("--picture is one image; --image and --class choose from --data.")
        at = _index(index)
        checkpoint = load_two_layer(model, "cpu", "'rot180 trace'")
        if picture is None:
            images = decode_with_progress(
                data, "test", checkpoint.size, checkpoint.channels, "skip"
            )
        else:
            images = read_image(picture, checkpoint)
        number = choose_image(images, image, image_class)
        if not 0 <= number < len(images):
            raise Rot180Error(f"There is no image {number} in '{data}': it has {len(images)}.")
        trace = _trace(checkpoint, images, number, what)
        match what:
            case "z":
                found = trace.z(layer, (0, *at))
            case "delta":
                found = trace.delta(layer, (0, *at))
            case "weight":
                found = trace.weight_gradient(layer, at)
            case "bias":
                found = trace.bias_gradient(layer, at)
            case _:
                assert feature is not None
                where = parse_position(position)
                found = trace.projection(layer, feature, (0, *at), "", where, method, unpool)
        _print(found, most)


def _trace(checkpoint: "Checkpoint", images: "ArrayDataset", number: int, what: str) -> "Trace":
    """Send an image through the network in float64; errors are those of its own class."""
    from rot180.equations.trace import Trace

    x = checkpoint.prepare(images.image(number))[None].double().numpy()
    network = checkpoint.equations()
    if what not in ("delta", "weight", "bias"):
        return Trace(network, x)
    label = None if images.labels is None else int(images.labels[number])
    named = tuple(images.classes) == checkpoint.classes
    if label is None or not named:
        label = int(network.scores(x).argmax())
        taken = checkpoint.classes[label]
        echo(f"Errors for the predicted class: {taken}.")
    else:
        echo(f"Errors for the image's own class, {checkpoint.classes[label]}.")
    return Trace(network, x, [label])


def _print(found: "Sum", most: int) -> None:
    """Print a sum, its largest products first; the others as one number."""
    from math import prod

    from rot180.equations.wiring import Factor

    sizes = [prod(factor.value for factor in term) for term in found.terms]
    order = sorted(range(len(sizes)), key=lambda k: -abs(sizes[k]))
    head = Factor(found.name, found.index, 0).symbol
    if not sizes:
        echo(
            f"{head} = 0: nothing above depends on it, since another entry of its pooling window "
            "was larger."
        )
        return
    echo(f"{head} = {found.value + 0.0:.9g}, the sum of {len(sizes)} products")
    products = found.products()
    width = max((len(products[k][0]) for k in order[:most]), default=0)
    wide = max((len(products[k][1]) for k in order[:most]), default=0)
    for k in order[:most]:
        symbols, numbers = products[k]
        echo(f"  {symbols:<{width}}  = {numbers:<{wide}}  = {sizes[k] + 0.0: .6g}")
    rest = order[most:]
    if rest:
        echo(f"  and {len(rest)} smaller ones, together {sum(sizes[k] for k in rest):.6g}")
    echo(f"The products add up to {found.total + 0.0:.9g}.")


def _grid(words: str | None, what: str) -> Any:
    """Return rows of numbers from words, or from the text file that they name."""
    if words is None:
        return None
    text = words
    if re.search("[a-zA-Z]{2}", words):  # the name of a file
        if not is_file(Path(words)):
            raise Rot180Error(
                f'There is no file {words[:200]}. The {what} is one, or numbers as "1 2 3; 4 5 6".'
            )
        text = _text_of(Path(words), what)
    rows = [row.replace(",", " ").split() for row in text.replace("\n", ";").split(";")]
    try:
        return [[float(one) for one in row] for row in rows if row]
    except ValueError as error:
        raise Rot180Error(
            f"The {what} holds something that is no number ({str(error)[:80]}). Write it as "
            '"1 2 3; 4 5 6".'
        ) from None


def _text_of(path: Path, what: str) -> str:
    """Read a file of numbers."""
    try:
        if path.stat().st_size > _LARGEST_GRID:
            raise Rot180Error(f"{path} is too large for the numbers of the {what}.")
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Rot180Error(f"The {what} cannot be read from {path}: {error.strerror}.") from error


def _index(words: str) -> tuple[int, ...]:
    numbers = [parse_int(one) for one in words.split(",")]
    if any(one is None for one in numbers):
        raise Rot180Error(
            f"An index is whole numbers with commas, as 3,5,7; this one is '{words[:80]}'."
        )
    return tuple(one for one in numbers if one is not None)
