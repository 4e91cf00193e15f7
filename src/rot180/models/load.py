"""Loading any model by its name: the forms that ``--model`` takes."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rot180.device import resolve_device
from rot180.errors import Rot180Error, Rot180Warning, suggest
from rot180.files import is_file
from rot180.models import preprocessing
from rot180.models.checkpoint import SHIPPED, Checkpoint, load_checkpoint
from rot180.models.model import Model, class_count, reference_tensor
from rot180.models.published import PUBLISHED
from rot180.models.user_code import load_user_code
from rot180.models.weights import PICKLED, load_weights
from rot180.models.zoo import ModelSpec, fixed_seed, from_timm, from_torchvision

FORMS = (
    "two-layer, efficientnet-lite0, a checkpoint that 'rot180 train' wrote, "
    "torchvision:NAME[:WEIGHTS], timm:NAME[:pretrained], package.module:callable or "
    "path/to/file.py:callable"
)
_LONGEST = 200
"""Maximal number of characters of a name that an error quotes."""
_LIBRARIES = {"torchvision:": from_torchvision, "timm:": from_timm}


def load_model(
    name: Any,
    weights: Any = None,
    size: Any = None,
    mean: Any = None,
    std: Any = None,
    classes: Any = None,
    device: Any = "auto",
) -> Model:
    """Load any model by its name. The arguments are those of :func:`load`.

    Returns:
        The model; its ``notices`` say what was assumed or changed.

    Raises:
        Rot180Error: as :func:`load`.
    """
    name, torch_device = _as_text(name), resolve_device(device)
    if is_checkpoint(name):
        given = {"weights": weights, "size": size, "mean": mean, "std": std, "classes": classes}
        for option, value in given.items():
            if value is not None:
                shown = "output-classes" if option == "classes" else option
                raise Rot180Error(
                    f"{name} is a checkpoint, which holds its own {option}: leave out --{shown}."
                )
        return load_checkpoint(name, torch_device)
    size = None if size is None else preprocessing.image_size(size)
    mean = None if mean is None else preprocessing.per_channel(mean, "mean")
    std = None if std is None else preprocessing.per_channel(std, "std")
    classes = None if classes is None else preprocessing.class_names(classes)

    spec = _find(name)
    notices = [_add_weights(spec, weights, name), _to_full_precision(spec.model)]
    model = _move(spec.model, torch_device, name).eval()
    used_size = size or spec.size or preprocessing.SIZE
    channels, scores = _try_input(model, used_size, name)
    default_mean, default_std = preprocessing.DEFAULT_STATS[channels]
    used_mean, used_std = mean or spec.mean or default_mean, std or spec.std or default_std
    preprocessing.check_channels(used_mean, channels, "mean")
    preprocessing.check_channels(used_std, channels, "std")
    options = {"size": size, "mean": mean, "std": std}
    used = {"size": used_size, "mean": used_mean, "std": used_std}
    missing = [what for what, value in options.items() if value is None]
    notices.append(_assumption_notice(missing, used, spec))
    return Model(
        model,
        _class_names(classes, spec, scores, name),
        used_mean,
        used_std,
        used_size,
        name=name,
        notices=tuple(notice for notice in notices if notice is not None),
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
) -> Model:
    """Load any model by its name, with what is needed to show it pictures.

    Args:
        name: ``two-layer`` (comes with the package); ``efficientnet-lite0`` (trained on ImageNet,
            where its two packages are installed); a checkpoint that ``rot180 train`` wrote;
            ``torchvision:NAME`` or ``torchvision:NAME:WEIGHTS``; ``timm:NAME`` or
            ``timm:NAME:pretrained``; ``package.module:callable``; ``path/to/file.py:callable``.
        device: "cpu", "cuda", "mps", or "auto".
        weights: file of weights: safetensors, or a state dict that ``torch.save`` wrote. Nothing
            in it is executed. Models of torchvision and timm without weights get random ones, the
            same each time.
        size: (height, width) of the images in pixels, or one number for a square. The default is
            that of torchvision's weights or of timm's configuration, and 224 for other models.
        mean, std: mean and standard deviation of each channel, for values from 0 to 1. The default
            is found likewise, and is that of ImageNet for other models.
        classes: names of the scores, or a file of them: one name per line, or a table with their
            indices (see ``rot180.datasets.class_names``).

    Returns:
        The model in evaluation mode, converted to float32 if it was in half precision. Its
        ``notices`` say what was assumed or changed, and each of them becomes a warning. A
        checkpoint records its own preprocessing and is returned as a
        :class:`~rot180.models.checkpoint.Checkpoint`. The number of channels of the images, 3 or
        1, is found by running the model, first with as many as its first convolution takes.

    Raises:
        Rot180Error: the model does not exist, its code or its weights cannot be loaded, a value is
            out of range, or the model cannot process such images.

    Example:
        >>> import rot180
        >>> trained = rot180.load("two-layer")
        >>> trained.size, trained.classes[:3]
        ((32, 32), ('airplane', 'automobile', 'bird'))
        >>> list(trained.network().layers)
        ['conv1', 'conv2', 'head']
    """
    model = load_model(name, weights, size, mean, std, classes, device)
    for notice in model.notices:
        warnings.warn(notice, Rot180Warning, stacklevel=2)
    return model


def load_two_layer(name: str, device: Any, purpose: str) -> Checkpoint:
    """Load a two-layer network by its name, for purposes that no other model can serve.

    Args:
        name: "two-layer", or a checkpoint.
        device: device to load it to.
        purpose: subject of the error's sentence, such as "'rot180 trace'".

    Raises:
        Rot180Error: the name is that of another kind of model, or the network cannot be loaded.
    """
    if not is_checkpoint(name):
        raise Rot180Error(
            f"{purpose} takes the two-layer network alone (two-layer, or a checkpoint that 'rot180 "
            f"train' wrote), not {name}. 'rot180 project' takes any model."
        )
    return load_checkpoint(name, device)


def is_checkpoint(name: str) -> bool:
    """Return whether this is the name of a checkpoint, rather than of another kind of model.

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
    """Return whether the name is that of a model in an installed package.

    Only the code of that package runs to build it, and no code of the user.
    """
    return name in PUBLISHED or name.startswith(tuple(_LIBRARIES))


def _as_text(name: Any) -> str:
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
        f"written torchvision:NAME, {suggest(models.list_models(), shown, limit=4)}. The forms of "
        f"a name are {FORMS}."
    )


def _find(name: str) -> ModelSpec:
    if name in PUBLISHED:
        return PUBLISHED[name]()
    for prefix, build in _LIBRARIES.items():
        if name.startswith(prefix):
            return build(name.removeprefix(prefix))
    return load_user_code(name)


def _add_weights(spec: ModelSpec, weights: Any, name: str) -> str | None:
    """Load the file of weights into the model; return a notice if the weights stay random."""
    if weights is not None:
        if spec.trained:
            raise Rot180Error(f"{name} names weights, and --weights does, too: give one of them.")
        load_weights(spec.model, weights, name)
    elif spec.trained is False:
        return (
            f"The weights of {name} are random: they come untrained, from seed 0. Name trained "
            f"ones, as {name}:{'pretrained' if name.startswith('timm:') else 'DEFAULT'}, or give "
            "a file of them with --weights."
        )
    return None


def _to_full_precision(model: nn.Module) -> str | None:
    """Convert a model to float32 and return a notice, if any of its weights are less precise."""
    dtypes = {weights.dtype for weights in (*model.parameters(), *model.buffers())}
    half = sorted(str(dtype) for dtype in dtypes if dtype.is_floating_point and dtype.itemsize < 4)
    if not half:
        return None
    model.float()
    return f"The model's weights are {half[0].removeprefix('torch.')}; it is used in float32."


def _move(model: nn.Module, device: torch.device, name: str) -> nn.Module:
    try:
        return model.to(device)
    except Exception as error:  # models may override what moving does
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise Rot180Error(f"{name} cannot be moved to {device}: {reason}.") from error


def _try_input(model: nn.Module, size: tuple[int, int], name: str) -> tuple[int, int]:
    """Run the model on a blank image; return the number of channels, and of scores per image.

    Raises:
        Rot180Error: the model takes no images of this size, neither of 3 channels nor of 1.
    """
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    order = (1, 3) if first is not None and first.in_channels == 1 else (3, 1)
    reasons = []
    for channels in order:
        blank = reference_tensor(model).new_zeros(1, channels, *size)
        try:
            with torch.no_grad(), fixed_seed():
                return channels, class_count(model(blank))
        except Exception as error:  # the code of the model, which may raise anything
            reasons.append(str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__)
    raise Rot180Error(
        f"{name} takes no images of {size[0]}x{size[1]} pixels: {reasons[0]}. If the size is "
        "wrong, give the right one with --size."
    )


def _assumption_notice(
    missing: list[str], values: dict[str, tuple[float, ...]], spec: ModelSpec
) -> str | None:
    """Return a notice of the options that were not given, with the values used and their basis."""
    assumed = [what for what in missing if not (spec.trained and getattr(spec, what))]
    if not assumed:
        return None
    signs = {"size": "x", "mean": ",", "std": ","}
    shown = ", ".join(
        f"--{what} {signs[what].join(f'{value:g}' for value in values[what])}" for what in assumed
    )
    documented = all(getattr(spec, what) is not None for what in assumed)
    basis = spec.basis if documented else "as for most networks trained on ImageNet"
    return f"Assumed of the images: {shown} ({basis}). Give other values if these are wrong."


def _class_names(
    given: Sequence[str] | None, spec: ModelSpec, scores: int, name: str
) -> tuple[str, ...]:
    """Return the names of the scores, if there is one for each."""
    if given is None:
        return spec.classes if len(spec.classes) == scores else ()
    if len(given) != scores:
        count = f"{scores} scores" if scores else "no scores for classes"
        raise Rot180Error(f"There are {len(given)} names of classes, but {name} gives {count}.")
    return tuple(given)
