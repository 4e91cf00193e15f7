"""Files with the names of classes: the lists and tables that come with data and networks.

A text file is in UTF-8 and has one class per line: a name; or index and name, identifier and name,
or index, identifier and name, separated by tabs; or a WordNet identifier, a blank and a name
(``n01440764 tench``). A JSON file has a list of names; or an object that maps indices or
identifiers to names, or indices to pairs of identifier and name
(``{"0": ["n01440764", "tench"]}``).
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rot180.errors import Rot180Error, shortened, suggest
from rot180.files import is_file, open_regular
from rot180.visible import valid_name, visible

NAMES = ("classes.txt", "classes.json")
"""Names of files of classes that are used if they lie beside class folders."""
LARGEST_FILE, LONGEST_NAME = 16 * 2**20, 500
"""Maximal size of a file of classes in bytes, and of a name or an identifier in characters."""
_WORDNET = re.compile(r"(n\d{8})\s+(\S.*)")
_INDEX = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class ClassName:
    """A line of a file of classes.

    Attributes:
        index: index of the network's output; None if the file has no indices.
        key: WordNet identifier, name of a folder or the like; None if the file has none.
        name: name of the class.
    """

    index: int | None
    key: str | None
    name: str


@dataclass(frozen=True)
class ClassFile:
    """The content of a file of classes.

    Attributes:
        path: path of the file.
        lines: classes in the order of the file.
    """

    path: Path
    lines: tuple[ClassName, ...]

    @property
    def indexed(self) -> bool:
        """Whether the file has the indices of the outputs."""
        return self.lines[0].index is not None

    @property
    def keyed(self) -> bool:
        """Whether the file has identifiers, which can be names of folders."""
        return self.lines[0].key is not None

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Class names in the order of a network's outputs.

        Raises:
            Rot180Error: the indices are not 0, 1, 2, … without a gap.
        """
        if not self.indexed:
            return tuple(line.name for line in self.lines)
        by_index = {line.index: line.name for line in self.lines}
        if set(by_index) != set(range(len(self.lines))):
            missing = next(n for n in range(len(self.lines)) if n not in by_index)
            raise Rot180Error(
                f"{self.path} names {len(self.lines)} outputs, and none of them is {missing}: "
                f"number them from 0 to {len(self.lines) - 1}."
            )
        return tuple(by_index[index] for index in range(len(self.lines)))

    def folder_names(self, folders: Sequence[str]) -> tuple[str, ...]:
        """Return the class names of folders, in order. A folder without one keeps its own name.

        If two folders have the same class name, each gets its own name added in brackets.

        Raises:
            Rot180Error: the file does not name any of these folders.
        """
        known = {line.key: line.name for line in self.lines if line.key is not None}
        if not self.keyed and self.indexed:
            known = {str(line.index): line.name for line in self.lines}
        if not any(folder in known for folder in folders):
            names = [line.name for line in self.lines]
            if any(folder in names for folder in folders):
                return tuple(folders)  # the folders have the names of the classes already
            if self.keyed or len(names) != len(folders):
                raise Rot180Error(
                    f"{self.path} names {len(names)} classes, and none of the {len(folders)} class "
                    f"folders ({suggest(folders, limit=3)}) is among them: give a table of folders "
                    "and names, or a list with a name for each folder in their order."
                )
            known = dict(zip(folders, self.outputs, strict=True))
        return disambiguate([known.get(folder, folder) for folder in folders], folders)


def disambiguate(names: Sequence[str], keys: Sequence[str]) -> tuple[str, ...]:
    """Return the names, with the key added in brackets to names that occur more than once."""
    counts = Counter(names)
    return tuple(
        f"{name} ({key})" if counts[name] > 1 and name != key else name
        for name, key in zip(names, keys, strict=True)
    )


def read_class_file(path: Any) -> ClassFile:
    """Read a file of classes in one of the formats above.

    Control characters are escaped, and blanks around names are removed.

    Raises:
        Rot180Error: the file cannot be read, is not text, is too large, or has another format.
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
    rows = _parse_json(path, text) if path.suffix.lower() == ".json" else _parse_text(path, text)
    if not rows:
        raise Rot180Error(f"There is no class in {path}: write one name a line.")
    lines = tuple(_checked_line(path, *row) for row in rows)
    for what, values in (
        ("index", [line.index for line in lines]),
        ("identifier", [line.key for line in lines]),
    ):
        if None in values and any(value is not None for value in values):
            raise Rot180Error(f"In {path} some classes have an {what} and others have none.")
        seen: set[int | str] = set()
        for value in values:
            if value is not None and value in seen:
                raise Rot180Error(f"{path} names two classes by the {what} {value!r}.")
            seen |= set() if value is None else {value}
    return ClassFile(path, lines)


Row = tuple[int | None, Any, Any]
"""Index, key and name."""


def _parse_text(path: Path, text: str) -> list[Row]:
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
                f"{path} has three columns, so the first has to be the index of the output (0, 1, "
                f"2, …), but it has {shortened(wrong)}."
            )
        return [(int(row[0]), row[1], row[2]) for row in rows]
    return [(int(key), None, name) if indexed else (None, key, name) for key, name in rows]


def _parse_json(path: Path, text: str) -> list[Row]:
    try:
        content = json.loads(text, object_pairs_hook=_dict_without_duplicates)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "it cannot be read"
        raise Rot180Error(f"{path} is no JSON: {reason}.") from error
    if isinstance(content, list):
        return [(None, None, name) for name in content]
    if not isinstance(content, dict):
        raise Rot180Error(
            f"{path} holds {shortened(content)}: classes are a list of names, or an object of "
            "folders or indices and names."
        )
    indexed = all(_INDEX.fullmatch(key) for key in content)
    rows: list[Row] = []
    for key, value in content.items():
        if indexed and isinstance(value, list) and len(value) == 2:
            rows.append((int(key), *value))
        else:
            rows.append((int(key), None, value) if indexed else (None, key, value))
    return rows


def _dict_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a name twice")
    return mapping


def _checked_line(path: Path, index: int | None, key: Any, name: Any) -> ClassName:
    """Return the line, if its texts are valid."""
    texts = [name] if key is None else [name, key]
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
    shown = visible(" ".join(name.split()))
    return ClassName(index, None if key is None else valid_name(key.strip()), shown)


def class_file_beside(root: Path) -> Path | None:
    """Return the file of classes in a directory; None if there is none."""
    return next((root / name for name in NAMES if is_file(root / name)), None)
