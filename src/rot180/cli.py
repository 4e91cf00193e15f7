"""The command line: parses, calls the library, prints. Heavy imports wait until a command runs."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rot180 import __version__, console
from rot180.console import Bar, say, sentences
from rot180.device import chosen_device
from rot180.errors import Rot180Error, listed

if TYPE_CHECKING:
    import torch

    from rot180.datasets import ArrayDataset
    from rot180.figures.subject import Subject
    from rot180.networks.checkpoint import Checkpoint
    from rot180.networks.recipe import Recipe

app = typer.Typer(
    help="See what a convolutional network has learned.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[
    str,
    typer.Option(
        help="Images: photos, cifar10, torchvision:NAME, a directory (class folders, plain images, "
        "Parquet files, the binary CIFAR-10), or a Parquet file."
    ),
]
Model = Annotated[
    str,
    typer.Option(help="A checkpoint that 'rot180 train' wrote, or two-layer (comes with rot180)."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, or auto: the GPU where there is one.")]
OnBadImage = Annotated[str, typer.Option(help="What to do with a broken image: skip or fail.")]
Method = Annotated[str, typer.Option(help="deconvnet, gradient or guided.")]
Unpool = Annotated[str, typer.Option(help="switches (to where the maxima were) or repeat.")]
Formats = Annotated[str, typer.Option("--format", help="png, svg, pdf, or several: png,pdf.")]
ImageClass = Annotated[
    str | None, typer.Option("--class", help="Look at the first image of this class.")
]


def _show_version(wanted: bool) -> bool:
    if wanted:
        say(f"rot180 {__version__}")
        raise typer.Exit()
    return wanted


@app.callback()
def main_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Options that stand before the command."""
    console.debug = debug


@app.command()
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
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH that images are brought to.")] = "32x32",
    grey: Annotated[bool, typer.Option("--grey", help="Train on brightness alone.")] = False,
    engine: Annotated[
        str, typer.Option(help="pytorch, or equations: rot180's own back-propagation in NumPy.")
    ] = "pytorch",
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Directory for TensorBoard event files.")
    ] = None,
    device: Device = "auto",
    on_bad_image: OnBadImage = "skip",
) -> None:
    """Train the two-layer network and write a checkpoint and its learning curve."""
    with sentences():
        recipe = _recipe(
            data, seed=seed, epochs=epochs, batch=batch, rate=rate, kernel_rate=kernel_rate
        )
        sets = _sets(data, _size(size), 1 if grey else 3, on_bad_image)
        watchers: tuple[Any, ...] = ()
        if tensorboard is not None:
            from rot180.networks.tensorboard import EventFiles

            watchers = (EventFiles(tensorboard),)
        place = "cpu" if engine == "equations" and device == "auto" else device
        _train(sets, recipe, out, hidden, engine, chosen_device(place), resume, watchers)
        say(f"Next: rot180 figures --model {out} --data {data}")


@app.command()
def figures(
    model: Model = "two-layer",
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
    method: Method = "deconvnet",
    unpool: Unpool = "switches",
    formats: Formats = "png",
    device: Device = "auto",
    on_bad_image: OnBadImage = "skip",
) -> None:
    """Draw what a network's features show: eight figures, each with its numbers as JSON."""
    with sentences():
        from rot180.figures.subject import Subject
        from rot180.networks.checkpoint import load

        endings = _formats(formats)
        checkpoint = load(model, chosen_device(device))
        images = _decoded(data, "test", checkpoint.size, checkpoint.channels, on_bad_image)
        number = _number(images, image, image_class)
        subject = Subject(checkpoint, images, number, method=method, unpool=unpool)
        _draw(subject, out, (feature1, feature2), endings)


@app.command()
def project(
    layer: Annotated[str, typer.Argument(help="Name of the layer, as conv2.")],
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
    model: Model = "two-layer",
    out: Annotated[
        Path | None, typer.Option(help="The picture to write (.png, .svg, .pdf).")
    ] = None,
    method: Method = "deconvnet",
    unpool: Unpool = "switches",
    device: Device = "auto",
) -> None:
    """Carry one feature of one image back to pixels, and draw it beside the image."""
    with sentences():
        from rot180.figures.single import one_projection
        from rot180.figures.subject import Subject
        from rot180.networks.checkpoint import load

        out = out or Path(f"{layer}-{feature}.png")
        formats = _formats(out.suffix.removeprefix(".").lower() or out.name)
        if picture is not None and picture.exists() and out.exists() and out.samefile(picture):
            raise Rot180Error(f"--out {out} would overwrite the image itself; give another name.")
        checkpoint = load(model, chosen_device(device))
        if picture is None:
            images = _decoded(data, "test", checkpoint.size, checkpoint.channels, "skip")
        elif image is None and image_class is None:
            images = _one_image(picture, checkpoint)
        else:
            raise Rot180Error("--picture is one image; --image and --class choose from --data.")
        number = _number(images, image, image_class)
        subject = Subject(checkpoint, images, number, method=method, unpool=unpool)
        sheet = one_projection(subject, layer, feature, _position(position))
        sheet.name = out.stem
        written = sheet.save(out.parent, formats)
        say(sheet.caption)
        say(f"Written: {', '.join(map(str, written))}")


@app.command()
def demo(
    data: Data = "photos",
    out: Annotated[Path, typer.Option(help="Directory to write to.")] = Path("demo"),
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.")] = None,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    device: Device = "auto",
) -> None:
    """Train the two-layer network from scratch and draw what its features have learned."""
    with sentences():
        from rot180.figures.subject import Subject

        started = time.perf_counter()
        recipe = _recipe(data, seed=seed, epochs=epochs)
        training, held_out = _sets(data, (32, 32), 3, "skip")
        path = out / "two-layer.safetensors"
        checkpoint = _train(
            (training, held_out), recipe, path, 0, "pytorch", chosen_device(device), False, ()
        )
        subject = Subject(checkpoint, held_out, _number(held_out, None, None))
        _draw(subject, out, (None, None), ("png",))
        best = max(one["held_out"] for one in checkpoint.history)
        say("")
        say(
            f"Done in {time.perf_counter() - started:.0f} s. The network names "
            f"{best:.1%} of {len(held_out)} images that it was not trained on."
        )
        say(f"Look at {out}/4-strongest.png first: what excites each feature of the first layer.")
        say(f"Then: rot180 figures --model {path} --data {data} --image 1 --out {out}")


def _recipe(data: str, **given: float | None) -> "Recipe":
    """Return the recipe for a data set, changed where something was given."""
    from dataclasses import replace

    from rot180.networks.recipe import recipe_for

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
    watchers: tuple[Any, ...],
) -> "Checkpoint":
    """Train with a bar, and draw the learning curve."""
    from rot180.figures.overview import learning_curve
    from rot180.networks.training import train as run

    training, held_out = sets
    say(
        f"Training on {len(training)} images of {training.name} ({len(training.classes)} classes), "
        f"measured on {len(held_out)} others, {recipe.epochs} epochs, by {engine} on {device}."
    )
    bar = Bar("epoch 1")
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
                watchers=(bar, *watchers),
            )
    except KeyboardInterrupt:
        if bar.epochs == 0:
            raise Rot180Error(
                "Interrupted before an epoch was over; nothing was written."
            ) from None
        raise Rot180Error(
            f"Interrupted: {out} holds the best epoch so far; 'rot180 train' goes on with --resume."
        ) from None
    curve = learning_curve(checkpoint.history, f"Training on {training.name}")
    curve.name = f"{out.stem}-learning-curve"
    best = max(one["held_out"] for one in checkpoint.history)
    flips = checkpoint.notes["held_out_with_flips"]
    say(f"Held-out accuracy {best:.2%}; averaged over each image and its mirror image {flips:.2%}.")
    say(f"Written: {out}, {curve.save(out.parent)[0]}")
    return checkpoint


def _draw(
    subject: "Subject",
    out: Path,
    channels: tuple[int | None, int | None],
    formats: tuple[str, ...],
) -> None:
    from rot180.figures.draw import draw

    def told(sheet: Any, path: Path) -> None:
        say(f"Written: {path}  ({sheet.title})")

    draw(subject, out, channels=channels, formats=formats, told=told)


def _sets(
    data: str, size: tuple[int, int], channels: int, on_bad_image: str
) -> "tuple[ArrayDataset, ArrayDataset]":
    return (
        _decoded(data, "train", size, channels, on_bad_image),
        _decoded(data, "test", size, channels, on_bad_image),
    )


def _decoded(
    data: str, split: str, size: tuple[int, int], channels: int, on_bad_image: str
) -> "ArrayDataset":
    """Open a data set, decode it with a bar, and say which images were left out."""
    from rot180.datasets import decoded, open_dataset

    with Bar(f"reading {data}") as bar:
        images = decoded(
            open_dataset(data, split), size, channels, on_bad_image=on_bad_image, progress=bar
        )
    if images.bad:
        shown = "; ".join(f"{where}: {reason}" for where, reason in images.bad[:5])
        more = " …" if len(images.bad) > 5 else ""
        say(f"Left out {len(images.bad)} broken images of the {split} split: {shown}{more}")
    return images


def _number(images: "ArrayDataset", number: int | None, image_class: str | None) -> int:
    """Return the number of the image to look at: if nothing is said, one with much in it."""
    from rot180.figures.subject import first_of_class, most_varied

    if image_class is None:
        return most_varied(images) if number is None else number
    if number is not None:
        raise Rot180Error("--image and --class both choose an image; give one of them.")
    return first_of_class(images, image_class)


def _one_image(path: Path, checkpoint: "Checkpoint") -> "ArrayDataset":
    from rot180.datasets import ArrayDataset, decode, fitted

    if not path.is_file():
        raise Rot180Error(f"There is no file {path}.")
    found = fitted(decode(path.read_bytes(), str(path)), checkpoint.size, checkpoint.channels)
    return ArrayDataset(found[None], name=path.name, where=lambda _: path.name)


def _size(words: str) -> tuple[int, int]:
    height, cross, width = words.lower().partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise Rot180Error(f"A size is HEIGHTxWIDTH, as 32x32; this one is '{words}'.")
    return int(height), int(width)


def _position(words: str) -> Any:
    if words in ("map", "peak"):
        return None if words == "map" else "peak"
    y, comma, x = words.partition(",")
    if not (comma and y.strip().isdecimal() and x.strip().isdecimal()):
        raise Rot180Error(f"A position is map, peak, or Y,X as 3,5; this one is '{words}'.")
    return int(y), int(x)


def _formats(words: str) -> tuple[str, ...]:
    from rot180.figures.draw import FORMATS

    chosen = tuple(one.strip() for one in words.split(","))
    for one in chosen:
        if one not in FORMATS:
            raise Rot180Error(f"There is no format '{one}'. There are: {listed(FORMATS, one)}.")
    return chosen


def main() -> None:
    """Run the command line."""
    app()
