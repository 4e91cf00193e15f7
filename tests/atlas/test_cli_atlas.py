"""The commands that make atlases and look into them, and the comparison of two."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import rot180
from rot180.cli import app
from rot180.errors import Rot180Error
from tests.atlas.scans import SmallNet, change, normalisation, same_rows, small_data, small_network
from tests.datasets.dataset_files import encoded, put

SORTS = ("strongest", "weakest", "rarest", "most-common", "class", "colour", "bright", "dark")


def run(*words: object) -> tuple[int, str]:
    """Run a command and return its exit status and all that it printed."""
    result = CliRunner().invoke(app, [str(one) for one in words])
    return result.exit_code, result.output


def refused(words: str, *command: object) -> None:
    status, printed = run(*command)
    assert status == 1, printed
    assert "error: " in printed
    assert words in " ".join(printed.split())
    assert "unexpected error" not in printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of noise, one image of them broken."""
    root = tmp_path_factory.mktemp("data") / "noise"
    rng = np.random.default_rng(0)
    for name, low in (("bright", 128), ("dark", 0)):
        for number in range(60):
            image = rng.integers(low, low + 128, (32, 32, 3), dtype=np.uint8)
            put(root / name / f"{number:02}.png", encoded(image))
    put(root / "dark" / "07.png", b"no picture")
    return root


@pytest.fixture(scope="module")
def scanned(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An atlas made by the command, and what it said."""
    path = tmp_path_factory.mktemp("scan") / "a.atlas"
    status, printed = run("scan", "two-layer", folder, "--out", path, "--batch", 8)
    assert status == 0, printed
    return path, printed


@pytest.mark.slow
def test_scan_says_what_it_did(scanned: tuple[Path, str], folder: Path) -> None:
    path, printed = scanned
    assert "Scanning 120 images of folder noise (all) with two-layer on " in printed
    assert "Left out broken images: " in printed
    assert "07.png: it is not an image of a known kind" in printed
    assert "106 features of 3 layers" in printed
    assert "over 120 of 120 images." in printed
    assert f"Next: rot180 features {path}, or in the browser:" in printed
    assert printed.splitlines()[-1] == f"rot180 serve {path}"
    with rot180.open(path) as atlas:
        assert atlas.complete
        assert atlas.classes == ("bright", "dark")
    status, printed = run("scan", "two-layer", folder, "--out", path, "--batch", 8)
    assert status == 0
    assert "All images had been scanned before." in printed


@pytest.mark.slow
def test_parts_by_the_command_are_the_whole(
    scanned: tuple[Path, str], folder: Path, tmp_path: Path
) -> None:
    parts = []
    for number in (1, 2, 3):
        parts.append(tmp_path / f"{number}.atlas")
        status, printed = run(
            *("scan", "two-layer", folder, "--out", parts[-1], "--batch", 8),
            *("--shard", f"{number}/3"),
        )
        assert status == 0, printed
        assert f"part {number} of 3" in printed
        assert "This is one part of a scan: join the parts with 'rot180 merge'." in printed
    out = tmp_path / "all.atlas"
    status, printed = run("merge", *parts[::-1], "--out", out)
    assert status == 0, printed
    assert f"Written: {out}" in printed
    assert "120 of 120 images" in printed
    same_rows(out, scanned[0])
    refused("exists already", "merge", *parts, "--out", out)
    refused("at least two", "merge", parts[0], "--out", tmp_path / "b")
    refused("both hold image", "merge", parts[0], parts[0], "--out", tmp_path / "b")
    refused("There is no atlas at", "merge", parts[0], "nowhere", "--out", tmp_path / "b")


@pytest.mark.slow
def test_settings_of_a_scan(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.atlas"
    status, printed = run(
        *("scan", "two-layer", folder, "--out", path, "--batch", 16, "--split", "test"),
        *("--layers", "conv*, head", "--examples", 2, "--sample", 5, "--images", "none"),
        *("--device", "cpu"),
    )
    assert status == 0, printed
    with rot180.open(path) as atlas:
        assert list(atlas) == ["conv1", "conv2", "head"]
        assert len(atlas["conv1"][0].examples) <= 2
        assert len(atlas.sample("conv1")[0]) == 5
        assert atlas.picture(atlas["conv1"][0].examples[0].image).pixels is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--shard", "2"), "A part is i/n, as 2/8; this one is '2'"),
        (("--shard", "0/3"), "There is no part 0 of 3"),
        (("--layers", "conv9"), "There is no layer 'conv9'"),
        (("--examples", "0"), "at least 1, not 0"),
        (("--sample", "-1"), "at least 0, not -1"),
        (("--images", "gif"), "no way to store images 'gif'"),
        (("--batch", "0"), "at least 1, not 0"),
        (("--split", "half"), "no split 'half'"),
        (("--on-bad-image", "weep"), "says nothing about bad images"),
        (("--on-bad-image", "fail"), "07.png"),
        (("--out", "no/where"), "there is no directory no"),
    ],
)
def test_wrong_words_get_a_sentence(
    words: tuple[str, ...], sentence: str, folder: Path, tmp_path: Path
) -> None:
    given = ("scan", "two-layer", folder, "--batch", 8, "--out", tmp_path / "a.atlas")
    refused(sentence, *given, *words)


@pytest.mark.parametrize("sort", SORTS)
def test_features_in_every_order(scanned: tuple[Path, str], sort: str) -> None:
    status, printed = run("features", scanned[0], "--sort", sort, "--most", 7)
    assert status == 0, printed
    lines = printed.splitlines()
    assert "best class" in lines[0]
    assert 1 <= sum(line.startswith(("conv", "head")) for line in lines) <= 7


@pytest.mark.slow
def test_features_are_sorted_and_chosen(scanned: tuple[Path, str]) -> None:
    status, printed = run("features", scanned[0], "--layer", "conv2", "--most", 64)
    assert status == 0
    rows = [line.split() for line in printed.splitlines() if line.startswith("conv2")]
    assert not any(line.startswith(("conv1", "head")) for line in printed.splitlines())
    largest = [float(row[2]) for row in rows]
    assert largest == sorted(largest, reverse=True)
    with rot180.open(scanned[0]) as atlas:
        alive = [one for one in atlas["conv2"] if not one.dead]
        assert len(rows) == len(alive)
        best = max(alive, key=lambda one: one.max)
    assert rows[0][1] == str(best.channel)


def test_dead_features_and_pairs(scanned: tuple[Path, str]) -> None:
    with rot180.open(scanned[0]) as atlas:
        dead = sum(one.dead for one in atlas.features())
        first = max(
            one.correlated_features[0].correlation
            for one in atlas["conv2"]
            if one.correlated_features
        )
    status, printed = run("features", scanned[0], "--dead", "--most", 200)
    assert status == 0, printed
    assert sum(line.startswith(("conv", "head")) for line in printed.splitlines()) == dead
    status, printed = run("features", scanned[0], "--pairs", "--layer", "conv2", "--most", 3)
    assert status == 0, printed
    rows = [line.split() for line in printed.splitlines() if line.startswith("conv2")]
    assert len(rows) == 3
    assert float(rows[0][3]) == pytest.approx(first, abs=1e-3)
    for row in rows:
        assert int(row[1]) < int(row[2])


@pytest.mark.slow
def test_wrong_looks(scanned: tuple[Path, str], tmp_path: Path) -> None:
    refused("There is no order 'loudest'", "features", scanned[0], "--sort", "loudest")
    refused("There is no layer 'conv3'", "features", scanned[0], "--layer", "conv3")
    refused("There is no atlas at", "features", tmp_path / "nowhere")
    assert run("features", scanned[0], "--most", 0)[0] == 2
    for number, statement in enumerate(
        (
            "UPDATE feature SET max = 'text'",
            "UPDATE feature SET red = 'text', colour_r2 = 1",
            "UPDATE correlation SET correlation = 'text'",
        )
    ):
        path = tmp_path / f"{number}.atlas"
        path.write_bytes(scanned[0].read_bytes())
        change(path, statement)
        refused("damaged", "features", path, *(["--pairs"] if number == 2 else []))


def test_the_same_network_corresponds_to_itself(scanned: tuple[Path, str]) -> None:
    with rot180.open(scanned[0]) as one, rot180.open(scanned[0]) as two:
        found = rot180.compare(one, two)
        assert [each.layer for each in found] == ["conv1", "conv2", "head"]
        for each in found:
            assert each.images == 119
            known = [match for match in each.matches if match.other is not None]
            assert known
            for match in known:
                assert match.correlation == pytest.approx(1)
                assert (match.other, match.mutual) == (match.channel, True)
            assert each.vanished == each.appeared == each.died == each.revived == ()
    status, printed = run("compare", scanned[0], scanned[0], "--layer", "conv2", "--most", 3)
    assert status == 0, printed
    assert "conv2 and conv2: " in printed
    assert "median correlation 1.00 over 119 images" in " ".join(printed.split())
    assert printed.count("1.000") == 3


def permuted(order: list[int]) -> rot180.Network:
    """The small network with the channels of its second layer in another order."""
    torch.manual_seed(0)
    model = SmallNet().eval()
    with torch.no_grad():
        model.two.weight.copy_(model.two.weight[order].clone())
        model.two.bias.copy_(model.two.bias[order].clone())
    return rot180.capture(model, torch.randn(1, 3, 12, 12))


@pytest.mark.slow
def test_permuted_channels_are_found(tmp_path: Path) -> None:
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    with (
        rot180.scan(small_network(), small_data(), tmp_path / "a", **normalisation()) as one,
        rot180.scan(permuted(order), small_data(), tmp_path / "b", **normalisation()) as two,
    ):
        (found,) = rot180.compare(one, two, "two")
        for match in found.matches:
            assert order[match.other] == match.channel
            assert match.mutual
            assert match.correlation == pytest.approx(1, abs=1e-4)
        (crossed,) = rot180.compare(one, two, "one", "two")
        assert len(crossed.matches) == 6
        assert crossed.died == crossed.revived == ()
    status, printed = run("compare", tmp_path / "a", tmp_path / "b", "--layer", "two")
    assert status == 0, printed
    assert "8 of 8 features" in printed


@pytest.mark.slow
def test_what_cannot_be_compared(scanned: tuple[Path, str], tmp_path: Path) -> None:
    network, how = small_network(), normalisation()
    rot180.scan(network, small_data(), tmp_path / "a", **how).close()
    rot180.scan(network, small_data(), tmp_path / "few", sample=5, **how).close()
    rot180.scan(network, small_data(seed=1), tmp_path / "other", **how).close()
    rot180.scan(network, small_data(), tmp_path / "one", layers="one", **how).close()
    rot180.scan(network, small_data(), tmp_path / "two", layers="two", **how).close()
    a = tmp_path / "a"
    refused("are scans of different data", "compare", a, tmp_path / "other")
    refused("are scans of different data", "compare", a, scanned[0])
    refused("5 sampled images in common, too few", "compare", a, tmp_path / "few")
    refused("no layer of the same name", "compare", tmp_path / "one", tmp_path / "two")
    refused("There is no layer 'three'", "compare", a, a, "--layer", "three")
    refused("There is no layer 'three'", "compare", a, a, "--layer", "one", "--other", "three")
    refused("Name the layer of the first", "compare", a, a, "--other", "one")
    refused("There is no atlas at", "compare", a, tmp_path / "nowhere")
    with pytest.raises(Rot180Error, match="compare takes atlases"):
        rot180.compare(str(a), str(a))
    for number, statement in enumerate(
        (
            "UPDATE metadata SET value = '[]' WHERE key = 'identity'",
            "UPDATE feature SET layer = 'head', channel = channel + 99 WHERE id = 7",
            "UPDATE sample SET peaks = x'00'",
        )
    ):
        path = tmp_path / f"{number}"
        path.write_bytes(a.read_bytes())
        change(path, statement)
        refused("damaged", "compare", path, a, "--layer", "two")
