"""The commands that show atlases in a browser."""

import os
import secrets
import sys
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rot180.cli.options import (
    AtlasFile,
    Classes,
    Device,
    Mean,
    Size,
    Std,
    model_options,
)
from rot180.console import Bar, say, sentences
from rot180.errors import Rot180Error

if TYPE_CHECKING:
    from rot180.atlas.reading import Atlas
    from rot180.networks.model import NamedModel

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
ScannedData = Annotated[
    str | None, typer.Option(help="The data that was scanned, if the atlas has no pictures.")
]
DataSplit = Annotated[str, typer.Option(help="Of these data: train, test or all.")]
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    atlases: Annotated[
        list[Path] | None, typer.Argument(help="Atlases that 'rot180 scan' made; several compare.")
    ] = None,
    host: Annotated[
        str,
        typer.Option(help="Interface to listen at. Others than this machine's need the token."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8180,
    token: Annotated[
        str | None,
        typer.Option(help="That requests have to show; drawn by chance where others can ask."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another name by which browsers may ask for this server."),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--open/--no-open", help="Whether to open a browser, if there is a screen."),
    ] = True,
    memory: Annotated[
        int, typer.Option(min=64, help="MB to keep pictures and forward passes in.")
    ] = 1024,
    model: Models = None,
    weights: AllWeights = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    classes: Classes = None,
    data: ScannedData = None,
    split: DataSplit = "all",
    device: Device = "auto",
) -> None:
    """Show atlases in the browser, live; without any, the lessons."""
    with sentences():
        from rot180.atlas.reading import open_atlas
        from rot180.datasets import open_dataset
        from rot180.web.app import application
        from rot180.web.server import bound, run
        from rot180.web.shelf import Shelf, Stores

        if token is not None and len(token) < 8:
            raise Rot180Error("A token has 8 letters or more; this one can be guessed.")
        if token is None and host not in _LOOPBACK:
            token = secrets.token_urlsafe(16)
        given = (size, mean, std, classes, device)
        loaders = _loaders(model or [], weights or [], given)
        dataset = None if data is None else open_dataset(data, split)
        opened = [open_atlas(one) for one in atlases or []]
        shelf = Shelf(opened, loaders, dataset, Stores(memory))
        listening = bound(host, port)
        known = {*_LOOPBACK, host, *(allow_host or ()), *_names_of_this_machine(host)}
        address = _address(host, listening.getsockname()[1], token)
        for book in shelf.values():
            say(f"{book.name}: {book.title}")
        say(f"Open {address} (Ctrl-C ends)")
        if show and _has_a_screen():
            webbrowser.open(address)
        run(application(shelf, known, token), listening)


def export(
    atlas: AtlasFile,
    site: Annotated[Path, typer.Argument(help="The folder to write: new, or an earlier export.")],
    layers: Annotated[
        str | None, typer.Option(help="Names or patterns, as 'layer4.*,fc'; else all.")
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Of projections: deconvnet,gradient,guided, or fewer.")
    ] = "deconvnet,gradient,guided",
    unpoolings: Annotated[str, typer.Option(help="switches,repeat, or one.")] = "switches,repeat",
    projections: Annotated[
        bool,
        typer.Option(
            "--projections/--no-projections",
            help="Whether to carry units back to pixels, for which the model is needed.",
        ),
    ] = True,
    lessons: Annotated[
        bool, typer.Option("--lessons/--no-lessons", help="Whether to write the lessons, too.")
    ] = True,
    model: Models = None,
    weights: AllWeights = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    classes: Classes = None,
    data: ScannedData = None,
    split: DataSplit = "all",
    device: Device = "auto",
) -> None:
    """Write an atlas as a site that needs no server: a folder that opens from a disk."""
    with sentences():
        from rot180.atlas.reading import open_atlas
        from rot180.datasets import open_dataset
        from rot180.web.export import export as write
        from rot180.web.export import wanted
        from rot180.web.shelf import Shelf

        dataset = None if data is None else open_dataset(data, split)
        loaders = _loaders(model or [], weights or [], (size, mean, std, classes, device))
        with open_atlas(atlas) as opened:
            (book,) = Shelf([opened], loaders, dataset).values()
            asked = wanted(
                book,
                None if layers is None else _words(layers),
                _words(methods) if projections else (),
                _words(unpoolings) if projections else (),
                lessons,
            )
            if projections and not asked.methods:
                reason = book.live.reason or "No method, or no unpooling, is named."
                raise Rot180Error(
                    f"{reason} Or export what the atlas stores alone: --no-projections."
                )
            for remark in book.live.remarks:
                say(remark)
            with Bar("writing") as bar:
                page = write(book, site, asked, bar)
        files = [one for one in site.rglob("*") if one.is_file()]
        size_of_all = sum(one.stat().st_size for one in files)
        say(f"Written: {page}, {len(files)} files, {size_of_all / 1e6:.1f} MB")


def _loaders(
    models: Sequence[str], weights: Sequence[Path], given: tuple[Any, ...]
) -> "list[Callable[[Atlas], NamedModel]]":
    """Return what may load the model of an atlas: those that are given, then what it names."""
    from rot180.atlas.scanned import model_of

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
    if not any(one is None for one, _ in pairs):
        pairs.append((None, None))
    options = model_options(*given)

    def loader(model: str | None, file: Path | None) -> "Callable[[Atlas], NamedModel]":
        return lambda atlas: model_of(atlas, model, file, **options)

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
