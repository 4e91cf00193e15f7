"""The one pass over the maps is what NumPy says of them; positions are sampled in equal shares."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from rot180.atlas.feature_index import FeatureIndex, LayerSlice, scale_of
from rot180.atlas.map_summary import MapSummary, integral_images, local_colours, summarise
from rot180.errors import Rot180Error
from tests.atlas.synthetic import drawn, local_means, spans, summary_of


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def summarised(maps: np.ndarray, memory_format: torch.memory_format) -> MapSummary:
    """What is found in maps, in arrays that held something else before."""
    into = MapSummary.empty(*maps.shape[:2])
    for one in into:
        one.fill(77)
    summarise(torch.from_numpy(maps).contiguous(memory_format=memory_format), into)
    return into


def check(maps: np.ndarray, memory_format: torch.memory_format = torch.contiguous_format) -> None:
    found, direct = summarised(maps, memory_format), summary_of([maps])
    assert np.array_equal(found.peak, direct.peak)
    assert np.array_equal(found.where, direct.where)
    assert np.array_equal(found.fired, direct.fired)
    # Both add in float64, in different orders: an addition errs by 2^-53 of the sum of sizes.
    positions = maps[0, 0].size
    sizes = np.abs(maps.astype(np.float64)).mean((2, 3))
    assert (np.abs(found.mean - direct.mean) <= 2 * positions * 2.0**-53 * sizes).all()


FORMATS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 5, 7, 6), (1, 1, 1, 1), (2, 20, 1, 1), (4, 1, 3, 2)])
def test_a_summary_is_the_direct_one(shape, kind, memory_format) -> None:
    maps = np.random.default_rng(1).normal(size=shape).astype(kind)
    check(maps, memory_format)
    check(np.maximum(maps, 0), memory_format)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_of_equal_activations_the_first_is_the_peak(kind, memory_format) -> None:
    check(np.random.default_rng(2).integers(-1, 2, (6, 9, 4, 5)).astype(kind), memory_format)
    for value in (0.7, 0.3, 0.0, -0.7, 1 / 3):  # float32 is above some of these, below others
        check(np.full((2, 3, 4, 4), value, kind), memory_format)


def test_activations_that_differ_by_less_than_float32_can_hold_are_not_equal() -> None:
    maps = np.full((1, 2, 1, 4), 0.3)
    maps[0, 0, 0, 2] += 1e-12
    maps[0, 1, 0] += np.array([3, 2, 4, 1]) * 1e-12
    assert summarised(maps, torch.contiguous_format).where.tolist() == [[2, 2]]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_map_below_zero_has_a_negative_peak_and_never_fires(kind) -> None:
    maps = -1 - np.random.default_rng(3).random((3, 4, 5, 5)).astype(kind)
    check(maps)
    found = summarised(maps, torch.channels_last)
    assert (found.peak < -1).all()
    assert not found.fired.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 13, 24])
def test_what_is_not_a_number_is_seen_in_the_mean(value: float, place: int) -> None:
    maps = np.ones((2, 3, 5, 5), np.float32)
    maps[1, 2].flat[place] = value
    finite = np.isfinite(summarised(maps, torch.contiguous_format).mean)
    assert finite.tolist() == [[True] * 3, [True, True, False]]
    maps[1, 2].flat[12] = -value
    assert not np.isfinite(summarised(maps, torch.channels_last).mean[1, 2])


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    "shape",
    [(5, 9, 64, 64), (2, 33, 50, 50), (1, 40, 60, 60), (1, 1, 400, 400), (2, 17, 70, 70)],
    ids=str,
)
def test_threads_share_the_work_and_change_nothing(shape, count, memory_format) -> None:
    """Images are dealt out where there are enough of them, and else the channels."""
    maps = np.random.default_rng(4).integers(-50, 50, shape).astype(np.float32)
    torch.set_num_threads(1)
    alone = summarised(maps, memory_format)
    torch.set_num_threads(count)
    check(maps, memory_format)
    for one, two in zip(alone, summarised(maps, memory_format), strict=True):
        assert np.array_equal(one, two)


def test_a_summary_is_written_into_the_columns_of_its_layer_only() -> None:
    images = drawn(4)
    into = MapSummary.empty(6, images.index.features)
    for one in into:
        one.fill(77)
    for number, maps in enumerate(images.maps):
        here = into.part(slice(1, 5), images.index.slice_of(number))
        summarise(torch.from_numpy(maps), here)
    for mine, its in zip(into, images.observed().summary, strict=True):
        assert np.allclose(mine[1:5], its, rtol=1e-12, atol=0)
        assert (mine[[0, 5]] == 77).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(7, 6), (1, 1), (12, 12), (5, 9)])
def test_local_colours_are_the_mean_of_the_pixels(size, channels: int) -> None:
    pictures = drawn(5, colours=channels).pictures
    positions = np.random.default_rng(5).integers(0, size[0] * size[1], (5, 11))
    found = local_colours(integral_images(pictures), positions, spans(size[0]), spans(size[1]))
    fields = drawn(1, parts=[LayerSlice("x", 1, *size)]).fields["x"]
    assert np.allclose(found, local_means(pictures, positions, fields), rtol=1e-14, atol=0)


def test_white_is_one_black_is_zero_and_a_field_without_pixels_is_black() -> None:
    pictures = np.zeros((2, 12, 12, 3), np.uint8)
    pictures[1] = 255
    fields = np.array([[0, 12], [3, 4], [12, 12]])
    positions = np.tile(np.arange(9), (2, 1))
    found = local_colours(integral_images(pictures), positions, fields, fields)
    seen = np.outer([1, 1, 0], [1, 1, 0]).ravel()
    assert np.array_equal(found[0], np.zeros((9, 3)))
    assert np.array_equal(found[1], np.repeat(seen[:, None], 3, axis=1))


SAMPLED = [
    LayerSlice("square", 3, 8, 8),
    LayerSlice("odd", 3, 7, 6),
    LayerSlice("long", 3, 30, 2),
    LayerSlice("few", 257, 9, 5),
    LayerSlice("one", 513, 5, 4),
    LayerSlice("point", 2, 1, 1),
]


@pytest.mark.parametrize("part", SAMPLED, ids=lambda one: one.name)
def test_each_cell_of_the_grid_holds_one_position(part: LayerSlice) -> None:
    """Cells divide the map evenly, so their borders may cut through a position."""
    rows, columns = part.sample_grid
    numbers = np.concatenate([np.arange(500), 10**6 + np.arange(500), 2**40 + np.arange(500)])
    positions = part.sample_positions(numbers)
    assert positions.shape == (len(numbers), rows * columns)
    y, x = (one.reshape(-1, rows, columns) for one in np.divmod(positions, part.width))
    for place, cells, size, axis in ((y, rows, part.height, 1), (x, columns, part.width, 2)):
        assert (place >= 0).all()
        assert (place < size).all()
        cell = np.arange(cells).reshape((-1, 1) if axis == 1 else (1, -1))
        assert ((place + 1) * cells > cell * size).all()
        assert (place * cells < (cell + 1) * size).all()
        assert (np.diff(place, axis=axis) > 0).all()  # no position twice
    assert (y == y[:, :, :1]).all()
    assert (x == x[:, :1]).all()


@pytest.mark.parametrize("part", SAMPLED, ids=lambda one: one.name)
def test_all_positions_take_part_in_equal_shares(part: LayerSlice) -> None:
    """The count of a position differs from its share by what an even sequence leaves over.

    That grows like the logarithm of the number of images (here 14 doublings of it). Positions
    chosen by chance would differ by several roots of it, 128.
    """
    images, places = 2**14, part.height * part.width
    counts = np.bincount(part.sample_positions(np.arange(images)).ravel(), minlength=places)
    share = images * part.sample_grid[0] * part.sample_grid[1] / places
    assert len(counts) == places
    assert np.abs(counts - share).max() < 14


def test_maps_no_larger_than_the_grid_are_sampled_whole() -> None:
    for height in (1, 2, 3, 4):
        for width in (1, 3, 4):
            found = LayerSlice("x", 2, height, width).sample_positions(np.arange(1000))
            assert (np.sort(found, axis=1) == np.arange(height * width)).all()


def test_layers_of_many_features_are_sampled_at_fewer_positions() -> None:
    grids = {c: LayerSlice("x", c, 9, 9).sample_grid for c in (1, 256, 257, 512, 513, 4096)}
    assert list(grids.values()) == [(4, 4), (4, 4), (2, 2), (2, 2), (1, 1), (1, 1)]
    assert LayerSlice("x", 4096, 9, 9).is_correlated
    assert not LayerSlice("x", 4097, 9, 9).is_correlated


def test_a_scale_is_the_next_power_of_two() -> None:
    for value in (1e-30, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 1e30):
        scale = scale_of(value)
        assert np.log2(scale) == round(np.log2(scale))
        assert scale / 2 < value <= scale
    for nothing in (0.0, -1.0, float("nan")):
        assert scale_of(nothing) == 1.0


def test_an_index_numbers_the_features_of_all_layers() -> None:
    index = drawn(1).index
    assert (index.starts, index.features) == ((0, 3, 4, 6), 6)
    assert index.slice_of(2) == slice(4, 6)
    assert index.scales.tolist() == [4, 4, 4, 0.5, 1, 1]
    assert FeatureIndex.from_json(index.to_json()) == index


@pytest.mark.parametrize(
    "wrong",
    [
        {"layers": []},
        {"layers": [["x", 1, 1]]},
        {"layers": [["x", 0, 1, 1, 1.0]]},
        {"layers": [["x", 1, 1, 1, 0.0]]},
        {"layers": [["x", 1, 1, 1, float("inf")]]},
        {"layers": [["x", 1, float("inf"), 1, 1.0]]},
        {"classes": -1},
        {"colours": 2},
        {"examples": 0},
        {"sample": -1},
        {"sample": None},
    ],
    ids=str,
)
def test_an_impossible_index_is_refused(wrong) -> None:
    given = {**drawn(1).index.to_json(), **wrong}
    with pytest.raises(Rot180Error, match="index of features is damaged"):
        FeatureIndex.from_json(given)
