"""Output on the terminal: lines, tables, errors as sentences, and progress bars."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment

from rot180.errors import Rot180Error, Rot180Warning
from rot180.visible import visible


class Terminal(Console):
    """A console that escapes control characters instead of sending them to the terminal.

    Names of classes, layers and images come from files that other people wrote.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of the output; their text is :func:`visible`."""
        for segment in super().render(renderable, options):
            yield (segment if segment.control else Segment(visible(segment.text), segment.style))


out = Terminal(highlight=False, soft_wrap=True)
err = Terminal(stderr=True, highlight=False, soft_wrap=True)
debug = False
"""Whether tracebacks are shown; set by ``--debug``."""


def echo(text: str) -> None:
    """Print a line."""
    out.print(escape(text))


def page(width: int = 100) -> Console:
    """Return a console for prose and tables: it wraps lines.

    ``width`` is its width in characters where the output is not a terminal.
    """
    return Terminal(highlight=False, width=None if out.is_terminal else width)


@contextmanager
def report_errors() -> Iterator[None]:
    """Print an exception as one sentence and exit with a status, unless ``--debug`` was given.

    Warnings of rot180 are printed as one line each.
    """

    default = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **options: Any) -> None:
        if issubclass(category, Rot180Warning) and not debug:
            err.print(f"[yellow]note:[/] {escape(str(message))}")
        else:
            default(message, category, *rest, **options)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        err.print("Interrupted.")
        raise typer.Exit(130) from None
    except Exception as error:
        if debug:
            raise
        expected = isinstance(error, Rot180Error)
        text = str(error) if expected else f"{type(error).__name__}: {error}".splitlines()[0]
        err.print(f"[bold red]error:[/] {escape(text)}")
        if not expected:
            err.print("This is an unexpected error. 'rot180 --debug …' shows where it happened.")
        raise typer.Exit(1) from None


class ProgressBar:
    """A progress bar for work with a known number of parts; hidden if the output is no terminal."""

    def __init__(self, description: str) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(
            *columns, console=out, transient=True, disable=not out.is_terminal
        )
        self.epochs = 0
        self._task = self._progress.add_task(escape(description), total=None, note="")

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` parts are done."""
        self._progress.update(self._task, completed=done, total=total)

    def note(self, text: str) -> None:
        """Show a text behind the bar."""
        self._progress.update(self._task, note=text)

    def on_step(self, epoch: int, step: int, steps: int, values: dict[str, float]) -> None:
        """Show the progress of an epoch of training."""
        note = (
            f"loss {values['loss']:.3f}  accuracy {values['accuracy']:.1%}  "
            f"{values['images_per_second']:.0f} images/s"
        )
        self._progress.update(
            self._task,
            description=f"epoch {epoch + 1}",
            completed=step + 1,
            total=steps,
            note=note,
        )

    def on_epoch(self, values: dict[str, float]) -> None:
        """Print a line for a completed epoch, and count it."""
        self.epochs += 1
        echo(
            f"epoch {values['epoch']:3.0f}  loss {values['loss']:.3f}  accuracy "
            f"{values['accuracy']:6.1%}  held-out {values['held_out']:6.2%}  "
            f"{values['images_per_second']:6.0f} images/s  {values['seconds']:5.1f} s"
        )
