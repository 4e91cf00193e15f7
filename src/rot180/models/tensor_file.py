"""Tensors with metadata in a safetensors file. Nothing in such a file is ever executed."""

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
"""Maximal size of the header in bytes; reading it takes ten times as much memory."""
_MOST_TENSORS = 20_000
_LARGEST_TEXT, _MOST_CONTAINERS = 4 * 2**20, 100_000
"""Maximal number of characters of the metadata, and of the lists and mappings in them."""
_DTYPES = {
    *("BOOL", "U8", "U16", "U32", "U64", "I8", "I16", "I32", "I64"),
    *("F16", "BF16", "F32", "F64", "C64"),
    *("F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ"),
}
"""Types that PyTorch computes with or can convert."""


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors with metadata, as a whole or not at all.

    Raises:
        Rot180Error: the file cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(plain, {"rot180": json.dumps(visible_json(metadata))})
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Open a safetensors file; return its tensors by name, and the metadata of rot180.

    The tensors are views of the file: names, shapes and types cost nothing, and values are read
    when they are used. Check shapes before allocating anything of their size.

    Raises:
        Rot180Error: the file is not a safetensors file, is damaged, or has a type of numbers that
            cannot be read.
    """
    _check_header(path)
    try:
        with safe_open(path, framework="pt") as opened:
            text = (opened.metadata() or {}).get("rot180", "{}")
            if len(text) > _LARGEST_TEXT or text.count("[") + text.count("{") > _MOST_CONTAINERS:
                raise Rot180Error(f"The metadata of {path} are larger than those of any network.")
            metadata = visible_json(json.loads(text))
            names = list(opened.keys())
            if len(names) > _MOST_TENSORS:
                raise Rot180Error(
                    f"{path} holds {len(names)} tensors; at most {_MOST_TENSORS} are read."
                )
            tensors = {}
            for name in names:
                dtype = opened.get_slice(name).get_dtype()
                if dtype not in _DTYPES:
                    raise Rot180Error(
                        f"'{name[:80]}' in {path} holds numbers of the type {dtype}, which cannot "
                        "be computed with: write it in float32."
                    )
                tensors[name] = opened.get_tensor(name)
    except (SafetensorError, OSError, ValueError, RecursionError, OverflowError) as error:
        raise _read_error(path, " ".join(str(error).split())[:200]) from error
    if not isinstance(metadata, dict):
        raise Rot180Error(f"The metadata of {path} are damaged: they are no mapping.")
    return tensors, metadata


def _read_error(path: Path, reason: str) -> Rot180Error:
    return Rot180Error(
        f"{path} cannot be read as a safetensors file: it is damaged, cut short, or of another "
        f"kind ({reason})."
    )


def visible_json(value: Any) -> Any:
    """Return a JSON value whose texts are all :func:`~rot180.visible.visible`."""
    match value:
        case str():
            return visible(value)
        case dict():
            return {visible(str(key)): visible_json(item) for key, item in value.items()}
        case list() | tuple():
            return [visible_json(item) for item in value]
    return value


def _check_header(path: Path) -> None:
    """Raise Rot180Error if the header of the file is too large to be read."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise _read_error(path, error.strerror or str(error)) from error
    if length > _LARGEST_HEADER:
        raise _read_error(path, f"its header would have {length} bytes, {_LARGEST_HEADER} at most")
