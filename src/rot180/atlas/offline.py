"""Loads models without asking any other machine: what a file names is not downloaded for its sake.

The libraries that offer models download weights by themselves where these are not on this machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn
from urllib.parse import urlparse

import torch.hub

_LOCK = Lock()
"""What is switched off is switched off for the whole process, so it is for one model at a time."""


class DownloadNeeded(Exception):
    """Something would have to be downloaded."""


@contextmanager
def offline() -> Iterator[None]:
    """Let downloads by PyTorch, torchvision and timm fail meanwhile; what is cached is found.

    PyTorch's raise :class:`DownloadNeeded`, those of the Hugging Face Hub what it raises without a
    connection; see :func:`is_missing`.
    """
    changes: list[tuple[Any, str, Any]] = [(torch.hub, "urlopen", _refuse)]
    if find_spec("huggingface_hub") is not None:
        from huggingface_hub import constants

        changes.append((constants, "HF_HUB_OFFLINE", True))
    with _LOCK:
        before = [getattr(module, name) for module, name, _ in changes]
        try:
            for module, name, value in changes:
                setattr(module, name, value)
            yield
        finally:
            for (module, name, _), value in zip(changes, before, strict=True):
                setattr(module, name, value)


def _refuse(*given: Any, **options: Any) -> NoReturn:
    raise DownloadNeeded("it would have to be downloaded")


def is_missing(error: BaseException | None) -> bool:
    """Say whether an error came about because something is not on this machine."""
    names = {"LocalEntryNotFoundError", "OfflineModeIsEnabled"}
    while error is not None:
        if isinstance(error, DownloadNeeded) or names & {
            one.__name__ for one in type(error).__mro__
        }:
            return True
        error = error.__cause__ or error.__context__
    return False


def check_torchvision(name: str) -> None:
    """See that the weights that ``torchvision:NAME:WEIGHTS`` names are on this machine.

    PyTorch says on the terminal that it downloads before it begins to, which would not be true.

    Raises:
        NotHere: they are not.
    """
    library, _, words = name.partition(":")
    model, _, wanted = words.partition(":")
    if library != "torchvision" or not wanted:
        return
    from torchvision import models

    if model not in models.list_models():
        return  # whoever loads it says so
    weights = models.get_model_weights(model).__members__.get(wanted)
    if weights is None:
        return
    file = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(weights.url).path).name)
    if not file.exists():
        raise DownloadNeeded(f"there is no {file}")
