"""Every statistic, made from sums of whole numbers, is the direct one of the activations.

Activations and colours are rounded to units of 2^-15 (of the layer's scale, of the full range)
before they are multiplied. Rounding adds noise of a variance of unit^2 / 12. Beside a deviation of
d units a correlation loses 1 / (24 d^2) of itself for each of the two features, and over n samples
it is off by about 1 / (d sqrt(6 n)) by chance.
"""

from collections.abc import Callable

import numpy as np
import pytest

from rot180.atlas import accumulator, colour_fit, correlation, moments, statistics
from rot180.atlas.accumulator import ScanState
from rot180.atlas.compare import correlation_matrix
from rot180.atlas.feature_index import FeatureIndex, LayerSlice
from rot180.atlas.moments import Moments
from tests.atlas.synthetic import CLASSES, SIDE, SMALL, WIDE, Images, drawn, pixels, planted


def scanned(images: Images) -> ScanState:
    found = ScanState(images.index)
    found.update(images.observed())
    return found


def samples_of(images: Images, part: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The sampled activations and colours of a layer, a row for each sample, in float64."""
    observed = images.observed()
    some, colours = observed.samples[part], observed.colours[part]
    a = some.reshape(-1, some.shape[2]).astype(np.float64)
    return a, colours.reshape(-1, colours.shape[2])


def flat(images: Images) -> list[np.ndarray]:
    """The activations of each feature (n, positions), in float64."""
    return [
        maps[:, channel].reshape(len(images), -1).astype(np.float64)
        for maps in images.maps
        for channel in range(maps.shape[1])
    ]


@pytest.mark.parametrize("ties", [False, True])
def test_means_and_shares_are_direct_ones(ties: bool) -> None:
    images = drawn(60, parts=WIDE[:4], ties=ties)
    found, features, unit = (
        scanned(images),
        flat(images),
        images.index.scales * accumulator.UNIT,
    )
    for name, direct in (
        ("mean", lambda a: a.mean()),
        ("mean_peak", lambda a: a.max(1).mean()),
        ("firing_positions", lambda a: (a > 0).mean()),
        ("firing_images", lambda a: (a > 0).any(1).mean()),
    ):
        expected = np.array([direct(a) for a in features])
        assert (np.abs(getattr(statistics, name)(found) - expected) <= 0.51 * unit).all(), name
    assert statistics.dead(found).tolist() == [not (a > 0).any() for a in features]


def test_before_any_image_nothing_is_known() -> None:
    found = ScanState(FeatureIndex(SMALL, CLASSES))
    assert not statistics.mean(found).any()
    assert statistics.dead(found).all()
    assert np.isnan(statistics.class_means(found)).all()
    fit = colour_fit.fit_colours(found)
    assert np.isnan(fit.explained).all()
    assert np.isnan(fit.by_brightness).all()
    assert not fit.coefficients.any()
    for one in found.moments:
        correlations = correlation.correlations(one)
        assert correlations is not None
        assert np.isnan(correlations).all()


def selectivity(means: list[float]) -> float:
    """Morcos et al. (2018), written out."""
    largest = max(means)
    others = list(means)
    others.remove(largest)
    rest = sum(others) / len(others)
    return (largest - rest) / (largest + rest)


@pytest.mark.parametrize("ties", [False, True])
def test_class_means_and_selectivity_are_direct_ones(ties: bool) -> None:
    images = drawn(60, ties=ties)
    means = statistics.class_means(scanned(images))
    found = statistics.class_selectivity(means)
    for feature, a in enumerate(flat(images)):
        direct = [a[images.labels == label].max(1).mean() for label in range(CLASSES)]
        unit = images.index.scales[feature] * accumulator.UNIT
        assert means[:, feature] == pytest.approx(direct, abs=unit)
        assert found[feature] == pytest.approx(selectivity(np.maximum(direct, 0).tolist()), 1e-7)


def test_selectivity_by_hand() -> None:
    means = np.array([[3.0, 1.0, 0.0, -1.0, 2.0], [1.0, 1.0, 4.0, -2.0, -2.0], [0, 1, 0, -3, 2]])
    found = statistics.class_selectivity(means)
    assert found[:3] == pytest.approx([(3 - 0.5) / 3.5, 0.0, 1.0])
    assert np.isnan(found[3])  # fires for no class
    assert found[4] == pytest.approx((2 - 1) / (2 + 1))  # what is below zero counts as zero


def test_a_class_without_images_is_left_out() -> None:
    images = drawn(40)
    images.labels[images.labels == 2] = 1
    means = statistics.class_means(scanned(images))
    assert np.isnan(means).any(1).tolist() == [False, False, True, False]
    found = statistics.class_selectivity(means)
    assert np.array_equal(found, statistics.class_selectivity(means[[0, 1, 3]]))
    assert not np.isnan(found).any()


@pytest.mark.parametrize("label", [0, 3, -1])
def test_with_one_class_or_none_there_is_no_selectivity(label: int) -> None:
    images = drawn(10)
    images.labels[:] = label
    found = statistics.class_selectivity(statistics.class_means(scanned(images)))
    assert found.shape == (6,)
    assert np.isnan(found).all()


def fitted(a: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares with an offset: the coefficients of the colours, and R^2."""
    inputs = colours - colours.mean(0)
    outputs = a - a.mean(0)
    coefficients = np.linalg.lstsq(inputs, outputs, rcond=1e-9)[0]
    residuals = outputs - inputs @ coefficients
    return coefficients, 1 - (residuals**2).sum(0) / (outputs**2).sum(0)


def rounded(a: np.ndarray, scale: float = 1.0) -> np.ndarray:
    return np.rint(a / (scale * moments.UNIT)) * (scale * moments.UNIT)


def check_colours(images: Images) -> colour_fit.ColourFit:
    """The fit is that of the rounded numbers, and near that of those that were not rounded."""
    found = colour_fit.fit_colours(scanned(images))
    for part in range(len(images.index.layers)):
        a, colours = samples_of(images, part)
        of, scale = images.index.slice_of(part), images.index.layers[part].scale
        for x, f, tolerance in ((rounded(a, scale), rounded(colours), 1e-9), (a, colours, 1e-3)):
            coefficients, explained = fitted(x, f)
            _, by_brightness = fitted(x, f.mean(1, keepdims=True))
            assert np.abs(found.coefficients[:, of] - coefficients).max() < tolerance * scale
            assert np.abs(found.explained[of] - explained).max() < tolerance
            assert np.abs(found.by_brightness[of] - by_brightness).max() < tolerance
    return found


@pytest.mark.parametrize("colours", [1, 3])
def test_colours_are_fitted_by_least_squares(colours: int) -> None:
    fit = check_colours(drawn(60, colours=colours))
    assert fit.coefficients.shape == (colours, 6)
    if colours == 1:
        assert np.allclose(fit.explained, fit.by_brightness, rtol=1e-12)


def of_pixels(feature: Callable[[np.ndarray], np.ndarray], **how: bool | int) -> Images:
    """Features that are functions of the pixel at each position, given as colours (..., k)."""
    pictures = pixels(80, **how)
    maps = np.moveaxis(feature(pictures / 255), -1, 1)
    return planted(maps, 8.0, pictures)


def test_what_is_linear_in_green_is_found_to_be() -> None:
    images = of_pixels(lambda x: np.stack([3 * x[..., 1], 1 - 2 * x[..., 1]], -1))
    fit = check_colours(images)
    assert fit.explained == pytest.approx([1, 1], abs=1e-7)
    assert np.allclose(fit.coefficients.T, [[0, 3, 0], [0, -2, 0]], rtol=0, atol=1e-4)
    assert fit.by_brightness == pytest.approx([1 / 3, 1 / 3], abs=0.08)  # green is a third of it


def test_what_is_linear_in_all_colours_and_noise_is_found_in_its_shares() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (80, SIDE, SIDE))
    images = of_pixels(
        lambda x: np.stack([x @ np.array([1.0, 2.0, -1.5]), x[..., 0] + noise, noise], axis=-1)
    )
    fit = check_colours(images)
    assert fit.coefficients[:, 0] == pytest.approx([1, 2, -1.5], abs=1e-4)
    assert fit.explained[0] == pytest.approx(1, abs=1e-7)
    assert 0.05 < fit.explained[1] < 0.11  # 1/12 beside 1
    assert fit.explained[2] < 0.01


def test_what_fires_where_it_is_dark_has_a_negative_brightness() -> None:
    images = of_pixels(lambda x: np.maximum(0.5 - x.mean(-1, keepdims=True), 0))
    fit = check_colours(images)
    assert (fit.coefficients < 0).all()
    assert fit.by_brightness[0] > 0.7
    assert fit.explained[0] == pytest.approx(fit.by_brightness[0], abs=0.01)


def test_grey_pictures_share_the_coefficient_among_their_equal_channels() -> None:
    """Of all solutions it is the smallest: a third of the slope for each channel."""
    noise = np.random.default_rng(0).normal(0, 1, (80, SIDE, SIDE, 1))
    images = of_pixels(lambda x: np.concatenate([6 * x[..., :1], noise], -1), grey=True)
    fit = check_colours(images)
    assert fit.coefficients[:, 0] == pytest.approx([2, 2, 2], abs=1e-4)
    assert fit.explained == pytest.approx(fit.by_brightness, abs=1e-9)
    assert fit.explained[0] == pytest.approx(1, abs=1e-7)


def many_times(of: ScanState, times: int) -> ScanState:
    """The state after so many scans of the same images: sums beyond what float64 holds exactly."""
    for one in of.moments:
        one.flush()
        one.inputs *= times
        one.squares *= times
        one.products *= times
    return of


@pytest.mark.parametrize("value", [0, 77, 253, 255])
@pytest.mark.parametrize("times", [1, 110_683, 110_711])
def test_pictures_of_one_colour_explain_nothing(value: int, times: int) -> None:
    pictures = np.full((77, SIDE, SIDE, 3), value, np.uint8)
    maps = np.random.default_rng(0).normal(3, 1, (77, 4, SIDE, SIDE))
    fit = colour_fit.fit_colours(many_times(scanned(planted(maps, 8.0, pictures)), times))
    assert not fit.explained.any()
    assert not fit.by_brightness.any()
    assert not fit.coefficients.any()


@pytest.mark.parametrize("count", range(70, 78))
def test_brightness_that_is_the_same_everywhere_explains_nothing(count: int) -> None:
    """Blue is strong where red is weak, and their sum does not vary."""
    pictures = np.full((count, SIDE, SIDE, 3), 100, np.uint8)
    pictures[..., 0] = pixels(count, colours=1)[..., 0] // 2
    pictures[..., 2] = 200 - pictures[..., 0]
    total = rounded(pictures / 255).sum(-1)
    pictures[total != total[0, 0, 0]] = pictures[0, 0, 0]
    fit = colour_fit.fit_colours(scanned(planted(pictures[:, None, :, :, 0] / 64, 4.0, pictures)))
    assert fit.explained[0] == pytest.approx(1, abs=1e-6)
    assert fit.by_brightness[0] == 0
    red, green, blue = fit.coefficients[:, 0]
    assert (red, blue) == pytest.approx((255 / 128, -255 / 128), abs=1e-3)
    assert green == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("value", [0.0, -1.5, 0.1, 5.7])
def test_a_feature_that_never_varies_goes_with_nothing(value: float) -> None:
    maps = np.random.default_rng(0).normal(2, 1, (77, 3, SIDE, SIDE))
    maps[:, 1] = value
    found = scanned(planted(maps, 8.0))
    fit = colour_fit.fit_colours(found)
    assert np.isnan(fit.explained).tolist() == [False, True, False]
    assert np.isnan(fit.by_brightness).tolist() == [False, True, False]
    assert np.abs(fit.coefficients[:, 1]).max() < 1e-9
    correlations = correlation.correlations(found.moments[0])
    assert np.isnan(correlations[1]).all()
    assert np.isnan(correlations[:, 1]).all()
    assert not np.isnan(correlations[[[0, 2]], [[0], [2]]]).any()
    partners = correlation.most_correlated(found.moments[0])
    assert partners.numbers.tolist() == [[2, -1, -1, -1], [-1, -1, -1, -1], [0, -1, -1, -1]]
    assert statistics.dead(found).tolist() == [False, value <= 0, False]


@pytest.mark.parametrize("part", [0, 2, 3, 4])
@pytest.mark.parametrize("rectified", [False, True])
def test_correlations_are_those_of_the_sampled_positions(part: int, rectified: bool) -> None:
    images = drawn(60, parts=WIDE)
    if rectified:
        for maps in images.maps:
            np.maximum(maps, 0, out=maps)
    found = correlation.correlations(scanned(images).moments[part])
    a, _ = samples_of(images, part)
    units = a.std(0).min() / (images.index.layers[part].scale * moments.UNIT)
    chance = 1 / (units * np.sqrt(6 * len(a)))
    assert np.abs(found - np.corrcoef(a.T)).max() < 6 * chance < 1e-4
    # Of what is rounded already, nothing is lost.
    for maps, one in zip(images.maps, images.index.layers, strict=True):
        maps[:] = rounded(maps, one.scale)
    found = correlation.correlations(scanned(images).moments[part])
    a, _ = samples_of(images, part)
    assert np.abs(found - np.corrcoef(a.T)).max() < 1e-12
    assert np.abs(found - found.T).max() < 1e-15


def test_a_feature_and_its_copy_correlate_by_one_and_with_its_negative_by_minus_one() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (30, 1, SIDE, SIDE))
    maps = np.concatenate([a, rng.normal(0, 1, a.shape), a, -a], axis=1)
    found = scanned(planted(maps, 4.0))
    correlations = correlation.correlations(found.moments[0])
    assert correlations[0, [0, 2, 3]] == pytest.approx([1, 1, -1], abs=1e-12)
    assert np.abs(correlations).max() <= 1
    partners = correlation.most_correlated(found.moments[0])
    assert partners.numbers[0, :3].tolist() == [2, 1, 3]
    assert partners.numbers[3, :3].tolist() == [1, 0, 2]  # 0 and 2 are equal: the lower one first


@pytest.mark.parametrize("channels", [1, 2, 5, 9, 16, 17, 18, 40])
def test_partners_are_the_most_and_the_least_correlated_in_order(channels: int) -> None:
    maps = np.random.default_rng(channels).normal(0, 1, (20, channels, 5, 4))
    maps[:, 1:] += maps[:, :1] * np.linspace(-2, 2, channels)[1:, None, None]
    found = scanned(planted(maps, 8.0))
    partners = correlation.most_correlated(found.moments[0])
    correlations = correlation.correlations(found.moments[0])
    for channel in range(channels):
        others = [one for one in range(channels) if one != channel]
        others.sort(key=lambda one, c=channel: (-correlations[c, one], one))
        most = correlation.MOST_CORRELATED
        expected = others if len(others) <= 2 * most else others[:most] + others[-most:]
        there = partners.numbers[channel] >= 0
        assert partners.numbers[channel][there].tolist() == expected
        assert partners.correlations[channel][there].tolist() == [
            correlations[channel, one] for one in expected
        ]
        assert np.isnan(partners.correlations[channel][~there]).all()
        assert np.array_equal(there, np.arange(len(there)) < len(expected))


def test_partners_pass_over_many_features_that_never_vary() -> None:
    maps = np.random.default_rng(0).normal(0, 1, (30, 40, 5, 4))
    maps[:, 3:24] = 0
    partners = correlation.most_correlated(scanned(planted(maps, 8.0)).moments[0])
    varying = {0, 1, 2, *range(24, 40)}
    for channel in range(40):
        named = partners.numbers[channel][partners.numbers[channel] >= 0].tolist()
        assert len(set(named)) == len(named) == (16 if channel in varying else 0)
        assert set(named) <= varying - {channel}


def test_large_layers_have_no_partners() -> None:
    sums = Moments(LayerSlice("x", 4097, 1, 1), 3)
    assert correlation.correlations(sums) is None
    assert correlation.most_correlated(sums) is None


def close(sums: Moments, a: np.ndarray, colours: np.ndarray) -> tuple[float, float]:
    """By how much correlations, and R^2 of colours, differ from those of what was not rounded."""
    found = correlation.correlations(sums)
    holder = ScanState(FeatureIndex((sums.part,), 0, colours.shape[1]))
    holder.moments = (sums,)
    explained = colour_fit.fit_colours(holder).explained
    return (
        float(np.abs(found - np.corrcoef(a.T)).max()),
        float(np.abs(explained - fitted(a, colours)[1]).max()),
    )


def test_a_large_mean_takes_no_more_than_the_rounding_does() -> None:
    """Deviation 1 about 1000 is 32 units: all is 1 / (12 32^2) short, and no more."""
    rng = np.random.default_rng(0)
    part = LayerSlice("x", 4, 1, 1, 1024.0)
    colours = rng.random((50_000, 3))
    a = rng.normal(0, 1, (50_000, 4))
    a[:, 1] = 0.8 * a[:, 0] + 0.6 * a[:, 1]
    a[:, 2] = 0.6 * a[:, 2] + 0.8 * (colours[:, 1] - 0.5) * 12**0.5
    a = (1000 + a).astype(np.float32).astype(np.float64)
    sums = Moments(part, 3)
    sums.add(a.astype(np.float32)[:, None], colours[:, None])
    errors = close(sums, a, colours)
    assert max(errors) < 1.2 / (12 * 32**2)
    # What is rounded already comes out as exactly as float64 allows.
    a = rounded(a, part.scale)
    sums = Moments(part, 3)
    sums.add(a.astype(np.float32)[:, None], colours[:, None])
    assert close(sums, a, colours)[0] < 1e-10


@pytest.mark.parametrize("rectified", [False, True])
def test_a_weak_feature_of_a_strong_layer_keeps_its_correlations(rectified: bool) -> None:
    """Peaks of 2^-8 scales are 128 units: three digits of the correlations are kept."""
    rng = np.random.default_rng(0)
    n = 100_000
    common = rng.normal(0, 1, (n, 1))
    a = 0.6 * common + 0.8 * rng.normal(0, 1, (n, 6))
    if rectified:
        a = np.maximum(a - 1, 0)
    a /= a.max(0)
    a *= [1, 1, 1, 2.0**-8, 2.0**-8, 2.0**-8]
    colours = np.concatenate([common, rng.normal(0, 1, (n, 2))], axis=1) / 10 + 0.5
    sums = Moments(LayerSlice("x", 6, 1, 1, 1.0), 3)
    sums.add(a.astype(np.float32)[:, None], colours[:, None])
    correlation_error, colour_error = close(sums, a, colours)
    assert correlation_error < 1e-3
    assert colour_error < 1e-3


def test_features_of_two_networks_are_correlated_over_images() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(1, 1, (50, 4)).astype(np.float16)
    b = np.concatenate([a[:, ::-1], -2 * a[:, :1], rng.normal(0, 1, (50, 2))], axis=1)
    b = b.astype(np.float16)
    direct = np.corrcoef(a.T.astype(np.float64), b.T.astype(np.float64))[:4, 4:]
    assert correlation_matrix(a, b) == pytest.approx(direct, abs=1e-12)
    assert correlation_matrix(a, b)[[0, 3, 0], [3, 0, 4]] == pytest.approx([1, 1, -1])
    a[:, 1] = 0.1
    b[:, [0, 5]] = 0
    found = np.isnan(correlation_matrix(a, b))
    assert found[1].all()
    assert found[:, [0, 5]].all()
    assert found.sum() == 7 + 3 * 2
