"""What a person at a terminal sees: sentences for errors, and bars for what takes time."""

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
    """A console that shows what text would do to a terminal, and does not do it.

    Names of classes, layers and images come from files of others.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the parts of what is printed, with :func:`visible` text."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(visible(part.text), part.style)


out = Terminal(highlight=False, soft_wrap=True)
err = Terminal(stderr=True, highlight=False, soft_wrap=True)
debug = False
"""Whether tracebacks are shown; set by ``--debug``."""


def say(words: str) -> None:
    """Print a line."""
    out.print(escape(words))


def page(width: int = 100) -> Console:
    """Return a console for prose and tables, which breaks lines; so wide if it is no terminal."""
    return Terminal(highlight=False, width=None if out.is_terminal else width)


@contextmanager
def sentences() -> Iterator[None]:
    """Turn exceptions into one sentence and an exit status, unless ``--debug`` was given.

    Warnings of rot180 are lines, too.
    """

    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, Rot180Warning) and not debug:
            err.print(f"[yellow]note:[/] {escape(str(message))}")
        else:
            usual(message, category, *where, **more)

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
        known = isinstance(error, Rot180Error)
        words = str(error) if known else f"{type(error).__name__}: {error}".splitlines()[0]
        err.print(f"[bold red]error:[/] {escape(words)}")
        if not known:
            err.print("This was not foreseen. 'rot180 --debug …' shows where it happened.")
        raise typer.Exit(1) from None


class Bar:
    """A bar for work of a known number of parts; nothing where the output is not a terminal."""

    def __init__(self, words: str) -> None:
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
        self._task = self._progress.add_task(escape(words), total=None, note="")

    def __enter__(self) -> "Bar":
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

    def note(self, words: str) -> None:
        """Show words behind the bar."""
        self._progress.update(self._task, note=words)

    def on_step(self, epoch: int, step: int, steps: int, values: dict[str, float]) -> None:
        """Show how an epoch of training goes on."""
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
        """Leave a line for an epoch that is over, and count it."""
        self.epochs += 1
        say(
            f"epoch {values['epoch']:3.0f}  loss {values['loss']:.3f}  accuracy "
            f"{values['accuracy']:6.1%}  held-out {values['held_out']:6.2%}  "
            f"{values['images_per_second']:6.0f} images/s  {values['seconds']:5.1f} s"
        )
