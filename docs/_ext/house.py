"""The house: the packages of rot180 from top to bottom, and who imports whom, read from the source.

Both the picture on the page about the design and the test of the order are made from it.
"""

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from rot180.explain.svg import Drawing

SOURCE = Path(__file__).parents[2] / "src" / "rot180"

_CONTRACTS = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())
_ORDER = [
    name
    for name in reversed(_CONTRACTS["tool"]["importlinter"]["contracts"][0]["layers"])
    if name != "__main__"
]

ROOMS = tuple(name for name in _ORDER if (SOURCE / name / "__init__.py").exists())
"""The packages, those first that use none of the others. import-linter checks the order."""

GROUND = tuple(name for name in _ORDER if name not in ROOMS)
"""Modules that any package may use."""

BESIDE = {"__main__": "cli"}
"""Modules that belong to a package though they lie beside it."""

SAID = {
    "equations": "back-propagation in NumPy",
    "explain": "one convolution, number by number",
    "datasets": "images in",
    "graph": "a model as a list of steps",
    "projection": "features carried back to pixels",
    "models": "anybody's models, by name",
    "training": "the two-layer network, trained",
    "atlas": "a scan of a data set, one file",
    "figures": "pictures",
    "web": "the explorer",
    "cli": "the command line",
}


def imports(source: Path = SOURCE) -> set[tuple[str, str]]:
    """Return (module, module that it imports) of rot180, as ``graph/capture``.

    Imports inside of functions count; what only the type checker sees does not.
    """
    modules = {_name(path, source) for path in source.rglob("*.py")}
    found = set()
    for path in sorted(source.rglob("*.py")):
        for name in _named(ast.parse(path.read_text(encoding="utf-8"))):
            for end in (name, name.rpartition("/")[0]):  # a module, or something in one
                if end in modules:
                    found.add((_name(path, source), end))
                    break
    return found


def room(module: str) -> str:
    """Return the room that a module stands in, or the module itself."""
    first = module.partition("/")[0]
    return BESIDE.get(first, first)


def between_rooms() -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Return for each pair of rooms the imports of one from the other."""
    found = defaultdict(set)
    for one, other in imports():
        pair = room(one), room(other)
        if pair[0] != pair[1] and set(pair) <= set(ROOMS):
            found[pair].add((one, other))
    return dict(found)


def size(name: str) -> tuple[int, int]:
    """Return how many files and lines of Python a room has."""
    texts = [one.read_text(encoding="utf-8") for one in (SOURCE / name).rglob("*.py")]
    return len(texts), sum(one.count("\n") for one in texts)


def drawing() -> Drawing:
    """Draw the rooms; from each a line goes up, with an arrow into every room that it uses."""
    wide, tall, gap, left, column = 320, 60, 24, 8, 30
    right = left + wide
    pairs = between_rooms()
    users = [one for one in ROOMS if any(pair[0] == one for pair in pairs)]
    width, height = right + column * (len(users) + 1), len(ROOMS) * (tall + gap) + gap
    told = "; ".join(
        f"{one} imports {', '.join(other for other in ROOMS if (one, other) in pairs)}"
        for one in users
    )
    found = Drawing(width, height, f"The packages of rot180 from top to bottom. {told}.")
    top = {one: gap + n * (tall + gap) for n, one in enumerate(ROOMS)}
    for name, y in top.items():
        files, lines = size(name)
        found.box(left, y, wide, tall)
        found.text(left + 12, y + 20, name, "bold", "start")
        found.text(left + 12, y + 42, SAID[name], "name", "start")
        found.text(right - 12, y + 20, f"{files} files, {lines:,} lines", "small", "end")
    for n, one in enumerate(users):
        x, out, into = right + column * (n + 1), top[one] + tall - 6, 6 + 7 * n
        used = [other for other in ROOMS if (one, other) in pairs]
        above = [top[other] + into for other in used]
        found.line((right, out), (x, out))
        found.line((x, out), (x, min(above)))
        found.disc(x, out, 3)
        for y in above:
            found.arrow((x, y), (right + 1, y))
    return found


def _name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return "/".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _named(node: ast.AST) -> Iterator[str]:
    """Go through what is imported from rot180, except for the type checker alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.ImportFrom):
            module = child.module or ""
            assert child.level == 0, "rot180 imports by full names"
            names = [f"{module}.{one.name}" for one in child.names]
        elif isinstance(child, ast.Import):
            names = [one.name for one in child.names]
        else:
            yield from _named(child)
            continue
        for one in names:
            top, _, rest = one.partition(".")
            if top == "rot180":
                yield rest.replace(".", "/") or "__init__"
