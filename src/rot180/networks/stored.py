"""Tensors with a description in a safetensors file. Nothing in such a file is ever executed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rot180.errors import Rot180Error
from rot180.files import atomic_write
from rot180.visible import visible

_LARGEST_HEADER = 10 * 2**20
"""Bytes of names, shapes and description: reading them takes ten times as many."""
_MOST_TENSORS = 20_000
_LARGEST_TEXT, _MOST_PARTS = 4 * 2**20, 100_000
"""Characters of a description, and lists and mappings in it."""
_READ = {
    *("BOOL", "U8", "U16", "U32", "U64", "I8", "I16", "I32", "I64"),
    *("F16", "BF16", "F32", "F64", "C64"),
    *("F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ"),
}
"""Types that PyTorch computes with, or turns into such."""


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors with a description, whole or not at all.

    Raises:
        Rot180Error: the file cannot be written.
    """
    plain = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
    data = save(plain, {"rot180": json.dumps(harmless(about))})
    with atomic_write(path) as beside:
        beside.write_bytes(data)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Open what :func:`save_tensors` wrote.

    The tensors are views of the file: their names, shapes and types cost nothing, and values are
    read when they are used. Look at the former before you make anything as large.

    Raises:
        Rot180Error: it is no safetensors file, a damaged one, or one of numbers of a type that
            cannot be read.
    """
    _check_header(path)
    try:
        with safe_open(path, framework="pt") as opened:
            text = (opened.metadata() or {}).get("rot180", "{}")
            if len(text) > _LARGEST_TEXT or text.count("[") + text.count("{") > _MOST_PARTS:
                raise Rot180Error(f"The metadata of {path} are larger than those of any network.")
            about = harmless(json.loads(text))
            names = list(opened.keys())
            if len(names) > _MOST_TENSORS:
                raise Rot180Error(
                    f"{path} holds {len(names)} tensors; at most {_MOST_TENSORS} are read."
                )
            tensors = {}
            for name in names:
                kind = opened.get_slice(name).get_dtype()
                if kind not in _READ:
                    raise Rot180Error(
                        f"'{name[:80]}' in {path} holds numbers of the type {kind}, which cannot "
                        "be computed with: write it in float32."
                    )
                tensors[name] = opened.get_tensor(name)
    except (SafetensorError, OSError, ValueError, RecursionError, OverflowError) as error:
        raise unreadable(path, " ".join(str(error).split())[:200]) from error
    if not isinstance(about, dict):
        raise Rot180Error(f"The metadata of {path} are damaged: they are no mapping.")
    return tensors, about


def unreadable(path: Path, reason: str) -> Rot180Error:
    """Return the error of a file that is no safetensors file."""
    return Rot180Error(
        f"{path} cannot be read as a safetensors file: it is damaged, cut short, or of another "
        f"kind ({reason})."
    )


def harmless(value: Any) -> Any:
    """Return what JSON can hold with all its text :func:`~rot180.visible.visible`."""
    match value:
        case str():
            return visible(value)
        case dict():
            return {visible(str(key)): harmless(one) for key, one in value.items()}
        case list() | tuple():
            return [harmless(one) for one in value]
    return value


def _check_header(path: Path) -> None:
    """Raise Rot180Error if what stands before the tensors is too large to be read."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error
    if length > _LARGEST_HEADER:
        raise unreadable(path, f"its header would have {length} bytes, {_LARGEST_HEADER} at most")
