"""Pages from templates: what every template may use, and the files that pages refer to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rot180.atlas.words import share
from rot180.titles import feature_label
from rot180.web.names import word_of

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""The endings of the files that pages refer to."""


@cache
def static_files() -> Mapping[str, bytes]:
    """Return the files that pages refer to, by name. What is not here cannot be asked for."""
    folder = files("rot180.web") / "static"
    return {
        one.name: one.read_bytes()
        for one in folder.iterdir()
        if one.is_file() and one.name.endswith(tuple(TYPES))
    }


@cache
def version_of_static() -> str:
    """Return a word that changes with any of these files; modules refer to each other by name."""
    digest = blake2b(digest_size=6)
    for name, content in sorted(static_files().items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("rot180.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number,
        percent=percent,
        script_json=script_json,
        data_attribute=plain_json,
        short_name=short_name,
        soft_breaks=soft_breaks,
        word=word_of,
        label=label,
    )
    return made


def render(template: str, **values: Any) -> str:
    """Fill a template. All values are escaped; ``urls`` has to be among them."""
    return _environment().get_template(template).render(**values)


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with so many digits; a dash where there is none."""
    if value is None:
        return "–"
    if value == round(value) and abs(value) < 10**6:
        return f"{value:.0f}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def percent(value: float | None) -> str:
    """Write a share in per cent; a dash where there is none."""
    return "–" if value is None else share(value)


def script_json(value: Any) -> Markup:
    """Write JSON that may stand inside a script element, which scripts of the page read."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def plain_json(value: Any) -> str:
    """Write JSON that is escaped like other text, for an attribute of an element."""
    if isinstance(value, list):
        value = [asdict(one) if is_dataclass(one) else one for one in value]  # type: ignore[arg-type]
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def label(channel: int, names: Sequence[str]) -> str:
    """Write what a feature is called below its tile; ``names`` are those of its layer, if any."""
    return feature_label(channel, names[channel] if names else "")


def short_name(name: str) -> str:
    """Return the end of a path, and other names as they are."""
    return name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or name


def soft_breaks(name: str) -> Markup:
    """Let a long name break after its dots and underscores."""
    return Markup("").join(
        escape(one) + Markup("<wbr>") if one in "._/" else escape(one) for one in name
    )
