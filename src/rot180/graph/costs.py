"""The cost of units: the products below a layer that its middle unit needs, for all layers at once.

The plan of a unit (:class:`rot180.graph.plan.Plan`) says the same, but the plans of all layers take
time with the square of the network's depth. Here the spans of all layers go down to the image in
one sweep, by the same rules, and what many of them have in common is computed once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from rot180.graph.box import COLUMNS, ROWS, Box, Span
from rot180.graph.network import Layer, Network
from rot180.graph.operators.operator import Operator, Region

_FAR = np.iinfo(np.int32).max
"""Start of an empty span and, negative, its stop: joined with another span it changes nothing."""


class _Needs(NamedTuple):
    """What spans of a step's output need along an axis, once for each distinct span.

    Attributes:
        outs: the distinct spans; for a step on whole maps, each of them covers the map.
        needs: for each of them the span of each input, cut to its map.
        which: for each of the k spans, its number among the distinct ones.
    """

    outs: list[Span]
    needs: list[tuple[Span, ...]]
    which: Int64[np.ndarray, " k"]


def shares(network: Network, layers: Sequence[Layer]) -> dict[str, float]:
    """Return the cost of the unit in the middle of each layer's maps, relative to the whole maps.

    The cost is the number of products that a forward pass sums in the steps below the layer.

    Args:
        network: the network.
        layers: layers of the network.

    Returns:
        The share by the layer's name; 0 where no step below the layer sums products.
    """
    ordered = sorted(layers, key=lambda layer: layer.weight_step, reverse=True)
    unit_macs, full_macs = _macs(network, ordered).reshape(-1, 2).T.tolist()
    share = {
        layer.name: unit / full if full else 0.0
        for layer, unit, full in zip(ordered, unit_macs, full_macs, strict=True)
    }
    return {layer.name: share[layer.name] for layer in layers}


def _macs(network: Network, ordered: Sequence[Layer]) -> Int64[np.ndarray, " k"]:
    """Return the products below each layer, for its middle unit and for its whole maps, in turn.

    The last layer comes first, so that the spans of the layers above a step are the first ones.
    """
    total = np.zeros(2 * len(ordered), np.int64)
    spans: dict[int, Int64[np.ndarray, "2 2 k"]] = {}
    begun = 0
    for index in reversed(network.ancestors(*(layer.weight_step for layer in ordered))):
        step, above = network.steps[index], 2 * begun
        here = spans.pop(index, None)
        if here is None:
            here = _empty_spans(len(total))
        while begun < len(ordered) and ordered[begun].weight_step == index:
            here[..., 2 * begun : 2 * begun + 2] = _wanted(ordered[begun])
            begun += 1
        rows, columns = (
            _needs(
                step.operator,
                axis,
                here[axis, :, : 2 * begun],
                network.axis_size(index, axis),
                tuple(network.axis_size(source, axis) for source in step.inputs),
            )
            for axis in (ROWS, COLUMNS)
        )
        if network.step_macs[index]:  # where whole maps take no products, neither do regions
            total[:above] += _step_macs(step.operator, rows, columns)[:above]
        for axis, along in ((ROWS, rows), (COLUMNS, columns)):
            needs = np.array([list(map(_or_far, need)) for need in along.needs], np.int64)
            for number, source in enumerate(step.inputs):
                if source < 0:
                    continue  # no step gives the image
                if source not in spans:
                    spans[source] = _empty_spans(len(total))
                starts, stops = spans[source][axis, :, : 2 * begun]
                needed = needs[along.which, number].T
                np.minimum(starts, needed[0], out=starts)
                np.maximum(stops, needed[1], out=stops)
    return total


def _empty_spans(count: int) -> Int64[np.ndarray, "2 2 k"]:
    """Return empty spans: (axis, start or stop, number)."""
    return np.tile(np.array([[_FAR], [-_FAR]]), (2, 1, count))


def _or_far(span: Span) -> Span:
    return span if span.size else Span(_FAR, -_FAR)


def _wanted(layer: Layer) -> Int64[np.ndarray, "2 2 2"]:
    """Return the spans of the middle unit and of the whole maps: (axis, start or stop, which)."""
    sizes = (layer.height, layer.width) if layer.axes else (1, 1)
    return np.array([[[size // 2, 0], [size // 2 + 1, size]] for size in sizes], np.int64)


def _needs(
    operator: Operator,
    axis: int,
    spans: Int64[np.ndarray, "2 k"],
    size: int,
    input_sizes: tuple[int, ...],
) -> _Needs:
    """Return what spans of a step's output, which has ``size`` positions, need of its inputs."""
    starts, stops = spans
    number = np.where(stops > starts, starts * (size + 1) + stops, 0)
    distinct, which = np.unique(number, return_inverse=True)
    outs = [Span(*divmod(one, size + 1)) for one in distinct.tolist()]
    if not operator.local:
        outs = [Span(0, size) if out.size else out for out in outs]
    needs = [
        tuple(
            need.clipped(input_size)
            for need, input_size in zip(
                operator.input_span(axis, out, input_sizes), input_sizes, strict=True
            )
        )
        if out.size
        else (Span(0, 0),) * len(input_sizes)
        for out in outs
    ]
    return _Needs(outs, needs, which)


def _step_macs(operator: Operator, rows: _Needs, columns: _Needs) -> Int64[np.ndarray, " k"]:
    """Return the products that a step sums on each of k regions of its maps."""
    pairs = rows.which * len(columns.outs) + columns.which
    distinct, which = np.unique(pairs, return_inverse=True)
    counts = []
    for pair in distinct.tolist():
        row, column = divmod(pair, len(columns.outs))
        needs = tuple(map(Box.of, rows.needs[row], columns.needs[column]))
        region = Region(Box.of(rows.outs[row], columns.outs[column]), needs, ())
        counts.append(operator.macs(region))
    return np.array(counts, np.int64)[which]
