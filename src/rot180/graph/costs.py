"""What units cost: the products below each layer that its middle unit needs, of all layers at once.

A plan of each unit (:class:`rot180.graph.plan.Plan`) says it, too; but the plans of all layers take
the square of the depth of the network. Here the spans of all layers go down to the image in one
sweep, by the same rules, and what is the same for many of them is looked up once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from rot180.graph.box import COLUMNS, ROWS, Box, Span
from rot180.graph.network import Layer, Network
from rot180.graph.operators.operator import Operator, Part

_FAR = np.iinfo(np.int32).max
"""Where an empty span starts, and, negative, where it stops: whatever it is joined with remains."""


class _Looked(NamedTuple):
    """What spans of the output of a step look at along an axis, each one that differs once.

    Attributes:
        outs: the spans that differ; of a step on whole maps, all of them.
        needs: for each of them the span of each input, cut to its map.
        which: the number of each span among these.
    """

    outs: list[Span]
    needs: list[tuple[Span, ...]]
    which: Int64[np.ndarray, " k"]


def shares(network: Network, layers: Sequence[Layer]) -> dict[str, float]:
    """Return what the unit in the middle of a layer's maps needs, over what its whole maps need.

    Both are products that a forward pass sums in the steps below the layer.

    Args:
        network: the network.
        layers: of the network.

    Returns:
        By the layer's name; 0 where there is nothing below that sums products.
    """
    ordered = sorted(layers, key=lambda layer: layer.linear, reverse=True)
    unit, whole = _products(network, ordered).reshape(-1, 2).T.tolist()
    share = {
        layer.name: one / all_of_it if all_of_it else 0.0
        for layer, one, all_of_it in zip(ordered, unit, whole, strict=True)
    }
    return {layer.name: share[layer.name] for layer in layers}


def _products(network: Network, ordered: Sequence[Layer]) -> Int64[np.ndarray, " k"]:
    """Return, of the middle unit and of the whole maps of each layer, the products below it.

    The last layer comes first, so that the spans of those above a step are the first ones.
    """
    total = np.zeros(2 * len(ordered), np.int64)
    spans: dict[int, Int64[np.ndarray, "2 2 k"]] = {}
    begun = 0
    for place in reversed(network.needed(*(layer.linear for layer in ordered))):
        step, above = network.steps[place], 2 * begun
        here = spans.pop(place, None)
        if here is None:
            here = _nothing(len(total))
        while begun < len(ordered) and ordered[begun].linear == place:
            here[..., 2 * begun : 2 * begun + 2] = _wanted(ordered[begun])
            begun += 1
        rows, columns = (
            _looked(
                step.operator,
                axis,
                here[axis, :, : 2 * begun],
                network.size_of(place, axis),
                tuple(network.size_of(one, axis) for one in step.inputs),
            )
            for axis in (ROWS, COLUMNS)
        )
        if network.products[place]:  # a part of the maps takes none where the whole takes none
            total[:above] += _counted(step.operator, rows, columns)[:above]
        for axis, one in ((ROWS, rows), (COLUMNS, columns)):
            needs = np.array([list(map(_held, need)) for need in one.needs], np.int64)
            for number, source in enumerate(step.inputs):
                if source < 0:
                    continue  # no step gives the image
                if source not in spans:
                    spans[source] = _nothing(len(total))
                starts, stops = spans[source][axis, :, : 2 * begun]
                found = needs[one.which, number].T
                np.minimum(starts, found[0], out=starts)
                np.maximum(stops, found[1], out=stops)
    return total


def _nothing(count: int) -> Int64[np.ndarray, "2 2 k"]:
    """Return empty spans, rows and columns: (axis, start or stop, number)."""
    return np.tile(np.array([[_FAR], [-_FAR]]), (2, 1, count))


def _held(span: Span) -> Span:
    return span if span.size else Span(_FAR, -_FAR)


def _wanted(layer: Layer) -> Int64[np.ndarray, "2 2 2"]:
    """Return the spans of the middle unit and of the whole maps: (axis, start or stop, which)."""
    sizes = (layer.height, layer.width) if layer.axes else (1, 1)
    return np.array([[[size // 2, 0], [size // 2 + 1, size]] for size in sizes], np.int64)


def _looked(
    operator: Operator,
    axis: int,
    spans: Int64[np.ndarray, "2 k"],
    size: int,
    below: tuple[int, ...],
) -> _Looked:
    """Return what spans of a step's output, of ``size`` positions, look at."""
    starts, stops = spans
    number = np.where(stops > starts, starts * (size + 1) + stops, 0)
    different, which = np.unique(number, return_inverse=True)
    outs = [Span(*divmod(one, size + 1)) for one in different.tolist()]
    if not operator.local:
        outs = [Span(0, size) if one.size else one for one in outs]
    needs = [
        tuple(
            need.clipped(room)
            for need, room in zip(operator.reach(axis, one, below), below, strict=True)
        )
        if one.size
        else (Span(0, 0),) * len(below)
        for one in outs
    ]
    return _Looked(outs, needs, which)


def _counted(operator: Operator, rows: _Looked, columns: _Looked) -> Int64[np.ndarray, " k"]:
    """Return the products that a step sums on each of k parts of its maps."""
    pairs = rows.which * len(columns.outs) + columns.which
    different, which = np.unique(pairs, return_inverse=True)
    counts = []
    for pair in different.tolist():
        row, column = divmod(pair, len(columns.outs))
        needs = tuple(map(Box.of, rows.needs[row], columns.needs[column]))
        part = Part(Box.of(rows.outs[row], columns.outs[column]), needs, ())
        counts.append(operator.multiply_adds(part))
    return np.array(counts, np.int64)[which]
