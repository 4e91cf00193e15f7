"""The commands that show atlases in a browser."""

import os
import secrets
import sys
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rot180.cli.console import ProgressBar, echo, report_errors
from rot180.cli.options import (
    AtlasFile,
    Device,
    LayerPatterns,
    Mean,
    OutputClasses,
    ScannedData,
    ScannedSplit,
    Size,
    Std,
    model_options,
)
from rot180.errors import Rot180Error

if TYPE_CHECKING:
    from rot180.atlas.atlas import Atlas
    from rot180.models.model import Model
    from rot180.web.collection import ServedAtlas

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="The model that was scanned, if the atlas does not name it, or names code. May be "
        "given several times: each atlas takes the one that was scanned.",
    ),
]
AllWeights = Annotated[
    list[Path] | None,
    typer.Option("--weights", help="Weights for --model; one for each, or several for one."),
]


def serve(
    atlases: Annotated[
        list[Path] | None, typer.Argument(help="Atlases that 'rot180 scan' made; several compare.")
    ] = None,
    host: Annotated[
        str,
        typer.Option(help="Interface to listen at. Requests from other machines need the token."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any free one.")
    ] = 8180,
    token: Annotated[
        str | None,
        typer.Option(
            help="Token that requests must carry; random by default if other machines can connect."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another host name by which browsers may reach this server."),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--open/--no-open", help="Whether to open a browser, if there is a screen."),
    ] = True,
    memory: Annotated[
        int, typer.Option(min=64, help="Memory for pictures and forward passes, in MB.")
    ] = 1024,
    model: Models = None,
    weights: AllWeights = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    output_classes: OutputClasses = None,
    data: ScannedData = None,
    split: ScannedSplit = "all",
    device: Device = "auto",
) -> None:
    """Show atlases in the browser; without any, the lessons."""
    with report_errors():
        from rot180.atlas.atlas import open_atlas
        from rot180.datasets import open_dataset
        from rot180.web.app import application
        from rot180.web.collection import AtlasCollection, Caches
        from rot180.web.security import LOOPBACK
        from rot180.web.server import listen, run

        if token is not None and len(token) < 8:
            raise Rot180Error("A token has 8 letters or more; this one can be guessed.")
        if token is None and host not in LOOPBACK:
            token = secrets.token_urlsafe(16)
        dataset = None if data is None else open_dataset(data, split)
        opened = [open_atlas(one) for one in atlases or []]
        _check_preprocessing(opened, model_options(size, mean, std, None, device))
        loaders = _loaders(model or [], weights or [], output_classes, device)
        shelf = AtlasCollection(opened, loaders, dataset, Caches(memory))
        listening = listen(host, port)
        known = {*LOOPBACK, host, *(allow_host or ()), *_names_of_this_machine(host)}
        address = _address(host, listening.getsockname()[1], token)
        for book in shelf.values():
            echo(f"{book.name}: {book.title}")
        echo(f"Open {address} (Ctrl-C ends)")
        if show and _has_a_screen():
            webbrowser.open(address)
        run(application(shelf, known, token, _print_missing_model), listening)


def export(
    atlas: AtlasFile,
    site: Annotated[
        Path, typer.Argument(help="The folder to write: a new one, or an earlier export.")
    ],
    layers: LayerPatterns = None,
    methods: Annotated[
        str, typer.Option(help="Methods of the projections: deconvnet,gradient,guided, or fewer.")
    ] = "deconvnet,gradient,guided",
    unpoolings: Annotated[str, typer.Option(help="switches,repeat, or one.")] = "switches,repeat",
    projections: Annotated[
        bool,
        typer.Option(
            "--projections/--no-projections",
            help="Whether to project units back to pixels, for which the model is needed.",
        ),
    ] = True,
    lessons: Annotated[
        bool, typer.Option("--lessons/--no-lessons", help="Whether to write the lessons.")
    ] = True,
    model: Models = None,
    weights: AllWeights = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    output_classes: OutputClasses = None,
    data: ScannedData = None,
    split: ScannedSplit = "all",
    device: Device = "auto",
) -> None:
    """Write an atlas as a site that needs no server: a folder that opens from a disk."""
    with report_errors():
        from rot180.atlas.atlas import open_atlas
        from rot180.datasets import open_dataset
        from rot180.web.collection import AtlasCollection
        from rot180.web.export import export as write
        from rot180.web.export import export_options

        dataset = None if data is None else open_dataset(data, split)
        loaders = _loaders(model or [], weights or [], output_classes, device)
        with open_atlas(atlas) as opened:
            _check_preprocessing([opened], model_options(size, mean, std, None, device))
            (book,) = AtlasCollection([opened], loaders, dataset).values()
            asked = export_options(
                book,
                None if layers is None else _words(layers),
                _words(methods) if projections else (),
                _words(unpoolings) if projections else (),
                lessons,
            )
            if projections and not asked.methods:
                reason = book.model.reason or "No method, or no unpooling, is named."
                raise Rot180Error(
                    f"{reason} Or export what the atlas stores alone: --no-projections."
                )
            for remark in book.model.notices:
                echo(remark)
            with ProgressBar("writing") as bar:
                page = write(book, site, asked, bar)
        files = [one for one in site.rglob("*") if one.is_file()]
        size_of_all = sum(one.stat().st_size for one in files)
        echo(f"Written: {page}, {len(files)} files, {size_of_all / 1e6:.1f} MB")


def _print_missing_model(book: "ServedAtlas") -> None:
    """Print why an atlas is shown without projections, if it is."""
    if book.model.state == "absent":
        echo(f"{book.name}: there is no network to project with. {book.model.reason}")


def _check_preprocessing(atlases: "Sequence[Atlas]", given: dict[str, Any]) -> None:
    """See that what is said of the images is true of an atlas; each says itself how it was scanned.

    Raises:
        Rot180Error: a size, mean or deviation is that of none of them.
    """
    from rot180.atlas.identity import ScanIdentity
    from rot180.models.preprocessing import image_size, per_channel

    for what in ("size", "mean", "std"):
        if given[what] is None or not atlases:
            continue
        value: tuple[float, ...] = (
            image_size(given[what]) if what == "size" else per_channel(given[what], what)
        )
        known: list[tuple[float, ...]] = []
        for atlas in atlases:
            mean, std, _ = ScanIdentity.for_atlas(atlas).preprocessing
            known.append({"size": atlas.size, "mean": mean, "std": std}[what])
        if not any(
            len(one) == len(value) and all(map(partial(isclose, rel_tol=1e-5), one, value))
            for one in known
        ):
            sign = "x" if what == "size" else ","
            shown = sign.join(f"{one:g}" for one in known[0])
            raise Rot180Error(
                f"--{what} {sign.join(f'{one:g}' for one in value)} is not how the images of "
                f"{'these atlases' if len(atlases) > 1 else atlases[0].path} were prepared: "
                f"{atlases[0].path} says --{what} {shown}. Leave it out: an atlas knows it."
            )


def _loaders(
    models: Sequence[str], weights: Sequence[Path], classes: Path | None, device: str
) -> "list[Callable[[Atlas], Model]]":
    """Return what may load the model of an atlas: what it names itself, then those that are given.

    Which of them an atlas takes is decided by the fingerprint of the network that was scanned, so
    what is given for one of several atlases takes nothing from the others.
    """
    from rot180.atlas.model import load_scanned_model
    from rot180.models.preprocessing import class_names

    if weights and len(models) not in (0, 1, len(weights)):
        raise Rot180Error(
            f"There are {len(models)} models and {len(weights)} files of weights: give one file "
            "for each model, or several for one."
        )
    pairs: list[tuple[str | None, Path | None]] = [(one, None) for one in models]
    if weights:
        names: list[str | None] = [*models] or [None]
        several = names * len(weights) if len(names) == 1 else names
        pairs = list(zip(several, weights, strict=True))
    pairs.insert(0, (None, None))
    called = () if classes is None else class_names(classes)

    def loader(model: str | None, file: Path | None) -> "Callable[[Atlas], Model]":
        def load(atlas: "Atlas") -> "Model":
            found = load_scanned_model(atlas, model, file, device=device)
            layer = found.network().score_layer if called else None
            if layer is not None and layer.channels == len(called):
                found.classes = called
            return found

        return load

    return [loader(*pair) for pair in pairs]


def _has_a_screen() -> bool:
    """Say whether a browser would open in a window, and not in the terminal."""
    if sys.platform.startswith(("win", "darwin")):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _words(words: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in words.split(",") if one.strip())


def _names_of_this_machine(host: str) -> set[str]:
    """Return by which names others may ask for a server that listens at all interfaces."""
    if host not in ("0.0.0.0", "::"):
        return set()
    import socket

    names = {socket.gethostname(), socket.getfqdn()}
    with suppress(OSError):  # a machine that does not know its address is asked for by --allow-host
        names |= {str(one[4][0]) for one in socket.getaddrinfo(socket.gethostname(), None)}
    return names


def _address(host: str, port: int, token: str | None) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)
    return f"http://{shown}:{port}/{f'?token={token}' if token else ''}"
