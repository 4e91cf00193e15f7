"""The table of operators: how each call in a captured graph is read."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch

from rot180.errors import Rot180Error
from rot180.graph.operators import (
    BatchNorm,
    Convolution,
    Linear,
    MaxPool,
    Operator,
    Pass,
    Rectifier,
    Reshape,
)

aten = torch.ops.aten

Reader = Callable[[Mapping[str, Any]], Operator | None]
"""Makes an operator from the arguments of a call by name. A tensor that the model owns stands for
itself; the result of an earlier step is a :class:`torch.fx.Node`."""


def read_clamp(given: Mapping[str, Any]) -> Operator | None:
    """Read ``clamp``: the rectifier where only the lower end is cut, at zero; else not listed."""
    cut_above = given.get("max") is not None
    return Rectifier() if given["min"] == 0 and not cut_above else None


def read_dropout(given: Mapping[str, Any]) -> Operator:
    """Read ``dropout``, which has to be switched off."""
    if given["train"]:
        raise Rot180Error(
            "The model draws random numbers (dropout stays switched on although the model was put "
            "into evaluation mode). Pass training=self.training where it calls F.dropout."
        )
    return Pass("dropout")


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
    aten.clamp_min.default: read_clamp,
    aten.max_pool2d.default: MaxPool.read,
    aten.linear.default: Linear.read,
    aten.dropout.default: read_dropout,
    aten.alias.default: lambda given: Pass("copy"),
    aten.clone.default: lambda given: Pass("copy"),
    aten.detach.default: lambda given: Pass("copy"),
    aten.detach_.default: lambda given: Pass("copy"),
    aten.contiguous.default: lambda given: Pass("copy"),
}
"""Operator of the captured graph -> how it is read (None: then it is unlisted)."""

RESHAPES = {
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
}
"""Operators that are read by the shapes before and after them, whatever their arguments say."""
