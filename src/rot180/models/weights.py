"""Loading weights from a file into any model. Nothing in such a file is ever executed."""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import environ
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rot180.errors import Rot180Error
from rot180.files import is_directory, is_file
from rot180.models.tensor_file import load_tensors

PICKLED = (".pt", ".pth", ".bin")
"""Suffixes of files that torch.save wrote."""
_NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store the weights, tried in this order."""
_PREFIXES = ("module.", "model.", "_orig_mod.")
"""Prefixes that DataParallel, Lightning and torch.compile add to every name."""
_SHOWN = 3
"""Number of names that an error lists."""
_COMPRESSION_SLACK = 64 * 2**20
"""Bytes by which the content of an archive may exceed its size: TorchScript compresses text."""
_FORCED, _WAIVED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def load_weights(model: nn.Module, path: Any, name: str) -> None:
    """Copy the weights in a file into a model.

    Args:
        model: receives the weights, in its own precision and on its own device.
        path: see :func:`read_weights`.
        name: name of the model in errors.

    Raises:
        Rot180Error: the file cannot be read, its names or shapes are not the model's, or it holds
            values that are not finite.
    """
    path = Path(path)
    expected = {key: x for key, x in model.state_dict().items() if isinstance(x, Tensor)}
    tensors = _strip_prefix(read_weights(path), expected)
    reshaped = [
        f"{key} {_shape(tensors[key])} instead of {_shape(x)}"
        for key, x in expected.items()
        if key in tensors and not is_lazy(x) and tensors[key].shape != x.shape
    ]
    converted = {} if reshaped else _convert(tensors, expected, path)
    try:
        result = model.load_state_dict(converted, strict=False)  # the model may rename old names
    except Exception as error:  # models may override loading with code of any kind
        raise Rot180Error(
            f"{name} does not take the weights in {path}: {' '.join(str(error).split())[:300]}"
        ) from error
    unexpected = [key for key in result.unexpected_keys if key not in expected]
    missing = [
        key
        for key in result.missing_keys
        # Older files lack this count, which is not used in evaluation.
        if key not in tensors and not key.endswith("num_batches_tracked")
    ]
    if reshaped:
        unexpected = [key for key in tensors if key not in expected]
    parts = [
        _first_few("missing", [f"{k} {_shape(expected[k])}" for k in missing if k in expected]),
        _first_few("unexpected", [f"{key} {_shape(tensors[key])}" for key in unexpected]),
        _first_few("of another shape", reshaped),
    ]
    if any(parts):
        raise Rot180Error(
            f"{path} does not hold the weights of {name}: {'; '.join(filter(None, parts))}. Give "
            "the file that belongs to this model, or the model that belongs to this file."
        )
    for key, x in tensors.items():
        if key not in expected and not _is_finite(x):
            raise Rot180Error(
                f"The weights '{key}' in {path} hold values that are infinite or NaN."
            )


def _convert(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """Return the weights in the model's types.

    Raises:
        Rot180Error: the conversion would change more than rounding does, or give values that are
            not finite.
    """
    converted = {}
    for key, x in tensors.items():
        if key not in expected:  # the model may rename it
            converted[key] = x
            continue
        dtype = expected[key].dtype
        if x.is_complex() and not dtype.is_complex:
            raise Rot180Error(
                f"The weights '{key}' in {path} are complex, and the model's are "
                f"{_dtype_name(dtype)}: their imaginary part would be lost."
            )
        converted[key] = cast = x.to(dtype)
        if not torch.can_cast(x.dtype, dtype) and not torch.equal(cast.to(x.dtype), x):
            raise Rot180Error(
                f"The weights '{key}' in {path} are {_dtype_name(x.dtype)}, and the model's are "
                f"{_dtype_name(dtype)}: these values would be changed."
            )
        if not _is_finite(cast):
            raise Rot180Error(
                f"The weights '{key}' in {path} hold values that are infinite or NaN"
                f"{'' if dtype == x.dtype else f' in {_dtype_name(dtype)}'}."
            )
    return converted


def _is_finite(x: Tensor) -> bool:
    exact = not (x.is_floating_point() or x.is_complex())
    # torch.isfinite does not support 8-bit floating-point numbers.
    return exact or bool(torch.isfinite(x.float() if x.itemsize == 1 else x).all())


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def read_weights(path: Any) -> dict[str, Tensor]:
    """Read the weights in a file, by name.

    Args:
        path: safetensors file; or a file that ``torch.save`` wrote (.pt, .pth, .bin), of a state
            dict or of a mapping that has it as "state_dict", "model_state_dict" or "model".

    Raises:
        Rot180Error: the file does not exist, is damaged, is of another kind, or is a pickle of
            more than tensors. Such a pickle is not opened, since it could run any code.
    """
    path = Path(path)
    if not is_file(path):
        what = "a directory" if is_directory(path) else "no such file"
        raise Rot180Error(
            f"The weights cannot be read from {path}: it is {what}. Give a safetensors file, or "
            "one that torch.save wrote."
        )
    match path.suffix.lower():
        case ".safetensors":
            return load_tensors(path)[0]
        case suffix if suffix in PICKLED:
            return _state_dict(_unpickle(path), path)
    raise Rot180Error(
        f"{path} is no file of weights by its ending: there are .safetensors, "
        f"{', '.join(PICKLED)}. Rename it if it is one of these."
    )


@contextmanager
def safe_unpickling() -> Iterator[None]:
    """Restrict ``torch.load`` to tensors in this context, even if a library asks for more."""
    before = {variable: environ.pop(variable, None) for variable in (_FORCED, _WAIVED)}
    environ[_FORCED] = "1"
    try:
        yield
    finally:
        del environ[_FORCED]
        environ.update({key: value for key, value in before.items() if value is not None})


def _unpickle(path: Path) -> Any:
    _check_unpacked_size(path)
    try:
        with safe_unpickling(), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        name = re.search(r"GLOBAL:? ([\w.]+)", str(error))
        holds = f"It asks for {name[1]}" if name else "It is damaged, or no file of tensors"
        raise Rot180Error(
            f"{path} is not opened. {holds}, and unpickling anything but tensors could run any "
            "code. Write the weights alone, with torch.save(model.state_dict(), …) or as "
            "safetensors."
        ) from error
    except Exception as error:  # torch.load raises errors of any type on damaged bytes
        reason = _first_line(error).split(" This is an internal")[0].rstrip(".")
        if "TorchScript" in reason:
            reason = "a TorchScript archive, not a file of weights"
        raise Rot180Error(
            f"{path} cannot be read as weights: it is damaged, cut short, or of another kind "
            f"({reason})."
        ) from error


def _check_unpacked_size(path: Path) -> None:
    """Raise Rot180Error if the content of a ZIP archive is much larger than the archive.

    torch.save does not compress.
    """
    try:
        with ZipFile(path) as archive:
            content = sum(member.file_size for member in archive.infolist())
    except (BadZipFile, OSError, ValueError, NotImplementedError):
        return  # the older format; or damaged, which torch.load reports
    if content > path.stat().st_size + _COMPRESSION_SLACK:
        raise Rot180Error(
            f"{path} is not opened: it would unpack to {content:,} bytes, more than it has. "
            "torch.save writes no such files."
        )


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict in the content of a file."""
    candidates = [content]
    if isinstance(content, Mapping):
        candidates += [content[key] for key in _NESTED if key in content]
    for mapping in candidates:
        if (
            isinstance(mapping, Mapping)
            and mapping
            and all(isinstance(x, Tensor) for x in mapping.values())
        ):
            return {str(key): x for key, x in mapping.items()}
    if isinstance(content, Mapping):
        what = f"a mapping of {', '.join(map(repr, list(content)[:6])) or 'nothing'}"
    else:
        what = f"one {type(content).__name__}"
    raise Rot180Error(
        f"{path} holds {what}, and no weights by name: neither itself nor under "
        f"{', '.join(_NESTED)}. Write torch.save(model.state_dict(), …)."
    )


def _strip_prefix(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Remove the prefixes of training scripts from all names, unless the model has them, too."""
    tensors = dict(tensors)
    while True:
        common = [
            prefix
            for prefix in _PREFIXES
            if tensors
            and all(key.startswith(prefix) for key in tensors)
            and not all(key.startswith(prefix) for key in expected)
        ]
        if not common:
            return tensors
        tensors = {key.removeprefix(common[0]): x for key, x in tensors.items()}


def _first_few(what: str, names: list[str]) -> str:
    """Return the first few names as a part of a sentence; "" if there are none."""
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(names[:_SHOWN])}{more}" if names else ""


def _shape(tensor: Tensor) -> str:
    return "not known yet" if is_lazy(tensor) else str(tuple(tensor.shape))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
