"""Power that fails: what may be on a disk after it, made from a record of all that was written.

A call that was synced is on the disk. Of what came later, each write may be there whole, in part
(in sectors of 512 bytes) or not at all, in any order, as long as the file system keeps the
contents of a file apart from its name. Names (files created, renamed, linked or removed) reach the
disk in their order, each at the latest when its file, or its folder, is synced.
"""

import random
import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.hostile.faults import Tally
from tests.hostile.jobs import JOBS
from tests.hostile.runner import FINISHED, Runner

SECTOR = 512
_HEAD = struct.Struct("<cIIQQ")


@dataclass(frozen=True)
class Call:
    """A call that changed something: kind is one of w, s, t, r, l, u, c, as in ``shim.c``."""

    kind: str
    path: str
    second: str
    at: int
    data: bytes


def calls(log: Path) -> list[Call]:
    """Read a record."""
    data, at, found = log.read_bytes(), 0, []
    while at < len(data):
        kind, first, second, offset, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        size = size if kind == b"w" else 0
        parts = []
        for length in (first, second, size):
            parts.append(data[at : at + length])
            at += length
        found.append(Call(kind.decode(), parts[0].decode(), parts[1].decode(), offset, parts[2]))
    return found


@dataclass
class Inode:
    """A file apart from its names: what is surely on the disk, and changes that may be."""

    sure: bytearray = field(default_factory=bytearray)
    later: list[Call] = field(default_factory=list)

    def sync(self) -> None:
        """Bring all changes to the disk."""
        for call in self.later:
            _apply(self.sure, call, call.data)
        self.later.clear()

    def torn(self, rng: random.Random) -> bytes:
        """Return what may be there after the power failed."""
        found = bytearray(self.sure)
        for call in self.later:
            fate = rng.random()
            if fate < 0.35:
                continue
            data = call.data
            if fate < 0.6 and len(data) > SECTOR:
                for start in range(0, len(data), SECTOR):
                    if rng.random() < 0.5:
                        part = Call("w", "", "", call.at + start, data[start : start + SECTOR])
                        _apply(found, part, part.data)
                continue
            _apply(found, call, data)
        return bytes(found)


def _apply(content: bytearray, call: Call, data: bytes) -> None:
    if call.kind == "t":
        del content[call.at :]
        content.extend(bytes(call.at - len(content)))
        return
    if len(content) < call.at:
        content.extend(bytes(call.at - len(content)))
    content[call.at : call.at + len(data)] = data


class Disk:
    """Files below a folder, as they surely are and as they may be."""

    def __init__(self, folder: Path, start: dict[str, bytes]) -> None:
        self.folder = str(folder)
        self.now = {f"{folder}/{name}": Inode(bytearray(data)) for name, data in start.items()}
        self.sure = dict(self.now)
        self.names: list[tuple[Call, Inode | None]] = []

    def do(self, call: Call) -> None:
        """Follow a call."""
        if call.kind in "wt":
            self.now.setdefault(call.path, Inode()).later.append(call)
        elif call.kind == "s":
            if call.path == self.folder:
                self._names(len(self.names))
            elif call.path in self.now:
                self.now[call.path].sync()
                touching = [
                    n
                    for n, (one, _) in enumerate(self.names)
                    if call.path in (one.path, one.second)
                ]
                # As ext4, XFS and Btrfs do: syncing a new file keeps its name, too.
                self._names(touching[-1] + 1 if touching else 0)
        else:
            self.names.append((call, Inode() if call.kind == "c" else None))
            _name(self.now, *self.names[-1])

    def _names(self, count: int) -> None:
        """Let so many changes of names reach the disk."""
        for call, inode in self.names[:count]:
            _name(self.sure, call, inode)
        del self.names[:count]

    def after_power_failed(self, rng: random.Random) -> dict[str, bytes]:
        """Return the files that may be there: what each holds by its path."""
        names = dict(self.sure)
        for call, inode in self.names[: rng.randint(0, len(self.names))]:
            _name(names, call, inode)
        torn: dict[int, bytes] = {}
        for inode in names.values():
            torn.setdefault(id(inode), inode.torn(rng))
        return {path: torn[id(inode)] for path, inode in names.items()}


def _name(names: dict[str, Inode], call: Call, new: Inode | None) -> None:
    """Follow a change of names; ``new`` is the file that a call made."""
    if new is not None:
        names[call.path] = new
    elif call.kind == "u":
        names.pop(call.path, None)
    elif call.path in names:
        names[call.second] = names[call.path]
        if call.kind == "r":
            del names[call.path]


def failing_power(runner: Runner, job: str, rng: random.Random, most: int) -> Tally:
    """Let the power fail after calls drawn by chance, and go on with what may be left."""
    with tempfile.TemporaryDirectory(prefix="hostile-power-") as place:
        log, folder = Path(place) / "log", Path(place) / "folder"
        folder.mkdir()
        JOBS[job].prepare(folder)
        start = {one.name: one.read_bytes() for one in folder.iterdir()}
        told = runner.run(job, folder, log=str(log))
        assert told["status"] == FINISHED, told
        wanted = JOBS[job].result(folder)
        found = calls(log)
        tally = Tally()
        for place_of_failure in sorted(rng.choices(range(len(found) + 1), k=most)):
            disk = Disk(folder, start)
            for call in found[:place_of_failure]:
                disk.do(call)
            _lay_out(folder, disk.after_power_failed(rng))
            _go_on(runner, job, folder, wanted, tally, f"{job}: power fails after call "
                   f"{place_of_failure} of {len(found)}")  # fmt: skip
    return tally


def _lay_out(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    for path, data in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)


def _go_on(runner: Runner, job: str, folder: Path, wanted: object, tally: Tally, what: str) -> None:
    tally.tried += 1
    files = ", ".join(f"{one.name} {one.stat().st_size}" for one in sorted(folder.iterdir()))
    try:
        JOBS[job].check(folder)
        again = runner.run(job, folder)
        if again["status"] != FINISHED:
            tally.wrong.append(f"{what} ({files}): {again['said']}")
        elif JOBS[job].result(folder) != wanted:
            tally.wrong.append(f"{what} ({files}): the result is another")
    except Exception as error:
        tally.wrong.append(f"{what} ({files}): {type(error).__name__}: {error}")


def describe(found: list[Call]) -> Iterator[str]:
    """Yield a line for each call of a record."""
    for call in found:
        yield f"{call.kind} {Path(call.path).name} {call.second} {call.at} {len(call.data)}"
