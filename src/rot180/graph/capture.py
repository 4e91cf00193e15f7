"""From a PyTorch model to a :class:`Network`: export it, read each operator, name the layers."""

import copy
import inspect
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from rot180.errors import Rot180Error
from rot180.graph.network import Network
from rot180.graph.reading import Reading
from rot180.graph.refusal import why_not

_BATCH = 3
"""Batch that is exported; no values are computed for it. Not 1, which PyTorch treats specially."""


def capture(model: nn.Module, example: Tensor) -> Network:
    """Capture a model for projection: its operators as a list of steps.

    The model is exported with ``torch.export`` in evaluation mode, from a copy of its modules that
    shares its tensors; the model itself is neither changed nor switched to another mode. It is
    checked that the steps reproduce the model's own output. What the model computes from its
    weights alone (a weight normalisation, say) is computed once. A ``torch.no_grad`` block inside
    the model is not seen: gradients go through it.

    Args:
        model: takes one batch of images.
        example: a batch of normalised images (n, c, h, w), on the model's device; its size is
            the one that the network is captured for.

    Raises:
        Rot180Error: the example is not a batch of images; the model cannot be exported, holds
            weights that are not finite, changes itself, draws random numbers, or is not
            reproduced by its steps.

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
    twin = _evaluating_twin(model)
    reading = Reading(exported(twin, example), twin, example)
    network = reading.network()
    # One image and two, since a graph may have the number that it was exported with in it.
    # Random ones, since an example of one value would not tell much.
    generator = torch.Generator(example.device).manual_seed(0)
    noise = torch.randn(
        2, *example.shape[1:], generator=generator, device=example.device, dtype=example.dtype
    )
    one, two = noise[:1], noise * torch.tensor([1, -3], device=example.device)[:, None, None, None]
    _check_reproduced(network, twin, example[:1])
    error = max(_check_reproduced(network, twin, images) for images in (one, two))
    for alone, both in zip(network.outputs_for(one), network.outputs_for(two), strict=True):
        if both.ndim and len(both) == 2 and not _close(both[:1], alone, roundings=10_000):
            raise Rot180Error("The model mixes the images of a batch, and cannot be captured.")
    return replace(network, error=error)


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
    _check_signature(model)
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
            f"The model's forward method takes {len(needed)} inputs ({', '.join(needed)}); a "
            "network that is captured takes one batch of images. Wrap it in a module whose forward "
            "method takes the images and sets the others."
        )


def _evaluating_twin(model: nn.Module) -> nn.Module:
    """Copy the modules, share the tensors, switch the copy to evaluation."""
    shared: dict[int, Any] = {id(one): one for one in [*model.parameters(), *model.buffers()]}
    for module in model.modules():  # and tensors that are plain attributes
        shared |= {id(one): one for one in vars(module).values() if isinstance(one, Tensor)}
    try:
        return copy.deepcopy(model, shared).eval()
    except Exception as error:
        raise Rot180Error(
            f"The model's modules cannot be copied ({type(error).__name__}: {error}). Remove from "
            "the model what is not part of the network."
        ) from error


def exported(model: nn.Module, example: Tensor) -> ExportedProgram:
    """Export with operators that change nothing in place, whatever the model's author wrote."""
    batch = torch.zeros(_BATCH, *example.shape[1:], dtype=example.dtype, device=example.device)
    try:
        with torch.no_grad(), _silence():
            program = torch.export.export(model, (batch,)).run_decompositions({})
            return cast(ExportedProgram, program)
    except Exception as error:
        raise Rot180Error(why_not(error)) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep PyTorch from printing its graphs beside the exception that says the same."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _check_reproduced(network: Network, model: nn.Module, images: Tensor) -> float:
    """Compare the captured network's outputs with the model's own; return the largest error."""
    try:
        with torch.no_grad():
            expected = model(images.clone())
    except Exception as error:
        raise Rot180Error(
            f"The model itself fails for a batch of {len(images)} of the example's images: {error}"
        ) from error
    wanted = [leaf for leaf in tree_leaves(expected) if isinstance(leaf, Tensor)]
    try:
        found = network.outputs_for(images)
    except RuntimeError as error:
        raise Rot180Error(
            f"The captured network fails for a batch of {len(images)} "
            f"({str(error).splitlines()[0]}). A model that computes with the number of its images "
            "cannot be captured; write -1 or x.flatten(1) where it does."
        ) from error
    if len(found) != len(wanted) or not all(map(_close, found, wanted)):
        raise Rot180Error(
            "The captured network does not reproduce the model's own output for the example. "
            "A model that computes with the number of its images, or changes while it runs, cannot "
            "be captured."
        )
    return max(map(_error, found, wanted))


def _error(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference over the largest value."""
    if not wanted.is_floating_point() or not wanted.isfinite().all():
        return 0.0
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))


def _close(found: Tensor, wanted: Tensor, roundings: int = 1000) -> bool:
    """Compare with a tolerance of so many roundings of the largest value."""
    if found.shape != wanted.shape:
        return False
    if not wanted.is_floating_point():
        return torch.equal(found, wanted)
    largest = wanted[wanted.isfinite()].abs().max() if wanted.isfinite().any() else 0.0
    tolerance = roundings * torch.finfo(wanted.dtype).eps * float(largest)
    return torch.allclose(found, wanted, rtol=0, atol=tolerance, equal_nan=True)
