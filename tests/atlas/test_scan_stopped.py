"""What a scan does when something is wrong: a sentence, and a file to go on with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rot180
from rot180.atlas.scan import ScanProgress
from rot180.datasets import ArrayDataset
from rot180.errors import Rot180Error
from tests.atlas.scans import (
    Odd,
    change,
    normalisation,
    pictures,
    read_everything,
    same_rows,
    small_data,
    small_network,
)
from tests.datasets.dataset_files import put, put_images

SENTENCES: list[tuple[dict[str, Any], str]] = [
    ({"model": "two-layer"}, "scan takes what rot180.load or rot180.capture returned, not str"),
    ({"data": 5}, "not int"),
    ({"data": np.zeros((3, 4), np.uint8)}, r"shape \(3, 4\)"),
    ({"data": np.zeros((0, 12, 12, 3), np.uint8)}, "There are no images"),
    ({"data": "nowhere/at/all"}, "nowhere/at/all"),
    ({"data": "photos", "split": "tset"}, "no split 'tset'"),
    ({"data": "photos", "split": 5}, "split"),
    ({"path": "."}, "it is a directory"),
    ({"path": "no/where.atlas"}, "there is no directory no"),
    ({"layers": "nine"}, "no layer 'nine'"),
    ({"layers": ["one", "n*n"]}, "no layer 'n\\*n'"),
    ({"layers": []}, "No layer is named"),
    ({"layers": [1]}, "named by strings"),
    ({"layers": 1}, "named by strings"),
    ({"examples": 0}, "at least 1, not 0"),
    ({"examples": 1.5}, "whole number"),
    ({"sample": -1}, "at least 0, not -1"),
    ({"sample": "all"}, "whole number"),
    ({"images": "jpeg"}, "no way to store images 'jpeg'"),
    ({"batch": 0}, "at least 1, not 0"),
    ({"batch": True}, "whole number"),
    ({"shard": (0, 3)}, "There is no part 0 of 3"),
    ({"shard": (4, 3)}, "There is no part 4 of 3"),
    ({"shard": "1/3"}, r"A part is \(i, n\)"),
    ({"shard": 3}, r"A part is \(i, n\)"),
    ({"shard": ((1, 2), 3)}, "whole number"),
    ({"shard": (1.5, 3)}, "whole number"),
    ({"shard": (1, 9), "batch": 30}, "Part 1 of 9 is empty: 40 images are 2 batches of 30"),
    ({"on_bad_image": "weep"}, "'weep' says nothing about bad images"),
    ({"checkpoint_seconds": "often"}, "seconds between checkpoints"),
    ({"checkpoint_seconds": -1}, "seconds between checkpoints"),
    ({"checkpoint_seconds": float("nan")}, "seconds between checkpoints"),
    ({"mean": None}, "give mean and std"),
    ({"std": None}, "give mean and std"),
    ({"mean": (0.5,)}, "channels"),
    ({"std": (0.5, 0.0, 1.0)}, "greater than 0"),
    ({"mean": "grey"}, "one number for each channel"),
]


@pytest.mark.parametrize(("wrong", "words"), SENTENCES)
def test_wrong_arguments_get_a_sentence_and_leave_no_file(
    wrong: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    right = {"model": small_network(), "data": small_data(40), "path": "a.atlas", **normalisation()}
    with pytest.raises(Rot180Error, match=words):
        rot180.scan(**{**right, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_a_named_model_knows_its_own_normalisation(tmp_path: Path) -> None:
    model = rot180.load("two-layer")
    with pytest.raises(Rot180Error, match="two-layer has its own mean and std"):
        rot180.scan(model, small_data(), tmp_path / "a", mean=(0.5, 0.5, 0.5))


def scanned(path: Path, **others: Any) -> rot180.Atlas:
    given = {"model": small_network(), "data": small_data(), "batch": 8, **normalisation()}
    return rot180.scan(path=path, **{**given, **others})


@pytest.mark.slow
def test_a_finished_scan_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    scanned(path).close()
    before, when = path.read_bytes(), path.stat().st_mtime_ns

    def never(_: ScanProgress) -> None:
        raise AssertionError

    with scanned(path, progress=never) as atlas:
        assert atlas.finished
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == when


@pytest.mark.slow
@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"model": small_network(seed=1)}, "another network, or other weights"),
        ({"data": small_data(seed=1)}, "other images"),
        ({"data": small_data(119)}, "other images"),
        ({"std": (0.25, 0.25, 0.25)}, "prepared in another way"),
        ({"layers": "one"}, "other layers"),
        ({"examples": 4}, "another number of examples"),
        ({"sample": 4}, "another number of sampled images"),
        ({"images": "none"}, "pictures stored in another way"),
        ({"batch": 9}, "another size of batch"),
        ({"batch": 9, "examples": 4}, "examples; another size of batch"),
        ({"shard": (1, 2)}, "another part of this scan"),
    ],
)
def test_another_scan_is_not_mixed_in(
    tmp_path: Path, other: dict[str, Any], words: str, finished: bool
) -> None:
    path = tmp_path / "a.atlas"
    if finished:
        scanned(path).close()
    else:
        interrupted(path, 5)
    before = path.read_bytes()
    with pytest.raises(Rot180Error, match=words):
        scanned(path, **other)
    assert path.read_bytes() == before


class Stop(Exception):
    pass


def interrupted(path: Path, batches: int, **others: Any) -> None:
    """Scan so many batches, with a checkpoint before the last, and stop in the way of an error."""
    left = [batches]

    def progress(_: ScanProgress) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Stop

    with pytest.raises(Stop):
        scanned(path, progress=progress, checkpoint_seconds=0, **others)


@pytest.mark.slow
def test_an_error_in_the_progress_leaves_a_file_to_go_on_with(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.atlas", tmp_path / "whole.atlas"
    scanned(whole).close()
    for batches in (1, 4, 2, 3):
        interrupted(path, batches)
        read_everything(path)
        with rot180.open(path) as atlas:
            assert not atlas.finished
    scanned(path).close()
    same_rows(path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("content", ["empty", "foreign"])
def test_a_file_that_was_there(tmp_path: Path, content: str) -> None:
    """An empty one is written to; another one is left as it is."""
    path = put(tmp_path / "a.atlas", b"" if content == "empty" else b"a letter to my aunt" * 99)
    if content == "empty":
        scanned(path).close()
        read_everything(path)
        return
    with pytest.raises(Rot180Error, match="is not an atlas"):
        scanned(path)
    assert path.read_bytes() == b"a letter to my aunt" * 99


@pytest.mark.slow
def test_broken_images_are_named_and_left_out(tmp_path: Path) -> None:
    data = small_data()
    broken = [0, 17, 18, *range(40, 48), 119]
    with scanned(tmp_path / "a", data=Odd(data, broken=broken)) as atlas:
        found = atlas.rows("SELECT image, name, reason FROM skipped ORDER BY image")
        assert found == [(number, f"blots, image {number}", "it is torn") for number in broken]
        assert atlas.scanned == 120
        feature = atlas["one"][2]
        assert sum(one.images for one in feature.histogram) == 120 - len(broken)
        kept = [number for number in range(120) if number not in broken]
    read_everything(tmp_path / "a")
    alone = ArrayDataset(data.images[kept], data.labels[kept], data.classes)
    with rot180.open(tmp_path / "a") as atlas, scanned(tmp_path / "b", data=alone) as other:
        for one, two in zip(atlas.features(), other.features(), strict=True):
            assert one.mean == pytest.approx(two.mean, abs=1e-6)
            assert [e.image for e in one.examples] == [kept[e.image] for e in two.examples]


@pytest.mark.slow
def test_broken_images_in_folders(tmp_path: Path) -> None:
    root = put_images(tmp_path / "in", [f"{number:03}.png" for number in range(60)])
    (root / "031.png").write_bytes(b"no picture")
    (root / "042.png").write_bytes((root / "042.png").read_bytes()[:100])
    with scanned(tmp_path / "a", data=str(root)) as atlas:
        assert [Path(name).name for (name,) in atlas.rows("SELECT name FROM skipped")] == [
            "031.png",
            "042.png",
        ]


@pytest.mark.slow
def test_broken_images_can_end_the_scan(tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    odd = Odd(small_data(), broken=[50])
    with pytest.raises(Rot180Error, match="Cannot read blots, image 50: it is torn"):
        scanned(path, data=odd, on_bad_image="fail", checkpoint_seconds=0)
    read_everything(path)
    with rot180.open(path) as atlas:
        assert not atlas.finished
        assert atlas.progress[0][2] <= 48
    scanned(path, on_bad_image="fail").close()  # it was mended
    scanned(tmp_path / "whole").close()
    same_rows(path, tmp_path / "whole")


def test_data_all_of_which_is_broken(tmp_path: Path) -> None:
    with pytest.raises(Rot180Error, match="No image of blots"):
        scanned(tmp_path / "a", data=Odd(small_data(60), broken=range(60)))
    with pytest.raises(Rot180Error, match=r"images in blots \(all\) cannot be read"):
        scanned(tmp_path / "a", data=Odd(small_data(), broken=range(8, 120)))


@pytest.mark.slow
def test_an_image_that_went_away_between_scan_and_pictures(tmp_path: Path) -> None:
    path, odd = tmp_path / "a.atlas", Odd(small_data())

    def progress(going: ScanProgress) -> None:
        if going.done == going.total:
            odd._broken = frozenset(range(120))

    with pytest.raises(Rot180Error, match="was read during the scan and cannot be read now"):
        scanned(path, data=odd, progress=progress)
    read_everything(path)
    scanned(path).close()
    scanned(tmp_path / "whole").close()
    same_rows(path, tmp_path / "whole")


class Hungry(torch.nn.Module):
    """A convolution after a logarithm, which is not a number where an image is black."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.one(torch.sqrt(x)))


@pytest.mark.slow
def test_a_network_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    network = rot180.capture(Hungry().eval(), torch.rand(1, 3, 12, 12))
    images = pictures(80)
    images[50] = 0
    given: dict[str, Any] = {
        "mean": (0.001,) * 3,
        "std": (1.0,) * 3,
        "batch": 8,
        "checkpoint_seconds": 0,
    }
    path = tmp_path / "a.atlas"
    bright = np.maximum(images, 1)
    for wrong in (images, Odd(ArrayDataset(images))):
        with pytest.raises(
            Rot180Error, match=r"infinite or not numbers \(NaN\), first in the step"
        ):
            rot180.scan(network, wrong, path, **given)
        read_everything(path)
        with rot180.open(path) as atlas:
            assert not atlas.finished
            assert atlas.progress[0][2] <= 48
    mended = ArrayDataset(bright, fingerprint=ArrayDataset(images).fingerprint)
    with rot180.scan(network, mended, path, **given) as atlas:
        assert atlas.complete
    read_everything(path)


def test_no_numbers_on_the_first_images_leave_no_file(tmp_path: Path) -> None:
    network = rot180.capture(Hungry().eval(), torch.rand(1, 3, 12, 12))
    with pytest.raises(Rot180Error, match="not numbers"):
        rot180.scan(network, np.zeros((9, 12, 12, 3), np.uint8), tmp_path / "a", **normalisation())
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_scan_whose_identity_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    interrupted(path, 3)
    change(path, "DELETE FROM metadata WHERE key = 'identity'")
    with pytest.raises(Rot180Error, match="does not say what it is a scan of"):
        scanned(path)


@pytest.mark.slow
def test_paths_with_unusual_characters(tmp_path: Path) -> None:
    for name in ("with space.atlas", "a#b?c%20d.atlas", "ä 図.atlas", "no-suffix", "-x'\"y"):
        interrupted(tmp_path / name, 3)
        with scanned(tmp_path / name) as atlas:
            assert atlas.path.name == name
            assert atlas.finished
