"""Parts of a scan, joined, are the scan of the whole, row for row."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rot180
from rot180.datasets import ArrayDataset
from rot180.errors import Rot180Error
from tests.atlas.scans import (
    Odd,
    change,
    normalisation,
    read_everything,
    rows_of,
    same_rows,
    small_data,
    small_network,
)

IMAGES, BATCH = 150, 8


@cache
def data() -> Odd:
    """Images some of which are broken, some of them in each part."""
    return Odd(small_data(IMAGES), broken=(3, 70, 71, 149))


def scanned(path: Path, **others: Any) -> Path:
    arguments = {"data": data(), "batch": BATCH, "sample": 40, **normalisation()}
    rot180.scan(small_network(), path=path, **{**arguments, **others}).close()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scanned(tmp_path_factory.mktemp("whole") / "whole.atlas")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("parts")
    return [scanned(root / f"{n}.atlas", shard=(n, 3)) for n in (1, 2, 3)]


@pytest.mark.slow
def test_a_part_says_so(parts: list[Path]) -> None:
    ranges = []
    for path in parts:
        with rot180.open(path) as atlas:
            assert atlas.finished
            assert not atlas.complete
            assert atlas.images == IMAGES
            ranges += [(first, stop) for first, stop, _ in atlas.progress]
            assert atlas.scanned == ranges[-1][1] - ranges[-1][0]
        read_everything(path)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == IMAGES
    assert all(one[1] == two[0] for one, two in pairwise(ranges))
    assert all(first % BATCH == 0 for first, _ in ranges)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_parts_in_any_order_are_the_whole(
    whole: Path, parts: list[Path], order: Sequence[int], tmp_path: Path
) -> None:
    with rot180.merge([parts[one] for one in order], tmp_path / "m") as atlas:
        assert atlas.complete
        assert atlas.finished
    same_rows(tmp_path / "m", whole)
    assert [one.name for one in tmp_path.iterdir()] == ["m"]


@pytest.mark.slow
@pytest.mark.parametrize(("pair", "last"), [((0, 1), 2), ((1, 2), 0), ((0, 2), 1), ((2, 1), 0)])
def test_parts_in_two_steps_are_the_whole(
    whole: Path, parts: list[Path], pair: tuple[int, int], last: int, tmp_path: Path
) -> None:
    with rot180.merge([parts[one] for one in pair], tmp_path / "two") as atlas:
        assert atlas.finished
        assert not atlas.complete
        assert len(atlas.progress) == (2 if set(pair) == {0, 2} else 1)
    read_everything(tmp_path / "two")
    rot180.merge([parts[last], tmp_path / "two"], tmp_path / "all").close()
    same_rows(tmp_path / "all", whole)


@pytest.mark.slow
def test_a_merged_part_is_the_part_scanned_at_once(tmp_path: Path) -> None:
    quarters = [scanned(tmp_path / f"{n}", shard=(n, 4)) for n in (1, 2)]
    rot180.merge(quarters, tmp_path / "half").close()
    scanned(tmp_path / "at once", shard=(1, 2))
    same_rows(tmp_path / "half", tmp_path / "at once")
    before = (tmp_path / "half").read_bytes()
    scanned(tmp_path / "half", shard=(1, 2))  # there is nothing left to do
    assert (tmp_path / "half").read_bytes() == before


def test_the_time_is_that_of_all_parts(parts: list[Path], tmp_path: Path) -> None:
    seconds = []
    for path in parts:
        with rot180.open(path) as atlas:
            seconds.append(float(atlas.metadata["seconds"]))
    with rot180.merge(parts, tmp_path / "m") as atlas:
        assert float(atlas.metadata["seconds"]) == pytest.approx(sum(seconds))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "compact"])
def test_pictures_of_parts_are_kept_as_they_are(kind: str, tmp_path: Path) -> None:
    halves = [scanned(tmp_path / f"{n}", shard=(n, 2), images=kind) for n in (1, 2)]
    rot180.merge(halves, tmp_path / "m").close()
    scanned(tmp_path / "whole", images=kind)
    same_rows(tmp_path / "m", tmp_path / "whole")


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    batch=st.integers(1, 40),
    parts=st.integers(2, 6),
    examples=st.integers(1, 30),
    sample=st.integers(0, 60),
    random=st.randoms(use_true_random=False),
)
def test_any_number_of_parts(
    tmp_path_factory: pytest.TempPathFactory,
    batch: int,
    parts: int,
    examples: int,
    sample: int,
    random: Any,
) -> None:
    root = tmp_path_factory.mktemp("any")
    # Of few levels, so that many peaks are equal.
    images = (np.random.default_rng(0).integers(0, 2, (45, 12, 12, 3)) * 200).astype(np.uint8)
    images[30:] = images[:15]
    some = ArrayDataset(images, np.arange(45) % 3)
    how = {"data": some, "batch": batch, "examples": examples, "sample": sample, "layers": "*o*"}
    whole = scanned(root / "whole", **how)
    parts = min(parts, -(-45 // batch))
    paths = [scanned(root / f"{n}", shard=(n, parts), **how) for n in range(1, parts + 1)]
    if parts == 1:
        same_rows(paths[0], whole)
        return
    count = 0
    while len(paths) > 1:
        random.shuffle(paths)
        some_of_them = random.randint(2, len(paths))
        count += 1
        rot180.merge(paths[:some_of_them], root / f"merged {count}").close()
        paths = [root / f"merged {count}", *paths[some_of_them:]]
    same_rows(paths[0], whole)


def refused(words: str, paths: Any, out: Path) -> None:
    """Assert that a merge gets this sentence, and leaves its parts and the directory alone."""
    given = [Path(one) for one in ([paths] if isinstance(paths, Path) else paths)]
    before = [one.read_bytes() if one.is_file() else None for one in given]
    there = sorted(out.parent.iterdir()) if out.parent.is_dir() else []
    with pytest.raises(Rot180Error, match=words):
        rot180.merge(paths, out)
    assert before == [one.read_bytes() if one.is_file() else None for one in given]
    assert there == (sorted(out.parent.iterdir()) if out.parent.is_dir() else [])


@pytest.mark.slow
def test_what_cannot_be_joined(parts: list[Path], whole: Path, tmp_path: Path) -> None:
    one, two, three = parts
    out = tmp_path / "out"
    refused("at least two", [one], out)
    refused("at least two", one, out)
    refused("at least two", [], out)
    refused("both hold image 0: merge each part once", [one, two, one], out)
    refused("covers the whole data set", [whole, one], out)
    refused("There is no atlas at", [one, tmp_path / "nowhere"], out)
    out.write_bytes(b"precious")
    refused("exists already", [one, two], out)
    assert out.read_bytes() == b"precious"
    refused("exists already", [one, two], one)
    refused("exists already", [one, two, three], tmp_path)
    refused("Cannot write", [one, two], tmp_path / "no" / "where")
    rot180.merge([one, two], tmp_path / "both").close()
    refused("both hold image 0", [tmp_path / "both", one], tmp_path / "again")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"batch": 7}, "another size of batch"),
        ({"examples": 3}, "another number of examples"),
        ({"images": "none"}, "pictures stored in another way"),
        ({"layers": "one"}, "other layers"),
        ({"data": small_data(IMAGES, seed=4)}, "other images"),
        ({"std": (1.0, 1.0, 1.0)}, "prepared in another way"),
    ],
)
def test_parts_of_other_scans(
    parts: list[Path], other: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = scanned(tmp_path / "other", shard=(2, 3), **other)
    refused(words, [parts[0], path], tmp_path / "out")


@pytest.mark.slow
def test_unfinished_parts(parts: list[Path], tmp_path: Path) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "unfinished"
    with pytest.raises(KeyboardInterrupt):
        scanned(path, shard=(2, 3), progress=stop)
    refused("is unfinished: give the command that scans it again", [parts[0], path], tmp_path / "m")
    scanned(path, shard=(2, 3))
    rot180.merge([*parts[::2], path], tmp_path / "m").close()
    assert rows_of(tmp_path / "m")["progress"] == [(0, IMAGES, IMAGES)]


def test_parts_in_other_units(parts: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "copy"
    path.write_bytes(parts[1].read_bytes())
    change(
        path,
        "UPDATE metadata SET value = replace(value, '4.0]', '8.0]') WHERE key = 'index'",
    )
    refused("was scanned in other units", [parts[0], path], tmp_path / "m")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE metadata SET value = '\"long\"' WHERE key = 'seconds'",
        "DELETE FROM metadata WHERE key = 'identity'",
        "UPDATE metadata SET value = '[]' WHERE key = 'identity'",
        "DELETE FROM state WHERE name = 'best'",
        "DELETE FROM state",
        "UPDATE state SET numbers = zeroblob(length(numbers)) WHERE name = 'best_image'",
        "UPDATE state SET numbers = randomblob(length(numbers)) WHERE name = 'best_position'",
        "UPDATE state SET numbers = randomblob(length(numbers)) WHERE name = 'best_image'",
        "DELETE FROM image",
        "UPDATE skipped SET reason = x'ff00'",
        "DELETE FROM receptive_field WHERE position = 3",
    ],
)
def test_damaged_parts(parts: list[Path], statement: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(parts[1].read_bytes())
    change(path, statement)
    refused(r".+\.$", [path, parts[0]], tmp_path / "m")


@pytest.mark.slow
def test_a_part_of_nothing_but_broken_images(tmp_path: Path) -> None:
    odd = Odd(small_data(64), broken=range(32, 64))
    how = {"data": odd, "batch": 8}
    halves = [scanned(tmp_path / f"{n}", shard=(n, 2), **how) for n in (1, 2)]
    read_everything(halves[1])
    rot180.merge(halves, tmp_path / "m").close()
    same_rows(tmp_path / "m", scanned(tmp_path / "whole", **how))
