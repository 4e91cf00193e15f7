"""The interface of an operator of a captured network, and the types in it.

A call of the captured graph is lowered (see :mod:`rot180.graph.lowerings`) to one of the classes of
this package. Each gives three answers, and everything else in rot180 follows from them:

- ``forward(inputs, region)`` returns the output on a region of its map;
- ``backward(signal, saved, rules, region)`` carries a signal on that region back to each input; the
  ``rules`` of the method decide at rectifiers and at maxima;
- ``input_span(axis, span, sizes)`` returns the span of each input that a span of the output needs.

A whole map is a region like any other. Constants such as a bias have no part in the backward pass:
a signal goes through the linear part of a step only. If the forward pass was that of one image,
there may be many signals; then all of them go back through that one image.
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


class Padding(NamedTuple):
    """By how many rows and columns a step reaches beyond the edges of an input."""

    top: int
    left: int
    bottom: int
    right: int


NO_PADDING = Padding(0, 0, 0, 0)


class Region(NamedTuple):
    """The region of its maps that a step is computed on.

    Attributes:
        out: the box of the output.
        needs: for each input, the box that the step is given; it lies inside the input's map.
        padding: for each input, how far the step reaches beyond the edges of the map there.
        may_overwrite_input: whether the first input may be overwritten.
        may_overwrite_signal: whether the signal that arrives may be overwritten.
    """

    out: Box
    needs: tuple[Box, ...]
    padding: tuple[Padding, ...]
    may_overwrite_input: bool = False
    may_overwrite_signal: bool = False


class Saved(NamedTuple):
    """The tensors of the forward pass that one step's backward pass needs, on its region."""

    inputs: tuple[Tensor, ...] = ()
    output: Tensor | None = None
    switches: Tensor | None = None


NOTHING_SAVED = Saved()


class BackwardNeeds(NamedTuple):
    """Which forward tensors the operator's backward pass needs."""

    inputs: bool = False
    output: bool = False


class InteriorField(NamedTuple):
    """The input span of one output position, far from every border.

    Output y needs the inputs from scale y + low up to, but not including, scale y + high.
    """

    scale: Fraction
    low: Fraction
    high: Fraction


IDENTITY_FIELD = InteriorField(Fraction(1), Fraction(0), Fraction(1))
"""Output y needs input y."""


@runtime_checkable
class MethodRules(Protocol):
    """A method's rules for the steps that are not linear."""

    @property
    def method(self) -> str:
        """Name of the method, for messages."""
        ...

    @property
    def backward(self) -> str:
        """Name of the backward pass: "deconvnet", "gradient" or "guided"."""
        ...

    def rectify(
        self, signal: Tensor, vjp: Callable[[Tensor], Tensor], may_overwrite: bool = False
    ) -> Tensor:
        """Carry a signal back through a rectifier; ``vjp`` multiplies by its derivative."""
        ...

    def unpool(self, signal: Tensor, switches: Tensor, pool: Any, region: Region) -> Tensor:
        """Carry a signal back through a max pooling."""
        ...


class Operator(ABC):
    """One step of a network; the defaults are those of a step that acts on each position alone.

    Attributes:
        local: whether a region of the output can be computed from regions of the inputs. If not,
            the step always takes and gives whole maps.
        allocates_output: whether its output is new memory that nobody else holds.
        allocates_signal: whether the signals that its backward pass returns are new memory.
        switches: whether its forward pass returns switches.
        linear: whether it is linear, apart from a constant that is added.
    """

    local: bool = True
    allocates_output: bool = False
    allocates_signal: bool = False
    switches: bool = False
    linear: bool = False

    @property
    @abstractmethod
    def kind(self) -> str:
        """Name of the operator, in a word or two."""

    @property
    def backward_kind(self) -> BackwardKind:
        """The kind of step that it is in the backward pass; one that is not linear has to say."""
        assert self.linear, f"{type(self).__name__} is not linear and has no backward_kind"
        return LINEAR

    @abstractmethod
    def forward(self, inputs: tuple[Any, ...], region: Region) -> tuple[Any, Tensor | None]:
        """Return the output on the region, and the switches of a max pooling."""

    @abstractmethod
    def backward(
        self, signal: Tensor, saved: Saved, rules: MethodRules, region: Region
    ) -> tuple[Tensor | None, ...]:
        """Return the signal at each input on the region; None for an input that takes none."""

    def backward_needs(self, method: str | None) -> BackwardNeeds:
        """Return what the backward pass of a method needs; None stands for any method."""
        return BackwardNeeds()

    def input_span(self, axis: int, span: Span, sizes: tuple[int, ...]) -> tuple[Span, ...]:
        """Return the span of each input that a span of the output needs.

        What lies outside an input is padding. A step on whole maps needs all of every input.

        Args:
            axis: rows or columns.
            span: of the output.
            sizes: sizes of the inputs along the axis.
        """
        return tuple(span if self.local and size != 1 else Span(0, size) for size in sizes)

    def interior_field(self, axis: int) -> InteriorField | None:
        """Return the input span far from every border; None where there is no such thing."""
        return IDENTITY_FIELD if self.local else None

    def alignment(self, axis: int, span: Span) -> Hashable:
        """Return what distinguishes this span from others of the same size, padding apart."""
        return None

    def output_axes(self, input_axes: tuple[Axes | None, ...]) -> Axes | None:
        """Return the output's axes of rows and columns, given those of the inputs."""
        return next((axes for axes in input_axes if axes is not None), None) if self.local else None

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the output for one image, given that of the first input."""
        return shape

    def macs(self, region: Region) -> int:
        """Return about how many products the forward pass of the region sums, for one image."""
        return 0


def pair(value: Any) -> tuple[int, int]:
    """Return (vertical, horizontal) for an argument that may be one number or two."""
    values = [value] if isinstance(value, int) else list(value)
    return (int(values[0]), int(values[-1]))
