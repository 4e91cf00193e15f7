"""How unusual an activation is for its feature."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rot180
from rot180.errors import Rot180Error
from rot180.web.collection import AtlasCollection, ServedAtlas
from rot180.web.percentiles import PeakHistograms, peak_histograms
from rot180.web.views.image_page import image_layer_view
from tests.atlas.scans import change, scanned


def served_of(path: Path) -> ServedAtlas:
    return next(iter(AtlasCollection([rot180.open(path)]).values()))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServedAtlas:
    return served_of(scanned(tmp_path_factory.mktemp("unusual") / "small.atlas", sample=60))


@pytest.mark.parametrize("layer", ["one", "two", "head"])
def test_the_share_of_images_below_is_theirs_within_a_bin(served: ServedAtlas, layer: str) -> None:
    counts, feature_count = peak_histograms(served, layer), len(served.atlas[layer])
    _, peaks = served.atlas.sample(layer)  # of all 60 images, in scales, as half floats
    ((scale,),) = served.atlas.rows("SELECT scale FROM sample WHERE layer = ?", layer)
    values = peaks.astype(np.float64) * scale
    largest_bin = [max(one.images for one in f.histogram) / 60 for f in served.atlas[layer]]
    for image in range(0, 60, 7):
        found = counts.shares_below(values[image].tolist())
        exact = (values < values[image]).mean(0)
        assert found.shape == (feature_count,)
        assert (np.abs(found - exact) <= np.array(largest_bin) + 1 / 60).all()


def one_feature(*bins: tuple[float, float, int], largest: float) -> PeakHistograms:
    lows, highs, images = (np.array(one, np.float64) for one in zip(*bins, strict=True))
    return PeakHistograms(
        np.zeros(len(bins), np.int64), lows, highs, images, np.array([largest], np.float64)
    )


def test_the_end_of_a_rectifier_is_not_unusual_where_many_images_reach_it() -> None:
    rare = one_feature((0, 0, 98), (4, 8, 2), largest=6)
    often = one_feature((0, 0, 20), (4, 8, 80), largest=6)
    assert rare.shares_below([6.0])[0] == pytest.approx(0.99)
    assert often.shares_below([6.0])[0] == pytest.approx(0.6)


def test_zero_is_above_negative_peaks_and_above_no_other_zero() -> None:
    counts = one_feature((-np.inf, -4, 1), (-2, -1, 29), (0, 0, 50), (0, 1, 20), largest=0.5)
    for value, share in ((-9, 0), (-3, 0.01), (-1, 0.3), (0, 0.3), (1e-9, 0.8), (9, 1)):
        assert counts.shares_below([value])[0] == pytest.approx(share, abs=1e-6)


@pytest.mark.slow
@given(st.lists(st.floats(-20, 20), min_size=2, max_size=2))
def test_a_larger_activation_is_no_less_unusual(values: list[float]) -> None:
    counts = one_feature(
        (-np.inf, -4, 3), (-4, -2, 5), (0, 0, 50), (0, 1, 20), (2, 3, 4), (8, np.inf, 2), largest=9
    )
    less, more = (counts.shares_below([one])[0] for one in sorted(values))
    assert 0 <= less <= more <= 1


def test_features_come_in_the_order_of_how_unusual_they_are(collection: AtlasCollection) -> None:
    served = collection["late"]
    number = str(served.atlas["conv2"][40].examples[0].image)
    found = image_layer_view(served, number, "conv2")
    assert found.order == "unusual"
    lower = [one.lower for one in found.peaks]
    assert lower == sorted(lower, reverse=True)
    assert max(lower) <= 1
    place = [one.channel for one in found.peaks].index(40)
    assert lower[place] > 0.99  # it is the strongest image of all for this feature
    plain = image_layer_view(served, number, "conv2", "strongest").peaks
    assert {one.channel: one for one in plain} == {one.channel: one for one in found.peaks}
    assert [one.activation for one in plain] == sorted(
        (one.activation for one in plain), reverse=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong", ["low = 'x'", "images = -1", "images = 1000000", "high = low - 1"]
)
def test_a_damaged_histogram_is_a_sentence(tmp_path: Path, wrong: str) -> None:
    path = scanned(tmp_path / "small.atlas")
    change(path, f"UPDATE histogram SET {wrong} WHERE feature = 0 AND low > 0")
    with pytest.raises(Rot180Error, match="damaged: its histogram"):
        peak_histograms(served_of(path), "one")
