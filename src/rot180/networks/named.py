"""One way to name a model: what ``--model`` understands."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rot180.device import resolve_device
from rot180.errors import Rot180Error, Rot180Warning, suggest
from rot180.files import is_file
from rot180.networks import preprocessing
from rot180.networks.checkpoint import SHIPPED, Checkpoint
from rot180.networks.checkpoint import load as load_checkpoint
from rot180.networks.code import from_code
from rot180.networks.libraries import Found, from_timm, from_torchvision, seeded
from rot180.networks.model import NamedModel, placed, score_count
from rot180.networks.published import PUBLISHED
from rot180.networks.weights import PICKLED, load_weights

FORMS = (
    "two-layer, efficientnet-lite0, a checkpoint that 'rot180 train' wrote, "
    "torchvision:NAME[:WEIGHTS], timm:NAME[:pretrained], package.module:callable or "
    "path/to/file.py:callable"
)
_LONGEST = 200
"""Characters of a name that an error repeats."""
_LIBRARIES = {"torchvision:": from_torchvision, "timm:": from_timm}


def named_model(
    name: Any,
    weights: Any = None,
    size: Any = None,
    mean: Any = None,
    std: Any = None,
    classes: Any = None,
    device: Any = "auto",
) -> NamedModel:
    """Load any model by its name; :func:`load` says what the arguments are.

    Returns:
        The model; its ``remarks`` say what was assumed or changed.

    Raises:
        Rot180Error: as :func:`load`.
    """
    name, place = _text(name), resolve_device(device)
    if is_checkpoint(name):
        given = {"weights": weights, "size": size, "mean": mean, "std": std, "classes": classes}
        for option, value in given.items():
            if value is not None:
                shown = "output-classes" if option == "classes" else option
                raise Rot180Error(
                    f"{name} is a checkpoint, which holds its own {option}: leave out --{shown}."
                )
        return load_checkpoint(name, place)
    size = None if size is None else preprocessing.image_size(size)
    mean = None if mean is None else preprocessing.per_channel(mean, "mean")
    std = None if std is None else preprocessing.per_channel(std, "std")
    classes = None if classes is None else preprocessing.class_names(classes)

    found = _found(name)
    remarks = [_filled(found, weights, name), _in_full_precision(found.model)]
    model = _moved(found.model, place, name).eval()
    fitting = size or found.size or preprocessing.SIZE
    channels, scores = _tried(model, fitting, name)
    usual = preprocessing.USUAL[channels]
    mean_used, std_used = mean or found.mean or usual[0], std or found.std or usual[1]
    preprocessing.checked_count(mean_used, channels, "mean")
    preprocessing.checked_count(std_used, channels, "std")
    told = {"size": size, "mean": mean, "std": std}
    used = {"size": fitting, "mean": mean_used, "std": std_used}
    remarks.append(_assumed([what for what in told if told[what] is None], used, found))
    return NamedModel(
        model,
        _classes(classes, found, scores, name),
        mean_used,
        std_used,
        fitting,
        name=name,
        remarks=tuple(one for one in remarks if one is not None),
        weights="" if weights is None else Path(str(weights)).name,
    )


def load(
    name: Any,
    device: Any = "cpu",
    *,
    weights: Any = None,
    size: Any = None,
    mean: Any = None,
    std: Any = None,
    classes: Any = None,
) -> NamedModel:
    """Load any model by its name, with what is needed to show it pictures.

    Args:
        name: ``two-layer`` (comes with the package); ``efficientnet-lite0`` (trained on ImageNet,
            where its two packages are installed); a checkpoint that ``rot180 train`` wrote;
            ``torchvision:NAME`` or ``torchvision:NAME:WEIGHTS``; ``timm:NAME`` or
            ``timm:NAME:pretrained``; ``package.module:callable``; ``path/to/file.py:callable``.
        device: "cpu", "cuda", "mps", or "auto".
        weights: a file of weights: safetensors, or a state dict that ``torch.save`` wrote. Nothing
            in it is executed. Models of torchvision and timm without any get random ones, the same
            each time.
        size: (height, width) of the images, or one number. By default that of torchvision's
            weights or of timm's configuration; for other models 224.
        mean, std: of each channel, for values from 0 to 1. By default likewise; for other models
            ImageNet's.
        classes: the names of the scores, or a file of them: one a line, or a table with their
            numbers (see ``rot180.datasets.class_names``).

    Returns:
        The model in evaluation mode, in float32 if it was in half precision. What was assumed or
        changed is in its ``remarks``, and each of them becomes a warning. Of a checkpoint, which
        knows all this itself, a :class:`~rot180.networks.checkpoint.Checkpoint`. How many channels
        images have, 3 or 1, is found by trying; first as many as the first convolution takes.

    Raises:
        Rot180Error: there is no such model, its code or its weights cannot be loaded, a value is
            out of range, or the model cannot take such images.

    Example:
        >>> import rot180
        >>> trained = rot180.load("two-layer")
        >>> trained.size, trained.classes[:3]
        ((32, 32), ('airplane', 'automobile', 'bird'))
        >>> list(trained.network().layers)
        ['conv1', 'conv2', 'head']
    """
    found = named_model(name, weights, size, mean, std, classes, device)
    for remark in found.remarks:
        warnings.warn(remark, Rot180Warning, stacklevel=2)
    return found


def two_layer(name: str, device: Any, purpose: str) -> Checkpoint:
    """Load a two-layer network by its name, where no other model will do.

    Args:
        name: two-layer, or a checkpoint.
        device: where to put it.
        purpose: what needs it, as the subject of an error's sentence: "'rot180 trace'".

    Raises:
        Rot180Error: it is the name of another kind of model, or cannot be loaded.
    """
    if not is_checkpoint(name):
        raise Rot180Error(
            f"{purpose} takes the two-layer network alone (two-layer, or a checkpoint that 'rot180 "
            f"train' wrote), not {name}. 'rot180 project' takes any model."
        )
    return load_checkpoint(name, device)


def is_checkpoint(name: str) -> bool:
    """Say whether this is the name of a checkpoint, and not one of another kind of model.

    Raises:
        Rot180Error: it is neither.
    """
    path = Path(name)
    if name in SHIPPED:
        return True
    if is_offered(name) or ".py:" in name or path.suffix == ".py":
        return False
    if path.suffix.lower() in PICKLED:
        raise Rot180Error(
            f"{name} holds weights without a model by its ending: name the model with --model, and "
            "give this file with --weights."
        )
    if is_file(path) or path.suffix.lower() == ".safetensors":
        return True
    if ":" in name:
        return False
    raise Rot180Error(_unknown(name))


def is_offered(name: str) -> bool:
    """Say whether a name is of a model that an installed package offers, by name and not by code.

    Nothing but code of that package runs to build it.
    """
    return name in PUBLISHED or name.startswith(tuple(_LIBRARIES))


def _text(name: Any) -> str:
    """Return a model's name as text."""
    try:
        return str(name)
    except ValueError:  # a whole number of thousands of digits
        raise Rot180Error(f"A model is named by text: {FORMS}.") from None


def _unknown(name: str) -> str:
    from torchvision import models

    shown = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
    if not name:
        return f"The name of the model is empty: give {FORMS}."
    if "/" in name or "\\" in name:
        return f"There is no checkpoint at {shown}: check the path, or give {FORMS}."
    return (
        f"There is no model '{shown}'. With rot180 comes {', '.join(SHIPPED)}; torchvision has, "
        f"written torchvision:NAME, {suggest(models.list_models(), shown, limit=4)}. Understood "
        f"are {FORMS}."
    )


def _found(name: str) -> Found:
    if name in PUBLISHED:
        return PUBLISHED[name]()
    for prefix, find in _LIBRARIES.items():
        if name.startswith(prefix):
            return find(name.removeprefix(prefix))
    return from_code(name)


def _filled(found: Found, weights: Any, name: str) -> str | None:
    """Fill the model with the weights in a file; or say that it has none."""
    if weights is not None:
        if found.trained:
            raise Rot180Error(f"{name} names weights, and --weights does, too: give one of them.")
        load_weights(found.model, weights, name)
    elif found.trained is False:
        return (
            f"The weights of {name} are random: they come untrained, from seed 0. Name trained "
            f"ones, as {name}:{'pretrained' if name.startswith('timm:') else 'DEFAULT'}, or give "
            "a file of them with --weights."
        )
    return None


def _in_full_precision(model: nn.Module) -> str | None:
    """Bring the model to float32 if any of its weights are in less, and say so."""
    kinds = {one.dtype for one in (*model.parameters(), *model.buffers())}
    half = sorted(str(one) for one in kinds if one.is_floating_point and one.itemsize < 4)
    if not half:
        return None
    model.float()
    return f"The model's weights are {half[0].removeprefix('torch.')}; it is used in float32."


def _moved(model: nn.Module, place: torch.device, name: str) -> nn.Module:
    try:
        return model.to(place)
    except Exception as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise Rot180Error(f"{name} cannot be moved to {place}: {reason}.") from error


def _tried(model: nn.Module, size: tuple[int, int], name: str) -> tuple[int, int]:
    """Find how many channels the model's images have, and how many scores it gives for one.

    Raises:
        Rot180Error: it takes no images of this size, of 3 channels or of 1.
    """
    first = next((one for one in model.modules() if isinstance(one, nn.Conv2d)), None)
    order = (1, 3) if first is not None and first.in_channels == 1 else (3, 1)
    reasons = []
    for channels in order:
        blank = placed(model).new_zeros(1, channels, *size)
        try:
            with torch.no_grad(), seeded():
                return channels, score_count(model(blank))
        except Exception as error:
            reasons.append(str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__)
    raise Rot180Error(
        f"{name} takes no images of {size[0]}x{size[1]} pixels: {reasons[0]}. If the size is "
        "wrong, give the right one with --size."
    )


def _assumed(untold: list[str], values: dict[str, tuple[float, ...]], found: Found) -> str | None:
    """Say what was assumed of the images, as the options that would tell it, and by whom."""
    which = [what for what in untold if not (found.trained and getattr(found, what))]
    if not which:
        return None
    signs = {"size": "x", "mean": ",", "std": ","}
    shown = ", ".join(
        f"--{what} {signs[what].join(f'{one:g}' for one in values[what])}" for what in which
    )
    library = all(getattr(found, what) is not None for what in which)
    whose = found.basis if library else "as for most networks trained on ImageNet"
    return f"Assumed of the images: {shown} ({whose}). Give others if they were others."


def _classes(given: Sequence[str] | None, found: Found, scores: int, name: str) -> tuple[str, ...]:
    """Return the names of the scores, if there is one for each."""
    if given is None:
        return found.classes if len(found.classes) == scores else ()
    if len(given) != scores:
        counted = f"{scores} scores" if scores else "no scores for classes"
        raise Rot180Error(f"There are {len(given)} names of classes, but {name} gives {counted}.")
    return tuple(given)
