"""The receptive fields of all positions of many layers at once.

``Network.receptive_field`` follows one unit down to the image. Here every row of every layer goes
down in one sweep, and then every column, by the same rules: their spans at one step are an array,
and what each single position of the step needs below it is looked up in a table.

The sweep goes down from the layers and not up from the image. Where several steps need the output
of one, the smallest span around all their needs counts, including the positions in between, and
that depends on the layer that asks.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from jaxtyping import Int64

from rot180.graph.box import COLUMNS, ROWS, Span
from rot180.graph.network import Layer, Network
from rot180.graph.operators.operator import Operator

Spans = Int64[np.ndarray, "2 k"]
"""The starts and the stops of k spans; (-1, -1) for one that is not known yet."""

_FAR = np.iinfo(np.int64).max


def receptive_fields(
    network: Network, layers: Sequence[Layer]
) -> dict[str, tuple[Int64[np.ndarray, "h 2"], Int64[np.ndarray, "w 2"]]]:
    """Return the span of image rows that each row of each layer's maps sees; columns likewise.

    The receptive field of the unit (y, x), which ``network.receptive_field(layer, (y, x))`` gives,
    is the product of the y-th span of rows and the x-th span of columns.

    Args:
        network: the network.
        layers: layers of the network.

    Returns:
        By the layer's name (start, stop) of each row and of each column, in pixels of the image and
        cut to it; stop is exclusive, and equal to start where nothing of the image is seen.
    """
    if not layers:
        return {}
    rows, columns = (_along(network, layers, axis) for axis in (ROWS, COLUMNS))
    return {layer.name: (rows[layer.name], columns[layer.name]) for layer in layers}


def _along(
    network: Network, layers: Sequence[Layer], axis: int
) -> dict[str, Int64[np.ndarray, "size 2"]]:
    """Return what each position of each layer sees along an axis: ``trace_spans`` of them all.

    The positions of the last layer come first, so that those above a step are the first ones.
    """
    ordered = sorted(layers, key=lambda layer: layer.weight_step, reverse=True)
    sizes = [(layer.width if axis else layer.height) if layer.axes else 1 for layer in ordered]
    ends = list(accumulate(sizes))
    spans: dict[int, Spans] = {}
    for layer, size, end in zip(ordered, sizes, ends, strict=True):
        wanted = spans.setdefault(layer.weight_step, _unknown(ends[-1]))
        wanted[:, end - size : end] = np.arange(size), np.arange(1, size + 1)
    weight_steps = np.array([-layer.weight_step for layer in ordered])
    for index in reversed(network.ancestors(*(layer.weight_step for layer in ordered))):
        above = ends[np.searchsorted(weight_steps, -index, side="right") - 1]
        operator, inputs = network.steps[index].operator, network.steps[index].inputs
        input_sizes = tuple(network.axis_size(source, axis) for source in inputs)
        span = spans.pop(index)[:, :above]
        needs = _needs(operator, axis, span, network.axis_size(index, axis), input_sizes)
        for source, need in zip(inputs, needs, strict=True):
            if source not in spans:
                spans[source] = _unknown(ends[-1])
            _join(spans[source][:, :above], need)
    image = spans[-1].T
    return {
        layer.name: image[end - size : end]
        for layer, size, end in zip(ordered, sizes, ends, strict=True)
    }


def _unknown(count: int) -> Spans:
    return np.full((2, count), -1, np.int64)


def _needs(
    operator: Operator, axis: int, spans: Spans, size: int, input_sizes: tuple[int, ...]
) -> list[Spans]:
    """Return for each input the spans that spans of a step's output need."""
    filled = np.flatnonzero(spans[1] > spans[0])
    if operator.local:
        positions = [operator.input_span(axis, Span(y, y + 1), input_sizes) for y in range(size)]
        starts, stops = spans[:, filled]
    else:
        positions = [operator.input_span(axis, Span(0, size), input_sizes)]
        starts, stops = np.zeros_like(filled), np.ones_like(filled)
    table = np.array(positions, np.int64).reshape(len(positions), len(input_sizes), 2)
    needs = []
    for number, input_size in enumerate(input_sizes):
        need = np.where(spans < 0, -1, np.int64(0))
        if len(filled):
            first, last = _around(table[:, number].T, starts, stops)
            first = first.clip(0, input_size)
            need[:, filled] = first, np.maximum(first, last.clip(None, input_size))
        needs.append(need)
    return needs


def _around(
    position_needs: Spans, starts: Int64[np.ndarray, " q"], stops: Int64[np.ndarray, " q"]
) -> Int64[np.ndarray, "2 q"]:
    """Return the smallest span around the needs of the positions starts <= y < stops, for each q.

    Two runs of a power of two, one from the start and one up to the stop, cover such positions; the
    extremes of all runs of a length follow from those of half that length.
    """
    empty = position_needs[1] <= position_needs[0]
    low = np.where(empty, _FAR, position_needs[0])
    high = np.where(empty, -_FAR, position_needs[1])
    around = np.empty((2, len(starts)), np.int64)
    powers = np.frexp(stops - starts)[1] - 1
    for power in range(powers.max() + 1):
        chosen, run = np.flatnonzero(powers == power), 2**power
        first, second = starts[chosen], stops[chosen] - run
        around[0, chosen] = np.minimum(low[first], low[second])
        around[1, chosen] = np.maximum(high[first], high[second])
        low, high = np.minimum(low[:-run], low[run:]), np.maximum(high[:-run], high[run:])
    nowhere = around[0] == _FAR
    around[:, nowhere] = position_needs[0, starts[nowhere]]
    return around


def _join(spans: Spans, needs: Spans) -> None:
    """Widen spans by what is needed in addition; an empty need changes no known span."""
    filled, needed = spans[1] > spans[0], needs[1] > needs[0]
    both = filled & needed
    wider = np.minimum(spans[0], needs[0]), np.maximum(spans[1], needs[1])
    new = (spans[0] < 0) | (needed & ~filled)
    spans[:] = np.where(new, needs, np.where(both, wider, spans))
