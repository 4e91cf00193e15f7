"""JPEG files of very many scans are refused before they are decoded, and no others."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rot180.datasets import BadImage, decode, decode_file, jpeg, open_dataset
from rot180.datasets.loader import BatchLoader
from tests.datasets.dataset_files import encoded, pixels, put

SCAN, END = b"\xff\xda", b"\xff\xd9"


def progressive(scans: int, between: bytes = b"") -> bytes:
    """A progressive file of so many scans, the last of which is repeated."""
    file = io.BytesIO()
    Image.fromarray(pixels(0, 16, 24)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(SCAN) : -len(END)]
    return data[: -len(END)] + (between + last) * (scans - data.count(SCAN)) + END


def comment(content: bytes) -> bytes:
    return b"\xff\xfe" + (len(content) + 2).to_bytes(2, "big") + content


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_file_of_more_scans_than_the_limit_is_refused(
    on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[decode.__module__], "READ_WHOLE", 1000 if on_disk else 10**6)
    most = progressive(jpeg.MOST_SCANS)
    by_pillow = np.asarray(Image.open(io.BytesIO(most)))
    np.testing.assert_array_equal(decode_file(put(tmp_path / "most.jpg", most)), by_pillow)
    with pytest.raises(BadImage, match=r"more\.jpg: it is a JPEG file of more than 100 scans"):
        decode_file(put(tmp_path / "more.jpg", progressive(jpeg.MOST_SCANS + 1)))


def test_scans_behind_what_looks_like_the_end_are_counted() -> None:
    with pytest.raises(BadImage, match="more than 100 scans"):
        decode(progressive(101, comment(END)))


@pytest.mark.parametrize("size", [1, 200, 2**20])
def test_what_only_looks_like_scans_is_not_counted(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Previews in metadata, and films behind the image, hold the same bytes by chance."""
    monkeypatch.setattr(jpeg, "_CHUNK", size)
    plain = encoded(pixels(1), "JPEG")
    described = plain[:2] + comment(SCAN * 2000) + plain[2:] + SCAN * 200
    np.testing.assert_array_equal(decode(described), decode(plain))
    between = progressive(20, comment(SCAN * 2000) + b"\xff\xff")
    np.testing.assert_array_equal(decode(between), decode(progressive(20)))
    with pytest.raises(BadImage, match="more than 100 scans"):
        decode(progressive(101, b"\xff\xff"))


def test_the_count_itself_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "MOST_SEGMENTS", 300)
    plain = encoded(pixels(1), "JPEG")
    decode(plain[:2] + comment(SCAN) * 200 + plain[2:])
    with pytest.raises(BadImage, match="more than 300 segments"):
        decode(plain[:2] + comment(SCAN) * 400 + plain[2:])


@pytest.mark.parametrize("data", [b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8" + SCAN * 101])
def test_a_file_that_ends_early_is_bad_and_nothing_else(data: bytes) -> None:
    with pytest.raises(BadImage):
        decode(data)


def test_a_folder_with_such_a_file_is_read_without_it(tmp_path: Path) -> None:
    for name in ("a", "c"):
        put(tmp_path / f"{name}.jpg", encoded(pixels(1), "JPEG"))
    put(tmp_path / "b.jpg", progressive(5000))
    data = open_dataset(str(tmp_path), "all")
    with BatchLoader(data, [range(3)], 3, (8, 10), 3) as loader:
        (batch,) = loader
    assert batch.indices.tolist() == [0, 2]
    assert "more than 100 scans" in batch.bad[0].reason
