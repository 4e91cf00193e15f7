"""Training learns, can be interrupted and resumed, and says what is wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rot180
from rot180 import Rot180Error
from rot180.datasets import ArrayDataset
from rot180.errors import Rot180Warning
from rot180.models.checkpoint import Checkpoint
from rot180.models.tensor_file import load_tensors, save_tensors
from rot180.models.two_layer import TwoLayer
from rot180.training.augment import jitter_colour, shift_and_flip
from rot180.training.engines import ENGINES
from rot180.training.loop import accuracy, train
from rot180.training.muon import Muon, orthogonalise
from rot180.training.patch_pca import principal_kernels
from rot180.training.recipe import PHOTOS, Recipe, recipe_for
from tests.models import relative_error


def stripes(count: int, seed: int, channels: int = 3, size: int = 12) -> ArrayDataset:
    """Noisy stripes, upright (class 0) or level (class 1), of any phase and colour."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    wave = np.sin(np.arange(size) * 1.5 + rng.uniform(0, 6, (count, 1)))
    level = np.broadcast_to(wave[:, :, None], (count, size, size))
    pattern = np.where(labels[:, None, None] == 0, level.transpose(0, 2, 1), level)
    colour = rng.uniform(20, 80, (count, 1, 1, channels))
    images = 128 + pattern[..., None] * colour + rng.normal(0, 20, (count, size, size, channels))
    return ArrayDataset(
        np.clip(images, 0, 255).astype(np.uint8),
        labels,
        ("upright", "level"),
        name="stripes",
    )


RECIPE = Recipe(epochs=3, batch=32, seed=5)


class Recorder:
    """Records what a callback gets, and stops the run where it is asked to."""

    def __init__(self, stop: tuple[int, int] | None = None) -> None:
        self.steps: list[dict[str, float]] = []
        self.epochs: list[dict[str, float]] = []
        self.stop = stop

    def on_step(self, epoch: int, step: int, steps: int, values: dict[str, float]) -> None:
        self.steps.append(values)
        if (epoch, step) == self.stop:
            raise KeyboardInterrupt

    def on_epoch(self, values: dict[str, float]) -> None:
        self.epochs.append(values)


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


@pytest.fixture(scope="module", params=ENGINES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The network of a run that nobody interrupted, by each engine."""
    path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    sets = stripes(640, 0), stripes(200, 1)
    return train(*sets, RECIPE, path, hidden=8, engine=request.param)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(1, 0), (2, 13)])
def test_an_interrupted_run_goes_on_to_the_same_weights(
    tmp_path: Path, stop: tuple[int, int], whole: Checkpoint
) -> None:
    training, held_out = stripes(640, 0), stripes(200, 1)
    engine = whole.notes["engine"]
    path = tmp_path / "parts.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(
            training, held_out, RECIPE, path, hidden=8, engine=engine, callbacks=(Recorder(stop),)
        )
    kept = rot180.load(path)  # the best epoch so far is there
    assert len(kept.history) <= stop[0]
    resumed = train(training, held_out, RECIPE, path, hidden=8, engine=engine, resume=True)
    for (name, one), other in zip(
        whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    timeless = [
        {k: v for k, v in one.items() if k not in ("seconds", "images_per_second")}
        for one in whole.history
    ]
    again = [
        {k: v for k, v in one.items() if k not in ("seconds", "images_per_second")}
        for one in resumed.history
    ]
    assert timeless == again
    assert not Path(f"{path}.resume").exists()


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


@pytest.mark.slow
@pytest.mark.parametrize(("begun", "other"), [("pytorch", "equations"), ("equations", "pytorch")])
def test_a_run_is_not_resumed_with_the_other_engine(tmp_path: Path, begun, other) -> None:
    training, held_out, out = stripes(64, 0), stripes(50, 1), tmp_path / "x.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(training, held_out, RECIPE, out, engine=begun, callbacks=(Recorder((1, 0)),))
    with pytest.raises(Rot180Error, match=f"written with another .*{begun}.* instead of .*{other}"):
        train(training, held_out, RECIPE, out, engine=other, resume=True)


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


@pytest.mark.slow
def test_a_run_is_not_resumed_with_another_recipe(tmp_path: Path) -> None:
    training, held_out, out = stripes(64, 0), stripes(50, 1), tmp_path / "x.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(training, held_out, RECIPE, out, callbacks=(Recorder((1, 0)),))
    with pytest.raises(Rot180Error, match="written with another recipe"):
        train(training, held_out, replace(RECIPE, rate=0.1), out, resume=True)
    with pytest.raises(Rot180Error, match="written with another data"):
        train(stripes(64, 3), held_out, RECIPE, out, resume=True)


@pytest.fixture(scope="module", params=ENGINES)
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted after its first epoch, by each engine."""
    out = tmp_path_factory.mktemp("begun") / f"{request.param}.safetensors"
    sets = stripes(64, 0), stripes(50, 1)
    with pytest.raises(KeyboardInterrupt):
        train(*sets, RECIPE, out, engine=request.param, callbacks=(Recorder((1, 0)),))
    return out


def _copied(begun: Path, folder: Path) -> Path:
    for one in (begun, Path(f"{begun}.resume")):
        (folder / one.name).write_bytes(one.read_bytes())
    return folder / begun.name


def _resume(out: Path) -> Checkpoint:
    return train(stripes(64, 0), stripes(50, 1), RECIPE, out, engine=out.stem, resume=True)


def _first(history: list[dict[str, float]], **changed: Any) -> list[dict[str, float]]:
    return [history[0] | changed]


def _changed(path: Path, about: Any = None, tensors: Any = None) -> None:
    """Change the description and the tensors of a file by functions."""
    held, described = load_tensors(path)
    kept = {name: one.clone() for name, one in held.items()}
    save_tensors(path, (tensors or dict)(kept), (about or dict)(described))


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", ["another network", "another recipe", "other classes", "another run", "none", "damaged"]
)
def test_a_run_takes_no_other_checkpoint_for_its_own(begun: Path, tmp_path: Path, how: str) -> None:
    out = _copied(begun, tmp_path)
    match how:
        case "another network":
            Checkpoint(
                TwoLayer(2, 3, (12, 12), hidden=3),
                ("upright", "level"),
                (0.5,) * 3,
                (0.2,) * 3,
                (12, 12),
            ).save(out)
        case "another recipe":
            _changed(out, lambda about: about | {"recipe": about["recipe"] | {"rate": 0.5}})
        case "other classes":
            _changed(out, lambda about: about | {"classes": ["level", "upright"]})
        case "another run":  # of the same settings: only its seconds are others
            path = tmp_path / "other" / begun.name
            with pytest.raises(KeyboardInterrupt):
                train(
                    *(stripes(64, 0), stripes(50, 1)),
                    *(RECIPE, path),
                    engine=begun.stem,
                    callbacks=(Recorder((1, 0)),),
                )
            path.replace(out)
        case "none":
            out.unlink()
        case "damaged":
            out.write_bytes(out.read_bytes()[:5000])
    before = out.read_bytes() if out.is_file() else None
    said = {"none": "best epoch so far is gone", "damaged": "cannot be read as a safetensors"}
    with pytest.raises(Rot180Error, match=said.get(how, "something else wrote")):
        _resume(out)
    assert (out.read_bytes() if out.is_file() else None) == before
    assert Path(f"{out}.resume").read_bytes() == Path(f"{begun}.resume").read_bytes()


@pytest.mark.slow
def test_a_run_that_was_killed_between_its_two_files_goes_on(begun: Path, tmp_path: Path) -> None:
    out = _copied(begun, tmp_path)

    def poor(about: dict[str, Any]) -> dict[str, Any]:
        return about | {"history": _first(about["history"], held_out=0.0)}

    def ahead(about: dict[str, Any]) -> dict[str, Any]:
        second = about["history"][0] | {"epoch": 2}
        return about | {"history": [*poor(about)["history"], second]}

    _changed(Path(f"{out}.resume"), poor)
    _changed(out, ahead)  # written in a second epoch, of which the other file does not know
    assert len(_resume(out).history) == RECIPE.epochs
    assert not Path(f"{out}.resume").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("history", "said"),
    [
        (lambda rows: [], "It is of 0 epochs of 3"),
        (lambda rows: rows * 9, "It is of 9 epochs of 3"),
        (lambda rows: rows * 2, "not that of a training"),
        (lambda rows: [{"epoch": 1}], "not that of a training"),
        (lambda rows: _first(rows, held_out="x"), "finite numbers by name"),
        (lambda rows: _first(rows, held_out=float("nan")), "finite numbers by name"),
        (lambda rows: _first(rows, loss=10**400), "finite numbers by name"),
        (lambda rows: {"epoch": 1}, "finite numbers by name"),
        (lambda rows: [rows], "finite numbers by name"),
    ],
)
def test_a_history_of_no_training_is_said(begun: Path, tmp_path: Path, history, said: str) -> None:
    out = _copied(begun, tmp_path)
    state = Path(f"{out}.resume")
    _changed(state, lambda about: about | {"history": history(about["history"])})
    before = out.read_bytes()
    with pytest.raises(Rot180Error, match=f"cannot be resumed. .*{said}"):
        _resume(out)
    assert out.read_bytes() == before
    assert state.is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda one: torch.zeros(3),
        lambda one: one.to(torch.complex64),
        lambda one: one.to(torch.int16),
        lambda one: torch.full_like(one, torch.nan, dtype=torch.float32),
        lambda one: None,
    ],
)
@pytest.mark.parametrize("part", ["model", "average", "engine"])
def test_tensors_of_no_such_run_are_said(begun: Path, tmp_path: Path, part: str, change) -> None:
    out = _copied(begun, tmp_path)
    state = Path(f"{out}.resume")
    for name in load_tensors(state)[0]:
        if name.startswith(part):
            break

    def changed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = change(tensors.pop(name))
        return tensors if found is None else tensors | {name: found}

    _changed(state, tensors=changed)
    with pytest.raises(Rot180Error, match="cannot be resumed"):
        _resume(out)
    _changed(state, tensors=lambda tensors: tensors | {"spare": torch.zeros(2)})
    with pytest.raises(Rot180Error, match="cannot be resumed"):
        _resume(out)


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("batch", 0), ("rate", -1.0), ("hue", 200.0), ("grey", 2.0)]
)
def test_a_recipe_refuses_values_that_make_no_sense(name: str, value: float) -> None:
    with pytest.raises(Rot180Error, match=f"{name} is {value}; it has to lie between"):
        replace(Recipe(), **{name: value})


def test_each_data_set_has_its_recipe() -> None:
    assert recipe_for("photos") == PHOTOS
    assert recipe_for("cifar10") == Recipe()
    with pytest.raises(Rot180Error, match="not known"):
        Recipe.from_json({"speed": 1})


def test_images_are_mirrored_and_shifted_with_their_edges_repeated() -> None:
    image = torch.arange(5 * 6 * 3, dtype=torch.uint8).reshape(1, 5, 6, 3)
    recipe = Recipe(shift=2, flip=True)
    wanted = set()
    for flipped in (image, image.flip(2)):
        padded = torch.nn.functional.pad(
            flipped.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="replicate"
        ).permute(0, 2, 3, 1)
        for dy in range(5):
            for dx in range(5):
                one = padded[0, dy : dy + 5, dx : dx + 6].byte()
                wanted.add(tuple(one.flatten().tolist()))
    found = shift_and_flip(image.repeat(2000, 1, 1, 1), recipe, torch.Generator().manual_seed(0))
    assert {tuple(one.flatten().tolist()) for one in found} == wanted
    still = shift_and_flip(image, replace(recipe, shift=0, flip=False), torch.Generator())
    assert torch.equal(still, image)


def test_a_turn_of_the_colours_keeps_brightness_and_length() -> None:
    x = torch.rand(64, 4, 4, 3, dtype=torch.float32)
    found = jitter_colour(x, Recipe(hue=180.0), torch.Generator().manual_seed(0))
    assert torch.allclose(found.sum(-1), x.sum(-1), atol=1e-5)
    assert torch.allclose(found.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert (found - x).abs().amax((1, 2, 3)).median() > 0.3
    none = jitter_colour(x, Recipe(), torch.Generator())
    assert torch.equal(none, x)
    grey = jitter_colour(x, Recipe(grey=0.5), torch.Generator().manual_seed(0))
    lost = torch.isclose(grey[..., 0], grey[..., 2], atol=1e-5).all((1, 2))
    assert 16 < int(lost.sum()) < 48


@pytest.mark.parametrize("shape", [(32, 75), (64, 800), (75, 32), (5, 5)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalise(matrix)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    exact = left @ right
    alignment = (found * exact).sum() / (found.norm() * exact.norm())
    assert alignment > 0.98


def test_a_step_has_the_size_that_the_rate_says() -> None:
    kernel = torch.nn.Parameter(torch.zeros(8, 3, 5, 5).to(memory_format=torch.channels_last))
    kernel.grad = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 1e-4
    Muon([kernel], lr=0.1).step()
    size = torch.linalg.svdvals(kernel.detach().flatten(1))
    assert (size > 0.05).all()
    assert (size < 0.13).all()
    assert (kernel.detach() * kernel.grad).sum() < 0  # downhill


@pytest.mark.slow
def test_event_files_can_be_read_back(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from rot180.training.tensorboard import TensorBoardLogger

    events = TensorBoardLogger(tmp_path / "events")
    found = train(
        stripes(64, 0), stripes(50, 1), RECIPE, tmp_path / "x.safetensors", callbacks=(events,)
    )
    read = EventAccumulator(str(tmp_path / "events")).Reload()
    held_out = [one.value for one in read.Scalars("epoch/held_out")]
    assert held_out == pytest.approx([one["held_out"] for one in found.history])
    assert len(read.Scalars("step/loss")) == 6


def test_principal_kernels_are_the_singular_vectors_of_the_patches() -> None:
    images = stripes(40, 0).images
    mean, std = (0.5, 0.4, 0.6), (0.2, 0.3, 0.25)
    kernels = principal_kernels(images, mean, std, 10)
    assert torch.equal(kernels[5:], -kernels[:5])
    values = (images / 255 - mean) / std
    windows = np.lib.stride_tricks.sliding_window_view(values, (5, 5), (1, 2))
    patches = windows.reshape(-1, 3 * 25)
    wanted = np.linalg.svd(patches - patches.mean(0), full_matrices=False)[2][:5]
    found = kernels[:5].reshape(5, -1).double().numpy()
    assert np.allclose(np.abs(found @ wanted.T), np.eye(5), atol=1e-5)


@pytest.mark.slow
def test_a_run_that_was_killed_right_before_its_end_is_resumed(tmp_path: Path, monkeypatch) -> None:
    """All epochs are done, and the file that says so is still there."""
    data = stripes(96, 0), stripes(32, 1)
    path = tmp_path / "x.safetensors"
    state = Path(f"{path}.resume")

    def held(one: Path, missing_ok: bool = False) -> None:
        if one == state:
            raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", held)
        with pytest.warns(Rot180Warning, match="not needed any more, but cannot be removed"):
            found = train(*data, RECIPE, path)
    assert state.exists()
    again = train(*data, RECIPE, path, resume=True)
    assert again.history == found.history
    assert not state.exists()
    for one, other in zip(again.model.parameters(), found.model.parameters(), strict=True):
        assert torch.equal(one, other)
