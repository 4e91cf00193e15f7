"""Models of torchvision and timm by their names, and the preprocessing that they document."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn

from rot180.errors import Rot180Error, suggest
from rot180.models.weights import safe_unpickling


@dataclass(frozen=True)
class ModelSpec:
    """A model and what its source says about the images. None, or no classes: it does not say.

    Attributes:
        model: network, with or without trained weights.
        trained: whether the weights are trained; None if nobody can tell, as for user code.
        size: (height, width) of the images in pixels.
        mean, std: mean and standard deviation of each channel, for values from 0 to 1.
        classes: names of the scores.
        basis: source of ``size``, ``mean`` and ``std``, in words.
    """

    model: nn.Module
    trained: bool | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()
    basis: str = ""


@contextmanager
def fixed_seed() -> Iterator[None]:
    """Draw random weights from seed 0 in this context; restore the generator afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def from_torchvision(text: str) -> ModelSpec:
    """Build a model of torchvision, given as NAME or NAME:WEIGHTS.

    The preprocessing is that of the weights, or of the model's default weights if none are named.

    Raises:
        Rot180Error: the model or the weights do not exist, or the weights cannot be downloaded.
    """
    from torchvision import models

    name, colon, wanted = text.partition(":")
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
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    if weights is None:  # download no part, and do not warn about the initialisation
        options |= {key: None for key in parameters if key == "weights_backbone"}
        options |= {key: True for key in parameters if key == "init_weights"}
    try:
        with fixed_seed(), safe_unpickling():
            model = models.get_model(name, **options)
    except Exception as error:  # builders and downloads fail with errors of any type
        raise _build_error("torchvision", name, colon, error) from error
    typical = weights or offered.get("DEFAULT")
    if typical is None:
        return ModelSpec(model, trained=False)
    preset = typical.transforms()
    return ModelSpec(
        model,
        weights is not None,
        _crop_size(preset),
        _floats(getattr(preset, "mean", None)),
        _floats(getattr(preset, "std", None)),
        tuple(map(str, weights.meta.get("categories", ()))) if weights else (),
        f"as for torchvision's {typical}",
    )


def from_timm(text: str) -> ModelSpec:
    """Build a model of timm, given as NAME, or NAME:pretrained for its published weights.

    Raises:
        Rot180Error: timm is not installed or has no such model, or the weights cannot be
            downloaded.
    """
    timm = _import_timm()
    name, colon, suffix = text.partition(":")
    if colon and suffix != "pretrained":
        raise Rot180Error(
            f"After the name of a model of timm only ':pretrained' can follow, not ':{suffix}'."
        )
    if not timm.is_model(name):
        raise Rot180Error(
            f"timm has no model '{name}'. It has: {suggest(timm.list_models(), name)}."
        )
    try:
        with fixed_seed(), safe_unpickling():
            model = timm.create_model(name, pretrained=bool(colon))
    except Exception as error:  # as above
        raise _build_error("timm", name, colon, error) from error
    config = timm.data.resolve_model_data_config(model)
    subset = timm.data.infer_imagenet_subset(model) if colon else None
    _, height, width = config["input_size"]
    return ModelSpec(
        model,
        bool(colon),
        (height, width),
        _floats(config["mean"]),
        _floats(config["std"]),
        tuple(timm.data.ImageNetInfo(subset).label_descriptions()) if subset else (),
        f"as timm's configuration of {name} says",
    )


def _import_timm() -> Any:
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise Rot180Error(
            f"Models of timm need the package timm ({error}): pip install timm."
        ) from error
    assert isinstance(timm, ModuleType)
    return timm


def _crop_size(preset: Any) -> tuple[int, int] | None:
    """Return the size that torchvision's preset crops images to; None if it does not crop."""
    crop = getattr(preset, "crop_size", None)
    if not crop:
        return None
    return int(crop[0]), int(crop[-1])


def _floats(values: Any) -> tuple[float, ...] | None:
    return None if values is None else tuple(map(float, values))


def _build_error(library: str, name: str, with_weights: str, error: Exception) -> Rot180Error:
    """Return the error of a library that fails to build a model that it lists."""
    first = str(error).strip().split("\n")[0].rstrip(".")
    reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if not with_weights:
        return Rot180Error(f"{library} cannot build its {name}: {reason}.")
    return Rot180Error(
        f"The weights of {library}'s {name} cannot be loaded: {reason}. Without a connection, "
        f"name {library}:{name} and give a file of weights with --weights."
    )
