"""A call of the captured graph as a lowering sees it, and what a lowering returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from rot180.graph.operators.fallback import GraphCall
from rot180.graph.operators.operator import MAPS, Axes, Operator


class Lowered(NamedTuple):
    """What a call is lowered to.

    Attributes:
        operators: each takes the output of the one before it; without any, the call returns its one
            input.
        inputs: the inputs of the first operator; empty for all that the call takes.
    """

    operators: tuple[Operator, ...]
    inputs: tuple[fx.Node, ...]


IDENTITY = Lowered((), ())
"""A call that returns its input."""


@dataclass(frozen=True)
class FxCall:
    """One call of the exported graph.

    Attributes:
        node: the call.
        arguments: its arguments by name. A tensor that the model owns stands for itself; a value
            that depends on the image is a :class:`torch.fx.Node`.
        inputs: those nodes, in order, each once.
        axes: returns which axes of such a node's value are rows and columns.
        run: makes the call, given the values (n, ...) of those nodes.
        depends_on_image: says whether a node of the graph depends on the image.
        constant: returns the value of a node that does not.
    """

    node: fx.Node
    arguments: Mapping[str, Any]
    inputs: tuple[fx.Node, ...]
    axes: Callable[[fx.Node], Axes | None]
    run: GraphCall
    depends_on_image: Callable[[fx.Node], bool]
    constant: Callable[[fx.Node], Any]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, missing: Any = None) -> Any:
        """Return an argument, or a default for a missing one."""
        return self.arguments.get(name, missing)

    @property
    def target(self) -> Any:
        """The ATen operator."""
        return self.node.target

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output, the batch axis included."""
        return shape_of(self.node)

    @property
    def source(self) -> fx.Node:
        """The first argument that depends on the image."""
        return self.inputs[0]

    def is_complex(self) -> bool:
        """Say whether an argument or the output is complex."""
        return any(
            isinstance(node.meta.get("val"), Tensor) and node.meta["val"].is_complex()
            for node in (self.node, *self.inputs)
        )

    def is_map(self, *nodes: fx.Node) -> bool:
        """Say whether these nodes (by default the source) are maps (n, c, h, w)."""
        return all(
            self.axes(node) == MAPS and len(shape_of(node)) == 4 for node in nodes or (self.source,)
        )


Lowering = Callable[[FxCall], "Operator | Lowered | None"]
"""Lowers a call to operators; None if it cannot, and nothing is guessed."""


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's value with the batch axis; () for what is no tensor."""
    value = node.meta.get("val")
    value = value[0] if isinstance(value, tuple | list) and value else value
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def is_floating(node: fx.Node) -> bool:
    """Say whether a node's value is a tensor of real floating-point numbers."""
    value: Any = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype in (
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    )
