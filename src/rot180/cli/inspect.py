"""The command that describes a model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rot180.cli.console import ProgressBar, echo, page, report_errors
from rot180.cli.options import Device, Mean, OutputClasses, Size, Std, Weights, load_model_option
from rot180.errors import Rot180Error
from rot180.titles import feature_label, feature_title

if TYPE_CHECKING:
    from rich.table import Table

    from rot180.graph.network import Network
    from rot180.graph.report import Report
    from rot180.models.model import Model
    from rot180.projection.faithfulness import Faithfulness


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
        Path | None, typer.Option("--json", help="Also write the report to this file.")
    ] = None,
    faithfulness: Annotated[
        bool,
        typer.Option(
            "--faithfulness",
            help="Test the methods at every layer, on photographs: which pictures mark the pixels "
            "that units need? Takes minutes for a large network.",
        ),
    ] = False,
    device: Device = "auto",
) -> None:
    """Describe a model: its layers, what each method does there, and whether it was captured right.

    The table lists the layers with their receptive fields.
    """
    from rot180.graph.report import report as make_report

    with report_errors():
        named = load_model_option(model, weights, size, mean, std, output_classes, device)
        report = make_report(named.network())
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
        found = _measured(named.network()) if faithfulness else {}
        if found:
            console.print()
            console.print(_faithful_table(found))
            console.print()
            console.print(_FAITHFUL, markup=False)
        elif faithfulness:
            echo("No unit of this network fires on the photographs: nothing could be tested.")
        if out is not None:
            scores = named.output_layer
            outputs = {"layer": scores, "names": list(named.classes)} if scores else None
            try:
                numbers = {**report.as_numbers(), "outputs": outputs}
                if found:
                    numbers["faithfulness"] = {n: one.as_numbers() for n, one in found.items()}
                out.write_text(json.dumps(numbers, indent=2) + "\n")
            except OSError as error:
                raise Rot180Error(f"{out} cannot be written: {error.strerror}.") from error
            echo(f"Written: {out}")


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


def _outputs(named: "Model") -> str:
    """Say what the network's outputs are called; "" where that is not known."""
    layer, count = named.output_layer, len(named.classes)
    if not layer:
        return ""
    shown = [feature_title(layer, 0, named.classes[0])]
    shown += [feature_label(n, named.classes[n]) for n in range(1, min(3, count))]
    more = f", … {feature_label(count - 1, named.classes[-1])}" if count > 3 else ""
    return f"The {count} features of {layer} are scores of classes: {', '.join(shown)}{more}."


def _measured(network: "Network") -> "dict[str, Faithfulness]":
    """Test the methods at every layer, with a bar."""
    from rot180.projection.automatic import measure_layers
    from rot180.projection.rules import METHODS

    layers = list(network.layers.values())
    with ProgressBar("testing methods") as bar:
        return measure_layers(network, layers, len(layers), bar, METHODS)


def _faithful_table(found: "dict[str, Faithfulness]") -> "Table":
    """Return what is left and kept by each method at each layer."""
    from rich.table import Table

    from rot180.projection.rules import METHODS

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("layer", no_wrap=True)
    table.add_column("auto", no_wrap=True)
    table.add_column("mostly", justify="right", no_wrap=True)
    for name in (*METHODS, "map", "chance"):
        table.add_column(name.replace("_", " "), justify="right")
    for layer, one in found.items():
        scores = {**one.scores, "map": one.map, "chance": one.chance}
        shown = [scores.get(name) for name in (*METHODS, "map", "chance")]
        cells = ["" if s is None else f"{s.left:.2f} {s.kept:.2f}" for s in shown]
        table.add_row(layer, one.method.replace("_", " "), f"{one.effective:.0f}", *cells)
    return table


_FAITHFUL = (
    "Two numbers a method, medians over strong units: the share of a unit's value that is left if "
    "the fifth of its receptive field that the method marks is blurred (small is good), and that "
    "is kept if all else is (large is good). map: the layer's own map, enlarged; "
    "chance: smoothed noise. auto: what --method auto takes. mostly: the side, in pixels, of the "
    "square that holds 80 % of a projection's energy."
)

_LEGEND = (
    "sees: pixels of the image that a unit far from the border depends on (the bar: its height "
    "over the image's); every: how many pixels its neighbour is away. costs: the products below "
    "the layer that a unit in the middle needs, over those of the whole image."
)


def _bar(share: float, width: int = 8) -> str:
    """Draw a share of 1 as a bar of eighths of a character."""
    eighths = max(1, round(share * width * 8))
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
