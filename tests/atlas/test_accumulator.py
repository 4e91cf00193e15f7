"""The state of a scan is a function of the set of its images: no order, no split changes a bit."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rot180.atlas import accumulator
from rot180.atlas.accumulator import BINS, ScanState, bin_edges, splitmix64
from rot180.atlas.feature_index import FeatureIndex, LayerSlice
from rot180.atlas.map_summary import MapSummary
from rot180.atlas.observation import BatchObservation
from rot180.errors import Rot180Error
from tests.atlas.synthetic import CLASSES, SMALL, WIDE, Images, drawn, take


def after(images: Images, *batches: Sequence[int]) -> ScanState:
    """The state after some batches of the images; without any, after all of them at once."""
    found, observed = ScanState(images.index), images.observed()
    for batch in batches or (range(len(images)),):
        found.update(take(observed, batch))
    return found


def kept(state: ScanState) -> dict[str, np.ndarray]:
    """All that a state holds, as it is now."""
    return {name: array.copy() for name, array in state.arrays().items()}


def assert_same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> None:
    """Equal bit for bit."""
    assert one.keys() == two.keys()
    for name, array in one.items():
        assert (array.dtype, array.shape) == (two[name].dtype, two[name].shape), name
        assert array.tobytes() == two[name].tobytes(), name


def peaks_only(
    index: FeatureIndex, peaks: np.ndarray, numbers: Sequence[int] | None = None
) -> BatchObservation:
    """Images of which only the peaks are of interest."""
    n, f = peaks.shape
    return BatchObservation(
        np.arange(n) if numbers is None else np.asarray(numbers, np.int64),
        np.full(n, -1),
        MapSummary(
            peaks.astype(np.float32),
            np.zeros((n, f), np.int64),
            np.zeros((n, f)),
            np.zeros((n, f), np.int64),
            peaks.astype(np.float32),
        ),
        tuple(np.zeros((n, 1, one.channels), np.float32) for one in index.layers),
        tuple(np.zeros((n, 1, index.colours)) for _ in index.layers),
    )


@pytest.mark.slow
@given(
    st.integers(1, 24),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.sampled_from([1, 3]),
    st.integers(1, 5),
    st.integers(0, 26),
    st.data(),
)
@settings(max_examples=100, deadline=None)
def test_any_split_order_and_tree_of_merges_gives_the_same_bits(
    count: int, seed: int, ties: bool, colours: int, examples: int, sample: int, data: st.DataObject
) -> None:
    """Workers get batches of images in any order, may be stored, and are joined in any order."""
    images = drawn(count, seed, ties=ties, colours=colours, examples=examples, sample=sample)
    observed = images.observed()
    workers: list[list[list[int]]] = [[] for _ in range(data.draw(st.integers(1, 5)))]
    order = data.draw(st.permutations(range(count)))
    while order:
        size = data.draw(st.integers(1, len(order)))
        data.draw(st.sampled_from(workers)).append(order[:size])
        order = order[size:]
    parts = []
    for batches in workers:
        part = ScanState(images.index)
        for batch in batches:
            part.update(take(observed, batch))
        if data.draw(st.booleans(), label="stored"):
            part = ScanState.from_arrays(images.index, kept(part))
        parts.append(part)
    while len(parts) > 1:
        one = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        two = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        before = kept(one), kept(two)
        parts.append(one.merge(two))
        assert_same(before[0], kept(one))
        assert_same(before[1], kept(two))
    assert_same(kept(parts[0]), kept(after(images)))


@pytest.mark.slow
@pytest.mark.parametrize("ties", [False, True])
def test_so_it_is_for_layers_of_many_features(ties: bool) -> None:
    images = drawn(150, parts=WIDE, ties=ties, sample=40)
    order = np.random.default_rng(3).permutation(150).tolist()
    one = after(images, order[:70], order[70:71])
    two, three = after(images, order[71:90], order[90:149]), after(images, order[149:])
    whole = kept(after(images))
    assert_same(kept(one.merge(two).merge(three)), whole)
    assert_same(kept(three.merge(one.merge(two))), whole)


def test_merging_with_nothing_changes_nothing() -> None:
    images = drawn(20, ties=True)
    whole = after(images)
    for found in (
        whole.merge(ScanState(images.index)),
        ScanState(images.index).merge(whole),
    ):
        assert_same(kept(found), kept(whole))
    nothing = ScanState(images.index)
    nothing.update(take(images.observed(), []))
    assert_same(kept(nothing), kept(ScanState(images.index)))
    assert_same(kept(nothing.merge(nothing)), kept(nothing))


@pytest.mark.parametrize("sample", [4, 5, 100])
def test_a_merged_state_shares_no_memory_with_what_it_came_from(sample: int) -> None:
    images = drawn(40, ties=True, sample=sample)
    observed = images.observed()
    empty, one, two = (
        ScanState(images.index),
        after(images, range(5)),
        after(images, range(5, 20)),
    )
    pairs = [(one, two), (two, one), (one, empty), (empty, one)]
    merged = [first.merge(second) for first, second in pairs]
    before = [kept(found) for found in merged]
    for changed in (one, two, empty):
        changed.update(take(observed, range(20, 40)))
    for found, was in zip(merged, before, strict=True):
        assert_same(kept(found), was)
    # And the other way round.
    inputs = [kept(changed) for changed in (one, two, empty)]
    for found in merged:
        found.update(take(observed, range(20, 40)))
    for changed, was in zip((one, two, empty), inputs, strict=True):
        assert_same(kept(changed), was)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("count", "examples"), [(30, 1), (30, 7), (5, 7)])
def test_the_best_are_the_first_of_all_sorted(count: int, examples: int, ties: bool) -> None:
    images = drawn(count, ties=ties, examples=examples)
    order = np.random.default_rng(1).permutation(count).tolist()
    found = after(images, order[: count // 2], order[count // 2 :])
    feature = 0
    for maps in images.maps:
        for channel in range(maps.shape[1]):
            own = maps[:, channel].reshape(count, -1)
            ranked = sorted(range(count), key=lambda i, x=own: (-x[i].max(), i))[:examples]
            missing = examples - len(ranked)
            assert found.best[feature].tolist() == [
                *(own[i].max() for i in ranked),
                *[-np.inf] * missing,
            ]
            assert found.best_image[feature].tolist() == [*ranked, *[-1] * missing]
            assert found.best_position[feature].tolist() == [
                *(int(own[i].argmax()) for i in ranked),
                *[0] * missing,
            ]
            feature += 1


def on_the_edges(scale: float) -> np.ndarray:
    """The edges of the bins times a scale, their neighbours in float32, and what lies far off."""
    edges = (bin_edges()[1:] * np.float32(scale)).astype(np.float32)
    far = np.float32([-0.0, 1e-45, -1e-45, 1e-30, -1e-30, 16 * scale, -16 * scale, 2e9 * scale])
    drawn_ones = np.random.default_rng(0).normal(0, scale, 200).astype(np.float32)
    below, above = np.nextafter(edges, np.float32(-np.inf)), np.nextafter(edges, np.float32(np.inf))
    return np.concatenate([edges, below, above, far, -2e9 * np.float32([scale]), drawn_ones])


@pytest.mark.parametrize("scale", [1.0, 4.0, 2.0**-7, 2.0**40])
def test_the_histogram_counts_peaks_from_the_lower_end_of_a_bin_on(scale: float) -> None:
    index = FeatureIndex((LayerSlice("x", 1, 1, 1, scale),))
    values = on_the_edges(scale)
    found = ScanState(index)
    found.update(peaks_only(index, values[:, None]))
    ends = np.append(bin_edges().astype(np.float64) * scale, np.inf)
    ends[BINS // 2 + 1] = np.finfo(np.float64).smallest_subnormal  # zero has a bin of its own
    assert np.array_equal(found.histogram[0], np.histogram(values.astype(np.float64), ends)[0])
    assert found.histogram[0, BINS // 2] == (values == 0).sum()


def test_bins_go_up_a_quarter_octave_at_a_time_from_a_thousandth_of_the_scale() -> None:
    edges = bin_edges().astype(np.float64)
    assert len(edges) == BINS
    up = edges[BINS // 2 + 2 :]
    assert (edges[0], *edges[BINS // 2 : BINS // 2 + 2]) == (-np.inf, 0, 0)
    assert np.array_equal(edges[1 : BINS // 2], -up[::-1])
    assert np.allclose(up, 2.0 ** np.arange(-10, 4, 0.25), rtol=2.0**-24, atol=0)


def one_splitmix64(seed: int) -> int:
    """The first number of the generator, in whole numbers of Python."""
    mask = 2**64 - 1
    z = (seed + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_the_hash_is_splitmix64() -> None:
    numbers = [0, 1, 2, 12345, 1234567, 2**40 + 3, 2**62]
    assert splitmix64(np.array(numbers)).tolist() == [one_splitmix64(n) for n in numbers]
    assert one_splitmix64(0) == 0xE220A8397B1DCDAF  # published values of the generator
    assert one_splitmix64(1234567) == 6457827717110365317


@pytest.mark.slow
@pytest.mark.parametrize("sample", [0, 1, 7, 30, 31])
def test_the_sample_holds_the_images_of_the_smallest_hashes_with_their_peaks(sample: int) -> None:
    images = drawn(30, sample=sample)
    smallest = sorted(sorted(range(30), key=one_splitmix64)[:sample])
    expected = (images.peaks[smallest] / images.index.scales).astype(np.float16)
    rng = np.random.default_rng(sample)
    for _ in range(6):
        order = rng.permutation(30)
        parts = [
            after(images, *np.array_split(some, 3)) for some in np.array_split(order, [5, 12, 13])
        ]
        merged = parts[0].merge(parts[1].merge(parts[2])).merge(parts[3])
        for found in (merged, after(images, *np.array_split(order, 7))):
            arrays = found.arrays()
            assert arrays["sample_images"].tolist() == smallest
            assert np.array_equal(arrays["sample_peaks"], expected)


def test_peaks_too_large_for_half_floats_are_kept_as_the_largest() -> None:
    index = FeatureIndex((LayerSlice("x", 1, 1, 1, 2.0),))
    found = ScanState(index)
    found.update(peaks_only(index, np.array([[1e6], [-1e6], [2.0]])))
    assert found.sample_peaks[:, 0].tolist() == [60000, -60000, 1]


def test_sums_err_by_half_a_unit_an_image() -> None:
    images = drawn(50)
    found = after(images, range(20), range(20, 50))
    observed, scales = images.observed(), images.index.scales
    summary = observed.summary
    unit = scales * accumulator.UNIT
    assert (np.abs(found.mean * unit - summary.mean.sum(0)) <= 50 * unit / 2).all()
    for label in range(CLASSES):
        own = summary.peak[images.labels == label].astype(np.float64)
        error = np.abs(found.peaks[label] * unit - own.sum(0))
        assert (error <= len(own) * unit / 2).all()
        assert found.class_images[label] == len(own)
    others = summary.peak[images.labels == -1].astype(np.float64)
    assert (np.abs(found.peaks[-1] * unit - others.sum(0)) <= len(others) * unit / 2).all()
    assert found.class_images[-1] == len(others)
    assert found.images == found.class_images.sum() == 50
    assert np.array_equal(found.fired, summary.fired.sum(0))
    assert np.array_equal(found.fired_images, (summary.peak > 0).sum(0))


@pytest.mark.slow
def test_moments_are_the_sums_of_products_of_whole_numbers() -> None:
    images = drawn(300, parts=WIDE[2:4])
    found, observed = after(images, range(170), range(170, 300)), images.observed()
    for moments, part, some, colours in zip(
        found.moments, images.index.layers, observed.samples, observed.colours, strict=True
    ):
        x = np.rint(some.reshape(-1, part.channels).astype(np.float64) / part.scale * 2**15)
        x = x.astype(np.int64)
        f = np.rint(colours.reshape(len(x), -1) * 2**15).astype(np.int64)
        inputs = np.concatenate([np.ones((len(x), 1), np.int64), f], axis=1)
        moments.flush()
        assert np.array_equal(moments.inputs, inputs.T @ np.concatenate([inputs, x], axis=1))
        assert np.array_equal(moments.squares, (x * x).sum(0))
        assert np.array_equal(moments.products, x.T @ x)


def test_layers_of_too_many_features_have_no_products() -> None:
    images = drawn(3, parts=[LayerSlice("x", 4097, 1, 1)])
    arrays = kept(after(images, [0, 2], [1]))
    assert "moments 0 products" not in arrays
    assert_same(arrays, kept(after(images, [1]).merge(after(images, [2, 0]))))
    assert_same(arrays, kept(ScanState.from_arrays(images.index, arrays)))


def test_a_scale_near_the_smallest_number_is_a_scale_like_any_other() -> None:
    small = 2.0**-140  # activations are multiples of a quarter of it, which float32 still holds
    tiny, one = (drawn(20, parts=[LayerSlice("x", 3, 4, 4, s)], ties=True) for s in (small, 1.0))
    found = kept(after(tiny))
    for name, array in kept(after(one)).items():
        scaled = name in ("best", "best_strength")
        assert np.array_equal(found[name], array * np.float32(small) if scaled else array)


ONE = FeatureIndex((LayerSlice("x", 2, 1, 1, 1.0),))


@pytest.mark.parametrize("what", ["peak", "mean"])
@pytest.mark.parametrize("value", [2.0**32, -(2.0**32), 1e38, np.inf, -np.inf, np.nan])
def test_sums_that_would_overflow_are_refused_and_nothing_is_changed(what, value: float) -> None:
    found = ScanState(ONE)
    found.update(peaks_only(ONE, np.ones((3, 2))))
    before = kept(found)
    observed = peaks_only(ONE, np.ones((2, 2)), [3, 4])
    getattr(observed.summary, what)[1, 1] = value
    with pytest.raises(Rot180Error, match="larger on some images"):
        found.update(observed)
    assert_same(kept(found), before)


def test_sums_are_refused_before_they_overflow_however_they_grow() -> None:
    """Images of 2^30 scales are 2^60 units each: four of them are the first that is too much."""
    large = np.full((1, 2), 2.0**30)
    one, two = ScanState(ONE), ScanState(ONE)
    for number in range(3):
        one.update(peaks_only(ONE, large, [number]))
    assert (one.peaks[-1] == 3 * 2**60).all()
    with pytest.raises(Rot180Error, match="larger on some images"):
        one.update(peaks_only(ONE, large, [3]))
    two.update(peaks_only(ONE, large, [3]))
    for merge in (lambda: one.merge(two), lambda: two.merge(one)):
        with pytest.raises(Rot180Error, match="larger on some images"):
            merge()
    with pytest.raises(Rot180Error, match="larger on some images"):
        ScanState(ONE).update(peaks_only(ONE, np.repeat(large, 4, axis=0)))


def always(value: float, samples: int) -> BatchObservation:
    """One image with equal activations at many positions."""
    observed = peaks_only(ONE, np.full((1, 2), value))
    some = np.full((1, samples, 2), value, np.float32)
    return BatchObservation(
        observed.numbers, observed.labels, observed.summary, (some,), (np.zeros((1, samples, 3)),)
    )


@pytest.mark.slow
def test_products_are_refused_before_they_overflow() -> None:
    """64 scales and more count as 2^21 units: 2^20 samples of them make 2^62."""
    found = ScanState(ONE)
    for number in range(15):
        found.update(always(64 + number, 2**16))
    found.moments[0].flush()
    assert (found.moments[0].products == 15 * 2**58).all()
    with pytest.raises(Rot180Error, match="layer x are many times larger on most images"):
        found.update(always(64, 2**16))
    # The same from two halves.
    one = ScanState(ONE)
    for _ in range(8):
        one.update(always(1000, 2**16))
    with pytest.raises(Rot180Error, match="layer x are many times larger on most images"):
        one.merge(one)


@pytest.mark.slow
@given(st.integers(0, 30), st.integers(0, 2**32 - 1), st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_a_state_from_its_arrays_is_that_state(count: int, seed: int, sample: int) -> None:
    images = drawn(30, seed, ties=True, sample=sample)
    whole = after(images, range(count), range(count, 30))
    arrays = kept(after(images, range(count)))
    given_ones = {name: array.copy() for name, array in arrays.items()}
    found = ScanState.from_arrays(images.index, given_ones)
    assert_same(kept(found), arrays)
    found.update(take(images.observed(), range(count, 30)))
    assert_same(kept(found), kept(whole))
    assert_same(given_ones, arrays)  # they are not the state's own


NAMES = sorted(after(drawn(3)).arrays())


@pytest.mark.parametrize("name", NAMES)
def test_an_array_that_is_missing_or_of_another_shape_or_type_is_refused(name: str) -> None:
    images = drawn(20)
    arrays = kept(after(images))
    right = arrays[name]
    other = np.int64 if right.dtype != np.int64 else np.int32
    wrong = [right[:-1], right[None], right[..., None], right.astype(other), right.reshape(-1)[0]]
    for one in [np.array(wrong.pop()), *wrong]:
        with pytest.raises(Rot180Error, match="damaged"):
            ScanState.from_arrays(images.index, {**arrays, name: one})
    del arrays[name]
    with pytest.raises(Rot180Error, match=name if name != "sample_images" else "damaged"):
        ScanState.from_arrays(images.index, arrays)


def test_a_sample_larger_than_the_layout_says_is_refused() -> None:
    images = drawn(20, sample=9)
    with pytest.raises(Rot180Error, match="too large"):
        ScanState.from_arrays(drawn(20, sample=8).index, kept(after(images)))


@pytest.mark.parametrize(
    "other",
    [
        FeatureIndex((*SMALL[:2], LayerSlice("other", 2, 3, 2, 1.0)), CLASSES, 3, 3, 8),
        FeatureIndex((*SMALL[:2], LayerSlice("c", 2, 3, 2, 2.0)), CLASSES, 3, 3, 8),
        FeatureIndex(SMALL, CLASSES + 1, 3, 3, 8),
        FeatureIndex(SMALL, CLASSES, 1, 3, 8),
        FeatureIndex(SMALL, CLASSES, 3, 4, 8),
        FeatureIndex(SMALL, CLASSES, 3, 3, 9),
    ],
    ids=["name", "scale", "classes", "colours", "examples", "sample"],
)
def test_states_of_different_scans_do_not_merge(other: FeatureIndex) -> None:
    one = ScanState(drawn(1).index)
    assert one.index == FeatureIndex(SMALL, CLASSES, 3, 3, 8)
    with pytest.raises(Rot180Error, match="different scans"):
        one.merge(ScanState(other))
