"""What ``project`` returns, alone and in batches, and what it says of bad input."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import rot180
from rot180 import Rot180Error
from rot180.projection import project as module
from rot180.projection.imaging import grid, scale_of, signed_to_rgb, upscale
from rot180.projection.rules import Rules
from tests.models import TwoConvolutions, image, relative_error, seeded
from tests.projection.whole import over_whole_maps


@pytest.fixture(scope="module")
def net() -> rot180.Network:
    return rot180.capture(seeded(TwoConvolutions), image(1, 3, 12, 12))


@pytest.mark.slow
@pytest.mark.parametrize("position", [None, "peak", (1, 2)])
@pytest.mark.parametrize("method", ["deconvnet", "gradient", "guided"])
@pytest.mark.parametrize("unpool", ["switches", "repeat"])
def test_a_batch_gives_what_single_calls_give(net, position, method: str, unpool: str) -> None:
    x = image(3, 3, 12, 12)
    many = rot180.project(net, x, "conv2", None, position, method, unpool)
    assert many.shape == (3, 8)
    assert many.full().shape == (3, 8, 3, 12, 12)
    for n in range(3):
        of_image = rot180.project(net, x[n], "conv2", None, position, method, unpool)
        assert of_image.shape == (8,)
        for channel in range(8):
            one = rot180.project(net, x[n], "conv2", channel, position, method, unpool)
            for other in (of_image[channel], many[8 * n + channel]):
                assert (other.box, other.position) == (one.box, one.position)
                assert relative_error(other.pixels, one.pixels) < 1e-12
                assert other.activation == pytest.approx(one.activation, rel=1e-12)


def test_chosen_features_of_a_batch(net) -> None:
    x = image(2, 3, 12, 12)
    found = rot180.project(net, x, "conv1", [4, 1], method="deconvnet")
    assert found.shape == (2, 2)
    assert [one.channel for one in found] == [4, 1, 4, 1]
    assert torch.equal(
        found[2].full(), rot180.project(net, x[1:], "conv1", 4, method="deconvnet")[0].full()
    )


def test_numbers_of_numpy_and_torch_count_as_numbers(net) -> None:
    x = image(3, 12, 12)
    for zero in (np.int64(0), torch.tensor(0), np.array(0)):
        found = rot180.project(net, x, "conv2", zero, np.array([1, 2]), method="deconvnet")
        assert isinstance(found, rot180.Projection)
        assert (found.channel, found.position) == (0, (1, 2))


def test_large_batches_go_in_parts_with_the_same_result(net, monkeypatch) -> None:
    x = image(5, 3, 12, 12)
    whole = [
        rot180.project(net, x, "conv2", 3, method="deconvnet"),
        rot180.project(net, x[0], "conv2", method="deconvnet"),
    ]
    monkeypatch.setattr(module, "_MEMORY", 2 * 6 * 12 * 12)
    parts = [
        rot180.project(net, x, "conv2", 3, method="deconvnet"),
        rot180.project(net, x[0], "conv2", method="deconvnet"),
    ]
    for one, other in zip(whole, parts, strict=True):
        assert relative_error(one.full(), other.full()) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("unpool", ["switches", "repeat"])
def test_nothing_of_a_unit_lies_outside_its_receptive_field(net, unpool: str) -> None:
    x = image(3, 12, 12)
    fired = (rot180.feature_maps(net, x, "conv2")[0] > 0).nonzero().tolist()
    for channel, *unit in fired[::5]:
        whole = over_whole_maps(net, x, "conv2", channel, tuple(unit), Rules(unpooling=unpool))
        p = rot180.project(net, x, "conv2", channel, tuple(unit), unpool=unpool, method="deconvnet")
        assert p.box == net.receptive_field(net.layers["conv2"], tuple(unit))
        assert p.pixels.shape[1:] == (p.box.height, p.box.width)
        outside = torch.ones_like(whole, dtype=torch.bool)
        outside[:, p.box.top : p.box.bottom, p.box.left : p.box.right] = False
        assert not whole[outside].any()
        assert relative_error(p.full(), whole) < 1e-14


@pytest.mark.slow
def test_linear_in_the_unit_a_whole_map_is_the_sum_of_its_units_for_the_gradient(net) -> None:
    x = image(3, 12, 12)
    units = [
        rot180.project(net, x, "conv2", 5, (y, x_), "gradient").full()
        for y in range(6)
        for x_ in range(6)
    ]
    whole = rot180.project(net, x, "conv2", 5, method="gradient").full()
    assert relative_error(sum(units), whole) < 1e-12


@pytest.mark.slow
def test_the_signal_starts_with_the_activation_and_ignores_biases() -> None:
    model = seeded(TwoConvolutions)
    with torch.no_grad():
        model.conv1.bias.zero_()
        model.conv2.bias.zero_()
    net = rot180.capture(model, image(1, 3, 12, 12))
    x = image(3, 12, 12)
    one = rot180.project(net, x, "conv2", 2, method="deconvnet")
    two = rot180.project(
        net, 2 * x, "conv2", 2, method="deconvnet"
    )  # without biases all activations double
    assert relative_error(two.full(), 2 * one.full()) < 1e-12
    assert two.activation == pytest.approx(2 * one.activation)


def test_a_silent_unit_gives_nothing(net) -> None:
    maps = rot180.feature_maps(net, image(3, 12, 12), "conv1")[0]
    channel, y, x = (maps == 0).nonzero()[0].tolist()
    p = rot180.project(net, image(3, 12, 12), "conv1", channel, (y, x), method="deconvnet")
    assert p.activation == 0
    assert not p.pixels.any()


def test_it_shows_itself_in_a_notebook(net) -> None:
    p = rot180.project(net, image(3, 12, 12), "conv2", 1, method="deconvnet")
    shown = np.asarray(Image.open(io.BytesIO(p._repr_png_())))
    factor = 256 // 12
    assert shown.shape == (12 * factor, 12 * factor, 3)
    assert np.array_equal(shown[::factor, ::factor], p.picture())
    many = rot180.project(net, image(3, 12, 12), "conv2", method="deconvnet")
    assert Image.open(io.BytesIO(many._repr_png_())).size[0] > 4 * 12
    assert "feature 1" in repr(p)


def test_zero_is_mid_grey_and_pixels_are_repeated() -> None:
    signal = np.zeros((3, 2, 2))
    signal[0, 0, 0], signal[1, 0, 1] = 2.0, -2.0
    picture = signed_to_rgb(signal)
    assert picture[0, 0].tolist() == [255, 128, 128]
    assert picture[0, 1].tolist() == [128, 0, 128]
    assert picture[1].tolist() == [[128] * 3] * 2
    assert signed_to_rgb(signal, scale=4.0)[0, 0].tolist() == [192, 128, 128]
    large = upscale(picture, 3)
    assert (large[:3, :3] == picture[0, 0]).all()
    sheet = grid([picture, picture, picture], 2, gap=1)
    assert sheet.shape == (5, 5, 3)
    assert (sheet[3:, 3:] == 255).all()
    assert signed_to_rgb(np.ones((1, 2, 2)))[0, 0].tolist() == [255] * 3


def test_a_few_large_values_do_not_make_a_picture_grey() -> None:
    signal = np.zeros((1, 40, 60))
    signal[0, :20, :50] = 1.0
    signal[0, 0, :3] = 1000.0
    assert scale_of(signal) == 1
    picture = signed_to_rgb(signal)
    assert (picture[:20, :50] == 255).all()
    assert (picture[20:] == 128).all()
    assert scale_of(np.zeros((3, 2, 2))) == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"channel": []}, r"No feature is chosen"),
        ({"channel": True}, r"has to be a whole number, not True"),
        ({"channel": [1.5]}, r"has to be a whole number, not 1.5"),
        ({"position": (1.0, 2)}, r"has to be a whole number, not 1.0"),
        ({"position": (1, 2, 3)}, r"None, 'peak' or \(y, x\)"),
        ({"layer": "conv3"}, r"no layer 'conv3' in this network. It has: conv\d, conv\d"),
        ({"channel": 8}, r"no feature 8: it has 8 features, 0 to 7"),
        ({"channel": -1}, r"no feature -1"),
        ({"position": (6, 0)}, r"\(6, 0\) lies outside the maps of layer 'conv2'.*6 rows"),
        ({"position": "top"}, r"None, 'peak' or \(y, x\); this one is 'top'"),
        ({"method": "deconv"}, r"no method 'deconv'. There are: deconvnet"),
        ({"unpool": "switch"}, r"no unpooling 'switch'. There are: switches"),
        ({"image": torch.zeros(1, 12, 12)}, r"shape \(1, 12, 12\).*\(3, 12, 12\)"),
        ({"image": np.zeros((3, 12, 12))}, r"has to be a torch.Tensor, not ndarray"),
        ({"image": torch.zeros(3, 13, 12)}, r"shape \(3, 13, 12\)"),
        ({"image": torch.zeros(3, 12, 12).byte()}, r"torch.uint8 values; .* normalised"),
        ({"image": torch.full((3, 12, 12), float("nan"))}, r"not numbers"),
        ({"image": torch.zeros(0, 3, 12, 12)}, r"holds no image"),
    ],
)
def test_bad_input_gets_a_sentence(net, changed: dict, words: str) -> None:
    given = {"image": image(3, 12, 12), "layer": "conv2", "channel": 0, **changed}
    with pytest.raises(Rot180Error, match=words):
        rot180.project(net, **given)


@pytest.mark.slow
def test_values_that_overflow_are_traced_to_the_step() -> None:
    model = seeded(TwoConvolutions)
    with torch.no_grad():
        model.conv2.weight.mul_(1e300)
    net = rot180.capture(model, image(1, 3, 12, 12))
    with pytest.raises(Rot180Error, match=r"first in the step conv2d_1 \(convolution\)"):
        rot180.project(net, image(3, 12, 12) * 1e10, "conv2", 0, method="deconvnet")
