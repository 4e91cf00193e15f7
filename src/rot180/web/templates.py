"""Renders templates; also the filters that they use and the static files that pages load."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rot180.atlas.describe import format_percent
from rot180.titles import feature_label
from rot180.web.names import word_of

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Media types of static files by extension."""


@cache
def static_files() -> Mapping[str, bytes]:
    """Return the static files by name. No other files are served."""
    folder = files("rot180.web") / "static"
    return {
        one.name: one.read_bytes()
        for one in folder.iterdir()
        if one.is_file() and one.name.endswith(tuple(TYPES))
    }


@cache
def version_of_static() -> str:
    """Return a digest of all static files, since modules refer to each other by name."""
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
    """Format a number with so many digits; None as a dash."""
    if value is None:
        return "–"
    if value == round(value) and abs(value) < 10**6:
        return f"{value:.0f}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def percent(value: float | None) -> str:
    """Format a share in per cent; None as a dash."""
    return "–" if value is None else format_percent(value)


def script_json(value: Any) -> Markup:
    """Format a value as JSON that is safe inside a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def plain_json(value: Any) -> str:
    """Format a value as JSON for an attribute, where the template escapes it."""
    if isinstance(value, list):
        value = [asdict(one) if is_dataclass(one) else one for one in value]  # type: ignore[arg-type]
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def label(channel: int, names: Sequence[str]) -> str:
    """Return the label of a feature's tile; ``names`` are those of its layer, if any."""
    return feature_label(channel, names[channel] if names else "")


def short_name(name: str) -> str:
    """Return the last segment of a path; other names stay as they are."""
    return name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or name


def soft_breaks(name: str) -> Markup:
    """Allow line breaks after the dots, underscores and slashes of a name."""
    return Markup("").join(
        escape(one) + Markup("<wbr>") if one in "._/" else escape(one) for one in name
    )
