"""Files that say what classes are called: the lists and tables that come with data and networks.

Understood are, as text in UTF-8 with one class a line: a name; index and name, or identifier and
name, with a tab between them; index, identifier and name; or a WordNet identifier, a blank and a
name (``n01440764 tench``). As JSON: a list of names; or an object of indices or identifiers and
names, or of indices and pairs of identifier and name (``{"0": ["n01440764", "tench"]}``).
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rot180.errors import Rot180Error, shortened, suggest
from rot180.files import is_file, open_regular
from rot180.visible import valid_name, visible

NAMES = ("classes.txt", "classes.json")
"""Files that are looked for beside class folders."""
LARGEST_FILE, LONGEST_NAME = 16 * 2**20, 500
"""Bytes of a file of classes, and characters of a name or an identifier."""
_WORDNET = re.compile(r"(n\d{8})\s+(\S.*)")
_INDEX = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class ClassName:
    """A line of a file of classes.

    Attributes:
        index: of the network's output; None where the file has none.
        key: identifier, as a WordNet identifier or the name of a folder; None likewise.
        words: the name.
    """

    index: int | None
    key: str | None
    words: str


@dataclass(frozen=True)
class ClassFile:
    """What a file says of classes.

    Attributes:
        path: of the file.
        lines: of the file, in its order.
    """

    path: Path
    lines: tuple[ClassName, ...]

    @property
    def indexed(self) -> bool:
        """Whether the file says which output each class is."""
        return self.lines[0].index is not None

    @property
    def keyed(self) -> bool:
        """Whether the file has identifiers, which can be names of folders."""
        return self.lines[0].key is not None

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The names in the order of a network's outputs.

        Raises:
            Rot180Error: the indices of the file are not 0, 1, 2, ... without a gap.
        """
        if not self.indexed:
            return tuple(line.words for line in self.lines)
        by_index = {line.index: line.words for line in self.lines}
        if set(by_index) != set(range(len(self.lines))):
            missing = next(n for n in range(len(self.lines)) if n not in by_index)
            raise Rot180Error(
                f"{self.path} names {len(self.lines)} outputs, and none of them is {missing}: "
                f"number them from 0 to {len(self.lines) - 1}."
            )
        return tuple(by_index[index] for index in range(len(self.lines)))

    def folder_names(self, folders: Sequence[str]) -> tuple[str, ...]:
        """Return the names of class folders, in their order; a folder that has none keeps its own.

        Of two folders of one name each has its own behind it.

        Raises:
            Rot180Error: the file says nothing about these folders.
        """
        known = {line.key: line.words for line in self.lines if line.key is not None}
        if not self.keyed and self.indexed:
            known = {str(line.index): line.words for line in self.lines}
        if not any(folder in known for folder in folders):
            words = [line.words for line in self.lines]
            if any(folder in words for folder in folders):
                return tuple(folders)  # they are called by their names already
            if self.keyed or len(words) != len(folders):
                raise Rot180Error(
                    f"{self.path} names {len(words)} classes, and none of the {len(folders)} class "
                    f"folders ({suggest(folders, limit=3)}) is among them: give a table of folders "
                    "and names, or a list with a name for each folder in their order."
                )
            known = dict(zip(folders, self.outputs, strict=True))
        return disambiguate([known.get(folder, folder) for folder in folders], folders)


def disambiguate(names: Sequence[str], keys: Sequence[str]) -> tuple[str, ...]:
    """Return names of which no two are the same: those that were have their key behind them."""
    twice = {name for name, count in _counted(names).items() if count > 1}
    return tuple(
        f"{name} ({key})" if name in twice and name != key else name
        for name, key in zip(names, keys, strict=True)
    )


def _counted(names: Iterable[str]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def read_class_file(path: Any) -> ClassFile:
    """Read a file of classes; see above what is understood.

    Characters that would act on a terminal or a page become visible escapes; blanks around names
    are left out.

    Raises:
        Rot180Error: the file cannot be read, is no text, is too large, or says nothing that is
            understood.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise Rot180Error(
                f"{path} is larger than {LARGEST_FILE >> 20} MB: that is no list of names."
            )
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise Rot180Error(f"The classes cannot be read from {path}: {reason}.") from error
    rows = _of_json(path, text) if path.suffix.lower() == ".json" else _of_text(path, text)
    if not rows:
        raise Rot180Error(f"There is no class in {path}: write one name a line.")
    lines = tuple(_checked(path, *row) for row in rows)
    for what, values in (
        ("index", [line.index for line in lines]),
        ("identifier", [line.key for line in lines]),
    ):
        if None in values and any(one is not None for one in values):
            raise Rot180Error(f"In {path} some classes have an {what} and others have none.")
        seen: set[int | str] = set()
        for one in values:
            if one is not None and one in seen:
                raise Rot180Error(f"{path} names two classes by the {what} {one!r}.")
            seen |= set() if one is None else {one}
    return ClassFile(path, lines)


Row = tuple[int | None, Any, Any]


def _of_text(path: Path, text: str) -> list[Row]:
    lines = [line for line in text.splitlines() if line.strip()]
    if not any("\t" in line.strip() for line in lines):
        pairs = [_WORDNET.fullmatch(line.strip()) for line in lines]
        if lines and all(pairs):
            return [(None, pair[1], pair[2]) for pair in pairs if pair is not None]
        return [(None, None, line) for line in lines]
    rows = [[part.strip() for part in line.strip().split("\t")] for line in lines]
    width = len(rows[0])
    odd = next((n for n, row in enumerate(rows) if len(row) != width), None)
    if odd is not None or width not in (2, 3):
        raise Rot180Error(
            f"{path} has tabs, and its class {(odd or 0) + 1} has {len(rows[odd or 0])} columns: a "
            "table of classes has two columns (index or folder, name) or three (index, folder, "
            "name) in each line."
        )
    indexed = all(_INDEX.fullmatch(row[0]) for row in rows)
    if width == 3:
        wrong = next((row[0] for row in rows if not _INDEX.fullmatch(row[0])), None)
        if wrong is not None:
            raise Rot180Error(
                f"{path} has three columns, of which the first is the output's number, as 0, 1, 2; "
                f"this one is {shortened(wrong)}."
            )
        return [(int(row[0]), row[1], row[2]) for row in rows]
    return [(int(one), None, two) if indexed else (None, one, two) for one, two in rows]


def _of_json(path: Path, text: str) -> list[Row]:
    try:
        found = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "it cannot be read"
        raise Rot180Error(f"{path} is no JSON: {reason}.") from error
    if isinstance(found, list):
        return [(None, None, one) for one in found]
    if not isinstance(found, dict):
        raise Rot180Error(
            f"{path} holds {shortened(found)}: classes are a list of names, or an object of "
            "folders or indices and names."
        )
    indexed = all(_INDEX.fullmatch(key) for key in found)
    rows: list[Row] = []
    for key, value in found.items():
        if indexed and isinstance(value, list) and len(value) == 2:
            rows.append((int(key), *value))
        else:
            rows.append((int(key), None, value) if indexed else (None, key, value))
    return rows


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _checked(path: Path, index: int | None, key: Any, words: Any) -> ClassName:
    """Return a line with valid text, if it is one."""
    texts = [words] if key is None else [words, key]
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise Rot180Error(
                f"{path} calls a class {shortened(text)}: the name of a class is a text that is "
                "not empty."
            )
        if len(text) > LONGEST_NAME:
            raise Rot180Error(
                f"{path} has a name of {len(text)} characters, {shortened(text, 40)}: a class has "
                f"{LONGEST_NAME} at most."
            )
    shown = visible(" ".join(words.split()))
    return ClassName(index, None if key is None else valid_name(key.strip()), shown)


def class_file_beside(root: Path) -> Path | None:
    """Return the file of classes in a directory; None where there is none."""
    return next((root / name for name in NAMES if is_file(root / name)), None)
