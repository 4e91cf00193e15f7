"""The rows of an atlas' tables, made from the state of a scan."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from rot180.atlas.accumulator import ScanState, bin_edges
from rot180.atlas.correlation import most_correlated
from rot180.atlas.statistics import STATISTICS, StatisticInputs, class_means
from rot180.graph.box import Box, Span

RESPONSES = 16
"""Of so many classes at most the mean peak of a feature is named."""

Rows = Iterator[tuple[Any, ...]]
Spans = Int64[np.ndarray, "places 2"]


class ReceptiveFields(NamedTuple):
    """What the rows and columns of a layer's maps see of the image.

    Attributes:
        rows: (start, stop) for each row, in pixels, stop exclusive.
        columns: likewise for each column.
    """

    rows: Spans
    columns: Spans

    def box(self, position: tuple[int, int]) -> Box:
        """Return the receptive field of a position (y, x) of the maps."""
        y, x = position
        return Box.of(Span(*self.rows[y].tolist()), Span(*self.columns[x].tolist()))


def feature_rows(state: ScanState) -> Rows:
    """Yield every feature with its statistics, in the order of the table's columns."""
    inputs = StatisticInputs(state)
    columns = [
        [statistic.stored(value) for value in statistic.compute(inputs).tolist()]
        if state.images
        else [None] * state.index.features
        for statistic in STATISTICS
    ]
    rows = zip(*columns, strict=True)
    number = 0
    for layer in state.index.layers:
        for channel in range(layer.channels):
            yield (number, layer.name, channel, *next(rows))
            number += 1


def example_rows(state: ScanState, fields: dict[str, ReceptiveFields]) -> Rows:
    """Give every example with its receptive field."""
    for number, part in enumerate(state.index.layers):
        of = state.index.slice_of(number)
        y, x = np.divmod(state.best_position[of], part.width)
        rows, columns = fields[part.name]
        feature = np.arange(of.start, of.stop)[:, None]
        rank = np.arange(state.index.examples)[None, :]
        found = (
            feature + 0 * rank,
            rank + 0 * feature,
            state.best_image[of],
            state.best[of].astype(np.float64),
            state.best_strength[of].astype(np.float64),
            y,
            x,
            rows[y, 0],
            columns[x, 0],
            rows[y, 1],
            columns[x, 1],
        )
        there = state.best_image[of] >= 0
        yield from zip(*(one[there].tolist() for one in found), strict=True)


def histogram_rows(state: ScanState) -> Rows:
    """Give the bins of every histogram in which there are images."""
    edges = bin_edges().astype(np.float64)
    features, bins = state.histogram.nonzero()
    scales = state.index.scales[features]
    # A bin goes up to the next one's lower end; zero is a bin of its own, which has no width.
    highs = np.concatenate([edges[1:], [np.inf]])
    low, high = edges[bins] * scales, highs[bins] * scales
    counts = state.histogram[features, bins]
    columns = (features, bins, low, high, counts)
    for feature, rank, start, stop, count in zip(*(one.tolist() for one in columns), strict=True):
        yield feature, rank, _bound(start), _bound(stop), count


def _bound(value: float) -> float | None:
    return value if np.isfinite(value) else None


def class_response_rows(state: ScanState) -> Rows:
    """Give the classes on which each feature is strongest."""
    if not state.index.classes or not state.images:
        return
    means = class_means(state)
    known = np.flatnonzero(~np.isnan(means).any(1))
    order = np.argsort(-means[known], axis=0, kind="stable")[:RESPONSES]
    values = np.take_along_axis(means[known], order, axis=0)
    for feature in range(state.index.features):
        for rank, (place, value) in enumerate(
            zip(order[:, feature].tolist(), values[:, feature].tolist(), strict=True)
        ):
            yield feature, rank, int(known[place]), value


def correlation_rows(state: ScanState) -> Rows:
    """Give the features that are most and least correlated with each."""
    for number, moments in enumerate(state.moments):
        found = most_correlated(moments)
        if found is None:
            continue
        first = state.index.starts[number]
        features, ranks = (found.numbers >= 0).nonzero()
        columns = (
            first + features,
            ranks,
            first + found.numbers[features, ranks],
            found.correlations[features, ranks],
        )
        yield from zip(*(one.tolist() for one in columns), strict=True)


def sample_rows(state: ScanState) -> Rows:
    """Give the peaks of each layer's features on the sampled images."""
    order = np.argsort(state.sample_images)
    for number, part in enumerate(state.index.layers):
        peaks = state.sample_peaks[order][:, state.index.slice_of(number)]
        yield part.name, part.scale, np.ascontiguousarray(peaks, "<f2").tobytes()
