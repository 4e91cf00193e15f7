"""Models that torchvision and timm offer by name, and what they say of the images."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn

from rot180.errors import Rot180Error, suggest
from rot180.networks.weights import tensors_only


@dataclass(frozen=True)
class Found:
    """A model as it was found, and what is known of its images (None, or no classes: nothing).

    Attributes:
        trained: None where nobody can tell, as for a function of the user's.
        basis: whose images ``size``, ``mean`` and ``std`` are, in words.
    """

    model: nn.Module
    trained: bool | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()
    basis: str = ""


@contextmanager
def seeded() -> Iterator[None]:
    """Let weights that are drawn meanwhile be the same each time; then draw on as before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def from_torchvision(words: str) -> Found:
    """Build NAME or NAME:WEIGHTS of torchvision's models.

    The images are those of the weights, or of the model's default weights where none are named.

    Raises:
        Rot180Error: there is no such model or no such weights, or they cannot be downloaded.
    """
    from torchvision import models

    name, colon, wanted = words.partition(":")
    known = models.list_models()
    if name not in known:
        raise Rot180Error(f"torchvision has no model '{name}'. It has: {suggest(known, name)}.")
    offered = models.get_model_weights(name).__members__
    if colon and wanted not in offered:
        raise Rot180Error(
            f"torchvision has no weights '{wanted}' of {name}. There are: "
            f"{suggest(offered, wanted)}."
        )
    weights = offered[wanted] if colon else None
    options: dict[str, Any] = {"weights": weights}
    taken = inspect.signature(models.get_model_builder(name)).parameters
    if weights is None:  # no part is to be downloaded, and nothing said about how it is drawn
        options |= {one: None for one in taken if one == "weights_backbone"}
        options |= {one: True for one in taken if one == "init_weights"}
    try:
        with seeded(), tensors_only():
            model = models.get_model(name, **options)
    except Exception as error:
        raise _not_had("torchvision", name, colon, error) from error
    typical = weights or offered.get("DEFAULT")
    if typical is None:
        return Found(model, trained=False)
    shown = typical.transforms()
    return Found(
        model,
        weights is not None,
        _crop(shown),
        _numbers(getattr(shown, "mean", None)),
        _numbers(getattr(shown, "std", None)),
        tuple(map(str, weights.meta.get("categories", ()))) if weights else (),
        f"as for torchvision's {typical}",
    )


def from_timm(words: str) -> Found:
    """Build NAME, or with its published weights NAME:pretrained, of timm's models.

    Raises:
        Rot180Error: timm is not installed, has no such model, or cannot download its weights.
    """
    timm = _timm()
    name, colon, how = words.partition(":")
    if colon and how != "pretrained":
        raise Rot180Error(
            f"After the name of a model of timm only ':pretrained' can follow, not ':{how}'."
        )
    if not timm.is_model(name):
        raise Rot180Error(
            f"timm has no model '{name}'. It has: {suggest(timm.list_models(), name)}."
        )
    try:
        with seeded(), tensors_only():
            model = timm.create_model(name, pretrained=bool(colon))
    except Exception as error:
        raise _not_had("timm", name, colon, error) from error
    about = timm.data.resolve_model_data_config(model)
    subset = timm.data.infer_imagenet_subset(model) if colon else None
    _, height, width = about["input_size"]
    return Found(
        model,
        bool(colon),
        (height, width),
        _numbers(about["mean"]),
        _numbers(about["std"]),
        tuple(timm.data.ImageNetInfo(subset).label_descriptions()) if subset else (),
        f"as timm's configuration of {name} says",
    )


def _timm() -> Any:
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise Rot180Error(
            f"Models of timm need the package timm ({error}): pip install timm."
        ) from error
    assert isinstance(timm, ModuleType)
    return timm


def _crop(shown: Any) -> tuple[int, int] | None:
    """Return the size that torchvision's preset cuts images to, if it does."""
    crop = getattr(shown, "crop_size", None)
    if not crop:
        return None
    return int(crop[0]), int(crop[-1])


def _numbers(values: Any) -> tuple[float, ...] | None:
    return None if values is None else tuple(map(float, values))


def _not_had(library: str, name: str, with_weights: str, error: Exception) -> Rot180Error:
    """Say why a library does not give a model that it lists."""
    first = str(error).strip().split("\n")[0].rstrip(".")
    reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if not with_weights:
        return Rot180Error(f"{library} cannot build its {name}: {reason}.")
    return Rot180Error(
        f"The weights of {library}'s {name} cannot be had: {reason}. Where there is no "
        f"connection, name {library}:{name} and give a file of weights with --weights."
    )
