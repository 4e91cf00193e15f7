"""What every operator of a captured network answers, and the words for it.

An operator of the captured graph is read (see :mod:`rot180.graph.lowerings`) into one of the
classes of this package. Each answers three questions, and everything else in rot180 follows from
the answers:

- ``forward(inputs, part)`` gives the output on a part of its map;
- ``backward(signal, kept, rules, part)`` carries a signal on that part back to each input, where
  the ``rules`` say what happens at a rectifier and at a maximum;
- ``reach(axis, span, sizes)`` tells which span of each input a span of the output depends on.

A whole map is a part like any other. On the way back a bias takes no part: a signal goes through
the linear part of a step only. The signals may be more than the images of the forward pass, if
that was one image: then all of them go back through it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from fractions import Fraction
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from rot180.graph.box import Box, Span
from rot180.graph.operators.backward_kind import LINEAR, BackwardKind

Axes = tuple[int, int]
"""Which axes of a tensor are rows and columns, counted from its end: (-2, -1) for (n, c, h, w)."""

MAPS: Axes = (-2, -1)
"""The axes of PyTorch's usual layout."""


class Margins(NamedTuple):
    """By how many rows and columns a step looks beyond the edges of an input."""

    top: int
    left: int
    bottom: int
    right: int


NO_MARGINS = Margins(0, 0, 0, 0)


class Part(NamedTuple):
    """The part of its maps that a step is computed on.

    Attributes:
        out: the box of the output.
        needs: for each input the box that it is given, which lies inside its map.
        margins: for each input how far the step looks beyond the edges of its map there.
        spare: whether the first input may be overwritten.
        spare_signal: whether the signal that arrives may be.
    """

    out: Box
    needs: tuple[Box, ...]
    margins: tuple[Margins, ...]
    spare: bool = False
    spare_signal: bool = False


class Kept(NamedTuple):
    """What a forward pass left for the way back through one step, on the part in question."""

    inputs: tuple[Tensor, ...] = ()
    output: Tensor | None = None
    switches: Tensor | None = None


NOTHING_KEPT = Kept()


class Looks(NamedTuple):
    """What of its forward pass an operator looks at on the way back."""

    inputs: bool = False
    output: bool = False


class Nominal(NamedTuple):
    """The reach far from every border: output y sees inputs from scale y + low, to scale y + high.

    ``high`` is exclusive, as the end of a span is.
    """

    scale: Fraction
    low: Fraction
    high: Fraction


SAME_PLACE = Nominal(Fraction(1), Fraction(0), Fraction(1))


@runtime_checkable
class Rules(Protocol):
    """What the way back does where the forward pass was not linear."""

    @property
    def method(self) -> str:
        """Name of the method, for messages."""
        ...

    @property
    def backward(self) -> str:
        """The method of the way back: "deconvnet", "gradient" or "guided"."""
        ...

    def rectify(
        self, signal: Tensor, derived: Callable[[Tensor], Tensor], spare: bool = False
    ) -> Tensor:
        """Carry a signal through a rectifier; ``derived`` multiplies with its derivative."""
        ...

    def unpool(self, signal: Tensor, switches: Tensor, pool: Any, part: Part) -> Tensor:
        """Carry a signal through a max pooling."""
        ...


class Operator(ABC):
    """One step of a network; what stands here fits one that acts on each position by itself.

    Attributes:
        local: whether a part of the output can be computed from a part of the inputs. Where it
            cannot, the step always takes and gives whole maps.
        fresh: whether its output is new memory, which nobody else holds.
        fresh_back: whether the signals that it hands back are.
        switches: whether its forward pass leaves switches.
        linear: whether it is, apart from a constant that is added.
    """

    local: bool = True
    fresh: bool = False
    fresh_back: bool = False
    switches: bool = False
    linear: bool = False

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the operator is, in a word or two."""

    @property
    def backward_kind(self) -> BackwardKind:
        """The kind of step that it is in the backward pass; one that is not linear has to say."""
        assert self.linear, f"{type(self).__name__} is not linear and has no backward_kind"
        return LINEAR

    @abstractmethod
    def forward(self, inputs: tuple[Any, ...], part: Part) -> tuple[Any, Tensor | None]:
        """Return the output on the part, and the switches of a max pooling."""

    @abstractmethod
    def backward(
        self, signal: Tensor, kept: Kept, rules: Rules, part: Part
    ) -> tuple[Tensor | None, ...]:
        """Return the signal at each input on the part (None where an input takes none)."""

    def looks_at(self, method: str | None) -> Looks:
        """Say what the way back needs under a method; None: under any."""
        return Looks()

    def reach(self, axis: int, span: Span, sizes: tuple[int, ...]) -> tuple[Span, ...]:
        """Return the span of each input, of the given sizes, that a span of the output looks at.

        What lies outside an input is padding. Of a step on whole maps, every input is looked at as
        a whole.
        """
        return tuple(span if self.local and size != 1 else Span(0, size) for size in sizes)

    def nominal(self, axis: int) -> Nominal | None:
        """Return the reach far from every border; None where there is no such thing."""
        return SAME_PLACE if self.local else None

    def situation(self, axis: int, span: Span) -> Hashable:
        """Return what tells this span from others of the same size, margins apart."""
        return None

    def axes(self, before: tuple[Axes | None, ...]) -> Axes | None:
        """Return the output's axes of rows and columns, given those of the inputs."""
        return next((one for one in before if one is not None), None) if self.local else None

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the output for one image, given the first input's."""
        return shape

    def multiply_adds(self, part: Part) -> int:
        """Return about how many products the forward pass of the part sums, for one image."""
        return 0


def pair(value: Any) -> tuple[int, int]:
    """Return (vertical, horizontal) for what PyTorch lets one write as one number or two."""
    values = [value] if isinstance(value, int) else list(value)
    return (int(values[0]), int(values[-1]))
