"""Lowerings of normalisations, by stored statistics or by those of the values themselves."""

from typing import Any

import torch
from torch import fx

from rot180.graph.lowerings.fx_call import FxCall, Lowering, shape_of
from rot180.graph.operators.normalisation import BatchNorm, GroupNorm, LayerNorm
from rot180.graph.operators.operator import Operator

aten = torch.ops.aten


def _computed(call: FxCall, *names: str) -> bool:
    """Say whether one of these arguments depends on the image, which no lowering allows."""
    return any(isinstance(call.get(name), fx.Node) for name in names)


def _beside_maps(call: FxCall, *axes: int) -> bool:
    """Say whether these axes, counted from the end, are neither rows nor columns."""
    return not set(axes) & set(call.axes(call.source) or ())


_STORED = ("weight", "bias", "running_mean", "running_var")


def _batch_norm(call: FxCall) -> Operator | None:
    """Lower normalisation by stored statistics, of the channels of an input (n, c, ...)."""
    if _computed(call, *_STORED) or call.get("training"):
        return None
    return BatchNorm.read(call.arguments, _beside_maps(call, 1 - len(shape_of(call.source))))


def _instance_norm(call: FxCall) -> Operator | None:
    """Lower instance norm (n, c, ...), which may have stored statistics, too."""
    if not call["use_input_stats"]:
        return _batch_norm(call)
    return _of_groups(call, "instance norm", shape_of(call.source)[1])


def _group_norm(call: FxCall) -> Operator | None:
    """Lower group norm (n, c, ...)."""
    return _of_groups(call, "group norm", call["num_groups"])


def _of_groups(call: FxCall, name: str, groups: int) -> Operator | None:
    if _computed(call, *_STORED):
        return None
    normalised = range(1 - len(shape_of(call.source)), 0)  # the channels and all axes after them
    local = _beside_maps(call, *normalised)
    return GroupNorm(name, groups, call["weight"], call["bias"], call["eps"], local)


def _layer_norm(call: FxCall) -> Operator | None:
    """Lower layer norm; over the channels alone it works at each position."""
    return _of_last_axes(call, call["eps"], centred=True)


def _rms_norm(call: FxCall) -> Operator | None:
    """Read RMS norm; without eps it adds the smallest step of numbers at 1."""
    eps = call.get("eps")
    if eps is None:
        eps = torch.finfo(call.source.meta["val"].dtype).eps
    return _of_last_axes(call, eps, centred=False)


def _of_last_axes(call: FxCall, eps: float, centred: bool) -> Operator | None:
    shape = tuple(call["normalized_shape"])
    if _computed(call, "weight", "bias") or len(shape) == len(shape_of(call.source)):
        return None  # with all axes, that of the images would be one of them
    local = _beside_maps(call, *range(-len(shape), 0))
    return LayerNorm(shape, call["weight"], call.get("bias"), eps, local, centred)


NORMALISATIONS: dict[Any, Lowering] = {
    aten.batch_norm.default: _batch_norm,
    aten._native_batch_norm_legit_no_training.default: _batch_norm,
    aten.instance_norm.default: _instance_norm,
    aten.group_norm.default: _group_norm,
    aten.layer_norm.default: _layer_norm,
    aten.rms_norm.default: _rms_norm,
}
"""ATen operator -> its lowering."""
