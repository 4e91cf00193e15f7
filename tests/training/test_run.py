"""An interrupted run is resumed to the same weights; what belongs to another run is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rot180
from rot180 import Rot180Error
from rot180.errors import Rot180Warning
from rot180.models.checkpoint import Checkpoint
from rot180.models.tensor_file import load_tensors, save_tensors
from rot180.models.two_layer import TwoLayer
from rot180.training.engines import ENGINES
from rot180.training.loop import train
from tests.training.helpers import RECIPE, Recorder, stripes


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
@pytest.mark.parametrize(("begun", "other"), [("pytorch", "equations"), ("equations", "pytorch")])
def test_a_run_is_not_resumed_with_the_other_engine(tmp_path: Path, begun, other) -> None:
    training, held_out, out = stripes(64, 0), stripes(50, 1), tmp_path / "x.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(training, held_out, RECIPE, out, engine=begun, callbacks=(Recorder((1, 0)),))
    with pytest.raises(Rot180Error, match=f"written with another .*{begun}.* instead of .*{other}"):
        train(training, held_out, RECIPE, out, engine=other, resume=True)


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
