"""The commands that train: train and demo."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rot180.cli.console import ProgressBar, echo, report_errors
from rot180.cli.options import (
    Data,
    Device,
    OnBadImage,
    choose_image,
    decode_with_progress,
    draw,
    parse_size,
)
from rot180.device import resolve_device
from rot180.errors import Rot180Error
from rot180.files import is_file

if TYPE_CHECKING:
    import torch

    from rot180.atlas.scan import ScanProgress
    from rot180.datasets import ArrayDataset
    from rot180.models.checkpoint import Checkpoint
    from rot180.training.recipe import Recipe


def train(
    data: Data = "photos",
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")] = Path(
        "two-layer.safetensors"
    ),
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images in a step.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Learning rate of all but the second layer's kernels.")
    ] = None,
    kernel_rate: Annotated[
        float | None, typer.Option(help="Learning rate of the second layer's kernels.")
    ] = None,
    hidden: Annotated[
        int, typer.Option(help="Neurons of a hidden fully connected layer (0: none).")
    ] = 0,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the images after resizing.")] = "32x32",
    grey: Annotated[bool, typer.Option("--grey", help="Train on brightness alone.")] = False,
    engine: Annotated[
        str, typer.Option(help="pytorch, or equations: rot180's own back-propagation in NumPy.")
    ] = "pytorch",
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Directory for TensorBoard event files.")
    ] = None,
    device: Device = "auto",
    on_bad_image: OnBadImage = "skip",
) -> None:
    """Train the two-layer network and write a checkpoint and its learning curve."""
    with report_errors():
        from rot180.training.engines import check_engine

        check_engine(engine)
        recipe = _recipe(
            data, seed=seed, epochs=epochs, batch=batch, rate=rate, kernel_rate=kernel_rate
        )
        sets = _sets(data, parse_size(size), 1 if grey else 3, on_bad_image)
        callbacks: tuple[Any, ...] = ()
        if tensorboard is not None:
            from rot180.training.tensorboard import TensorBoardLogger

            callbacks = (TensorBoardLogger(tensorboard),)
        place = "cpu" if engine == "equations" and device == "auto" else device
        _train(sets, recipe, out, hidden, engine, resolve_device(place), resume, callbacks)
        echo(f"Next: rot180 figures --model {out} --data {data}")


def demo(
    data: Data = "photos",
    out: Annotated[Path, typer.Option(help="Directory to write to.")] = Path("demo"),
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    device: Device = "auto",
    imagenet: Annotated[
        bool, typer.Option(help="Then scan EfficientNet-Lite0, if its packages are installed.")
    ] = True,
) -> None:
    """Train the two-layer network from scratch and draw what its features have learned.

    Then scan a network that was trained on ImageNet, over crops of photographs that come with
    installed packages. Nothing is downloaded.
    """
    with report_errors():
        from rot180.figures.context import FigureContext

        started = time.perf_counter()
        recipe = _recipe(data, seed=seed, epochs=epochs)
        training, held_out = _sets(data, (32, 32), 3, "skip")
        path = out / "two-layer.safetensors"
        checkpoint = _train(
            (training, held_out), recipe, path, 0, "pytorch", resolve_device(device), False, ()
        )
        subject = FigureContext(checkpoint, held_out, choose_image(held_out, None, None))
        draw(subject, out, (None, None), ("png",))
        atlases = [_atlas(checkpoint, held_out, out)]
        best = max(one["held_out"] for one in checkpoint.history)
        echo("")
        echo(
            f"Done in {time.perf_counter() - started:.0f} s. The network names "
            f"{best:.1%} of {len(held_out)} images that it was not trained on."
        )
        echo(f"Look at {out}/4-strongest.png first: what excites each feature of the first layer.")
        echo(f"Then {out}/9-patches-1.png: the strongest patches of each feature of the second.")
        echo(f"Then: rot180 figures --model {path} --data {data} --image 1 --out {out}")
        echo(f"      rot180 features {atlases[0]} --sort colour")
        if imagenet:
            atlases += _imagenet_atlas(out, device)
        echo("")
        echo("Walk through what was found in the browser, with your own pictures:")
        echo(f"      {shlex.join([_this_command(), 'serve', *map(str, atlases)])}")


def _this_command() -> str:
    """Return how rot180 was called here, so that what is printed can be pasted."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "rot180" else "rot180"


def _atlas(checkpoint: "Checkpoint", images: "ArrayDataset", out: Path) -> Path:
    """Scan the images into a new atlas, and draw what excites the second layer."""
    from rot180.atlas.scan import scan
    from rot180.figures.plates import patches

    path = out / "two-layer.atlas"
    path.unlink(missing_ok=True)  # of an earlier run, perhaps of other weights
    with scan(checkpoint, images, path) as atlas:
        echo(f"Written: {path}  ({atlas.index.features} features over {atlas.images} images)")
        for page in patches(atlas, "conv2", checkpoint, name="9-patches"):
            echo(f"Written: {page.save(out)[0]}  ({page.title})")
    return path


_IMAGENET = "efficientnet-lite0"


def _imagenet_atlas(out: Path, device: str) -> list[Path]:
    """Scan a network of ImageNet over crops of photographs; none where it is not installed."""
    from rot180.atlas.scan import scan
    from rot180.datasets.crops import open_crops
    from rot180.models.load import load_model
    from rot180.models.published import NotInstalled

    echo("")
    try:
        named = load_model(_IMAGENET, device=device)
    except NotInstalled as error:
        echo(f"The demo ends here: {error}")
        return []
    started = time.perf_counter()
    crops, path = open_crops(named.size), out / f"{_IMAGENET}.atlas"
    echo(
        f"Scanning {len(crops)} images with {_IMAGENET}, a network trained on ImageNet. They are "
        f"overlapping crops of only {len(crops.classes)} photographs that come with installed "
        "packages: enough to see what features respond to, too few to measure the network."
    )
    path.unlink(missing_ok=True)  # of an earlier run, perhaps of other photographs
    with ProgressBar("scanning") as bar:

        def progress(going: "ScanProgress") -> None:
            bar(going.done, going.total)
            if going.doing != "scanning":
                bar.note(f"{going.doing}: {going.done} of {going.total} layers")

        atlas = scan(named, crops, path, progress=progress)
    with atlas:
        echo(
            f"Written: {path}  ({atlas.index.features} features of {len(atlas)} layers over "
            f"{atlas.images} images, in {time.perf_counter() - started:.0f} s)"
        )
    return [path]


def _recipe(data: str, **given: float | None) -> "Recipe":
    """Return the recipe for a data set, changed where something was given."""
    from dataclasses import replace

    from rot180.training.recipe import recipe_for

    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(recipe_for(data), **chosen)


def _train(
    sets: "tuple[ArrayDataset, ArrayDataset]",
    recipe: "Recipe",
    out: Path,
    hidden: int,
    engine: str,
    device: "torch.device",
    resume: bool,
    callbacks: tuple[Any, ...],
) -> "Checkpoint":
    """Train with a bar, and draw the learning curve."""
    from rot180.figures.overview import learning_curve
    from rot180.training.loop import train as run

    training, held_out = sets
    echo(
        f"Training on {len(training)} images of {training.name} ({len(training.classes)} classes), "
        f"measured on {len(held_out)} others, {recipe.epochs} epochs, by {engine} on {device}."
    )
    bar = ProgressBar("epoch 1")
    try:
        with bar:
            checkpoint = run(
                training,
                held_out,
                recipe,
                out,
                hidden=hidden,
                engine=engine,
                device=device,
                resume=resume,
                callbacks=(bar, *callbacks),
            )
    except KeyboardInterrupt:
        if bar.epochs == 0:
            raise Rot180Error(
                "Interrupted before an epoch was over; nothing was written."
            ) from None
        if not is_file(out):
            raise Rot180Error(f"Interrupted, and {out} is gone: train anew.") from None
        raise Rot180Error(
            f"Interrupted: {out} holds the best epoch so far; 'rot180 train' goes on with --resume."
        ) from None
    curve = learning_curve(checkpoint.history, f"Training on {training.name}")
    curve.name = f"{out.stem}-learning-curve"
    best = max(one["held_out"] for one in checkpoint.history)
    flips = checkpoint.notes["held_out_with_flips"]
    echo(
        f"Held-out accuracy {best:.2%}; averaged over each image and its mirror image {flips:.2%}."
    )
    echo(f"Written: {out}, {curve.save(out.parent)[0]}")
    return checkpoint


def _sets(
    data: str, size: tuple[int, int], channels: int, on_bad_image: str
) -> "tuple[ArrayDataset, ArrayDataset]":
    return (
        decode_with_progress(data, "train", size, channels, on_bad_image),
        decode_with_progress(data, "test", size, channels, on_bad_image),
    )
