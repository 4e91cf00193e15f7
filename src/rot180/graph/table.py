"""The table of operators: how each call in a captured graph is read."""

from collections.abc import Callable, Mapping
from math import inf, prod
from typing import Any

import torch
from torch import fx

from rot180.graph.operators import (
    BatchNorm,
    Convolution,
    Detach,
    Linear,
    MaxPool,
    Operator,
    Pass,
    Rectifier,
    Reshape,
    Sum,
)

aten = torch.ops.aten

Reader = Callable[[Mapping[str, Any]], Operator | None]
"""Makes an operator from the arguments of a call by name. A tensor that the model owns stands for
itself; a result that depends on the image is a :class:`torch.fx.Node`. None: it is not listed."""


def read_clamp(given: Mapping[str, Any]) -> Operator | None:
    """Read ``clamp``: the rectifier where only the lower end is cut, at zero."""
    return Rectifier() if given["min"] == 0 and given.get("max") in (None, inf) else None


def read_threshold(given: Mapping[str, Any]) -> Operator | None:
    """Read ``threshold``: the rectifier where all below zero becomes zero."""
    return Rectifier() if given["threshold"] == given["value"] == 0 else None


def read_max_pool(given: Mapping[str, Any]) -> Operator | None:
    """Read max pooling of batches of maps."""
    return MaxPool.read(given) if len(given["self"].meta["val"].shape) == 4 else None


def read_sum(given: Mapping[str, Any]) -> Operator | None:
    """Read ``add``: of two results of one shape, or of a result and a constant for each image."""
    terms, factor = (given["self"], given["other"]), given["alpha"]
    results = [one for one in terms if isinstance(one, fx.Node)]
    shapes = [tuple(one.meta["val"].shape) for one in results]
    if factor != 1 or len(set(shapes)) != 1:
        return None
    constants = [one for one in terms if not isinstance(one, fx.Node)]
    if not constants:
        return Sum(None)
    shape = getattr(constants[0], "shape", ())
    fits = all(k in (1, n) for k, n in zip(reversed(shape), reversed(shapes[0]), strict=False))
    return Sum(constants[0]) if fits and len(shape) < len(shapes[0]) else None


def per_image(before: tuple[int, ...], after: tuple[int, ...]) -> Operator | None:
    """Read a change of shape that leaves each image of the batch by itself."""
    by_itself = before[0] == after[0] and prod(before) == prod(after)
    return Reshape(tuple(after[1:])) if by_itself else None


TABLE: dict[Any, Reader] = {
    aten.conv2d.default: Convolution.read,
    aten.conv2d.padding: Convolution.read,
    aten._native_batch_norm_legit_no_training.default: BatchNorm.read,
    aten.relu.default: lambda given: Rectifier(),
    aten.clamp.default: read_clamp,
    aten.clip.default: read_clamp,
    aten.clamp_min.default: read_clamp,
    aten.threshold.default: read_threshold,
    aten.max_pool2d.default: read_max_pool,
    aten.max_pool2d_with_indices.default: read_max_pool,
    aten.linear.default: Linear.read,
    aten.add.Tensor: read_sum,
    aten.detach.default: lambda given: Detach(),
    aten.alias.default: lambda given: Pass(),
    aten.clone.default: lambda given: Pass(),
}
"""Operator of the captured graph -> how it is read."""

FIRST_OF_SEVERAL = (BatchNorm, MaxPool)
"""Operators that have several outputs in a graph, of which only the first is a result."""

RESHAPES = {
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
}
"""Operators that are read by the shapes before and after them, whatever their arguments say."""
