"""The commands that write atlases: scan, merge and fields."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rot180.cli.console import ProgressBar, echo, report_errors
from rot180.cli.options import (
    AtlasFile,
    DataClasses,
    Device,
    LayerPatterns,
    Mean,
    OnBadImage,
    OutputClasses,
    ScannedData,
    ScannedModelName,
    ScannedSplit,
    Size,
    Std,
    Weights,
    load_model_option,
    load_scanned_model_option,
    parse_int,
)
from rot180.errors import Rot180Error

if TYPE_CHECKING:
    from rot180.atlas.atlas import Atlas
    from rot180.atlas.scan import ScanProgress
    from rot180.datasets import Dataset

_MODEL = (
    "two-layer, efficientnet-lite0, a checkpoint, torchvision:NAME[:WEIGHTS], "
    "timm:NAME[:pretrained], package.module:callable, or path/to/file.py:callable."
)


def scan(
    model: Annotated[str, typer.Argument(help=_MODEL)],
    data: Annotated[
        str,
        typer.Argument(
            help="photos, cifar10, torchvision:NAME, a directory (class folders, plain images, "
            "Parquet files), or a Parquet file."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The atlas to write, or to resume.")] = Path(
        "scan.atlas"
    ),
    split: Annotated[str, typer.Option(help="Images to scan: train, test or all.")] = "all",
    layers: LayerPatterns = None,
    examples: Annotated[
        int, typer.Option(help="Number of strongest images stored for each feature.")
    ] = 9,
    sample: Annotated[
        int, typer.Option(help="Number of images whose peaks are stored, to compare atlases.")
    ] = 1000,
    images: Annotated[
        str, typer.Option(help="Pictures of the examples: lossless, compact or none.")
    ] = "lossless",
    batch: Annotated[
        int | None, typer.Option(help="Images that go through the network together.")
    ] = None,
    shard: Annotated[
        str, typer.Option(help="i/n: scan the i-th of n parts; 'rot180 merge' joins them.")
    ] = "1/1",
    weights: Weights = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    output_classes: OutputClasses = None,
    classes: DataClasses = None,
    device: Device = "auto",
    on_bad_image: OnBadImage = "skip",
    methods: Annotated[
        bool, typer.Option(help="Test which method's pictures are the most faithful, by layer.")
    ] = True,
) -> None:
    """Scan a data set with a network, and store which images excite each feature.

    A scan that was interrupted continues from its last checkpoint when the same command is given
    again.
    """
    with report_errors():
        from rot180.atlas.options import (
            ScanOptions,
            check_output,
            resolve_dataset,
            resolve_model,
        )
        from rot180.atlas.scan import run_scan

        part = _shard(shard)
        options = ScanOptions.checked(
            layers=_patterns(layers),
            examples=examples,
            sample=sample,
            images=images,
            batch=batch,
            shard=part,
            on_bad_image=on_bad_image,
            methods=methods,
        )
        path = check_output(out)
        named = load_model_option(model, weights, size, mean, std, output_classes, device)
        found = resolve_dataset(_open_data(data, split, classes, output_classes), split)
        echo(
            f"Scanning {len(found)} images of {found.name} ({found.split}) with {model} on "
            f"{named.device}{'' if part == (1, 1) else f', part {part[0]} of {part[1]}'}."
        )
        started = time.perf_counter()
        last: list[ScanProgress] = []
        with ProgressBar("scanning") as bar:

            def progress(done: "ScanProgress") -> None:
                if done.doing != "scanning":
                    bar(done.done, done.total)
                    bar.note(f"{done.doing}: {done.done} of {done.total} layers")
                    return
                last[:] = [done]
                bar(done.done, done.total)
                bar.note(
                    f"{done.images_per_second:.0f} images/s, {done.waiting:.0%} waiting for them"
                )

            try:
                atlas = run_scan(resolve_model(named, None, None), found, path, options, progress)
            except KeyboardInterrupt:
                if not out.is_file() or not last:
                    raise
                raise Rot180Error(
                    f"Interrupted: {out} holds {last[-1].done} of {last[-1].total} images; the "
                    "same command continues from there."
                ) from None
        with atlas:
            _print_summary(atlas, last, time.perf_counter() - started)
            if atlas.complete:
                echo(f"Next: rot180 features {shlex.quote(str(out))}, or in the browser:")
                echo(_serve_command(atlas, model, weights, data, split))


def _open_data(
    data: str, split: str, classes: Path | None, output_classes: Path | None
) -> "Dataset":
    """Open the data; a table of the model's classes names their folders where nothing else does."""
    from rot180.datasets import open_dataset
    from rot180.datasets.class_names import read_class_file

    found = open_dataset(data, split, classes)
    folders = getattr(found, "folders", ())
    if output_classes is None or not folders or getattr(found, "class_file", None) is not None:
        return found
    table = read_class_file(output_classes)
    if any(line.key in folders for line in table.lines):
        return open_dataset(data, split, output_classes)
    return found


def _serve_command(atlas: "Atlas", model: str, weights: Path | None, data: str, split: str) -> str:
    """Return the command that shows an atlas, as a shell takes it.

    It has the options for what the atlas does not hold: where the model's code and weights are, and
    the images, if it is without. Size, mean, deviation and the names of the outputs stand in it.
    """
    from rot180.atlas.identity import ScanIdentity
    from rot180.atlas.model import is_found_again

    words = ["rot180", "serve", str(atlas.path)]
    if weights is not None or not is_found_again(atlas, model):
        words += ["--model", model]
    if weights is not None:
        words += ["--weights", str(weights)]
    if ScanIdentity.for_atlas(atlas).pictures == "none":
        words += ["--data", data, "--split", split]
    return shlex.join(words)


def _print_summary(atlas: "Atlas", last: "list[ScanProgress]", seconds: float) -> None:
    """Print what a scan found."""
    skipped = atlas.skipped
    if skipped:
        shown = "; ".join(f"{name}: {reason}" for _, name, reason in skipped[:5])
        echo(f"Left out broken images: {shown}{' …' if len(skipped) > 5 else ''}")
    if last:
        echo(
            f"{last[-1].images_per_second:.0f} images/s, {last[-1].waiting:.0%} of the time "
            f"waiting for images; {seconds:.0f} s in all."
        )
    else:
        echo("All images had been scanned before.")
    ((dead,),) = atlas.rows("SELECT COUNT(*) FROM feature WHERE dead")
    ((pictures, size),) = atlas.rows("SELECT COUNT(picture), SUM(LENGTH(picture)) FROM image")
    echo(
        f"{atlas.index.features} features of {len(atlas)} layers, {dead} of them dead, over "
        f"{atlas.scanned} of {atlas.images} images."
    )
    total = _format_bytes(atlas.path.stat().st_size)
    echo(
        f"Written: {atlas.path}, {total}, of which {_format_bytes(size or 0)} are {pictures} "
        "pictures of examples."
    )
    if atlas.outputs:
        echo(
            f"The {len(atlas.outputs)} features of {atlas.output_layer} are called by the classes "
            f"of {atlas.metadata['outputs'].get('source')}, as "
            f"{atlas.title(atlas.output_layer, 0)}."
        )
    if not atlas.complete:
        echo("This is one part of a scan: join the parts with 'rot180 merge'.")


def merge(
    parts: Annotated[list[Path], typer.Argument(help="Atlases of parts of one scan.")],
    out: Annotated[Path, typer.Option(help="The atlas to write.")],
) -> None:
    """Join the parts of a scan (--shard) into the atlas of the whole."""
    with report_errors():
        from rot180.atlas.merge import merge as run

        with run(parts, out) as atlas:
            echo(
                f"Written: {out}, {_format_bytes(out.stat().st_size)}, {atlas.scanned} of "
                f"{atlas.images} images."
            )


def fields(
    atlas: AtlasFile,
    layers: LayerPatterns = None,
    examples: Annotated[
        int, typer.Option(min=1, help="Examples of each feature, the strongest first.")
    ] = 1,
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
    """Measure the effective receptive field of each feature's strongest examples.

    Sheets and the explorer then crop these examples to the pixels that matter to the unit, instead
    of to the size that is typical of the layer. The atlas can be used meanwhile. A command that was
    interrupted continues when it is given again.
    """
    with report_errors():
        from rot180.atlas.atlas import open_atlas
        from rot180.atlas.effective_fields import measure_effective_fields
        from rot180.datasets import open_dataset

        with open_atlas(atlas) as opened:
            named = load_scanned_model_option(
                opened, model, weights, size, mean, std, output_classes, device
            )
        with ProgressBar("measuring") as bar:
            found = measure_effective_fields(
                atlas,
                named,
                examples=examples,
                layers=_patterns(layers),
                data=None if data is None else open_dataset(data, split),
                progress=bar,
            )
        with found:
            ((measured, side),) = found.rows(
                'SELECT COUNT(*), AVG(MAX(bottom - top, "right" - "left")) FROM effective_field'
            )
        typical = f", {side:.0f} pixels wide on average" if measured else ""
        echo(f"{atlas} holds the effective fields of {measured} examples{typical}.")


def _patterns(layers: str | None) -> list[str] | None:
    """Return the patterns in words like 'layer4.*,fc'."""
    return None if layers is None else [pattern.strip() for pattern in layers.split(",")]


def _shard(words: str) -> tuple[int, int]:
    first, slash, last = words.partition("/")
    number, parts = parse_int(first), parse_int(last)
    if not slash or number is None or parts is None:
        raise Rot180Error(f"A part is i/n, as 2/8; this one is '{words[:80]}'.")
    return number, parts


def _format_bytes(count: int) -> str:
    """Return a number of bytes as MB or GB."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
