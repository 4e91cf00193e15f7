"""Where a rectifier has an upper limit, images at it are told apart by the values before it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rot180
from rot180.graph import streaming
from tests.atlas.scans import SIZE, normalisation, pictures

COUNT = 40


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 5, padding=2), nn.ReLU6(), nn.Conv2d(6, 8, 3), nn.SiLU()
    ).eval()
    with torch.no_grad():
        model[0].weight *= 60  # so that most images reach the limit
        model[2].weight *= 5
    return model


@pytest.mark.parametrize("shards", [1, 3])
def test_the_strongest_are_those_with_the_largest_values_before_it(
    model: nn.Module, tmp_path: Path, shards: int
) -> None:
    net, images = rot180.capture(model, torch.randn(1, 3, SIZE, SIZE)), pictures(COUNT)
    settings = {**normalisation(), "batch": 4, "images": "none"}
    parts = [
        rot180.scan(net, images, tmp_path / f"{n}.atlas", shard=(n + 1, shards), **settings)
        for n in range(shards)
    ]
    atlas = parts[0]
    if shards > 1:
        for one in parts:
            one.close()
        atlas = rot180.merge([one.path for one in parts], tmp_path / "whole.atlas")
    mean, std = (torch.tensor(normalisation()[name]).reshape(-1, 1, 1) for name in ("mean", "std"))
    inputs = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        before = model[0](inputs)
        after = model[:2](inputs)
        silu = model(inputs)
    assert (after.amax((2, 3)) == 6).float().mean() > 0.5
    for channel in range(6):
        z = before[:, channel].flatten(1)
        order = np.argsort(-z.amax(1).numpy(), kind="stable")[:9]
        found = atlas["0"][channel].examples
        assert [one.image for one in found] == order.tolist()
        for one in found:
            place = divmod(int(z[one.image].argmax()), SIZE)
            assert one.position == place
            assert one.strength == pytest.approx(float(z[one.image].max()), rel=1e-5)
            assert one.activation == pytest.approx(float(after[one.image, channel][place]))
        assert atlas["0"][channel].max == pytest.approx(6)
        assert (
            rot180.project(
                net, inputs[found[0].image], "0", channel, "peak", method="gradient"
            ).position
            == found[0].position
        )
    for channel in range(8):  # this one has no upper limit
        for one in atlas["2"][channel].examples:
            assert one.strength == one.activation
            assert one.activation == pytest.approx(float(silu[one.image, channel].max()), rel=1e-4)
    atlas.close()


def test_a_rectifier_may_see_more_images_at_a_time_than_its_convolution(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 2, 5, stride=2), nn.ReLU6()).eval()
    net, images = rot180.capture(model, torch.randn(1, 3, SIZE, SIZE)), pictures(COUNT)
    settings = {**normalisation(), "batch": 16}
    monkeypatch.setattr(streaming, "_CACHED_VALUES", 2**22)
    with rot180.scan(net, images, tmp_path / "one.atlas", **settings) as whole:
        wanted = whole.table("example")
    monkeypatch.setattr(streaming, "_CACHED_VALUES", 3 * SIZE * SIZE * 4)  # of the input: 4 images
    with rot180.scan(net, images, tmp_path / "two.atlas", **settings) as parts:
        assert parts.table("example") == wanted
