"""The columns of a Parquet file: which have images and classes, and their values as arrays."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from rot180.errors import Rot180Error, suggest
from rot180.visible import valid_name

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label", "target", "targets", "class")
# A column with more values than this does not hold classes.
CLASSES_MOST = 1_000_000
# Columns that number the rows; they are not classes under another name.
_ROW_NUMBERS = re.compile(r"^(.*_)?(id|idx|index|uuid|key)$|^__index_level_\d+__$", re.IGNORECASE)


def image_column(schema: Any, path: Path) -> tuple[str, bool]:
    """Return the name of the column of images, and whether the bytes are a field of a struct.

    Raises:
        Rot180Error: no column has images.
    """
    candidates = {
        field.name: nested for field in schema if (nested := _nested_bytes(field.type)) is not None
    }
    names = [name for name in IMAGE_COLUMNS if name in candidates] or list(candidates)
    if names and (names[0] in IMAGE_COLUMNS or len(names) == 1):
        _check_unique(schema, names[0], path)
        return names[0], candidates[names[0]]
    columns = suggest((f"{field.name} ({field.type})" for field in schema), "image")
    raise Rot180Error(
        f"{path} has no column of images: it has {columns}, and a column 'image' or 'img' is "
        "needed with the bytes of image files (binary, or a struct with a field 'bytes')."
    )


def _nested_bytes(arrow_type: Any) -> bool | None:
    """Return True for a struct with bytes, False for plain bytes, None for other types."""
    from pyarrow import types

    if types.is_struct(arrow_type):
        inner = [field.type for field in arrow_type if field.name == "bytes"]
        return True if len(inner) == 1 and _nested_bytes(inner[0]) is False else None
    return False if is_bytes(arrow_type) else None


def label_column(schema: Any, path: Path) -> str | None:
    """Return the column of classes: the first of whole numbers, otherwise the first."""
    from pyarrow import types

    names = [name for name in LABEL_COLUMNS if name in schema.names]
    for name in names:
        _check_unique(schema, name, path)
    integers = (name for name in names if types.is_integer(schema.field(name).type))
    return next(integers, next(iter(names), None))


def _check_unique(schema: Any, name: str, path: Path) -> None:
    count = schema.names.count(name)
    if count > 1:
        raise Rot180Error(
            f"{path} has {count} columns called '{name}', so it is not clear which one is meant: "
            "rename all but one."
        )


def possible_label_columns(schema: Any) -> list[str]:
    """Return the columns (with types) that could have classes under another name."""
    from pyarrow import types

    return [
        f"{field.name} ({field.type})"
        for field in schema
        if (types.is_integer(field.type) or types.is_dictionary(field.type) or is_text(field.type))
        and not _ROW_NUMBERS.search(field.name)
    ]


def is_bytes(arrow_type: Any) -> bool:
    """Return whether the values of a type are bytes."""
    from pyarrow import types

    return bool(types.is_binary(arrow_type) or types.is_large_binary(arrow_type))


def is_text(arrow_type: Any) -> bool:
    """Return whether the values of a type are texts."""
    from pyarrow import types

    tests = (types.is_string, types.is_large_string, types.is_string_view)
    return any(test(arrow_type) for test in tests)


def simplify(column: Any) -> Any:
    """Return a column as numbers or texts; None if it has neither."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    arrow_type = column.type
    if types.is_null(arrow_type) or types.is_boolean(arrow_type) or types.is_integer(arrow_type):
        return column
    if types.is_floating(arrow_type) or types.is_decimal(arrow_type):
        return column.cast("float64")
    return column if is_text(arrow_type) or is_bytes(arrow_type) else None


def to_integers(column: Any) -> Int64[np.ndarray, " n"] | None:
    """Return whole numbers as int64, -1 for null and NaN; None if some are not whole numbers."""
    from pyarrow import ArrowInvalid, compute, types

    if types.is_floating(column.type):
        column = compute.if_else(compute.is_nan(column), None, column)
    try:
        integers = column.cast("int64")
    except ArrowInvalid:  # a fraction, infinity or more than 64 bits
        return None
    return np.asarray(integers.fill_null(-1).to_numpy(), dtype=np.int64)


def class_names(schema: Any, column: str | None) -> tuple[str, ...]:
    """Return the class names in the metadata of Hugging Face's ``datasets``; () if it has none."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        names = info["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):  # absent, or of another form
        return ()
    is_list = isinstance(names, list) and len(names) <= CLASSES_MOST
    if not is_list or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(map(valid_name, names))
