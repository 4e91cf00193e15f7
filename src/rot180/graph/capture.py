"""Captures a PyTorch model: exports it, lowers its calls to steps, names the layers."""

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
from rot180.graph.export import export_program
from rot180.graph.gradcheck import with_checked_derivatives
from rot180.graph.lowering import GraphLowering
from rot180.graph.model_copy import evaluation_copy, preserved_buffers
from rot180.graph.multi_image_export import DoubledBatch, fails_for_one
from rot180.graph.network import Network
from rot180.graph.verification import verify


def capture(model: nn.Module, example: Tensor, inputs: Any = None) -> Network:
    """Capture a model for projection, as a list of steps.

    The model is exported for one image with ``torch.export`` in evaluation mode, from a copy of its
    modules that shares its tensors. The model itself is not changed and stays in its mode. Three
    things are checked: that the steps reproduce the model's own output, that each image of a batch
    is treated as it is alone, and that the derivatives which PyTorch computes for the network agree
    with finite differences. What the model computes from its weights alone (a weight normalisation,
    say) is computed once. A ``torch.no_grad`` block inside the model has no effect: gradients go
    through it.

    Args:
        model: takes images.
        example: a batch of normalised images (n, c, h, w) on the model's device. The network is
            captured for images of this size.
        inputs: how the model is called, if not as ``model(example)``: a tuple of its positional
            arguments, or a mapping of its keyword arguments. The example stands where the images
            go, at any depth; everything else keeps the given value. If a mapping does not contain
            the example, the images are the first positional argument.

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
    with preserved_buffers(model), without_autocast() as autocast:
        # Tensors that a model stores while it is exported hold no values, so another copy runs.
        runnable, left_out = evaluation_copy(model)
        program, several = _export(model, arguments, inputs is None)
        fixed_inputs = {} if several else arguments.fixed_inputs(program)
        network = GraphLowering(program, runnable, example, fixed_inputs).lower()
        reference = DoubledBatch(runnable) if several else runnable
        error = verify(network, reference, arguments, example, program)
        notes = tuple(f"Left out, since it cannot be copied: {part}." for part in left_out)
        if autocast.used:
            notes += ("Autocast is switched off: all is computed in the precision of the weights.",)
    return with_checked_derivatives(replace(network, error=error, notes=notes))


def _export(
    model: nn.Module, arguments: Arguments, images_only: bool
) -> tuple[ExportedProgram, bool]:
    """Export a model for one image; return the program, and whether that took several images."""

    def make() -> nn.Module:
        return evaluation_copy(model)[0]

    try:
        return export_program(make, arguments), False
    except Rot180Error as error:
        if images_only and fails_for_one(make(), arguments.example):
            try:
                return export_program(make, arguments, several=True), True
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
        actual = (
            f"one of shape {tuple(example.shape)} that holds {example.dtype} values"
            if isinstance(example, Tensor)
            else type(example).__name__
        )
        raise Rot180Error(
            "capture needs a batch of normalised images as example, a tensor (n, channels, height, "
            f"width) with n at least 1; this is {actual}."
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
                f"The model's '{name}' holds {tensor.dtype} values; features are projected in "
                "float32 or float64. Call model.float() first."
            )
        if tensor.is_floating_point() and tensor.dtype != example.dtype:
            raise Rot180Error(
                f"The model's '{name}' holds {tensor.dtype} values, the example {example.dtype}. "
                "Convert both to one precision, as model.float() and example.float() do."
            )


def _check_signature(model: nn.Module) -> None:
    """Refuse a model whose forward method needs more than the images."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except ValueError:  # not written in Python
        return
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty and parameter.kind in kinds
    ]
    if len(needed) > 1:
        raise Rot180Error(
            f"The model's forward method takes {len(needed)} inputs ({', '.join(needed)}). Say "
            "what the others are, as in rot180.capture(model, example, inputs=(example, other)): "
            "they keep these values, and the images go where the example stands."
        )


def start_lowering(model: nn.Module, example: Tensor) -> GraphLowering:
    """Export a model as it stands and return its lowering, without any check."""
    arguments = Arguments.of(example, None)
    return GraphLowering(export_program(lambda: model, arguments), model, example)


class _AutocastUse:
    """Whether a model used autocast."""

    used = False


@contextmanager
def without_autocast() -> Iterator[_AutocastUse]:
    """Switch autocast off inside models: features are projected in float32 or float64."""
    use, original = _AutocastUse(), torch.autocast.__init__

    def disabled(self: torch.autocast, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        use.used = use.used or self._enabled
        self._enabled = False

    torch.autocast.__init__ = disabled  # type: ignore[method-assign]
    try:
        yield use
    finally:
        torch.autocast.__init__ = original  # type: ignore[method-assign]
