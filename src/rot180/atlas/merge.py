"""``rot180.merge``: the parts of a scan, joined into the atlas that one scan would have made."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rot180.atlas.atlas import Atlas, open_atlas
from rot180.atlas.identity import ScanIdentity, check_same
from rot180.atlas.scan_plan import utc_now
from rot180.atlas.writer import create, create_atomically
from rot180.errors import Rot180Error


def merge(parts: Any, path: Any) -> Atlas:
    """Join atlases of parts of one scan (``scan(..., shard=(i, n))``).

    Args:
        parts: the paths of at least two finished atlases of the same network, data and settings,
            which have no images in common.
        path: of the atlas to write. Where images are still missing, it is a part itself, and can be
            merged again.

    Returns:
        The atlas, opened; row for row that of one scan over all these images.

    Raises:
        Rot180Error: a part is unfinished, complete in itself, of another scan, or given twice; or
            the file exists, or cannot be written.
    """
    paths = [Path(one) for one in ([parts] if isinstance(parts, str | Path) else parts)]
    path = Path(path)
    if len(paths) < 2:
        raise Rot180Error("Merging takes at least two atlases.")
    if path.exists():
        raise Rot180Error(f"{path} exists already: give the merged atlas another name.")
    opened: list[Atlas] = []
    try:
        for one in paths:
            opened.append(open_atlas(one))
        _check(opened)
        for atlas in opened:
            atlas.check_pages()
        _write(opened, path)
    finally:
        for atlas in opened:
            atlas.close()
    return open_atlas(path)


def _check(parts: Sequence[Atlas]) -> None:
    first = parts[0]
    who = ScanIdentity.for_atlas(first)
    for one in parts:
        if not one.finished:
            raise Rot180Error(
                f"{one.path} is unfinished: give the command that scans it again, then merge."
            )
        if one.complete:
            raise Rot180Error(f"{one.path} covers the whole data set: there is nothing to join.")
        check_same(ScanIdentity.for_atlas(one), who, one.path)
        if one.index != first.index:
            raise Rot180Error(
                f"{one.path} was scanned in other units than {first.path}: the network's results "
                "on the first images differ between the machines that scanned them by more than "
                "rounding. Scan both parts with the same version of PyTorch."
            )
    ranges = sorted((start, stop, one.path) for one in parts for start, _, stop in one.progress)
    for (_, stop, before), (start, _, after) in pairwise(ranges):
        if start < stop:
            raise Rot180Error(
                f"{before} and {after} both hold image {start}: merge each part once."
            )


def _write(parts: Sequence[Atlas], path: Path) -> None:
    first = parts[0]
    state = parts[0].state()
    for one in parts[1:]:
        state = state.merge(one.state())
    progress = _joined(sorted(one for part in parts for one in part.progress))
    complete = progress == [(0, first.images, first.images)]
    homes: dict[int, Atlas] = {}
    for part in parts:
        homes |= {number: part for (number,) in part.rows("SELECT number FROM image")}

    def named(number: int) -> tuple[str, int | None]:
        if number not in homes:
            raise Rot180Error(f"One of the parts is damaged: none of them names image {number}.")
        return homes[number].image_info(number)

    def pictures(numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        for number in numbers:
            data = homes[number].picture_file(number)
            if data is not None:
                yield number, data

    about = {
        key: value
        for key, value in first.metadata.items()
        if key not in ("finished", "index", "seconds")
    }
    about["seconds"] = 0.0
    layers = first.rows("SELECT * FROM layer ORDER BY number")
    fields = {name: layer.fields for name, layer in first.layers.items()}
    skipped = [one for part in parts for one in part.skipped]
    seconds = sum(part.seconds for part in parts)
    with (
        create_atomically(path) as new,
        create(new, about, layers, fields, first.classes, first.index, progress) as writer,
    ):
        writer.save(state, fields, named, progress, None, skipped, seconds)
        writer.add_pictures(pictures)
        writer.finish({"finished": utc_now()}, keep_state=not complete)


def _joined(ranges: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Join ranges that follow each other."""
    found: list[tuple[int, int, int]] = []
    for first, stop, after in ranges:
        if found and found[-1][2] == found[-1][1] == first:
            found[-1] = (found[-1][0], stop, after)
        else:
            found.append((first, stop, after))
    return found
