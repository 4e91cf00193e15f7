"""The page of all commands, written from the command line itself while the site is built."""

import inspect
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer.main

from rot180.cli import app as command_line

if TYPE_CHECKING:  # the tests ask for the commands, and need no Sphinx
    from sphinx.application import Sphinx

PAGE, MARK = "reference/command-line", "<!-- commands -->"


def commands() -> str:
    """Return every command in Markdown: what it does, how it is called, and its options."""
    group: Any = typer.main.get_command(command_line)
    context = group.make_context("rot180", ["demo"], resilient_parsing=True)
    parts = []
    for name, command in group.commands.items():
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        parts += _command(name, command, inner)
    return "\n".join(parts)


def _command(name: str, command: Any, context: Any) -> Iterator[str]:
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"## rot180 {name}\n"
    yield f"{_prose(inspect.cleandoc(command.help or ''))}\n"
    yield f"```text\nrot180 {name} {usage}\n```\n"
    for one in command.params:
        found = one.get_help_record(context)
        if found is not None:
            yield from _parameter(*found, required=one.required)


def _parameter(names: str, told: str, required: bool) -> Iterator[str]:
    """Write an item of a definition list: the option, then what it says about itself."""
    told = " ".join(told.split())
    extra = re.search(r"\s*\[([^\[\]]*(?:default|required|env var|<=|>=)[^\[\]]*)\]$", told)
    words = _prose(told[: extra.start()] if extra else told)
    for one in extra[1].split("; ") if extra else ():
        key, _, value = one.partition(": ")
        if key == "default":
            on = "--" if "--no-" in names else ""
            words += f" Default: `{on}{value}`."
    words += " It has to be given." if required else ""
    names = re.sub(r"\.*\s*<list\[(\w+)\]>", lambda one: f" <{one[1].lower()}> …", names)
    yield ", ".join(f"`{one.strip()}`" for one in re.split(r",\s+|\s+/\s+", names))
    yield f": {words.strip()}\n"


def _prose(text: str) -> str:
    """Return help as Markdown: each paragraph on a line, options and what is quoted as code."""
    paragraphs = [" ".join(one.split()) for one in re.split(r"\n\s*\n", text)]
    return "\n\n".join(_CODE.sub(_marked, one) for one in paragraphs)


_CODE = re.compile(r"(--[a-z][\w-]*)|(?<!\w)'([^']+)'(?!\w)|(\"[^\"]+\")|([*_<>\[\]|])")


def _marked(found: re.Match[str]) -> str:
    option, single, double, mark = found.groups()
    code = option or single or double
    return f"`{code}`" if code else f"\\{mark}"


def _fill(app: "Sphinx", docname: str, source: list[str]) -> None:
    if docname == PAGE:
        source[0] = source[0].replace(MARK, commands())


def setup(app: "Sphinx") -> dict[str, bool]:
    """Fill the page when it is read."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
