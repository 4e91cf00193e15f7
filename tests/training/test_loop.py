"""Training learns, follows its seed, and says what does not fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import rot180
from rot180 import Rot180Error
from rot180.datasets import ArrayDataset
from rot180.training.loop import accuracy, train
from rot180.training.recipe import Recipe
from tests.models import relative_error
from tests.training.helpers import RECIPE, Recorder, stripes


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "hidden"), [(3, 0), (1, 16)])
def test_it_learns_what_can_be_learned(tmp_path: Path, channels: int, hidden: int) -> None:
    training, held_out = stripes(640, 0, channels), stripes(200, 1, channels)
    seen = Recorder()
    path = tmp_path / "x.safetensors"
    found = train(training, held_out, RECIPE, path, hidden=hidden, callbacks=(seen,))
    assert accuracy(found, held_out) > 0.95
    assert len(seen.steps) == 3 * 20
    assert seen.epochs == found.history
    assert seen.steps[-1]["loss"] < seen.steps[0]["loss"]
    again = rot180.load(path)
    assert accuracy(again, held_out) == max(one["held_out"] for one in found.history)
    assert again.data == {"name": "stripes", "fingerprint": training.fingerprint}
    assert Recipe.from_json(again.recipe) == RECIPE
    assert [one.name for one in tmp_path.iterdir()] == ["x.safetensors"]
    assert accuracy(found, held_out, flips=True) == found.notes["held_out_with_flips"] > 0.95


@pytest.mark.slow
def test_mean_and_deviation_are_those_of_the_training_images(tmp_path: Path) -> None:
    training = stripes(640, 0)
    found = train(training, stripes(50, 1), replace(RECIPE, epochs=1), tmp_path / "x.safetensors")
    values = training.images / 255
    assert np.allclose(found.mean, values.mean((0, 1, 2)))
    assert np.allclose(found.std, values.std((0, 1, 2)))


@pytest.mark.slow
def test_the_equations_reach_the_weights_that_pytorch_reaches(tmp_path: Path) -> None:
    training, held_out = stripes(640, 0), stripes(200, 1)
    one, other = (
        train(training, held_out, RECIPE, tmp_path / f"{engine}.safetensors", engine=engine)
        for engine in ("pytorch", "equations")
    )
    assert (one.notes["engine"], other.notes["engine"]) == ("pytorch", "equations")
    weights = other.model.state_dict()
    for name, wanted in one.model.state_dict().items():
        assert weights[name].dtype == wanted.dtype == torch.float32
        assert relative_error(weights[name], wanted) < 1e-4, name
    for wanted, found in zip(one.history, other.history, strict=True):
        assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
        assert found["accuracy"] == pytest.approx(wanted["accuracy"], abs=2 / 640)
    assert accuracy(other, held_out) > 0.95


@pytest.mark.slow
def test_the_equations_learn_with_a_hidden_layer_that_drops(tmp_path: Path) -> None:
    training, held_out = stripes(640, 0, 1), stripes(200, 1, 1)
    path = tmp_path / "x.safetensors"
    found = train(training, held_out, RECIPE, path, hidden=16, engine="equations")
    assert accuracy(found, held_out) > 0.95


def test_an_engine_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(Rot180Error, match=r"no engine 'numpy'\. There are: pytorch, equations"):
        train(stripes(64, 0), stripes(50, 1), RECIPE, tmp_path / "x.safetensors", engine="numpy")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_the_seed_decides(tmp_path: Path) -> None:
    training, held_out = stripes(320, 0), stripes(50, 1)
    short = replace(RECIPE, epochs=1)
    state = torch.get_rng_state()
    runs = [
        train(training, held_out, replace(short, seed=seed), tmp_path / f"{n}.safetensors")
        for n, seed in enumerate((1, 1, 2))
    ]
    kernels = [one.model.conv1.weight for one in runs]
    assert torch.equal(kernels[0], kernels[1])
    assert not torch.equal(kernels[0], kernels[2])
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers are touched


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    training, held_out = stripes(64, 0), stripes(50, 1)
    out = tmp_path / "x.safetensors"
    unlabelled = ArrayDataset(training.images)
    other = ArrayDataset(held_out.images, held_out.labels, ("cat", "dog"))
    some = np.where(np.arange(50) == 7, -1, held_out.labels)
    unnamed = ArrayDataset(held_out.images, some, held_out.classes, name="stripes")
    cases = [
        ((unlabelled, held_out), {}, "have no labels"),
        ((training, stripes(50, 1, size=8)), {}, "have to be the same"),
        ((training, other), {}, "different classes"),
        ((training, unnamed), {}, "1 of 50 images of 'stripes' have no class"),
        ((training, held_out), {"batch": 65}, "64 training images, less than one batch of 65"),
        (
            (training, held_out),
            {"batch": 2, "rate": 1e3, "weight_decay": 1.0},
            "loss is no longer finite",
        ),
    ]
    for sets, changed, words in cases:
        with pytest.raises(Rot180Error, match=words):
            train(*sets, replace(RECIPE, **changed), out)
    with pytest.raises(Rot180Error, match="nothing to resume"):
        train(training, held_out, RECIPE, out, resume=True)
    assert not out.exists()
