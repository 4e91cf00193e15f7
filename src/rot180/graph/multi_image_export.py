"""Models that fail for a single image, although they treat each of several as they would it alone.

``x.squeeze()`` takes the axis of a single image off, too, and the next call names an axis that is
no longer there. Such a model is exported for any number of images from two on; then one is put in
the place of that number, and the graph is read like any other.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, ExportedProgram
from torch.utils._pytree import tree_map

_SYMBOLS: dict[type, Any] = {torch.SymInt: int, torch.SymBool: bool, torch.SymFloat: float}


class Doubled(nn.Module):
    """A model that is shown its images twice, one set behind the other, and answers for one set.

    Args:
        model: takes two images or more, and returns its tensors as a list.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the tensors of the first set."""
        twice = 2 * len(images)
        return [
            one[: len(images)] if one.ndim and len(one) == twice else one
            for one in self.model(torch.cat([images, images]))
        ]


def fails_for_one(model: nn.Module, image: Tensor) -> bool:
    """Say whether a model of images fails for one (1, c, h, w), and not for two."""
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
    """Export a model of images for any number of them from two on."""
    images = torch.cat([image, image])
    return torch.export.export(model, (images,), dynamic_shapes=({0: Dim("images", min=2)},))


def with_one_image(graph: fx.Graph) -> None:
    """Put one in the place of the number of images, wherever a graph computes with it.

    Args:
        graph: its values have one free size.
    """
    numbers: dict[fx.Node, Any] = {}
    mode = FakeTensorMode()
    for node in list(graph.nodes):
        node.args, node.kwargs = fx.node.map_arg(
            (node.args, node.kwargs), lambda one: numbers.get(one, one)
        )
        value = node.meta.get("val")
        if isinstance(value, (int, float, bool, *_SYMBOLS)):
            numbers[node] = _number(value)
        elif value is not None:
            node.meta["val"] = tree_map(lambda one: _sized(one, mode), value)
    for node in reversed(list(graph.nodes)):
        if node in numbers or (node.op == "call_function" and node.meta.get("val") is None):
            graph.erase_node(node)


def _number(value: Any) -> Any:
    kind = _SYMBOLS.get(type(value))
    if kind is None:
        return value
    expression = value.node.expr
    return kind(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


def _sized(value: Any, mode: FakeTensorMode) -> Any:
    if not isinstance(value, Tensor):
        return value
    with mode:
        return torch.empty(
            [_number(one) for one in value.shape], dtype=value.dtype, device=value.device
        )
