"""A call in a captured graph as its reader sees it, and what a reader finds in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from rot180.graph.operators.fallback import GraphCall
from rot180.graph.operators.operator import MAPS, Axes, Operator


class Found(NamedTuple):
    """Operators, each taking the output of the one before it, and the results that go in.

    Without operators the call hands on its one input.
    """

    operators: tuple[Operator, ...]
    inputs: tuple[fx.Node, ...]


SAME = Found((), ())
"""What is found in a call that hands on its input."""


@dataclass(frozen=True)
class Call:
    """One call of the exported graph.

    Attributes:
        node: the call.
        given: its arguments by name. A tensor that the model owns stands for itself; a result that
            depends on the image is a :class:`torch.fx.Node`.
        results: those results, in their order, each once.
        axes: which axes of such a result are rows and columns.
        run: runs the call, given the values of the results (n, ...).
        of_the_image: whether a node of the graph depends on the image.
        constant: the value of a node that does not.
    """

    node: fx.Node
    given: Mapping[str, Any]
    results: tuple[fx.Node, ...]
    axes: Callable[[fx.Node], Axes | None]
    run: GraphCall
    of_the_image: Callable[[fx.Node], bool]
    constant: Callable[[fx.Node], Any]

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def get(self, name: str, missing: Any = None) -> Any:
        """Return an argument, or what stands for a missing one."""
        return self.given.get(name, missing)

    @property
    def target(self) -> Any:
        """The operator of the graph."""
        return self.node.target

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output, the batch axis included."""
        return shape_of(self.node)

    @property
    def source(self) -> fx.Node:
        """The first result that goes in."""
        return self.results[0]

    def is_complex(self) -> bool:
        """Say whether complex values go in or come out."""
        return any(
            isinstance(one.meta.get("val"), Tensor) and one.meta["val"].is_complex()
            for one in (self.node, *self.results)
        )

    def is_map(self, *results: fx.Node) -> bool:
        """Say whether these (or the first result) are maps (n, c, h, w)."""
        return all(
            self.axes(one) == MAPS and len(shape_of(one)) == 4 for one in results or (self.source,)
        )


Reader = Callable[[Call], "Operator | Found | None"]
"""Reads a call; None: it is not listed."""


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a result, the batch axis included; () for what is no tensor."""
    value = node.meta.get("val")
    value = value[0] if isinstance(value, tuple | list) and value else value
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def is_floating(node: fx.Node) -> bool:
    """Say whether a result holds numbers that a derivative can be taken by."""
    value: Any = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype in (
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    )
