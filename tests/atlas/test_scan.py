"""A scan against the same numbers computed directly, and what it does when something is wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rot180
from rot180.atlas.scan import Going
from rot180.datasets import ArrayDataset, open_dataset
from rot180.errors import Rot180Error
from rot180.networks.model import NamedModel
from tests.atlas.scans import (
    Odd,
    change,
    normalisation,
    pictures,
    read_everything,
    rows_of,
    same_rows,
    small_data,
    small_network,
)
from tests.datasets.dataset_files import put, put_images

IMAGES, BATCH, KEPT = 250, 8, 9


@pytest.fixture(scope="module")
def model() -> NamedModel:
    return rot180.load("two-layer")


@pytest.fixture(scope="module")
def photos() -> ArrayDataset:
    every = open_dataset("photos", "test")
    assert isinstance(every, ArrayDataset)
    labels = np.asarray(every.labels[:IMAGES])
    return ArrayDataset(np.asarray(every.images[:IMAGES]), labels, every.classes, name="tiles")


@pytest.fixture(scope="module")
def atlas(
    model: NamedModel, photos: ArrayDataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[rot180.Atlas]:
    path = tmp_path_factory.mktemp("scan") / "photos.atlas"
    with rot180.scan(model, photos, path, batch=BATCH, sample=100) as found:
        yield found


@pytest.fixture(scope="module")
def maps(model: NamedModel, photos: ArrayDataset) -> dict[str, np.ndarray]:
    """All maps of all layers on all images."""
    inputs, network = model.prepare(photos.images), model.network()
    return {name: network.maps(inputs, name).double().numpy() for name in network.layers}


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


def test_layers_are_those_of_the_network(atlas: rot180.Atlas, model: NamedModel) -> None:
    for name, layer in model.network().layers.items():
        found = atlas[name]
        for fact in ("kind", "channels", "height", "width", "rectifier", "receptive_field"):
            assert getattr(found, fact) == getattr(layer, fact)
        assert found.stride == layer.stride


def test_examples_are_the_strongest_images(
    atlas: rot180.Atlas, model: NamedModel, maps: dict[str, np.ndarray]
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
            assert [one.mean_peak for one in feature.responses] == pytest.approx(
                np.sort(means)[::-1], abs=1e-6 * size
            )
            for one in feature.responses:
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
    atlas: rot180.Atlas, model: NamedModel, photos: ArrayDataset, maps: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Activations (samples, channels) and mean colours (samples, 3) at the sampled positions."""
    network = model.network()
    layer = network.layer(name)
    part = atlas.layout.parts[atlas.place_of(name)]
    activations, colours = [], []
    for number, places in enumerate(part.sampled(np.arange(IMAGES))):
        for place in places.tolist():
            y, x = divmod(place, layer.width)
            top, left, bottom, right = network.receptive_field(layer, (y, x))
            activations.append(maps[number, :, y, x])
            colours.append(photos.images[number, top:bottom, left:right].mean((0, 1)) / 255)
    return np.stack(activations), np.stack(colours)


@pytest.mark.parametrize("name", ["conv1", "conv2", "head"])
def test_colours_and_partners_are_those_of_the_sampled_positions(
    atlas: rot180.Atlas,
    model: NamedModel,
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
        values = [one.correlation for one in feature.partners]
        assert values == sorted(values, reverse=True)
        for one in feature.partners:
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
        scale = atlas.layout.parts[atlas.place_of(name)].scale
        expected = peaks_of(maps[name])[numbers]
        np.testing.assert_allclose(peaks.astype(float) * scale, expected, rtol=1e-3, atol=1e-4)


def test_pictures_are_the_images_exactly(atlas: rot180.Atlas, photos: ArrayDataset) -> None:
    wanted = {one.image for feature in atlas.features() for one in feature.examples}
    assert wanted == {number for (number,) in atlas.rows("SELECT number FROM image")}
    for number in sorted(wanted):
        picture = atlas.picture(number)
        assert (picture.number, picture.label) == (number, photos.label(number))
        assert picture.name == photos.where(number)
        np.testing.assert_array_equal(picture.pixels, photos.image(number))
    missing = next(number for number in range(IMAGES) if number not in wanted)
    with pytest.raises(Rot180Error, match=f"Image {missing} is no example of any feature"):
        atlas.picture(missing)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_captured_network_with_mean_and_std(tmp_path: Path, dtype: torch.dtype) -> None:
    network, data = small_network(dtype=dtype), small_data()
    how = normalisation()
    with rot180.scan(network, data, tmp_path / "a", batch=8, **how) as atlas:
        mean, std = (torch.tensor(how[one], dtype=dtype)[:, None, None] for one in how)
        images = torch.from_numpy(data.images.copy()).movedim(-1, 1).to(dtype) / 255
        for name, layer in atlas.items():
            maps = network.maps((images - mean) / std, name).double().numpy()
            for feature in layer:
                mine = maps[:, feature.channel]
                assert feature.max == pytest.approx(mine.max(), abs=1e-5)
                assert feature.mean == pytest.approx(mine.mean(), abs=1e-5)
                assert feature.examples[0].activation == pytest.approx(mine.max(), abs=1e-5)
        assert atlas.model == ""


def test_progress_is_told_after_each_batch(tmp_path: Path) -> None:
    told: list[Going] = []
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


def test_arrays_are_data_without_classes(tmp_path: Path) -> None:
    images = pictures(50)
    with rot180.scan(small_network(), images, tmp_path / "a", **normalisation()) as atlas:
        assert atlas.classes == ()
        feature = atlas["two"][3]
        assert feature.responses == ()
        assert feature.best_class is None
        assert feature.class_selectivity is None
        assert atlas.picture(feature.examples[0].image).label is None
    read_everything(tmp_path / "a")


def test_images_without_a_class_count_for_all_but_classes(tmp_path: Path) -> None:
    data, network = small_data(), small_network()
    with rot180.scan(network, data, tmp_path / "a", batch=8, **normalisation()) as atlas:
        known = data.labels[data.labels >= 0]
        assert atlas.class_images == tuple(np.bincount(known).tolist())
        assert sum(one.images for one in atlas["one"][0].histogram) == len(data)
    bare = ArrayDataset(data.images, np.full(len(data), -1), data.classes)
    with rot180.scan(network, bare, tmp_path / "b", batch=8, **normalisation()) as atlas:
        assert atlas["one"][0].best_class is None
        assert atlas["one"][0].responses == ()


def test_a_folder_is_data(tmp_path: Path) -> None:
    root = put_images(tmp_path / "in", [f"{c}/{n}.png" for c in "ab" for n in range(30)])
    with rot180.scan(small_network(), str(root), tmp_path / "a", **normalisation()) as atlas:
        assert atlas.classes == ("a", "b")
        assert atlas.scanned == 60
        first = atlas["one"][0].examples[0].image
        assert atlas.picture(first).name.endswith(".png")


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


SENTENCES: list[tuple[dict[str, Any], str]] = [
    ({"model": "two-layer"}, "scan takes what rot180.load or rot180.capture returned, not str"),
    ({"data": 5}, "not int"),
    ({"data": np.zeros((3, 4), np.uint8)}, r"shape \(3, 4\)"),
    ({"data": np.zeros((0, 12, 12, 3), np.uint8)}, "There are no images"),
    ({"data": "nowhere/at/all"}, "nowhere/at/all"),
    ({"data": "photos", "split": "tset"}, "no split 'tset'"),
    ({"data": "photos", "split": 5}, "split"),
    ({"path": "."}, "it is a directory"),
    ({"path": "no/where.atlas"}, "there is no directory no"),
    ({"layers": "nine"}, "no layer 'nine'"),
    ({"layers": ["one", "n*n"]}, "no layer 'n\\*n'"),
    ({"layers": []}, "No layer is named"),
    ({"layers": [1]}, "named by strings"),
    ({"layers": 1}, "named by strings"),
    ({"examples": 0}, "at least 1, not 0"),
    ({"examples": 1.5}, "whole number"),
    ({"sample": -1}, "at least 0, not -1"),
    ({"sample": "all"}, "whole number"),
    ({"images": "jpeg"}, "no way to store images 'jpeg'"),
    ({"batch": 0}, "at least 1, not 0"),
    ({"batch": True}, "whole number"),
    ({"shard": (0, 3)}, "There is no part 0 of 3"),
    ({"shard": (4, 3)}, "There is no part 4 of 3"),
    ({"shard": "1/3"}, r"A part is \(i, n\)"),
    ({"shard": 3}, r"A part is \(i, n\)"),
    ({"shard": ((1, 2), 3)}, "whole number"),
    ({"shard": (1.5, 3)}, "whole number"),
    ({"shard": (1, 9), "batch": 30}, "Part 1 of 9 is empty: 40 images are 2 batches of 30"),
    ({"on_bad_image": "weep"}, "'weep' says nothing about bad images"),
    ({"every": "often"}, "seconds between checkpoints"),
    ({"every": -1}, "seconds between checkpoints"),
    ({"every": float("nan")}, "seconds between checkpoints"),
    ({"mean": None}, "give mean and std"),
    ({"std": None}, "give mean and std"),
    ({"mean": (0.5,)}, "channels"),
    ({"std": (0.5, 0.0, 1.0)}, "greater than 0"),
    ({"mean": "grey"}, "one number for each channel"),
]


@pytest.mark.parametrize(("wrong", "words"), SENTENCES)
def test_wrong_arguments_get_a_sentence_and_leave_no_file(
    wrong: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    right = {"model": small_network(), "data": small_data(40), "path": "a.atlas", **normalisation()}
    with pytest.raises(Rot180Error, match=words):
        rot180.scan(**{**right, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_a_named_model_knows_its_own_normalisation(model: NamedModel, tmp_path: Path) -> None:
    with pytest.raises(Rot180Error, match="two-layer knows its own mean and std"):
        rot180.scan(model, small_data(), tmp_path / "a", mean=(0.5, 0.5, 0.5))


def scanned(path: Path, **others: Any) -> rot180.Atlas:
    given = {"model": small_network(), "data": small_data(), "batch": 8, **normalisation()}
    return rot180.scan(path=path, **{**given, **others})


def test_a_finished_scan_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    scanned(path).close()
    before, when = path.read_bytes(), path.stat().st_mtime_ns

    def never(_: Going) -> None:
        raise AssertionError

    with scanned(path, progress=never) as atlas:
        assert atlas.finished
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == when


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"model": small_network(seed=1)}, "another network, or other weights"),
        ({"data": small_data(seed=1)}, "other images"),
        ({"data": small_data(119)}, "other images"),
        ({"std": (0.25, 0.25, 0.25)}, "prepared in another way"),
        ({"layers": "one"}, "other layers"),
        ({"examples": 4}, "another number of examples"),
        ({"sample": 4}, "another number of sampled images"),
        ({"images": "none"}, "pictures stored in another way"),
        ({"batch": 9}, "another size of batch"),
        ({"batch": 9, "examples": 4}, "examples; another size of batch"),
        ({"shard": (1, 2)}, "another part of this scan"),
    ],
)
def test_another_scan_is_not_mixed_in(
    tmp_path: Path, other: dict[str, Any], words: str, finished: bool
) -> None:
    path = tmp_path / "a.atlas"
    if finished:
        scanned(path).close()
    else:
        interrupted(path, 5)
    before = path.read_bytes()
    with pytest.raises(Rot180Error, match=words):
        scanned(path, **other)
    assert path.read_bytes() == before


class Stop(Exception):
    pass


def interrupted(path: Path, batches: int, **others: Any) -> None:
    """Scan so many batches, with a checkpoint before the last, and stop in the way of an error."""
    left = [batches]

    def progress(_: Going) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Stop

    with pytest.raises(Stop):
        scanned(path, progress=progress, every=0, **others)


def test_an_error_in_the_progress_leaves_a_file_to_go_on_with(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.atlas", tmp_path / "whole.atlas"
    scanned(whole).close()
    for batches in (1, 4, 2, 3):
        interrupted(path, batches)
        read_everything(path)
        with rot180.open(path) as atlas:
            assert not atlas.finished
    scanned(path).close()
    same_rows(path, whole)


@pytest.mark.parametrize("content", ["empty", "foreign"])
def test_a_file_that_was_there(tmp_path: Path, content: str) -> None:
    """An empty one is written to; another one is left as it is."""
    path = put(tmp_path / "a.atlas", b"" if content == "empty" else b"a letter to my aunt" * 99)
    if content == "empty":
        scanned(path).close()
        read_everything(path)
        return
    with pytest.raises(Rot180Error, match="is not an atlas"):
        scanned(path)
    assert path.read_bytes() == b"a letter to my aunt" * 99


def test_broken_images_are_named_and_left_out(tmp_path: Path) -> None:
    data = small_data()
    broken = [0, 17, 18, *range(40, 48), 119]
    with scanned(tmp_path / "a", data=Odd(data, broken=broken)) as atlas:
        found = atlas.rows("SELECT image, name, reason FROM skipped ORDER BY image")
        assert found == [(number, f"blots, image {number}", "it is torn") for number in broken]
        assert atlas.scanned == 120
        feature = atlas["one"][2]
        assert sum(one.images for one in feature.histogram) == 120 - len(broken)
        kept = [number for number in range(120) if number not in broken]
    read_everything(tmp_path / "a")
    alone = ArrayDataset(data.images[kept], data.labels[kept], data.classes)
    with rot180.open(tmp_path / "a") as atlas, scanned(tmp_path / "b", data=alone) as other:
        for one, two in zip(atlas.features(), other.features(), strict=True):
            assert one.mean == pytest.approx(two.mean, abs=1e-6)
            assert [e.image for e in one.examples] == [kept[e.image] for e in two.examples]


def test_broken_images_in_folders(tmp_path: Path) -> None:
    root = put_images(tmp_path / "in", [f"{number:03}.png" for number in range(60)])
    (root / "031.png").write_bytes(b"no picture")
    (root / "042.png").write_bytes((root / "042.png").read_bytes()[:100])
    with scanned(tmp_path / "a", data=str(root)) as atlas:
        assert [Path(name).name for (name,) in atlas.rows("SELECT name FROM skipped")] == [
            "031.png",
            "042.png",
        ]


def test_broken_images_can_end_the_scan(tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    odd = Odd(small_data(), broken=[50])
    with pytest.raises(Rot180Error, match="Cannot read blots, image 50: it is torn"):
        scanned(path, data=odd, on_bad_image="fail", every=0)
    read_everything(path)
    with rot180.open(path) as atlas:
        assert not atlas.finished
        assert atlas.progress[0][2] <= 48
    scanned(path, on_bad_image="fail").close()  # it was mended
    scanned(tmp_path / "whole").close()
    same_rows(path, tmp_path / "whole")


def test_data_all_of_which_is_broken(tmp_path: Path) -> None:
    with pytest.raises(Rot180Error, match="No image of blots"):
        scanned(tmp_path / "a", data=Odd(small_data(60), broken=range(60)))
    with pytest.raises(Rot180Error, match=r"images in blots \(all\) cannot be read"):
        scanned(tmp_path / "a", data=Odd(small_data(), broken=range(8, 120)))


def test_an_image_that_went_away_between_scan_and_pictures(tmp_path: Path) -> None:
    path, odd = tmp_path / "a.atlas", Odd(small_data())

    def progress(going: Going) -> None:
        if going.done == going.total:
            odd._broken = frozenset(range(120))

    with pytest.raises(Rot180Error, match="was read during the scan and cannot be read now"):
        scanned(path, data=odd, progress=progress)
    read_everything(path)
    scanned(path).close()
    scanned(tmp_path / "whole").close()
    same_rows(path, tmp_path / "whole")


class Hungry(torch.nn.Module):
    """A convolution after a logarithm, which is not a number where an image is black."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.one(torch.sqrt(x)))


def test_a_network_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    network = rot180.capture(Hungry().eval(), torch.rand(1, 3, 12, 12))
    images = pictures(80)
    images[50] = 0
    given: dict[str, Any] = {"mean": (0.001,) * 3, "std": (1.0,) * 3, "batch": 8, "every": 0}
    path = tmp_path / "a.atlas"
    bright = np.maximum(images, 1)
    for wrong in (images, Odd(ArrayDataset(images))):
        with pytest.raises(
            Rot180Error, match=r"infinite or not numbers \(NaN\), first in the step"
        ):
            rot180.scan(network, wrong, path, **given)
        read_everything(path)
        with rot180.open(path) as atlas:
            assert not atlas.finished
            assert atlas.progress[0][2] <= 48
    mended = ArrayDataset(bright, fingerprint=ArrayDataset(images).fingerprint)
    with rot180.scan(network, mended, path, **given) as atlas:
        assert atlas.complete
    read_everything(path)


def test_no_numbers_on_the_first_images_leave_no_file(tmp_path: Path) -> None:
    network = rot180.capture(Hungry().eval(), torch.rand(1, 3, 12, 12))
    with pytest.raises(Rot180Error, match="not numbers"):
        rot180.scan(network, np.zeros((9, 12, 12, 3), np.uint8), tmp_path / "a", **normalisation())
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_scan_whose_identity_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    interrupted(path, 3)
    change(path, "DELETE FROM about WHERE key = 'identity'")
    with pytest.raises(Rot180Error, match="does not say what it is a scan of"):
        scanned(path)


def test_paths_with_unusual_characters(tmp_path: Path) -> None:
    for name in ("with space.atlas", "a#b?c%20d.atlas", "ä 図.atlas", "no-suffix", "-x'\"y"):
        interrupted(tmp_path / name, 3)
        with scanned(tmp_path / name) as atlas:
            assert atlas.path.name == name
            assert atlas.finished
