"""Shows every tensor that a model computes on its way, and finds a layer's maps among them.

The maps that rot180 gives are looked for by their values. So it does not matter which module or
function of the model made them, nor in which order their axes stand.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

Seen = Callable[[Tensor], None]
Run = Callable[[Tensor, Seen], Any]
"""Runs a model on a batch of one image, and shows each tensor on the way."""

CLOSE = {
    torch.float64: 1e-5,  # a model in double precision may round to single on the way
    torch.float32: 1e-3,
    torch.float16: 5e-2,
    torch.bfloat16: 2e-1,
}
"""Differences, over the largest value, of maps that are taken for the same."""


class _Mode(TorchFunctionMode):
    """Shows what each function of PyTorch returns; what is called in between is not shown."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen, self.busy, self.detached = seen, False, False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if not self.busy:
            self.detached |= func in (Tensor.detach, Tensor.detach_, Tensor.data.__get__)
        self.show(found)
        return found

    def show(self, found: Any) -> None:
        if self.busy or not isinstance(found, Tensor | tuple | list):
            return
        self.busy = True
        try:
            for one in [found] if isinstance(found, Tensor) else found:
                if isinstance(one, Tensor) and one.is_floating_point():
                    self.seen(one)
        finally:
            self.busy = False


def eager(model: nn.Module) -> Run:
    """Return what runs the user's own model, no graph between."""

    def run(image: Tensor, seen: Seen) -> Any:
        mode = _Mode(seen)
        with _hooked(model, mode.show), mode:
            found = model(image)
        run.detached = mode.detached  # type: ignore[attr-defined]
        return found

    return run


@contextmanager
def _hooked(model: nn.Module, show: Callable[[Any], None]) -> Iterator[None]:
    """Show what modules return, too: a function with its own derivative is not seen otherwise."""
    hooks = []
    for module in model.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            hooks.append(module.register_forward_hook(lambda _, __, found: show(found)))
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


def exported(module: fx.GraphModule) -> Run:
    """Return what runs an exported graph node by node."""

    class Nodes(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            found = super().run_node(node)
            for one in tree_leaves(found) if node.op == "call_function" else []:
                if isinstance(one, Tensor) and one.is_floating_point():
                    self.seen(one)
            return found

    def run(image: Tensor, seen: Seen) -> Any:
        nodes = Nodes(module)
        nodes.seen = seen
        return nodes.run(image, enable_io_processing=False)

    return run


class Node(NamedTuple):
    """A node of an exported graph whose result some maps are.

    Attributes:
        name: of the node.
        shape: of its result.
        order: (c, h, w), where each value of the maps stands in it, as flat positions.
    """

    name: str
    shape: tuple[int, ...]
    order: Tensor


def node_of(module: fx.GraphModule, image: Tensor, maps: Tensor) -> Node | None:
    """Return the first node that gives these maps."""
    found: list[Node] = []

    class Names(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            value = super().run_node(node)
            first = value[0] if isinstance(value, tuple | list) and value else value
            if not found and node.op == "call_function" and isinstance(first, Tensor):
                order = located(first, maps)
                if order is not None:
                    found.append(Node(node.name, tuple(first.shape), order))
            return value

    with torch.no_grad():
        Names(module).run(image, enable_io_processing=False)
    return found[0] if found else None


def located(value: Tensor, maps: Tensor) -> Tensor | None:
    """Return where in a value the maps (c, h, w) stand, as flat positions; None: it has others."""
    if value.numel() != maps.numel() or not value.is_floating_point():
        return None
    value, maps = value.detach(), maps.detach()
    close = CLOSE[min(value.dtype, maps.dtype, key=lambda one: torch.finfo(one).bits)]
    flat = value.reshape(-1).to(maps.dtype)
    places = torch.arange(value.numel()).reshape(value.shape)
    for axis, size in enumerate(value.shape):
        if size == len(maps):
            order = places.movedim(axis, 0).reshape(maps.shape)
            if _same(flat[order], maps, close):
                return order
    (ours, i), (theirs, j) = flat.sort(), maps.flatten().sort()
    if not _same(ours, theirs, close):
        return None
    order = torch.empty_like(i)
    order[j] = i
    return order.reshape(maps.shape)


def _same(one: Tensor, other: Tensor, close: float) -> bool:
    return bool((one - other).abs().max() <= close * other.abs().max())
