"""The command that looks into a model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rot180.cli.options import Device, Mean, OutputClasses, Size, Std, Weights, the_model
from rot180.console import page, say, sentences
from rot180.errors import Rot180Error
from rot180.titles import feature_label, feature_title

if TYPE_CHECKING:
    from rich.table import Table

    from rot180.graph.report import Report
    from rot180.networks.model import NamedModel


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            help="two-layer, a checkpoint, torchvision:NAME[:WEIGHTS], timm:NAME[:pretrained], "
            "package.module:callable, or path/to/file.py:callable."
        ),
    ],
    weights: Weights = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    output_classes: OutputClasses = None,
    out: Annotated[
        Path | None, typer.Option("--json", help="Write the report to this file, too.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Say what a model is made of, what each method does there, and whether it was captured right.

    With a table of its layers and their receptive fields.
    """
    with sentences():
        named = the_model(model, weights, size, mean, std, output_classes, device)
        report = named.network().report()
        console = page()
        console.print(str(report), markup=False)
        console.print()
        console.print(_table(report))
        console.print()
        console.print(_LEGEND, markup=False)
        called = _outputs(named)
        if called:
            console.print()
            console.print(called, markup=False)
        if out is not None:
            scores = named.output_layer
            outputs = {"layer": scores, "names": list(named.classes)} if scores else None
            try:
                numbers = {**report.as_numbers(), "outputs": outputs}
                out.write_text(json.dumps(numbers, indent=2) + "\n")
            except OSError as error:
                raise Rot180Error(f"{out} cannot be written: {error.strerror}.") from error
            say(f"Written: {out}")


def _table(report: "Report") -> "Table":
    """Return the layers with the share of the image that a unit far from the border sees."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("layer", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for name in ("features", "maps", "sees", "every"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("rectifier", no_wrap=True)
    table.add_column("costs", justify="right", no_wrap=True)
    for one in report.layers:
        layer = one.layer
        height, width = layer.receptive_field
        vertical, horizontal = layer.stride
        same = vertical == horizontal
        table.add_row(
            layer.name,
            layer.kind.replace(" convolution", ""),
            str(layer.channels),
            f"{layer.height}x{layer.width}",
            f"{height}x{width}" if one.local else "all",
            (f"{vertical:g}" if same else f"{vertical:g}x{horizontal:g}") if one.local else "",
            _bar(height / report.input_shape[1]),
            layer.rectifier,
            f"{100 * one.share:.3g} %" if one.share else "",
        )
    return table


def _outputs(named: "NamedModel") -> str:
    """Say what the network's outputs are called; "" where that is not known."""
    layer, count = named.output_layer, len(named.classes)
    if not layer:
        return ""
    shown = [feature_title(layer, 0, named.classes[0])]
    shown += [feature_label(n, named.classes[n]) for n in range(1, min(3, count))]
    more = f", … {feature_label(count - 1, named.classes[-1])}" if count > 3 else ""
    return f"The {count} features of {layer} are scores of classes: {', '.join(shown)}{more}."


_LEGEND = (
    "sees: pixels of the image that a unit far from the border depends on (the bar: its height "
    "over the image's); every: how many pixels its neighbour is away. costs: the products below "
    "the layer that a unit in the middle needs, over those of the whole image."
)


def _bar(share: float, width: int = 8) -> str:
    """Draw a share of 1 as a bar of eighths of a character."""
    eighths = max(1, round(share * width * 8))
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
