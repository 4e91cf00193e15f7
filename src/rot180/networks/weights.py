"""Weights from a file into a model of any kind. Nothing in such a file is ever executed."""

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
from rot180.networks.stored import load_tensors

PICKLED = (".pt", ".pth", ".bin")
"""Endings of files that torch.save wrote."""
_NESTED = ("state_dict", "model_state_dict", "model")
"""Under which of these names a training script keeps the weights, tried in this order."""
_PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DataParallel, Lightning and torch.compile put before each name."""
_SHOWN = 3
_SPARE = 64 * 2**20
"""Bytes by which an archive may be smaller than its content: those of TorchScript compress text."""
_FORCED, _WAIVED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def load_weights(model: nn.Module, path: Any, name: str) -> None:
    """Copy the weights in a file into a model.

    Args:
        model: takes them; in its own precision, where it is.
        path: see :func:`read_weights`.
        name: how an error names the model.

    Raises:
        Rot180Error: the file cannot be read, its names or shapes are not the model's, or it holds
            values that are not finite.
    """
    path = Path(path)
    wanted = {one: x for one, x in model.state_dict().items() if isinstance(x, Tensor)}
    tensors = _without_prefix(read_weights(path), wanted)
    reshaped = [
        f"{one} {_shape(tensors[one])} instead of {_shape(x)}"
        for one, x in wanted.items()
        if one in tensors and not is_lazy(x) and tensors[one].shape != x.shape
    ]
    fitting = {} if reshaped else _converted(tensors, wanted, path)
    try:
        result = model.load_state_dict(fitting, strict=False)  # the model may rename old names
    except Exception as error:
        raise Rot180Error(
            f"{name} does not take the weights in {path}: {' '.join(str(error).split())[:300]}"
        ) from error
    unexpected = [one for one in result.unexpected_keys if one not in wanted]
    missing = [
        one
        for one in result.missing_keys
        # Older files lack this count, which nothing needs in evaluation.
        if one not in tensors and not one.endswith("num_batches_tracked")
    ]
    if reshaped:
        unexpected = [one for one in tensors if one not in wanted]
    parts = [
        _some("missing", [f"{one} {_shape(wanted[one])}" for one in missing if one in wanted]),
        _some("unexpected", [f"{one} {_shape(tensors[one])}" for one in unexpected]),
        _some("of another shape", reshaped),
    ]
    if any(parts):
        raise Rot180Error(
            f"{path} does not hold the weights of {name}: {'; '.join(filter(None, parts))}. Give "
            "the file that belongs to this model, or the model that belongs to this file."
        )
    for one, x in tensors.items():
        if one not in wanted and not _finite(x):
            raise Rot180Error(
                f"The weights '{one}' in {path} hold values that are infinite or NaN."
            )


def _converted(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """Return weights in the model's types.

    Raises:
        Rot180Error: that would change more than digits, or values are not finite there.
    """
    found = {}
    for one, x in tensors.items():
        if one not in wanted:  # the model may rename it
            found[one] = x
            continue
        kind = wanted[one].dtype
        if x.is_complex() and not kind.is_complex:
            raise Rot180Error(
                f"The weights '{one}' in {path} are complex, and the model's are {_kind(kind)}: "
                "their imaginary part would be lost."
            )
        found[one] = cast = x.to(kind)
        if not torch.can_cast(x.dtype, kind) and not torch.equal(cast.to(x.dtype), x):
            raise Rot180Error(
                f"The weights '{one}' in {path} are {_kind(x.dtype)}, and the model's are "
                f"{_kind(kind)}: these values would be changed."
            )
        if not _finite(cast):
            raise Rot180Error(
                f"The weights '{one}' in {path} hold values that are infinite or NaN"
                f"{'' if kind == x.dtype else f' in {_kind(kind)}'}."
            )
    return found


def _finite(x: Tensor) -> bool:
    exact = not (x.is_floating_point() or x.is_complex())
    # PyTorch does not ask this of numbers of eight bits.
    return exact or bool(torch.isfinite(x.float() if x.itemsize == 1 else x).all())


def _kind(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def read_weights(path: Any) -> dict[str, Tensor]:
    """Read the weights in a file, by name.

    Args:
        path: a safetensors file; or one that ``torch.save`` wrote (.pt, .pth, .bin), of a state
            dict or of a mapping that holds it as "state_dict", "model_state_dict" or "model".

    Raises:
        Rot180Error: it does not exist, is damaged, is of another kind, or is a pickle of more
            than tensors; such a file is not opened, since it could run anything.
    """
    path = Path(path)
    if not is_file(path):
        found = "a directory" if is_directory(path) else "no such file"
        raise Rot180Error(
            f"The weights cannot be read from {path}: it is {found}. Give a safetensors file, or "
            "one that torch.save wrote."
        )
    match path.suffix.lower():
        case ".safetensors":
            return load_tensors(path)[0]
        case ending if ending in PICKLED:
            return _state_dict(_unpickled(path), path)
    raise Rot180Error(
        f"{path} is no file of weights by its ending: there are .safetensors, "
        f"{', '.join(PICKLED)}. Rename it if it is one of these."
    )


@contextmanager
def tensors_only() -> Iterator[None]:
    """Let ``torch.load`` read tensors alone meanwhile, also where a library calls it otherwise."""
    before = {one: environ.pop(one, None) for one in (_FORCED, _WAIVED)}
    environ[_FORCED] = "1"
    try:
        yield
    finally:
        del environ[_FORCED]
        environ.update({one: value for one, value in before.items() if value is not None})


def _unpickled(path: Path) -> Any:
    _check_packed(path)
    try:
        with tensors_only(), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        found = re.search(r"GLOBAL:? ([\w.]+)", str(error))
        holds = f"It asks for {found[1]}" if found else "It is damaged, or no file of tensors"
        raise Rot180Error(
            f"{path} is not opened. {holds}, and unpickling anything but tensors could run any "
            "code. Write the weights alone, with torch.save(model.state_dict(), …) or as "
            "safetensors."
        ) from error
    except Exception as error:
        reason = _first_line(error).split(" This is an internal")[0].rstrip(".")
        if "TorchScript" in reason:
            reason = "a TorchScript archive, not a file of weights"
        raise Rot180Error(
            f"{path} cannot be read as weights: it is damaged, cut short, or of another kind "
            f"({reason})."
        ) from error


def _check_packed(path: Path) -> None:
    """Raise Rot180Error if a ZIP archive says that its content is much larger than itself.

    torch.save compresses nothing.
    """
    try:
        with ZipFile(path) as packed:
            content = sum(one.file_size for one in packed.infolist())
    except (BadZipFile, OSError, ValueError, NotImplementedError):
        return  # of the older kind, or damaged, which its reader says
    if content > path.stat().st_size + _SPARE:
        raise Rot180Error(
            f"{path} is not opened: it would unpack to {content:,} bytes, more than it has. "
            "torch.save writes no such files."
        )


def _state_dict(held: Any, path: Path) -> dict[str, Tensor]:
    """Find the weights in what a file holds."""
    places = [held]
    if isinstance(held, Mapping):
        places += [held[one] for one in _NESTED if one in held]
    for one in places:
        if isinstance(one, Mapping) and one and all(isinstance(x, Tensor) for x in one.values()):
            return {str(key): x for key, x in one.items()}
    if isinstance(held, Mapping):
        found = f"a mapping of {', '.join(map(repr, list(held)[:6])) or 'nothing'}"
    else:
        found = f"one {type(held).__name__}"
    raise Rot180Error(
        f"{path} holds {found}, and no weights by name: neither itself nor under "
        f"{', '.join(_NESTED)}. Write torch.save(model.state_dict(), …)."
    )


def _without_prefix(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Take what training scripts put before every name away, unless the model has it, too."""
    tensors = dict(tensors)
    while True:
        common = [
            prefix
            for prefix in _PREFIXES
            if tensors
            and all(one.startswith(prefix) for one in tensors)
            and not all(one.startswith(prefix) for one in wanted)
        ]
        if not common:
            return tensors
        tensors = {one.removeprefix(common[0]): x for one, x in tensors.items()}


def _some(what: str, names: list[str]) -> str:
    """Name the first few."""
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(names[:_SHOWN])}{more}" if names else ""


def _shape(tensor: Tensor) -> str:
    return "not known yet" if is_lazy(tensor) else str(tuple(tensor.shape))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
