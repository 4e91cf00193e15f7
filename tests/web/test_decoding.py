"""Pictures are decoded in a process that is ended when one of them takes too long."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rot180.datasets import resize_and_crop
from rot180.web import decoding
from rot180.web.decoding import Decoder
from rot180.web.errors import TooLarge, UnsupportedMedia


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    found = Decoder()
    yield found
    found.close()


def a_file(form: str = "PNG", size: tuple[int, int] = (40, 30)) -> tuple[bytes, np.ndarray]:
    pixels = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue(), pixels


def endless_segments(count: int) -> bytes:
    """A JPEG file with so many empty comments before its picture, each a step for a parser."""
    data, _ = a_file("JPEG")
    return data[:2] + b"\xff\xfe\x00\x02" * count + data[2:]


@pytest.mark.slow
def test_a_picture_that_takes_too_long_ends_the_process_and_the_next_one_is_taken(
    decoder: Decoder,
) -> None:
    data, pixels = a_file()
    np.testing.assert_array_equal(
        decoder.fitted(data, (32, 32), 3), resize_and_crop(pixels, (32, 32), 3)
    )
    decoder.seconds = 0.5
    began = time.perf_counter()
    with pytest.raises(UnsupportedMedia, match=r"decoding it takes more than 0\.5 seconds\.$"):
        decoder.fitted(endless_segments(4_900_000), (32, 32), 3)
    assert time.perf_counter() - began < 3
    decoder.seconds = 30.0
    np.testing.assert_array_equal(
        decoder.fitted(data, (32, 32), 3), resize_and_crop(pixels, (32, 32), 3)
    )


@pytest.mark.slow
def test_one_process_decodes_all_pictures_and_ends_with_the_decoder(decoder: Decoder) -> None:
    data, pixels = a_file()
    for channels in (1, 3):
        wanted = resize_and_crop(pixels, (20, 10), channels)
        np.testing.assert_array_equal(decoder.fitted(data, (20, 10), channels), wanted)
    process = decoder._process
    with pytest.raises(UnsupportedMedia, match="it is not a JPEG, PNG, WebP, GIF or BMP file"):
        decoder.fitted(b"no picture", (20, 10), 3)
    assert decoder._process is process
    assert process is not None
    assert process.poll() is None
    decoder.close()
    assert process.poll() is not None


@pytest.mark.slow
def test_a_process_that_died_is_a_sentence_and_another_is_started(decoder: Decoder) -> None:
    data, _ = a_file()
    decoder.fitted(data, (8, 8), 3)
    assert decoder._process is not None
    decoder._process.kill()
    decoder._process.wait()
    assert decoder.fitted(data, (8, 8), 3).shape == (8, 8, 3)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory cannot be limited")
def test_memory_is_limited(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many pixels as are taken fit; a file whose decoder wants more memory is a sentence."""
    buffer = io.BytesIO()
    Image.new("RGB", (7000, 7000)).save(buffer, "PNG", compress_level=1)
    assert decoder.fitted(buffer.getvalue(), (8, 8), 3).max() == 0
    Image.new("L", (8000, 7000)).save(larger := io.BytesIO(), "PNG", compress_level=1)
    with pytest.raises(TooLarge, match="at most 50 million"):
        decoder.fitted(larger.getvalue(), (8, 8), 3)
    script = "from rot180.web import decoding as d; d.MEMORY = 2**26; d.main()"
    monkeypatch.setattr(decoding.subprocess, "Popen", with_script(script))
    decoder.close()
    with pytest.raises(UnsupportedMedia, match="takes too much memory"):
        decoder.fitted(buffer.getvalue(), (8, 8), 3)


def with_script(script: str) -> object:
    """Return a Popen that runs a script in place of the module."""
    start = subprocess.Popen

    def started(words: list[str], **given: object) -> object:
        return start([*words[:2], "-c", script], **given)

    return started


@pytest.mark.slow
def test_nothing_is_imported_from_where_the_explorer_is_started(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "struct.py").write_text("open('mine', 'w')\nraise SystemExit\n")
    (tmp_path / "PIL.py").write_text("open('mine', 'w')\nraise SystemExit\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    data, _ = a_file()
    assert decoder.fitted(data, (8, 8), 3).shape == (8, 8, 3)
    assert sorted(os.listdir()) == ["PIL.py", "struct.py"]
