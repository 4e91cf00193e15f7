"""The receptive fields of all positions of many layers at once.

``Network.receptive_field`` follows one unit down to the image. Here every row of every layer that
is asked for goes down in the same sweep, and then every column, by the same rules: the spans of all
of them at one step are an array, and what they look at below it is looked up in a table of what
each single position looks at.

Down, and not from the image up: where several steps look at one, what counts there is the smallest
span around all that they need, the positions in between included, and that depends on who looks.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from jaxtyping import Int64

from rot180.graph.box import COLUMNS, ROWS, Span
from rot180.graph.network import Layer, Network
from rot180.graph.operators.operator import Operator

Spans = Int64[np.ndarray, "2 k"]
"""The starts and the stops of k spans; (-1, -1) for one that nothing was said about yet."""

_FAR = np.iinfo(np.int64).max


def receptive_fields(
    network: Network, layers: Sequence[Layer]
) -> dict[str, tuple[Int64[np.ndarray, "h 2"], Int64[np.ndarray, "w 2"]]]:
    """Return the span of image rows that each row of each layer's maps sees; columns likewise.

    The box of the unit (y, x) is the product of the y-th span of rows and the x-th of columns, as
    ``network.receptive_field(layer, (y, x))`` gives it.

    Args:
        network: the network.
        layers: of the network.

    Returns:
        By the layer's name (start, stop) of each row and of each column, in pixels of the image and
        cut to it; stop is exclusive, and equal to start where nothing of the image is seen.
    """
    if not layers:
        return {}
    rows, columns = (_seen(network, layers, axis) for axis in (ROWS, COLUMNS))
    return {layer.name: (rows[layer.name], columns[layer.name]) for layer in layers}


def _seen(
    network: Network, layers: Sequence[Layer], axis: int
) -> dict[str, Int64[np.ndarray, "size 2"]]:
    """Return what each position of each layer sees along an axis: ``geometry.trace`` of them all.

    The positions of the last layer come first, so that those above a step are the first ones.
    """
    ordered = sorted(layers, key=lambda layer: layer.linear, reverse=True)
    sizes = [(layer.width if axis else layer.height) if layer.axes else 1 for layer in ordered]
    ends = list(accumulate(sizes))
    spans: dict[int, Spans] = {}
    for layer, size, end in zip(ordered, sizes, ends, strict=True):
        wanted = spans.setdefault(layer.linear, _nothing_said(ends[-1]))
        wanted[:, end - size : end] = np.arange(size), np.arange(1, size + 1)
    linear = np.array([-layer.linear for layer in ordered])
    for place in reversed(network.needed(*(layer.linear for layer in ordered))):
        above = ends[np.searchsorted(linear, -place, side="right") - 1]
        operator, inputs = network.steps[place].operator, network.steps[place].inputs
        below = tuple(network.size_of(one, axis) for one in inputs)
        span = spans.pop(place)[:, :above]
        needs = _needs(operator, axis, span, network.size_of(place, axis), below)
        for source, need in zip(inputs, needs, strict=True):
            if source not in spans:
                spans[source] = _nothing_said(ends[-1])
            _join(spans[source][:, :above], need)
    image = spans[-1].T
    return {
        layer.name: image[end - size : end]
        for layer, size, end in zip(ordered, sizes, ends, strict=True)
    }


def _nothing_said(count: int) -> Spans:
    return np.full((2, count), -1, np.int64)


def _needs(
    operator: Operator, axis: int, spans: Spans, size: int, below: tuple[int, ...]
) -> list[Spans]:
    """Return of each input, whose sizes are ``below``, what spans of a step's output look at."""
    held = np.flatnonzero(spans[1] > spans[0])
    found = []
    if operator.local:
        positions = [operator.reach(axis, Span(y, y + 1), below) for y in range(size)]
        starts, stops = spans[:, held]
    else:
        positions = [operator.reach(axis, Span(0, size), below)]
        starts, stops = np.zeros_like(held), np.ones_like(held)
    each = np.array(positions, np.int64).reshape(len(positions), len(below), 2)
    for number, room in enumerate(below):
        need = np.where(spans < 0, -1, np.int64(0))
        if len(held):
            first, last = _around(each[:, number].T, starts, stops)
            first = first.clip(0, room)
            need[:, held] = first, np.maximum(first, last.clip(None, room))
        found.append(need)
    return found


def _around(
    reached: Spans, starts: Int64[np.ndarray, " q"], stops: Int64[np.ndarray, " q"]
) -> Int64[np.ndarray, "2 q"]:
    """Return the smallest span around what the positions starts <= y < stops reach, each one its.

    Two runs of a power of two, one from the start and one up to the stop, cover such positions; the
    extremes of all runs of a length follow from those of half that length.
    """
    empty = reached[1] <= reached[0]
    low, high = np.where(empty, _FAR, reached[0]), np.where(empty, -_FAR, reached[1])
    found = np.empty((2, len(starts)), np.int64)
    powers = np.frexp(stops - starts)[1] - 1
    for power in range(powers.max() + 1):
        chosen, run = np.flatnonzero(powers == power), 2**power
        one, other = starts[chosen], stops[chosen] - run
        found[0, chosen] = np.minimum(low[one], low[other])
        found[1, chosen] = np.maximum(high[one], high[other])
        low, high = np.minimum(low[:-run], low[run:]), np.maximum(high[:-run], high[run:])
    nowhere = found[0] == _FAR
    found[:, nowhere] = reached[0, starts[nowhere]]
    return found


def _join(spans: Spans, needs: Spans) -> None:
    """Widen spans to what is needed as well; what is empty adds nothing to what was said before."""
    held, needed = spans[1] > spans[0], needs[1] > needs[0]
    both = held & needed
    wider = np.minimum(spans[0], needs[0]), np.maximum(spans[1], needs[1])
    new = (spans[0] < 0) | (needed & ~held)
    spans[:] = np.where(new, needs, np.where(both, wider, spans))
