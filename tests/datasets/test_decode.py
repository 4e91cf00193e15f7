"""Image files to arrays: every mode, every kind of damage, every size."""

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rot180.datasets import BadImage, bad_image_policy, decode, fitted
from rot180.datasets.decode import _any_image, _plain_jpeg
from rot180.errors import Rot180Error
from tests.datasets.dataset_files import encoded, pixels


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.slow
@settings(deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), channels=st.sampled_from([1, 3]))
def test_lossless_files_come_back_bit_by_bit(height: int, width: int, channels: int) -> None:
    array = pixels(1, height, width, channels)
    np.testing.assert_array_equal(decode(encoded(array)), array, strict=True)


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "LA", "YCbCr"])
def test_colour_in_any_mode_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(pixels(2)).convert(mode)
    kind = {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG")
    np.testing.assert_array_equal(decode(saved(image, kind)), np.asarray(image.convert("RGB")))


def test_true_grey_keeps_its_one_channel() -> None:
    black_and_white = Image.fromarray(pixels(3)).convert("1")
    assert set(np.unique(decode(saved(black_and_white)))) == {0, 255}
    wide = np.array([[0, 257, 65535]], dtype=np.uint16)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(wide)))[:, :, 0], [[0, 1, 255]])


def test_the_exif_orientation_is_honoured() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise
    array = pixels(4, 6, 9)
    data = saved(Image.fromarray(array), exif=exif)
    np.testing.assert_array_equal(decode(data), np.rot90(array, k=-1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_truncated_image_is_bad(kind: str) -> None:
    data = encoded(pixels(5, 64, 64), kind)
    with pytest.raises(BadImage, match=r"Cannot read cat\.jpg: "):
        decode(data[: len(data) // 2], "cat.jpg")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"not an image", "not an image of a known kind"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known kind"),
    ],
)
def test_what_is_no_image_is_bad(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason) as caught:
        decode(data, "x.png")
    assert caught.value.where == "x.png"
    assert reason in caught.value.reason


def test_floating_point_pixels_are_bad() -> None:
    with pytest.raises(BadImage, match="floating point"):
        decode(saved(Image.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("height", [10, 30])  # Pillow only warns of the first
def test_a_decompression_bomb_is_bad(monkeypatch: pytest.MonkeyPatch, height: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    with pytest.raises(BadImage, match="bomb"):
        decode(encoded(pixels(6, height, 10)))


@pytest.mark.slow
@settings(deadline=None)
@given(data=st.binary(max_size=60), at=st.integers(0, 300))
def test_damage_is_an_image_or_bad_and_nothing_else(data: bytes, at: int) -> None:
    whole = encoded(pixels(7, 12, 12))
    with suppress(BadImage):
        assert decode(whole[:at] + data + whole[at + len(data) :]).dtype == np.uint8


@pytest.mark.slow
@settings(deadline=None)
@given(
    h=st.integers(1, 40),
    w=st.integers(1, 40),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    channels=st.sampled_from([1, 3]),
    wanted=st.sampled_from([1, 3]),
)
def test_any_image_fits_any_size(
    h: int, w: int, height: int, width: int, channels: int, wanted: int
) -> None:
    result = fitted(pixels(8, h, w, channels), (height, width), wanted)
    assert result.shape == (height, width, wanted)
    constant = fitted(np.full((h, w, channels), 77, np.uint8), (height, width), wanted)
    assert set(np.unique(constant)) == {77}


def test_an_image_of_the_right_size_keeps_its_pixels() -> None:
    array = pixels(9)
    np.testing.assert_array_equal(fitted(array, (8, 10), 3), array)
    grey = pixels(9, channels=1)
    np.testing.assert_array_equal(fitted(grey, (8, 10), 3), np.repeat(grey, 3, axis=2))


def test_the_long_side_is_cut_evenly() -> None:
    array = np.zeros((10, 30, 3), dtype=np.uint8)
    array[:, 10:20] = 200
    np.testing.assert_array_equal(fitted(array, (10, 10), 3), np.full((10, 10, 3), 200))


def test_sizes_and_channels_that_cannot_be_are_refused() -> None:
    with pytest.raises(Rot180Error, match="cannot be 0 x 4 pixels"):
        fitted(pixels(0), (0, 4), 3)
    with pytest.raises(Rot180Error, match="not 2"):
        fitted(pixels(0), (4, 4), 2)


JPEGS = ({}, {"progressive": True}, {"subsampling": 0}, {"quality": 95, "comment": b"noise"})


@pytest.mark.slow
@settings(deadline=None)
@given(
    seed=st.integers(0, 99),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    options=st.sampled_from(JPEGS),
    changes=st.lists(st.tuples(st.integers(2, 3000), st.integers(0, 255)), max_size=3),
    length=st.integers(0, 3000),
)
def test_the_short_way_through_a_jpeg_file_leads_to_the_same_pixels(
    seed: int,
    height: int,
    width: int,
    channels: int,
    options: dict[str, object],
    changes: list[tuple[int, int]],
    length: int,
) -> None:
    array = pixels(seed, height, width, channels)
    image = Image.fromarray(array[:, :, 0] if channels == 1 else array)
    whole = saved(image, "JPEG", **options)
    short = _plain_jpeg(whole)
    assert short is not None
    np.testing.assert_array_equal(short, _any_image(whole, "whole"))
    assert short.flags.writeable
    # Damage is found by both, or both show it alike.
    damaged = bytearray(whole)
    for place, value in changes:
        damaged[place % len(whole)] = value
    for data in (bytes(damaged), bytes(damaged[:length])):
        short = _plain_jpeg(data)
        if short is not None:
            np.testing.assert_array_equal(short, _any_image(data, "damaged"))


def test_the_short_way_is_not_taken_past_an_orientation_or_a_bomb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(Image.fromarray(pixels(0, 8, 16)), "JPEG", exif=exif)
    assert _plain_jpeg(turned) is None
    assert decode(turned).shape == (16, 8, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert _plain_jpeg(encoded(pixels(0, 8, 16), "JPEG")) is None


def test_the_policy_is_skip_or_fail() -> None:
    assert [bad_image_policy(name) for name in ("skip", "fail")] == ["skip", "fail"]
    with pytest.raises(Rot180Error, match=r"'ignore'.*skip, fail"):
        bad_image_policy("ignore")
