"""Pictures that are brought: taken within bounds, decoded in bounded memory, stored nowhere."""

import http.client
import io
import struct
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from rot180.datasets import resize_and_crop
from rot180.web import uploads
from rot180.web.collection import AtlasCollection
from tests.web.atlases import ask

PATH = "/atlas/late/images"


def a_picture(form: str = "PNG", size: tuple[int, int] = (90, 60), **options: object) -> bytes:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "WEBP", "JPEG"])
def test_a_picture_is_shown_as_the_network_takes_it(address: str, form: str) -> None:
    data = a_picture(form, **({"lossless": True} if form == "WEBP" else {}))
    answer = ask(address, PATH, "POST", data)
    assert answer.status == 201
    told = answer.json
    assert told["address"] == f"{PATH}/{told['image']}"
    shown = ask(address, f"{PATH}/{told['image']}.png").pixels
    decoded = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(shown, resize_and_crop(decoded, (32, 32), 3))
    assert ask(address, f"{PATH}/{told['image']}/layers/conv2.json").json["peaks"]
    page = ask(address, told["address"], headers={"Accept": "text/html"})
    assert page.status == 200


def test_a_photograph_lies_as_it_was_held(address: str) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40] = 255  # white at the left, until it is turned
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif, quality=95)
    told = ask(address, PATH, "POST", buffer.getvalue()).json
    shown = ask(address, f"{PATH}/{told['image']}.png").pixels
    assert shown[:10].mean() > 200 > 50 > shown[-10:].mean()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 415),
        (b"not a picture", 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415),
        (a_picture("TIFF"), 415),
        (a_picture("PNG")[:200], 415),
        (a_picture("JPEG")[:200], 415),
    ],
)
def test_what_is_no_picture_is_a_sentence(address: str, data: bytes, status: int) -> None:
    answer = ask(address, PATH, "POST", data)
    assert answer.status == status
    assert answer.json["error"].endswith(".")
    assert ask(address, PATH).status == 200


def bomb(width: int, height: int) -> bytes:
    """A PNG file of few bytes that claims many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60_000, 60_000), (9_000, 8_000), (1_000_000, 1)])
def test_a_picture_that_claims_too_much_is_not_decoded(address: str, size: tuple[int, int]) -> None:
    answer = ask(address, PATH, "POST", bomb(*size))
    assert answer.status in (413, 415)


def test_no_more_bytes_are_read_than_are_taken(address: str) -> None:
    too_many = uploads.MOST_BYTES + 1
    place = urlsplit(address).netloc
    told = http.client.HTTPConnection(place, timeout=30)
    told.putrequest("POST", PATH)
    told.putheader("Content-Length", str(too_many))
    told.endheaders()
    assert told.getresponse().status == 413
    told.close()

    def parts() -> object:
        for _ in range(too_many // 2**20 + 2):
            yield bytes(2**20)

    untold = http.client.HTTPConnection(place, timeout=30)
    try:
        untold.request("POST", PATH, parts(), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})  # fmt: skip
        assert untold.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server has hung up, which is right, too
    finally:
        untold.close()


def test_nothing_is_stored(address: str, collection: AtlasCollection, tmp_path: Path) -> None:
    folder = collection["late"].atlas.path.parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for _ in range(3):
        assert ask(address, PATH, "POST", a_picture()).status == 201
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.slow
def test_the_oldest_are_forgotten(collection: AtlasCollection) -> None:
    served = collection["late"]
    one = np.zeros((32, 32, 3), np.uint8)
    limit = served.caches.uploads.limit
    names = [uploads.keep(served, one) for _ in range(limit // one.nbytes + 3)]
    assert served.caches.uploads.held <= limit
    assert served.caches.uploads.get((served.name, names[0])) is None
    assert served.caches.uploads.get((served.name, names[-1])) is not None
    assert len(set(names)) == len(names)
