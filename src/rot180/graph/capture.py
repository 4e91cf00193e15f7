"""From a PyTorch model to a :class:`Network`: export it, read each operator, name the layers."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.parameter import is_lazy

from rot180.errors import Rot180Error
from rot180.graph.arguments import Arguments
from rot180.graph.export import exported
from rot180.graph.gradcheck import with_trusted_steps
from rot180.graph.lowering import Reading
from rot180.graph.model_copy import BuffersKept, evaluating_twin
from rot180.graph.multi_image_export import Doubled, fails_for_one
from rot180.graph.network import Network
from rot180.graph.verification import verify


def capture(model: nn.Module, example: Tensor, inputs: Any = None) -> Network:
    """Capture a model for projection: its operators as a list of steps.

    The model is exported for one image with ``torch.export`` in evaluation mode, from a copy of its
    modules that shares its tensors; the model itself is neither changed nor switched to another
    mode. It is checked that the steps reproduce the model's own output, that each image of a batch
    is treated as it is alone, and that the derivatives which PyTorch computes for the network agree
    with finite differences. What the model computes from its weights alone (a weight normalisation,
    say) is computed once. A ``torch.no_grad`` block inside the model is not seen: gradients go
    through it.

    Args:
        model: takes images.
        example: a batch of normalised images (n, c, h, w), on the model's device; its size is
            the one that the network is captured for.
        inputs: how the model is called, if not as ``model(example)``: a tuple of its positional
            arguments, or a mapping of its keyword arguments. The example stands in it where the
            images go, at any depth; all else is held as it is given. Where a mapping does not
            contain the example, the images are the first positional argument.

    Raises:
        Rot180Error: the example is not a batch of images; the model cannot be exported, holds
            weights that are not finite, changes itself, draws random numbers, mixes the images of
            a batch, or is not reproduced by its steps.

    Example:
        >>> import rot180, torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.ReLU())
        >>> net = rot180.capture(model, torch.randn(1, 3, 33, 33))
        >>> net
        Network(input 3x33x33, 2 steps)
          0: 8 features of 15x15, receptive field 5x5, stride 2
        >>> net.layers["0"].rectifier
        'ReLU'
    """
    _check_input(model, example)
    arguments = Arguments.of(example, inputs)
    if inputs is None:
        _check_signature(model)
    with BuffersKept(model), without_autocast() as autocast:
        # What a model puts aside while it is exported holds no values: another copy runs.
        running, left_out = evaluating_twin(model)
        program, several = _exported(model, arguments, inputs is None)
        held = {} if several else arguments.held(program)
        network = Reading(program, running, example, held).network()
        runs = Doubled(running) if several else running
        error = verify(network, runs, arguments, example, program)
        notes = tuple(f"Left out, since it cannot be copied: {one}." for one in left_out)
        if autocast.used:
            notes += ("Autocast is switched off: all is computed in the precision of the weights.",)
    return with_trusted_steps(replace(network, error=error, notes=notes))


def _exported(
    model: nn.Module, arguments: Arguments, images_only: bool
) -> tuple[ExportedProgram, bool]:
    """Export a model for one image; say whether it had to be shown several for that."""

    def make() -> nn.Module:
        return evaluating_twin(model)[0]

    try:
        return exported(make, arguments), False
    except Rot180Error as error:
        if images_only and fails_for_one(make(), arguments.example):
            try:
                return exported(make, arguments, several=True), True
            except Rot180Error:
                raise error from None
        raise


def _check_input(model: nn.Module, example: Tensor) -> None:
    if not isinstance(model, nn.Module):
        raise Rot180Error(f"capture needs a torch.nn.Module, not {type(model).__name__}.")
    if (
        not isinstance(example, Tensor)
        or example.ndim != 4
        or len(example) == 0
        or not example.is_floating_point()
    ):
        found = (
            f"one of shape {tuple(example.shape)} that holds {example.dtype} values"
            if isinstance(example, Tensor)
            else type(example).__name__
        )
        raise Rot180Error(
            "capture needs a batch of normalised images as example, a tensor (n, channels, height, "
            f"width) with n at least 1; this is {found}."
        )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor) or tensor.is_meta:
            raise Rot180Error(f"The model's '{name}' has no values yet; run the model once first.")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Rot180Error(f"The model's '{name}' holds values that are infinite or NaN.")
        if tensor.device != example.device:
            raise Rot180Error(
                f"The model's '{name}' is on the device '{tensor.device}', the example on "
                f"'{example.device}'. Move both to one: model.to(device), example.to(device)."
            )
        if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
            raise Rot180Error(
                f"The model's '{name}' holds {tensor.dtype} values; features are carried back in "
                "float32 or float64. Call model.float() first."
            )
        if tensor.is_floating_point() and tensor.dtype != example.dtype:
            raise Rot180Error(
                f"The model's '{name}' holds {tensor.dtype} values, the example {example.dtype}. "
                "Bring both to one precision, as model.float() and example.float() do."
            )


def _check_signature(model: nn.Module) -> None:
    """Refuse a model whose forward method needs more than the images."""
    try:
        taken = inspect.signature(model.forward).parameters.values()
    except ValueError:  # not written in Python
        return
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [
        one.name for one in taken if one.default is inspect.Parameter.empty and one.kind in kinds
    ]
    if len(needed) > 1:
        raise Rot180Error(
            f"The model's forward method takes {len(needed)} inputs ({', '.join(needed)}). Say "
            "what the others are, as in rot180.capture(model, example, inputs=(example, other)): "
            "they are held, and the images go where the example stands."
        )


def read_model(model: nn.Module, example: Tensor) -> Reading:
    """Export a model as it stands and begin to read it, without any check."""
    arguments = Arguments.of(example, None)
    return Reading(exported(lambda: model, arguments), model, example)


class _Autocast:
    """Whether a model used autocast."""

    used = False


@contextmanager
def without_autocast() -> Iterator[_Autocast]:
    """Switch autocast off inside models: features are carried back in float32 or float64."""
    seen, enter = _Autocast(), torch.autocast.__init__

    def off(self: torch.autocast, *args: Any, **kwargs: Any) -> None:
        enter(self, *args, **kwargs)
        seen.used = seen.used or self._enabled
        self._enabled = False

    torch.autocast.__init__ = off  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        torch.autocast.__init__ = enter  # type: ignore[method-assign]
