"""What is interrupted: jobs that write files, and how what they leave behind is compared."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

import rot180
from rot180.atlas import scan as scan_module
from rot180.atlas import writer
from rot180.models.checkpoint import Checkpoint
from rot180.training.loop import train
from rot180.training.recipe import Recipe
from tests.atlas.scans import normalisation, read_everything, rows_of, small_data, small_network
from tests.training.helpers import stripes


@dataclass(frozen=True)
class Job:
    """Something that writes files into a folder.

    Attributes:
        run: does it, or goes on with it where it was interrupted.
        prepare: lays out in an empty folder what has to be there first.
        result: what the finished files say, to be compared with ``==``.
        check: looks at what an interruption left; it raises where that is neither the old state
            nor a later one.
    """

    run: Callable[[Path], None]
    prepare: Callable[[Path], None]
    result: Callable[[Path], Any]
    check: Callable[[Path], None]


def _scan(path: Path, **others: Any) -> None:
    settings = {
        "batch": 8,
        "examples": 4,
        "sample": 30,
        "checkpoint_seconds": 0,
        **normalisation(),
        **others,
    }
    rot180.scan(_network(), _images(), path, **settings).close()


@cache
def _network() -> Any:
    return small_network()


@cache
def _images() -> Any:
    return small_data(64)


def _nothing(folder: Path) -> None:
    """Lay out nothing."""


def _readable(path: Path) -> None:
    if path.exists() and path.stat().st_size:
        read_everything(path)


def _parts(folder: Path) -> None:
    for n in (1, 2):
        kept = _part(n)
        shutil.copyfile(kept, folder / kept.name)


@cache
def _part(n: int) -> Path:
    path = Path(_kept()) / f"part{n}.atlas"
    _scan(path, shard=(n, 2))
    return path


@cache
def _kept() -> str:
    folder = tempfile.mkdtemp(prefix="hostile-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _merge(folder: Path) -> None:
    path = folder / "x.atlas"
    if not path.exists():
        rot180.merge([folder / "part1.atlas", folder / "part2.atlas"], path).close()


def _merged(folder: Path) -> None:
    if (folder / "x.atlas").exists():
        with rot180.open(folder / "x.atlas") as atlas:
            assert atlas.finished
        read_everything(folder / "x.atlas")


@cache
def _stripes() -> Any:
    return stripes(96, 0), stripes(32, 1)


def _train(folder: Path) -> None:
    path = folder / "x.safetensors"
    resume = Path(f"{path}.resume").exists()
    train(*_stripes(), Recipe(epochs=3, batch=32, seed=5), path, resume=resume, engine="equations")


def _weights(folder: Path) -> Any:
    return _checkpoint(folder / "x.safetensors")


def _checkpoint(path: Path) -> Any:
    found = rot180.load(path)
    assert isinstance(found, Checkpoint)
    tensors = {name: one.tolist() for name, one in found.model.state_dict().items()}
    for epoch in found.history:
        for name in ("seconds", "images_per_second"):
            epoch.pop(name, None)
    return tensors, found.history


def _trained(folder: Path) -> None:
    if (folder / "x.safetensors").exists():
        rot180.load(folder / "x.safetensors")


def _first(folder: Path) -> None:
    kept = Path(_kept()) / "first.safetensors"
    if not kept.exists():
        train(*_stripes(), Recipe(epochs=1, batch=32, seed=1), kept, engine="equations")
    shutil.copyfile(kept, folder / "x.safetensors")


def _save(folder: Path) -> None:
    found = rot180.load(folder / "x.safetensors")
    assert isinstance(found, Checkpoint)
    with torch.no_grad():
        for one in found.model.parameters():
            one.fill_(0.5)
    found.save(folder / "x.safetensors")


def _same_or_half(folder: Path) -> None:
    """A checkpoint that was overwritten is the old one or the new one."""
    tensors, _ = _checkpoint(folder / "x.safetensors")
    half = {name: 0.5 for name in tensors}
    old, _ = _checkpoint(Path(_kept()) / "first.safetensors")
    values = {name: torch.tensor(one) for name, one in tensors.items()}
    new = all(bool((one == half[name]).all()) for name, one in values.items() if one.numel())
    assert new or tensors == old


JOBS = {
    "scan": Job(
        lambda folder: _scan(folder / "x.atlas"),
        _nothing,
        lambda folder: rows_of(folder / "x.atlas"),
        lambda folder: _readable(folder / "x.atlas"),
    ),
    "merge": Job(_merge, _parts, lambda folder: rows_of(folder / "x.atlas"), _merged),
    "train": Job(_train, _nothing, _weights, _trained),
    "save over a checkpoint": Job(_save, _first, _weights, _same_or_half),
}


def small() -> None:
    """Let scans write as often as they can, and little at a time."""
    scan_module._SHARE = 0
    writer._PICTURES = 16
