"""Image files to arrays: every mode, every kind of damage, every size."""

import io
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rot180.datasets import BadImage, bad_image_policy, decode, resize_and_crop
from rot180.datasets.decode import _decode_any, _decode_plain_jpeg, decode_file
from rot180.errors import Rot180Error
from tests.datasets.dataset_files import encoded, pixels, put

# The package has a function of this name, too.
decoding = sys.modules["rot180.datasets.decode"]


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
    data = saved(image, {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG"))
    try:
        Image.open(io.BytesIO(data)).load()
    except OSError:
        pytest.skip("this version of Pillow cannot read what it wrote itself")
    np.testing.assert_array_equal(decode(data), np.asarray(image.convert("RGB")))


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
    assert caught.value.description == "x.png"
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
    result = resize_and_crop(pixels(8, h, w, channels), (height, width), wanted)
    assert result.shape == (height, width, wanted)
    constant = resize_and_crop(np.full((h, w, channels), 77, np.uint8), (height, width), wanted)
    assert set(np.unique(constant)) == {77}


def test_an_image_of_the_right_size_keeps_its_pixels() -> None:
    array = pixels(9)
    np.testing.assert_array_equal(resize_and_crop(array, (8, 10), 3), array)
    grey = pixels(9, channels=1)
    np.testing.assert_array_equal(resize_and_crop(grey, (8, 10), 3), np.repeat(grey, 3, axis=2))


def test_the_long_side_is_cut_evenly() -> None:
    array = np.zeros((10, 30, 3), dtype=np.uint8)
    array[:, 10:20] = 200
    np.testing.assert_array_equal(resize_and_crop(array, (10, 10), 3), np.full((10, 10, 3), 200))


def test_sizes_and_channels_that_cannot_be_are_refused() -> None:
    with pytest.raises(Rot180Error, match="cannot be 0 x 4 pixels"):
        resize_and_crop(pixels(0), (0, 4), 3)
    with pytest.raises(Rot180Error, match="not 2"):
        resize_and_crop(pixels(0), (4, 4), 2)


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
    short = _decode_plain_jpeg(whole)
    assert short is not None
    np.testing.assert_array_equal(short, _decode_any(io.BytesIO(whole), "whole", None))
    assert short.flags.writeable
    # Damage is found by both, or both show it alike.
    damaged = bytearray(whole)
    for place, value in changes:
        damaged[place % len(whole)] = value
    for data in (bytes(damaged), bytes(damaged[:length])):
        short = _decode_plain_jpeg(data)
        if short is not None:
            np.testing.assert_array_equal(short, _decode_any(io.BytesIO(data), "damaged", None))


def test_the_short_way_is_not_taken_past_an_orientation_or_a_bomb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(Image.fromarray(pixels(0, 8, 16)), "JPEG", exif=exif)
    assert _decode_plain_jpeg(turned) is None
    assert decode(turned).shape == (16, 8, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert _decode_plain_jpeg(encoded(pixels(0, 8, 16), "JPEG")) is None


def test_the_policy_is_skip_or_fail() -> None:
    assert [bad_image_policy(name) for name in ("skip", "fail")] == ["skip", "fail"]
    with pytest.raises(Rot180Error, match=r"'ignore'.*skip, fail"):
        bad_image_policy("ignore")


LARGE_FILES = {
    "L.png": ("L", "PNG", {}),
    "1.png": ("1", "PNG", {}),
    "P.gif": ("P", "GIF", {}),
    "RGB.jpg": ("RGB", "JPEG", {}),
    "turned.jpg": ("RGB", "JPEG", {"exif": True}),
    "progressive.jpg": ("RGB", "JPEG", {"progressive": True}),
    "RGBA.png": ("RGBA", "PNG", {}),
    "CMYK.tif": ("CMYK", "TIFF", {}),
    "I;16.png": ("I;16", "PNG", {}),
    "RGB.webp": ("RGB", "WEBP", {"lossless": True}),
}


@pytest.mark.parametrize("name", LARGE_FILES)
@pytest.mark.parametrize(("size", "channels"), [((7, 9), 3), ((9, 7), 1), ((23, 31), 3)])
def test_a_large_image_has_the_pixels_of_an_ordinary_one(
    name: str,
    size: tuple[int, int],
    channels: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    mode, kind, options = LARGE_FILES[name]
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {**options, **({"exif": exif} if "exif" in options else {})}
    if mode == "I;16":
        wide = np.random.default_rng(0).integers(0, 65536, (23, 31), dtype=np.uint16)
        data = saved(Image.fromarray(wide), kind, **options)
    else:
        data = saved(Image.fromarray(pixels(0, 23, 31)).convert(mode), kind, **options)
    ordinary = decode(data)
    path = put(tmp_path / name, data)
    monkeypatch.setattr(decoding, "LARGE", 50)
    monkeypatch.setattr(decoding, "BAND", 70)
    monkeypatch.setattr(decoding, "READ_WHOLE", 20)
    for fit in (None, (size, channels)):
        wanted = ordinary if fit is None else resize_and_crop(ordinary, *fit)
        np.testing.assert_array_equal(decode(data, target=fit), wanted, strict=True)
        np.testing.assert_array_equal(decode_file(path, target=fit), wanted, strict=True)


def test_large_images_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(pixels(0, 20, 20))
    at_once = most = 0
    real = decoding.to_array

    def watched(image: Image.Image, where: str) -> np.ndarray:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.01)
        at_once -= 1
        return real(image, where)

    monkeypatch.setattr(decoding, "to_array", watched)
    for large, expected in ((10**6, {2, 3, 4}), (300, {1})):
        monkeypatch.setattr(decoding, "LARGE", large)
        most = 0
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(decode, [data] * 8))
        assert most in expected


def test_formats_that_take_much_memory_have_a_lower_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MEMORY", 799)
    with pytest.raises(
        BadImage, match="10 x 8 pixels, and decoding it as the WEBP file that it is"
    ):
        decode(encoded(pixels(0), "WEBP"))
    assert decode(encoded(pixels(0), "PNG")).shape == (8, 10, 3)


def test_a_file_of_too_many_bytes_is_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(3 * 10**9)
    monkeypatch.setattr(decoding, "_decode_any", None)  # nothing gets that far
    with pytest.raises(BadImage, match=r"sparse\.png: it has 3,000,000,000 bytes, and image files"):
        decode_file(path)
    monkeypatch.setattr(decoding, "FILE_BYTES", 99)
    with pytest.raises(BadImage, match="it has 100 bytes, and image files of more than 99 are not"):
        decode(b"x" * 100)


def test_a_pipe_a_device_and_a_directory_are_no_image_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path(os.devnull), tmp_path):
        with pytest.raises(BadImage, match="it is not a regular file"):
            decode_file(path)


PEAK = """
import resource, sys
from rot180.datasets.decode import decode_file
from pathlib import Path
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode_file(Path(sys.argv[1]), target=((32, 32), 3))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is in other units")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp"])
def test_the_largest_images_take_four_bytes_a_pixel(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (9400, 9400), "teal").save(tmp_path / name)
    found = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(found.stdout) < 420  # MiB, of which 337 are Pillow's


@pytest.mark.parametrize("filling", [b"\xff\xfe\x00\x02", b"\xff"], ids=["empty", "padding"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_file_of_very_many_pieces_is_given_up(
    filling: bytes, on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece is a step in Python; a file within the limit of bytes can have millions."""
    monkeypatch.setattr(decoding, "READS", 5000)
    good = encoded(pixels(5), "JPEG")
    data = good[:2] + b"\xff\xe1\x00\x02" + filling * 6000 + good[2:]
    monkeypatch.setattr(decoding, "READ_WHOLE", 1000 if on_disk else 10**6)
    path = put(tmp_path / "x.jpg", data)
    with pytest.raises(BadImage, match=r"made of more than 5,000 pieces"):
        decode_file(path)
    assert decode(good[:2] + b"\xff\xe1\x00\x02" + filling * 100 + good[2:]).shape == (8, 10, 3)


def test_what_would_take_too_much_memory_is_said_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(pixels(6, 100, 100))
    files = {
        "progressive": (saved(image, "JPEG", progressive=True), 10),
        "turned": (saved(image, "JPEG", exif=exif), 8),
        "CMYK": (saved(image.convert("CMYK"), "JPEG"), 9),
        "RGBA": (saved(image.convert("RGBA")), 9),
        "WebP": (saved(image, "WEBP"), 10),
        "PNG": (saved(image), 4),
        "grey": (saved(image.convert("L")), 1),
    }
    for data, bytes_a_pixel in files.values():
        monkeypatch.setattr(decoding, "MEMORY", bytes_a_pixel * 10_000)
        decode(data, target=((8, 8), 3))
        monkeypatch.setattr(decoding, "MEMORY", bytes_a_pixel * 10_000 - 1)
        monkeypatch.setattr(decoding, "LARGE", 1)  # else the plain way is taken, of small images
        with pytest.raises(BadImage, match=r"100 x 100 pixels.* MB.*make it smaller"):
            decode(data)
