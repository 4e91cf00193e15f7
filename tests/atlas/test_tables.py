"""The rows of an atlas say what the state holds, and nothing of what is not defined."""

import itertools
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from rot180.atlas import colour_fit, correlation, statistics, tables
from rot180.atlas.accumulator import ScanState
from rot180.atlas.feature_index import FeatureIndex
from rot180.atlas.schema import TABLES
from tests.atlas.synthetic import CLASSES, SMALL, WIDE, Images, drawn, planted


def scanned(images: Images) -> ScanState:
    found = ScanState(images.index)
    found.update(images.observed())
    return found


def columns_of(table: str) -> list[str]:
    """The names of a table's columns."""
    with closing(sqlite3.connect(":memory:")) as file:
        file.executescript(TABLES)
        return [column[1] for column in file.execute(f"PRAGMA table_info({table})")]


def named(table: str, found: tables.Rows) -> list[dict]:
    columns = columns_of(table)
    return [dict(zip(columns, row, strict=True)) for row in found]


def test_a_feature_s_row_holds_its_statistics() -> None:
    images = drawn(40, parts=WIDE[:4])
    state = scanned(images)
    fit, means = colour_fit.fit_colours(state), statistics.class_means(state)
    expected = {
        "max": images.peaks.max(0),
        "mean": statistics.mean(state),
        "mean_peak": statistics.mean_peak(state),
        "firing_positions": statistics.firing_positions(state),
        "firing_images": statistics.firing_images(state),
        "dead": statistics.dead(state),
        "class_selectivity": statistics.class_selectivity(means),
        "best_class": means.argmax(0),
        "colour_r2": fit.explained,
        "brightness_r2": fit.by_brightness,
        "red": fit.coefficients[0],
        "green": fit.coefficients[1],
        "blue": fit.coefficients[2],
        "brightness": fit.coefficients.sum(0),
    }
    found = named("feature", tables.feature_rows(state))
    assert [one["id"] for one in found] == list(range(images.index.features))
    places = [(part.name, k) for part in WIDE[:4] for k in range(part.channels)]
    assert [(one["layer"], one["channel"]) for one in found] == places
    for name, values in expected.items():
        assert [one[name] for one in found] == values.tolist(), name
    assert {type(one["best_class"]) for one in found} == {int}
    assert {one["dead"] for one in found} <= {0, 1}


UNDEFINED = ("class_selectivity", "best_class")
FITTED = ("colour_r2", "brightness_r2")


def test_what_is_not_defined_is_null() -> None:
    maps = np.random.default_rng(0).normal(0, 1, (9, 3, 4, 4))
    maps[:, 1] = -1.25
    images = planted(maps, 4.0)
    found = named("feature", tables.feature_rows(scanned(images)))
    for one in found:
        assert all(one[name] is None for name in UNDEFINED)  # no image has a class
    assert [[one[name] is None for one in found] for name in FITTED] == [[False, True, False]] * 2
    assert (found[1]["max"], found[1]["mean"], found[1]["dead"]) == (-1.25, -1.25, 1)
    assert not list(tables.class_response_rows(scanned(images)))


def test_without_images_there_is_nothing_but_features_and_empty_samples() -> None:
    state = ScanState(FeatureIndex(SMALL, CLASSES))
    for one in named("feature", tables.feature_rows(state)):
        assert one.keys() - {"id", "layer", "channel"}
        assert all(one[name] is None for name in one.keys() - {"id", "layer", "channel"})
    fields = drawn(1).fields
    assert not list(tables.example_rows(state, fields))
    for of in (tables.histogram_rows, tables.class_response_rows, tables.correlation_rows):
        assert not list(of(state))
    assert [row[2] for row in tables.sample_rows(state)] == [b""] * 3


def test_brightness_of_pictures_of_one_channel_has_no_colours() -> None:
    for one in named("feature", tables.feature_rows(scanned(drawn(30, colours=1)))):
        assert (one["red"], one["green"], one["blue"]) == (None, None, None)
        assert isinstance(one["brightness"], float)
        assert one["colour_r2"] == pytest.approx(one["brightness_r2"], rel=1e-12)


@pytest.mark.parametrize("size", [0.3, 2.0**-12, 30.0])
@pytest.mark.parametrize("ties", [False, True])
def test_the_bins_of_peaks_cover_exactly_the_images(size: float, ties: bool) -> None:
    images = drawn(200, ties=ties)
    for maps in images.maps:
        maps *= np.float32(size * 2)
    found = named("histogram", tables.histogram_rows(scanned(images)))
    peaks = images.peaks.astype(np.float64)
    for feature, group in itertools.groupby(found, key=lambda one: one["feature"]):
        bins = list(group)
        values = peaks[:, feature]
        assert sum(one["images"] for one in bins) == len(images)
        ranks = [one["rank"] for one in bins]
        assert ranks == sorted(set(ranks))
        for one in bins:
            low = -np.inf if one["low"] is None else one["low"]
            high = np.inf if one["high"] is None else one["high"]
            inside = (values >= low) & (values < high)
            if low == 0:  # the bin of zero has no width, and the next one does not hold its end
                inside = values == 0 if high == 0 else inside & (values > 0)
            assert one["images"] == inside.sum() > 0
        ends = [end for one in bins for end in (one["low"], one["high"])]
        assert None not in ends[1:-1]
        assert ends[1:-1] == sorted(ends[1:-1])
    assert {one["feature"] for one in found} == set(range(6))


def test_examples_are_the_best_images_with_what_their_peaks_see() -> None:
    images = drawn(2, examples=3)
    found = named("example", tables.example_rows(scanned(images), images.fields))
    assert len(found) == 6 * 2  # there are two images, and no third example
    feature = 0
    for part, maps in zip(SMALL, images.maps, strict=True):
        for channel in range(part.channels):
            own = maps[:, channel]
            best = sorted(range(2), key=lambda i, x=own: -x[i].max())
            for rank, image in enumerate(best):
                y, x = np.unravel_index(own[image].argmax(), own[image].shape)
                top, bottom = images.fields[part.name].rows[y]
                left, right = images.fields[part.name].columns[x]
                peak = own[image, y, x]
                expected = (feature, rank, image, peak, peak, y, x, top, left, bottom, right)
                assert tuple(found[2 * feature + rank].values()) == expected
            feature += 1


@pytest.mark.parametrize("classes", [CLASSES, 20])
def test_responses_are_the_mean_peaks_of_the_classes_in_order(classes: int) -> None:
    drawn_ones = drawn(100)
    index = FeatureIndex(SMALL, classes)
    labels = np.random.default_rng(0).integers(-1, classes, 100)
    labels[labels == 1] = 0  # no image is of class 1
    images = Images(index, labels, drawn_ones.pictures, drawn_ones.maps, drawn_ones.fields)
    state = scanned(images)
    means = statistics.class_means(state)
    found = named("class_response", tables.class_response_rows(state))
    for feature in range(6):
        own = [one for one in found if one["feature"] == feature]
        order = sorted(set(range(classes)) - {1}, key=lambda c, f=feature: (-means[c, f], c))
        assert [one["class"] for one in own] == order[: tables.RESPONSES]
        assert [one["rank"] for one in own] == list(range(len(own)))
        assert [one["mean_peak"] for one in own] == [means[c, feature] for c in order[: len(own)]]


def test_partners_are_named_by_their_numbers_through_all_layers() -> None:
    images = drawn(40, parts=WIDE[:4])
    state = scanned(images)
    found = named("correlation", tables.correlation_rows(state))
    expected = []
    for part, sums in enumerate(state.moments):
        partners = correlation.most_correlated(sums)
        first = images.index.starts[part]
        for channel, rank in np.argwhere(partners.numbers >= 0).tolist():
            other = first + int(partners.numbers[channel, rank])
            value = float(partners.correlations[channel, rank])
            expected.append((first + channel, rank, other, value))
    assert [tuple(one.values()) for one in found] == expected
    assert {one["feature"] for one in found} == set(range(images.index.features)) - {3}
    alone = 3  # the only feature of its layer
    assert all(one["other"] not in (alone, one["feature"]) for one in found)


def test_samples_are_half_floats_in_the_order_of_the_images() -> None:
    images = drawn(30, sample=9)
    state = scanned(images)
    numbers = sorted(state.sample_images.tolist())
    for part, (name, scale, data) in enumerate(tables.sample_rows(state)):
        assert (name, scale) == (SMALL[part].name, SMALL[part].scale)
        peaks = np.frombuffer(data, "<f2").reshape(9, SMALL[part].channels)
        own = images.maps[part][numbers].max((2, 3)) / np.float32(scale)
        assert np.array_equal(peaks, own.astype(np.float16))
