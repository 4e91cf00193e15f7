"""The state of a training run, and the file that an interrupted run is resumed from."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from rot180.errors import Rot180Error, shortened
from rot180.files import is_file
from rot180.models.checkpoint import (
    Checkpoint,
    check_state_dict,
    checked_history,
    escape_names,
    load_checkpoint,
)
from rot180.models.tensor_file import load_tensors, save_tensors, visible_json
from rot180.models.two_layer import TwoLayer
from rot180.training.engines import Engine

_HISTORY_KEYS = {"epoch", "loss", "accuracy", "held_out", "seconds", "images_per_second"}


@dataclass
class TrainingRun:
    """Everything that changes during a training.

    Attributes:
        model: network with the current weights.
        average: the averaged weights, with the number of steps that they are an average of.
        engine: updates the weights.
        steps_per_epoch: number of steps in each epoch.
        history: one mapping per completed epoch (see :class:`Checkpoint`).
    """

    model: TwoLayer
    average: AveragedModel
    engine: Engine
    steps_per_epoch: int
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def averaged(self) -> TwoLayer:
        """Network inside of ``average``."""
        assert isinstance(self.average.module, TwoLayer)
        return self.average.module


def save_run(run: TrainingRun, best: Checkpoint, path: Path) -> None:
    """Write the state of a run, so that :func:`resume_run` can continue it."""
    tensors = {f"model.{name}": x for name, x in run.model.state_dict().items()}
    tensors |= {f"average.{name}": x for name, x in run.averaged.state_dict().items()}
    tensors |= {f"engine.{name}": x for name, x in run.engine.state().items()}
    metadata = {
        "recipe": best.recipe,
        "data": best.data,
        "notes": best.notes,
        "history": run.history,
    }
    save_tensors(path, tensors, metadata)


def resume_run(run: TrainingRun, best: Checkpoint, path: Path, out: Path) -> None:
    """Restore the state of a run from the file that :func:`save_run` wrote.

    Args:
        run: new run of the same recipe, which is changed.
        best: checkpoint of the run, which gets its history.
        path: file with the state.
        out: checkpoint that the interrupted run wrote.

    Raises:
        Rot180Error: the file does not exist, is damaged, or belongs to another recipe or other
            data; or the checkpoint at ``out`` does not belong to the same run.
    """
    if not is_file(path):
        raise Rot180Error(
            f"There is nothing to resume: {path} does not exist (a run that has ended removes it)."
        )
    tensors, metadata = load_tensors(path)
    notes = metadata.get("notes")
    metadata = {**metadata, "engine": notes.get("engine") if isinstance(notes, dict) else None}
    expected = visible_json(
        {"recipe": best.recipe, "data": best.data, "engine": best.notes["engine"]}
    )
    for what, value in expected.items():
        if metadata.get(what) != value:
            raise Rot180Error(
                f"{path} was written with another {what}: {shortened(metadata.get(what), 300)} "
                f"instead of {shortened(value, 300)}."
            )
    try:
        history = checked_history(metadata.get("history"))
        if not 1 <= len(history) <= best.recipe["epochs"]:
            raise Rot180Error(f"It is of {len(history)} epochs of {best.recipe['epochs']}.")
        if [row.get("epoch") for row in history] != list(range(1, len(history) + 1)) or any(
            row.keys() != _HISTORY_KEYS for row in history
        ):
            raise Rot180Error("Its history is not that of a training.")
        parts = {part: _with_prefix(tensors, part) for part in ("model", "average", "engine")}
        if sum(map(len, parts.values())) < len(tensors):
            raise Rot180Error("It holds tensors that no training has.")
        state = run.model.state_dict()
        model, average = (
            check_state_dict(state, parts[part], path) for part in ("model", "average")
        )
        check_best(load_checkpoint(out) if is_file(out) else None, history, best, out)
        steps = len(history) * run.steps_per_epoch
        run.engine.restore(parts["engine"], steps)
    except Rot180Error as error:
        raise Rot180Error(f"The run in {path} cannot be resumed. {error}") from error
    run.model.load_state_dict(model)
    run.averaged.load_state_dict(average)
    run.average.n_averaged.fill_(steps)
    run.history[:] = history
    best.history = run.history


def check_best(
    written: Checkpoint | None, history: list[dict[str, float]], best: Checkpoint, out: Path
) -> Checkpoint:
    """Return the checkpoint at ``out`` if it is the best epoch of the run with this history.

    The histories of two runs differ, since they have the seconds of each epoch.

    Args:
        written: checkpoint at ``out``; None if there is none.
        history: history of the run.
        best: checkpoint with the settings of the run.
        out: path of the checkpoint, for the message.

    Raises:
        Rot180Error: there is no checkpoint, or another run wrote it.
    """
    if written is None:
        raise Rot180Error(f"Its best epoch so far is gone: there is no {out}.")
    accuracies = [row["held_out"] for row in history]
    # A run that was killed right after it wrote the checkpoint has not recorded that epoch.
    lengths = {accuracies.index(max(accuracies)) + 1, len(history) + 1}
    if len(history) == best.recipe["epochs"]:
        lengths.add(len(history))
    same = (
        written.classes == escape_names(best.classes)
        and (written.mean, written.std, written.size) == (best.mean, best.std, best.size)
        and (written.data, written.recipe) == (visible_json(best.data), visible_json(best.recipe))
        and written.notes.get("engine") == best.notes["engine"]
        and _shapes(written) == _shapes(best)
        and len(written.history) in lengths
        and all(row == other for row, other in zip(written.history, history, strict=False))
    )
    if not same:
        raise Rot180Error(
            f"{out} is not its best epoch, but a checkpoint that something else wrote. Restore the "
            "right file, or start a new training with another file."
        )
    return written


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {name: tuple(x.shape) for name, x in checkpoint.model.state_dict().items()}


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): x for name, x in tensors.items() if name.startswith(start)}
