"""Exports models that fail for a single image although they treat each of several alone.

``x.squeeze()`` removes the batch axis of a single image, too, and the next call names an axis that
is no longer there. Such a model is exported for any number of images from two on. Then that number
is set to one, and the graph is lowered like any other.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, ExportedProgram
from torch.utils._pytree import tree_map

_SYMBOLS: dict[type, Any] = {torch.SymInt: int, torch.SymBool: bool, torch.SymFloat: float}


class DoubledBatch(nn.Module):
    """A model that runs on a batch twice as large, its images repeated, and returns one half.

    Args:
        model: takes two images or more, and returns its tensors as a list.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the tensors of the first half."""
        twice = 2 * len(images)
        return [
            output[: len(images)] if output.ndim and len(output) == twice else output
            for output in self.model(torch.cat([images, images]))
        ]


def fails_for_one(model: nn.Module, image: Tensor) -> bool:
    """Say whether a model fails for one image (1, c, h, w), and not for two."""
    with torch.no_grad():
        try:
            model(torch.cat([image, image]))
        except Exception:
            return False
        try:
            model(image.clone())
        except Exception:
            return True
    return False


def export_for_several(model: nn.Module, image: Tensor) -> ExportedProgram:
    """Export a model for any number of images from two on."""
    images = torch.cat([image, image])
    return torch.export.export(model, (images,), dynamic_shapes=({0: Dim("images", min=2)},))


def set_one_image(graph: fx.Graph) -> None:
    """Set the number of images in a graph to one.

    Args:
        graph: its values have one free size, which is the number of images.
    """
    numbers: dict[fx.Node, Any] = {}
    mode = FakeTensorMode()
    for node in list(graph.nodes):
        node.args, node.kwargs = fx.node.map_arg(
            (node.args, node.kwargs), lambda argument: numbers.get(argument, argument)
        )
        value = node.meta.get("val")
        if isinstance(value, (int, float, bool, *_SYMBOLS)):
            numbers[node] = _number(value)
        elif value is not None:
            node.meta["val"] = tree_map(lambda leaf: _resized(leaf, mode), value)
    for node in reversed(list(graph.nodes)):
        if node in numbers or (node.op == "call_function" and node.meta.get("val") is None):
            graph.erase_node(node)


def _number(value: Any) -> Any:
    kind = _SYMBOLS.get(type(value))
    if kind is None:
        return value
    expression = value.node.expr
    return kind(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


def _resized(value: Any, mode: FakeTensorMode) -> Any:
    if not isinstance(value, Tensor):
        return value
    with mode:
        return torch.empty(
            [_number(size) for size in value.shape], dtype=value.dtype, device=value.device
        )
