"""A scan against the same numbers computed directly."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rot180
from rot180.atlas.scan import ScanProgress
from rot180.datasets import ArrayDataset, open_dataset
from rot180.errors import Rot180Error
from rot180.models.model import Model
from tests.atlas.scans import (
    normalisation,
    pictures,
    read_everything,
    rows_of,
    small_data,
    small_network,
)
from tests.datasets.dataset_files import put_images

IMAGES, BATCH, KEPT = 250, 8, 9


@pytest.fixture(scope="module")
def model() -> Model:
    return rot180.load("two-layer")


@pytest.fixture(scope="module")
def photos() -> ArrayDataset:
    every = open_dataset("photos", "test")
    assert isinstance(every, ArrayDataset)
    labels = np.asarray(every.labels[:IMAGES])
    return ArrayDataset(np.asarray(every.images[:IMAGES]), labels, every.classes, name="tiles")


@pytest.fixture(scope="module")
def atlas(
    model: Model, photos: ArrayDataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[rot180.Atlas]:
    path = tmp_path_factory.mktemp("scan") / "photos.atlas"
    with rot180.scan(model, photos, path, batch=BATCH, sample=100) as found:
        yield found


@pytest.fixture(scope="module")
def maps(model: Model, photos: ArrayDataset) -> dict[str, np.ndarray]:
    """All maps of all layers on all images."""
    inputs, network = model.prepare(photos.images), model.network()
    return {
        name: rot180.feature_maps(network, inputs, name).double().numpy() for name in network.layers
    }


def peaks_of(maps: np.ndarray) -> np.ndarray:
    return maps.max((2, 3))


def test_what_it_says_about_itself(atlas: rot180.Atlas, photos: ArrayDataset) -> None:
    assert atlas.complete
    assert atlas.finished
    assert atlas.images == atlas.scanned == IMAGES
    assert atlas.model == "two-layer"
    assert atlas.data == "tiles (all)"
    assert atlas.classes == photos.classes
    assert atlas.class_images == tuple(np.bincount(photos.labels).tolist())
    assert atlas.size == (32, 32)
    assert list(atlas) == ["conv1", "conv2", "head"]
    assert "state" not in [name for name, rows in rows_of(atlas.path).items() if rows]
    assert [one.name for one in atlas.path.parent.iterdir()] == ["photos.atlas"]


def test_layers_are_those_of_the_network(atlas: rot180.Atlas, model: Model) -> None:
    for name, layer in model.network().layers.items():
        found = atlas[name]
        for fact in ("kind", "channels", "height", "width", "rectifier", "receptive_field"):
            assert getattr(found, fact) == getattr(layer, fact)
        assert found.stride == layer.stride


@pytest.mark.slow
def test_examples_are_the_strongest_images(
    atlas: rot180.Atlas, model: Model, maps: dict[str, np.ndarray]
) -> None:
    network = model.network()
    for name, layer in atlas.items():
        peaks = peaks_of(maps[name])
        size = np.abs(peaks).max()
        for feature in layer:
            mine = peaks[:, feature.channel]
            examples = feature.examples
            assert len(examples) == KEPT == len({one.image for one in examples})
            best = np.sort(mine)[::-1][:KEPT]
            np.testing.assert_allclose([one.activation for one in examples], best, atol=1e-5 * size)
            for one in examples:
                there = maps[name][one.image, feature.channel]
                y, x = one.position
                assert there[y, x] == pytest.approx(there.max(), abs=1e-5 * size)
                assert one.activation == pytest.approx(there[y, x], abs=1e-5 * size)
                assert one.box == network.receptive_field(network.layer(name), (y, x))


@pytest.mark.slow
def test_statistics_are_those_of_all_maps(
    atlas: rot180.Atlas, photos: ArrayDataset, maps: dict[str, np.ndarray]
) -> None:
    labels = photos.labels
    for name, layer in atlas.items():
        some, peaks = maps[name], peaks_of(maps[name])
        size = np.abs(some).max()
        by_class = np.stack([peaks[labels == one].mean(0) for one in range(len(photos.classes))])
        for feature in layer:
            mine, k = some[:, feature.channel], feature.channel
            assert feature.max == pytest.approx(mine.max(), abs=1e-5 * size)
            assert feature.mean == pytest.approx(mine.mean(), abs=1e-6 * size)
            assert feature.mean_peak == pytest.approx(peaks[:, k].mean(), abs=1e-6 * size)
            assert feature.firing_positions == pytest.approx((mine > 0).mean(), abs=1e-4)
            assert feature.firing_images == (peaks[:, k] > 0).mean()
            assert feature.dead is bool((peaks[:, k] <= 0).all())
            means = by_class[:, k]
            assert means[feature.best_class] == pytest.approx(means.max(), abs=1e-6 * size)
            first, *others = sorted(np.maximum(means, 0), reverse=True)
            rest = np.mean(others)
            if first > 0:
                expected = (first - rest) / (first + rest)
                assert feature.class_selectivity == pytest.approx(expected, abs=1e-5)
            else:
                assert feature.class_selectivity is None
            assert [one.mean_peak for one in feature.class_responses] == pytest.approx(
                np.sort(means)[::-1], abs=1e-6 * size
            )
            for one in feature.class_responses:
                assert one.name == photos.classes[one.number]
                assert one.mean_peak == pytest.approx(means[one.number], abs=1e-6 * size)


def test_histograms_count_the_images_by_their_peaks(
    atlas: rot180.Atlas, maps: dict[str, np.ndarray]
) -> None:
    for name, layer in atlas.items():
        peaks = peaks_of(maps[name])
        near = 1e-5 * np.abs(peaks).max()
        for feature in layer:
            mine = peaks[:, feature.channel]
            assert sum(one.images for one in feature.histogram) == IMAGES
            for low, high, images in feature.histogram:
                low = -np.inf if low is None else low
                high = np.inf if high is None else high
                if low == high == 0:
                    assert images == (mine == 0).sum()
                    continue
                assert ((mine >= low + near) & (mine < high - near)).sum() <= images
                assert images <= ((mine >= low - near) & (mine < high + near)).sum()


def sampled(
    atlas: rot180.Atlas, model: Model, photos: ArrayDataset, maps: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Activations (samples, channels) and mean colours (samples, 3) at the sampled positions."""
    network = model.network()
    layer = network.layer(name)
    part = atlas.index.layers[atlas.layer_index(name)]
    activations, colours = [], []
    for number, places in enumerate(part.sample_positions(np.arange(IMAGES))):
        for place in places.tolist():
            y, x = divmod(place, layer.width)
            top, left, bottom, right = network.receptive_field(layer, (y, x))
            activations.append(maps[number, :, y, x])
            colours.append(photos.images[number, top:bottom, left:right].mean((0, 1)) / 255)
    return np.stack(activations), np.stack(colours)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv1", "conv2", "head"])
def test_colours_and_partners_are_those_of_the_sampled_positions(
    atlas: rot180.Atlas,
    model: Model,
    photos: ArrayDataset,
    maps: dict[str, np.ndarray],
    name: str,
) -> None:
    a, colours = sampled(atlas, model, photos, maps[name], name)
    assert len(a) == IMAGES * atlas[name].samples
    deviations = a - a.mean(0)
    varies = a.std(0) > 1e-3 * np.abs(a).max()
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = np.corrcoef(a.T)
    for feature in atlas[name]:
        k = feature.channel
        if not varies[k]:
            continue
        total = (deviations[:, k] ** 2).sum()
        for basis, found in (
            (colours, feature.colour_r2),
            (colours.mean(1, keepdims=True), feature.brightness_r2),
        ):
            inputs = np.concatenate([np.ones((len(a), 1)), basis], axis=1)
            solution, *_ = np.linalg.lstsq(inputs, a[:, k], rcond=None)
            left = ((a[:, k] - inputs @ solution) ** 2).sum()
            assert found == pytest.approx(1 - left / total, abs=2e-3)
            if basis.shape[1] == 3:
                given = [feature.red, feature.green, feature.blue]
                assert given == pytest.approx(solution[1:], abs=1e-2 * np.abs(solution[1:]).max())
                assert feature.brightness == pytest.approx(sum(given))
        values = [one.correlation for one in feature.correlated_features]
        assert values == sorted(values, reverse=True)
        for one in feature.correlated_features:
            assert one.channel != k
            if varies[one.channel]:
                assert one.correlation == pytest.approx(correlations[k, one.channel], abs=2e-3)
        others = np.delete(np.where(varies, correlations[k], np.nan), k)
        assert values[0] >= np.nanmax(others) - 2e-3


def test_samples_are_peaks(atlas: rot180.Atlas, maps: dict[str, np.ndarray]) -> None:
    for name in atlas:
        numbers, peaks = atlas.sample(name)
        assert len(set(numbers)) == 100
        assert numbers == sorted(numbers)
        scale = atlas.index.layers[atlas.layer_index(name)].scale
        expected = peaks_of(maps[name])[numbers]
        np.testing.assert_allclose(peaks.astype(float) * scale, expected, rtol=1e-3, atol=1e-4)


def test_pictures_are_the_images_exactly(atlas: rot180.Atlas, photos: ArrayDataset) -> None:
    wanted = {one.image for feature in atlas.features() for one in feature.examples}
    assert wanted == {number for (number,) in atlas.rows("SELECT number FROM image")}
    for number in sorted(wanted):
        picture = atlas.picture(number)
        assert (picture.number, picture.label) == (number, photos.label(number))
        assert picture.name == photos.describe(number)
        np.testing.assert_array_equal(picture.pixels, photos.image(number))
    missing = next(number for number in range(IMAGES) if number not in wanted)
    with pytest.raises(Rot180Error, match=f"Image {missing} is no example of any feature"):
        atlas.picture(missing)


@pytest.mark.slow
def test_compact_pictures_are_smaller_and_like_them(tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch": 8, **normalisation()}
    sizes = {}
    for kind in ("lossless", "compact", "none"):
        with rot180.scan(
            small_network(), small_data(), tmp_path / kind, images=kind, **options
        ) as atlas:
            found = atlas.rows("SELECT number, picture FROM image")
            sizes[kind] = sum(len(data or b"") for _, data in found)
            for number, _ in found:
                pixels = atlas.picture(number).pixels
                if kind == "none":
                    assert pixels is None
                    continue
                difference = pixels.astype(int) - small_data().image(number)
                assert np.abs(difference).mean() < (0.01 if kind == "lossless" else 35)
    assert 0 == sizes["none"] < sizes["compact"] < sizes["lossless"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lossless", "compact"])
def test_grey_networks_and_grey_pictures(tmp_path: Path, kind: str) -> None:
    """A network of one channel takes grey and coloured images; one of three takes grey ones."""
    for network_channels, data_channels in ((1, 1), (1, 3), (3, 1)):
        data = small_data(60, data_channels)
        path = tmp_path / f"{network_channels}{data_channels}"
        network = small_network(network_channels)
        with rot180.scan(
            network, data, path, batch=8, images=kind, **normalisation(network_channels)
        ) as atlas:
            for feature in atlas.features():
                for one in feature.examples:
                    picture = atlas.picture(one.image)
                    assert picture.pixels.shape == (12, 12, network_channels)
                    if kind == "lossless" and data_channels == 1:
                        grey = np.broadcast_to(data.image(one.image), picture.pixels.shape)
                        np.testing.assert_array_equal(picture.pixels, grey)
            assert (atlas["one"][0].red is None) == (network_channels == 1)
            assert atlas["one"][0].brightness is not None
        read_everything(path)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_captured_network_with_mean_and_std(tmp_path: Path, dtype: torch.dtype) -> None:
    network, data = small_network(dtype=dtype), small_data()
    how = normalisation()
    with rot180.scan(network, data, tmp_path / "a", batch=8, **how) as atlas:
        mean, std = (torch.tensor(how[one], dtype=dtype)[:, None, None] for one in how)
        images = torch.from_numpy(data.images.copy()).movedim(-1, 1).to(dtype) / 255
        for name, layer in atlas.items():
            maps = rot180.feature_maps(network, (images - mean) / std, name).double().numpy()
            for feature in layer:
                mine = maps[:, feature.channel]
                assert feature.max == pytest.approx(mine.max(), abs=1e-5)
                assert feature.mean == pytest.approx(mine.mean(), abs=1e-5)
                assert feature.examples[0].activation == pytest.approx(mine.max(), abs=1e-5)
        assert atlas.model == ""


@pytest.mark.slow
def test_progress_is_told_after_each_batch(tmp_path: Path) -> None:
    told: list[ScanProgress] = []
    data = small_data(100)
    rot180.scan(
        small_network(), data, tmp_path / "a", batch=8, progress=told.append, **normalisation()
    ).close()
    assert [one.done for one in told] == [*range(8, 100, 8), 100]
    assert {one.total for one in told} == {100}
    assert all(one.images_per_second > 0 and 0 <= one.waiting <= 1 for one in told)
    assert all(one.left >= 0 for one in told)
    assert told[-1].left == 0


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ("one", ["one"]),
        ("*o*", ["one", "two"]),
        (["head", "one"], ["one", "head"]),
        (["t*", "tw?"], ["two"]),
        ("*", ["one", "two", "head"]),
    ],
)
def test_layers_are_chosen_by_patterns(tmp_path: Path, patterns: Any, names: list[str]) -> None:
    with rot180.scan(
        small_network(), small_data(40), tmp_path / "a", layers=patterns, **normalisation()
    ) as atlas:
        assert list(atlas) == names
        for layer in atlas.values():
            assert [feature.channel for feature in layer] == list(range(len(layer)))


@pytest.mark.slow
@pytest.mark.parametrize(("examples", "sample"), [(1, 0), (3, 5), (200, 1000)])
def test_how_much_is_kept(tmp_path: Path, examples: int, sample: int) -> None:
    with rot180.scan(
        *(small_network(), small_data(50), tmp_path / "a"),
        examples=examples,
        sample=sample,
        **normalisation(),
    ) as atlas:
        assert {len(one.examples) for one in atlas.features()} == {min(examples, 50)}
        numbers, peaks = atlas.sample("two")
        assert len(numbers) == len(peaks) == min(sample, 50)
    read_everything(tmp_path / "a")


@pytest.mark.slow
def test_arrays_are_data_without_classes(tmp_path: Path) -> None:
    images = pictures(50)
    with rot180.scan(small_network(), images, tmp_path / "a", **normalisation()) as atlas:
        assert atlas.classes == ()
        feature = atlas["two"][3]
        assert feature.class_responses == ()
        assert feature.best_class is None
        assert feature.class_selectivity is None
        assert atlas.picture(feature.examples[0].image).label is None
    read_everything(tmp_path / "a")


@pytest.mark.slow
def test_images_without_a_class_count_for_all_but_classes(tmp_path: Path) -> None:
    data, network = small_data(), small_network()
    with rot180.scan(network, data, tmp_path / "a", batch=8, **normalisation()) as atlas:
        known = data.labels[data.labels >= 0]
        assert atlas.class_images == tuple(np.bincount(known).tolist())
        assert sum(one.images for one in atlas["one"][0].histogram) == len(data)
    bare = ArrayDataset(data.images, np.full(len(data), -1), data.classes)
    with rot180.scan(network, bare, tmp_path / "b", batch=8, **normalisation()) as atlas:
        assert atlas["one"][0].best_class is None
        assert atlas["one"][0].class_responses == ()


@pytest.mark.slow
def test_a_folder_is_data(tmp_path: Path) -> None:
    root = put_images(tmp_path / "in", [f"{c}/{n}.png" for c in "ab" for n in range(30)])
    with rot180.scan(small_network(), str(root), tmp_path / "a", **normalisation()) as atlas:
        assert atlas.classes == ("a", "b")
        assert atlas.scanned == 60
        first = atlas["one"][0].examples[0].image
        assert atlas.picture(first).name.endswith(".png")


@pytest.mark.slow
def test_the_number_of_batches_changes_nothing_but_rounding(tmp_path: Path) -> None:
    found = []
    for batch in (1, 7, 256):
        path = tmp_path / f"{batch}.atlas"
        with rot180.scan(
            small_network(), small_data(60), path, batch=batch, **normalisation()
        ) as atlas:
            found.append([list(one.statistics.values())[:5] for one in atlas.features()])
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)
