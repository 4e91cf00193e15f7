"""Damaged files: whatever they hold, reading them works or says why it does not.

It is also a program, which reads damaged files one after the other, so that it can be ended:
``python -m tests.hostile.mutations KIND SEED FIRST LAST``.
"""

import io
import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tests.hostile.faults import Tally

SECONDS, MEGABYTES, PATIENCE = 2.0, 500, 30
"""What reading a damaged file may take: processor seconds and memory; seconds until the reader is
ended."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
VALUES = (None, True, 0, -1, 1e308, 2**70, "", "x" * 300, [], {}, [[1]], "\ud800", float("nan"))
"""What is put in place of a value of JSON."""

IN_SQL = ("NULL", "-1", "0", "1e308", "9e999", "'text'", "x'00ff'", "zeroblob(5000)", str(2**62))
"""What is put in place of a value of an atlas."""


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        make: writes good ones into a folder, and returns what damages and reads one of them.
    """

    make: Callable[[Path], Callable[[Path, random.Random], None]]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Change some bytes, cut some, repeat some, or put a telling number in."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        size = len(found)
        if not size:
            break
        # The head of a file says most of what the rest means.
        at = rng.randrange(min(size, rng.choice((16, 200, size))))
        what = rng.randrange(6)
        if what == 0:
            found[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            found[at] = rng.randrange(256)
        elif what == 2:
            del found[at : at + rng.choice((1, 4, 64, size))]
        elif what == 3:
            found[at:at] = found[at : at + rng.choice((1, 8, 512))] * rng.choice((1, 2, 50))
        else:
            form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
            number = rng.choice(NUMBERS) & (256 ** struct.calcsize(form) - 1)
            found[at : at + struct.calcsize(form)] = struct.pack(form, number)
    return bytes(found)


def other_json(value: Any, rng: random.Random) -> Any:
    """Return a value of JSON, changed somewhere."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        found = dict(value)
        how = rng.random()
        if how < 0.1:
            del found[key]
        elif how < 0.2:
            found[rng.choice(("", "x", "\ud800"))] = found.pop(key)
        else:
            found[key] = other_json(value[key], rng)
        return found
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        changed = other_json(value[place], rng)
        return rng.choice(
            (value[:place], value * 3, [*value[:place], changed, *value[place + 1 :]])
        )
    if rng.random() < 0.03:
        return json.loads("[" * 500 + "]" * 500)
    return rng.choice(VALUES)


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    """Damage the bytes of such a file, or what its header or its description says."""
    if rng.random() < 0.4:
        return damaged(data, rng)
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.6 and "__metadata__" in header:
        about = header["__metadata__"]
        name = rng.choice(sorted(about))
        about[name] = json.dumps(other_json(json.loads(about[name]), rng))
    else:
        header = other_json(header, rng)
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + data[8 + length :]


def _checkpoints(place: Path) -> Callable[[Path, random.Random], None]:
    import rot180

    data = (Path(rot180.__file__).parent / "models/two-layer-cifar10.safetensors").read_bytes()

    def read(folder: Path, rng: random.Random) -> None:
        path = folder / "x.safetensors"
        path.write_bytes(_safetensors(data, rng))
        rot180.load(str(path))

    return read


def _runs(place: Path) -> Callable[[Path, random.Random], None]:
    from rot180.training.loop import train
    from rot180.training.recipe import Recipe
    from tests.training.helpers import Recorder, stripes

    data, recipe = (stripes(64, 0), stripes(32, 1)), Recipe(epochs=2, batch=32, seed=5)
    path = place / "x.safetensors"
    with suppress(KeyboardInterrupt):
        train(*data, recipe, path, callbacks=(Recorder((1, 0)),), engine="equations")
    whole, state = path.read_bytes(), Path(f"{path}.resume").read_bytes()

    def read(folder: Path, rng: random.Random) -> None:
        out = folder / "x.safetensors"
        out.write_bytes(whole if rng.random() < 0.8 else _safetensors(whole, rng))
        Path(f"{out}.resume").write_bytes(_safetensors(state, rng))
        train(*data, recipe, out, resume=True, engine="equations")

    return read


def _some_pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (24, 20, 3), dtype=np.uint8)


def encoded(form: str, **options: Any) -> bytes:
    """Return a small picture as a file of a format."""
    buffer = io.BytesIO()
    Image.fromarray(_some_pixels()).save(buffer, form, **options)
    return buffer.getvalue()


def _pictures(place: Path) -> Callable[[Path, random.Random], None]:
    from rot180.datasets import open_dataset

    exif = Image.Exif()
    exif[0x0112] = 6
    good = [(form, encoded(form)) for form in FORMATS]
    good += [("JPEG", encoded("JPEG", exif=exif)), ("JPEG", encoded("JPEG", progressive=True))]

    def read(folder: Path, rng: random.Random) -> None:
        (folder / "a").mkdir()
        for n in range(3):
            form, data = rng.choice(good)
            (folder / "a" / f"{n}.{form.lower()}").write_bytes(damaged(data, rng))
        found = open_dataset(str(folder), "all")
        _read_all(found)

    return read


def _read_all(found: Any) -> None:
    from rot180.datasets import BadImage

    for n in range(len(found)):
        found.label(n)
        found.describe(n)
        with suppress(BadImage):
            found.image(n)


def _parquet(place: Path) -> Callable[[Path, random.Random], None]:
    import pyarrow as pa
    from pyarrow import parquet

    from rot180.datasets import open_dataset

    names = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "img": {"_type": "Image"}}

    def table(rng: random.Random, compression: str) -> bytes:
        images = [{"bytes": encoded(form), "path": None} for form in FORMATS[:4]]
        about = {"info": {"features": names}}
        if rng.random() < 0.5:
            about = other_json(about, rng)
        rows = pa.table({"img": images, "label": [0, 1, 1, 0]})
        told = json.dumps(about).encode(errors="surrogatepass")
        sink = io.BytesIO()
        parquet.write_table(
            rows.replace_schema_metadata({"huggingface": told}), sink, compression=compression
        )
        return sink.getvalue()

    def read(folder: Path, rng: random.Random) -> None:
        path = folder / "x.parquet"
        data = table(rng, rng.choice(("NONE", "snappy")))
        path.write_bytes(damaged(data, rng) if rng.random() < 0.7 else data)
        found = open_dataset(str(path))
        _read_all(found)

    return read


def _atlases(place: Path) -> Callable[[Path, random.Random], None]:
    from tests.atlas.scans import read_everything, scanned

    data = scanned(place / "x.atlas").read_bytes()

    def read(folder: Path, rng: random.Random) -> None:
        path = folder / "x.atlas"
        path.write_bytes(data)
        if rng.random() < 0.5:
            _change(path, rng)
        else:
            path.write_bytes(damaged(data, rng))
        for side in ("-journal", "-wal", "-shm"):
            if rng.random() < 0.2:
                _write_side_file(path.with_name(path.name + side), data, rng)
        read_everything(path)

    return read


def _change(path: Path, rng: random.Random) -> None:
    file = sqlite3.connect(path)
    try:
        tables = [
            name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        for _ in range(rng.choice((1, 2))):
            table = rng.choice(tables)
            columns = [row[1] for row in file.execute(f"PRAGMA table_info({table})")]
            some = "" if rng.random() < 0.3 else " WHERE random() % 3 = 0"
            with suppress(sqlite3.Error):
                file.execute(
                    f"UPDATE {table} SET {rng.choice(columns)} = {rng.choice(IN_SQL)}{some}"
                )
        file.commit()
    finally:
        file.close()


def _write_side_file(path: Path, data: bytes, rng: random.Random) -> None:
    """Write a journal that names a file outside, a page of the atlas, or noise."""
    magic = bytes.fromhex("d9d505f920a163d7")
    head = magic + struct.pack(">IIIII", 1, rng.randrange(2**32), 20, 512, 4096)
    page = struct.pack(">I", rng.randrange(1, 9)) + damaged(data[:4096], rng) + bytes(4)
    victim = str(path.parent.parent / "victim" / "keep.txt").encode()
    named = struct.pack(">I", 1) + victim + struct.pack(">II", len(victim), sum(victim)) + magic
    content = head.ljust(512, b"\0") + page + (named if rng.random() < 0.5 else b"")
    path.write_bytes(content if rng.random() < 0.7 else damaged(content, rng))


KINDS = {
    "checkpoints": Kind(_checkpoints),
    "training runs": Kind(_runs),
    "images": Kind(_pictures),
    "Parquet": Kind(_parquet),
    "atlases and side files": Kind(_atlases),
}


def damaged_files(kind: str, seed: int, count: int) -> Tally:
    """Let a process read so many damaged files of a kind, and tell what was not as it should be."""
    tally, first = Tally(), 0
    while first < count:
        words = [
            sys.executable,
            "-m",
            "tests.hostile.mutations",
            kind,
            *map(str, (seed, first, count)),
        ]
        reader = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        clock = None
        assert reader.stdout is not None
        for line in reader.stdout:
            if clock is not None:
                clock.cancel()
            clock = Timer(PATIENCE, reader.kill)
            clock.start()
            told = json.loads(line)
            if "begun" in told:
                first = told["begun"]
                continue
            tally.tried += 1
            tally.note(told["came"])
            tally.wrong += [f"{kind}, seed {seed}, {first}: {one}" for one in told["wrong"]]
            first += 1
        if clock is not None:
            clock.cancel()
        status = reader.wait()
        if first < count:
            tally.tried += 1
            tally.wrong.append(f"{kind}, seed {seed}, {first}: the reader ended with {status}")
            first += 1
    return tally


def _peak() -> int:
    """Return the largest memory in MB since it was last asked for."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(int(one.split()[1]) // 1024 for one in lines if one.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return found


def _outside(place: Path) -> list[tuple[str, int, int]]:
    """Return what lies beside the working folder."""
    found = []
    for path in sorted(place.rglob("*")):
        told = path.lstat()
        found.append((str(path), told.st_size, told.st_mtime_ns))
    return found


def main(kind: str, seed: int, first: int, last: int) -> None:
    """Read damaged files, and tell of each on the standard output."""
    from rot180.errors import Rot180Error

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="hostile-files-") as place:
        kept, victim, folder = (Path(place) / one for one in ("kept", "victim", "work"))
        for one in (kept, victim):
            one.mkdir()
        (victim / "keep.txt").write_text("a file of the user\n")
        read = KINDS[kind].make(kept)
        before = _outside(victim), _outside(kept)
        for n in range(first, last):
            print(json.dumps({"begun": n}), file=answers, flush=True)
            folder.mkdir()
            _peak()
            had, began, wrong = _peak(), time.process_time(), []
            try:
                read(folder, random.Random(f"{kind} {seed} {n}"))
                came = "read"
            except Rot180Error as error:
                came = "refused"
                sentence = str(error)
                if not sentence.rstrip().endswith((".", ")")) or "\n" in sentence.strip():
                    wrong.append(f"no sentence: {sentence!r}")
            except BaseException as error:
                came = "ended otherwise"
                wrong.append(f"{type(error).__name__}: {error}"[:300])
            seconds, more = time.process_time() - began, _peak() - had
            if seconds > SECONDS:
                wrong.append(f"{seconds:.1f} seconds")
            if more > MEGABYTES:
                wrong.append(f"{more} MB")
            if (_outside(victim), _outside(kept)) != before:
                wrong.append("a file outside the working folder is another")
                before = _outside(victim), _outside(kept)
            shutil.rmtree(folder)
            print(json.dumps({"came": came, "wrong": wrong}), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
    sys.stdout.flush()
    os._exit(0)
