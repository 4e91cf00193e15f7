"""The command line: parses, calls the library, prints. Heavy imports wait until a command runs."""

from typing import Annotated

import typer

from rot180 import __version__
from rot180.cli import atlas, console, draw, explain, features, inspect, serve, train
from rot180.cli.console import echo

app = typer.Typer(
    help="See what a convolutional network has learned, and the arithmetic that taught it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> bool:
    if wanted:
        echo(f"rot180 {__version__}")
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


_COMMANDS = (
    train.demo,
    train.train,
    draw.figures,
    draw.project,
    inspect.inspect,
    atlas.scan,
    atlas.merge,
    atlas.fields,
    features.features,
    features.compare,
    draw.sheet,
    serve.serve,
    serve.export,
    explain.explain,
    explain.trace,
)
for _command in _COMMANDS:
    app.command()(_command)


def main() -> None:
    """Run the command line."""
    app()
