"""Training of the two-layer network, by either engine, with a file after each epoch."""

import copy
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from rot180.datasets import ArrayDataset
from rot180.device import resolve_device
from rot180.errors import Rot180Error, Rot180Warning, shortened
from rot180.files import check_writable, is_file
from rot180.models.checkpoint import (
    Checkpoint,
    check_state_dict,
    checked_history,
    escape_names,
    load_checkpoint,
)
from rot180.models.model import normalise
from rot180.models.tensor_file import load_tensors, save_tensors, visible_json
from rot180.models.two_layer import TwoLayer
from rot180.training.augment import jitter_colour, shift_and_flip
from rot180.training.engines import Engine, make_engine
from rot180.training.patch_pca import principal_kernels
from rot180.training.recipe import Recipe

_FIRST_LENGTH = 0.3
"""Length of the first layer's kernels at the start."""
_KEPT = {"epoch", "loss", "accuracy", "held_out", "seconds", "images_per_second"}
"""What a history has of each epoch."""


@runtime_checkable
class TrainingCallback(Protocol):
    """Is told how a training goes on."""

    def on_step(self, epoch: int, step: int, steps: int, values: dict[str, float]) -> None:
        """After each step: "loss" and "accuracy" (running means) and "images_per_second"."""

    def on_epoch(self, values: dict[str, float]) -> None:
        """After each epoch: an entry of the history (see :class:`Checkpoint`)."""


@dataclass
class _Run:
    """Everything that changes while a network is trained, so that a run can be taken up again."""

    model: TwoLayer
    average: TwoLayer
    engine: Engine
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    training: ArrayDataset,
    held_out: ArrayDataset,
    recipe: Recipe,
    out: str | Path,
    *,
    hidden: int = 0,
    engine: str = "pytorch",
    device: str | torch.device = "cpu",
    resume: bool = False,
    callbacks: tuple[TrainingCallback, ...] = (),
) -> Checkpoint:
    """Train the two-layer network and write the checkpoint with the best held-out accuracy.

    After each epoch the averaged weights are measured on the held-out images; where they are the
    best so far, ``out`` is written. A file beside it, named with ``.resume``, holds what is needed
    to go on after an interruption, to the same weights as without one; it goes when all is done.

    Args:
        training: images and labels to learn from.
        held_out: images of the same size and classes to measure on.
        recipe: the settings.
        out: path of the checkpoint, a safetensors file.
        hidden: neurons of the hidden layer; 0 for none.
        engine: "pytorch", or "equations" for rot180's own back-propagation in NumPy. Both follow
            the same steps; with dropout they draw other numbers.
        device: where to compute: "cpu", "cuda", "mps", or "auto"; "equations" on the cpu only.
        resume: go on with a run that was interrupted.
        callbacks: are told of each step and each epoch.

    Returns:
        The checkpoint as it was written. Its notes hold "held_out_with_flips", the accuracy when
        the scores of each image and of its mirror image are added.

    Raises:
        Rot180Error: the two sets do not fit each other, the loss is no longer finite, or there is
            nothing to resume.
    """
    _check(training, held_out, recipe)
    check_writable(out)
    place = resolve_device(device)
    mean, std = _statistics(training.images)
    run = _new_run(training, recipe, hidden, engine, place, mean, std)
    best = Checkpoint(
        run.average,
        training.classes,
        mean,
        std,
        training.images.shape[1:3],
        {"name": training.name, "fingerprint": training.fingerprint},
        recipe.to_json(),
        notes={"engine": engine},
    )
    state = Path(f"{out}.resume")
    if resume:
        _resume_run(run, best, state, Path(out))
    try:
        with torch.random.fork_rng():
            for epoch in range(len(run.history), recipe.epochs):
                torch.manual_seed(_seed(recipe, epoch))
                started = time.perf_counter()
                values = _epoch(run, training, recipe, mean, std, epoch, callbacks)
                values["held_out"] = accuracy(best, held_out)
                values["seconds"] = time.perf_counter() - started
                improved = all(values["held_out"] > one["held_out"] for one in run.history)
                run.history.append(values)
                best.history = run.history
                if improved:
                    best.save(out)
                _save_run(run, best, state)
                for watcher in callbacks:
                    watcher.on_epoch(values)
    finally:
        run.engine.close()
    return _finished(best, held_out, Path(out), state)


@torch.no_grad()
def accuracy(checkpoint: Checkpoint, data: ArrayDataset, flips: bool = False) -> float:
    """Return the share of images whose class has the largest score.

    With ``flips`` the scores of an image and its mirror image are added first.
    """
    assert data.labels is not None
    right = 0
    for images, labels in _batches(data, 500):
        x = checkpoint.prepare(images)
        scores = checkpoint.model(x)
        if flips:
            scores = scores + checkpoint.model(x.flip(-1))
        right += int((scores.argmax(1).cpu().numpy() == labels).sum())
    return right / len(data)


def _check(training: ArrayDataset, held_out: ArrayDataset, recipe: Recipe) -> None:
    for data in (training, held_out):
        if data.labels is None:
            raise Rot180Error(f"The images of '{data.name}' have no labels; training needs them.")
        if len(data) == 0 or (data.labels < 0).any():
            raise Rot180Error(
                f"{int((data.labels < 0).sum())} of {len(data)} images of '{data.name}' have no "
                "class; training needs at least one image, and a class for each."
            )
    if training.images.shape[1:] != held_out.images.shape[1:]:
        raise Rot180Error(
            f"Training images are {training.images.shape[1:]}, held-out images "
            f"{held_out.images.shape[1:]} (height, width, channels); they have to be the same."
        )
    if training.classes != held_out.classes:
        raise Rot180Error(
            "Training and held-out images have different classes: "
            f"{training.classes} and {held_out.classes}."
        )
    if len(training) < recipe.batch:
        raise Rot180Error(
            f"There are {len(training)} training images, less than one batch of {recipe.batch}."
        )


def _statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, for values from 0 to 1."""
    total = squares = np.zeros(images.shape[-1])
    count = 0
    for part in np.array_split(images, max(1, len(images) // 4096)):
        values = part.reshape(-1, images.shape[-1]).astype(np.float64) / 255
        total, squares = total + values.sum(0), squares + (values**2).sum(0)
        count += len(values)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-6))
    return tuple(mean.tolist()), tuple(std.tolist())


def _new_run(
    training: ArrayDataset,
    recipe: Recipe,
    hidden: int,
    engine: str,
    device: torch.device,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> _Run:
    size, channels = training.images.shape[1:3], training.images.shape[3]
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = TwoLayer(len(training.classes), channels, size, hidden)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    first = model.conv1.weight
    with torch.no_grad():
        first.copy_(_FIRST_LENGTH * principal_kernels(training.images, mean, std, len(first)))
    return _Run(model, copy.deepcopy(model).eval(), make_engine(engine, model, recipe))


def _epoch(
    run: _Run,
    training: ArrayDataset,
    recipe: Recipe,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    epoch: int,
    callbacks: tuple[TrainingCallback, ...],
) -> dict[str, float]:
    """Go once through the training images."""
    generator = torch.Generator().manual_seed(_seed(recipe, epoch))
    order = torch.randperm(len(training), generator=generator).numpy()
    steps = len(training) // recipe.batch
    device = run.model.conv1.weight.device
    loss_sum, right, started = 0.0, 0, time.perf_counter()
    for step, (images, labels) in enumerate(
        _batches(training, recipe.batch, order[: steps * recipe.batch])
    ):
        values = normalise(
            shift_and_flip(torch.from_numpy(images), recipe, generator).to(device), mean, std
        )
        x = jitter_colour(values, recipe, generator)
        share = _rate(recipe, epoch * steps + step, recipe.epochs * steps)
        try:
            loss, hits = run.engine.step(x, labels, share)
        except Rot180Error as error:
            raise Rot180Error(f"Epoch {epoch + 1}, step {step + 1}: {error}") from error
        _average(run, recipe, epoch * steps + step, recipe.epochs * steps)
        loss_sum += loss
        right += hits
        seen = (step + 1) * recipe.batch
        running = {
            "loss": loss_sum / (step + 1),
            "accuracy": right / seen,
            "images_per_second": seen / (time.perf_counter() - started),
        }
        if not np.isfinite(loss_sum):
            raise Rot180Error(
                f"The loss is no longer finite in epoch {epoch + 1}, step {step + 1}. Lower the "
                f"learning rates (now {recipe.rate} and {recipe.kernel_rate})."
            )
        for watcher in callbacks:
            watcher.on_step(epoch, step, steps, running)
    return {"epoch": epoch + 1, **running}


def _batches(
    data: ArrayDataset, size: int, order: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images and labels, in the given order."""
    assert data.labels is not None
    order = np.arange(len(data)) if order is None else order
    for first in range(0, len(order), size):
        chosen = order[first : first + size]
        yield data.images[chosen], data.labels[chosen]


def _rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the learning rate's share of its largest value: up in a line, then down to zero."""
    rising = max(1.0, recipe.warm_up * steps)
    return min((step + 1) / rising, (steps - step) / max(1.0, steps - rising))


@torch.no_grad()
def _average(run: _Run, recipe: Recipe, step: int, steps: int) -> None:
    """Move the averaged weights towards the present ones; early on the average is a short one."""
    memory = min(recipe.averaging * steps, step / 10)
    for average, weight in zip(run.average.parameters(), run.model.parameters(), strict=True):
        average.lerp_(weight, 1 / (memory + 1))


def _seed(recipe: Recipe, epoch: int) -> int:
    """Return a seed for an epoch, so that a run taken up again draws the same numbers."""
    return recipe.seed * 100_003 + epoch


def _save_run(run: _Run, best: Checkpoint, path: Path) -> None:
    """Write what a later run needs to go on."""
    tensors = {f"model.{name}": one for name, one in run.model.state_dict().items()}
    tensors |= {f"average.{name}": one for name, one in run.average.state_dict().items()}
    tensors |= {f"engine.{name}": one for name, one in run.engine.state().items()}
    about = {"recipe": best.recipe, "data": best.data, "notes": best.notes, "history": run.history}
    save_tensors(path, tensors, about)


def _resume_run(run: _Run, best: Checkpoint, path: Path, out: Path) -> None:
    """Read what :func:`_save_run` wrote.

    Raises:
        Rot180Error: there is none, it belongs to another recipe or other data, it is damaged, or
            the checkpoint at ``out`` is not of the same run.
    """
    if not is_file(path):
        raise Rot180Error(
            f"There is nothing to resume: {path} does not exist (a run that has ended removes it)."
        )
    tensors, about = load_tensors(path)
    notes = about.get("notes")
    about = {**about, "engine": notes.get("engine") if isinstance(notes, dict) else None}
    wanted = visible_json(
        {"recipe": best.recipe, "data": best.data, "engine": best.notes["engine"]}
    )
    for what, mine in wanted.items():
        if about.get(what) != mine:
            raise Rot180Error(
                f"{path} was written with another {what}: {shortened(about.get(what), 300)} "
                f"instead of {shortened(mine, 300)}."
            )
    try:
        history = checked_history(about.get("history"))
        if not 1 <= len(history) <= best.recipe["epochs"]:
            raise Rot180Error(f"It is of {len(history)} epochs of {best.recipe['epochs']}.")
        if [row.get("epoch") for row in history] != list(range(1, len(history) + 1)) or any(
            row.keys() != _KEPT for row in history
        ):
            raise Rot180Error("Its history is not that of a training.")
        parts = {what: _part(tensors, what) for what in ("model", "average", "engine")}
        if sum(map(len, parts.values())) < len(tensors):
            raise Rot180Error("It holds tensors that no training has.")
        state = run.model.state_dict()
        model, average = (check_state_dict(state, parts[one], path) for one in ("model", "average"))
        _own(load_checkpoint(out) if is_file(out) else None, history, best, out)
        run.engine.restore(parts["engine"])
    except Rot180Error as error:
        raise Rot180Error(f"The run in {path} cannot be taken up. {error}") from error
    run.model.load_state_dict(model)
    run.average.load_state_dict(average)
    run.history[:] = history
    best.history = run.history


def _own(
    found: Checkpoint | None, history: list[dict[str, float]], best: Checkpoint, out: Path
) -> Checkpoint:
    """Return a checkpoint, if it is the best epoch of the run that has this history.

    Histories tell runs apart: they hold the seconds of each epoch.

    Raises:
        Rot180Error: another run, or nobody, wrote it.
    """
    if found is None:
        raise Rot180Error(f"Its best epoch so far is gone: there is no {out}.")
    marks = [one["held_out"] for one in history]
    # A run may be killed after it wrote the checkpoint, and before it wrote down that it did.
    counts = {marks.index(max(marks)) + 1, len(history) + 1}
    if len(history) == best.recipe["epochs"]:
        counts.add(len(history))
    same = (
        found.classes == escape_names(best.classes)
        and (found.mean, found.std, found.size) == (best.mean, best.std, best.size)
        and (found.data, found.recipe) == (visible_json(best.data), visible_json(best.recipe))
        and found.notes.get("engine") == best.notes["engine"]
        and _shapes(found) == _shapes(best)
        and len(found.history) in counts
        and all(one == other for one, other in zip(found.history, history, strict=False))
    )
    if not same:
        raise Rot180Error(
            f"{out} is not its best epoch, but a checkpoint that something else wrote. Put the "
            "right one there, or train anew, to another file."
        )
    return found


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {name: tuple(x.shape) for name, x in checkpoint.model.state_dict().items()}


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): x for name, x in tensors.items() if name.startswith(start)}


def _finished(best: Checkpoint, held_out: ArrayDataset, out: Path, state: Path) -> Checkpoint:
    """Put the whole history into the file and return it as it is there."""
    written = load_checkpoint(out, best.device) if is_file(out) else None
    written = _own(written, best.history, best, out)
    written.history = best.history
    written.notes["held_out_with_flips"] = accuracy(written, held_out, flips=True)
    written.save(out)
    try:
        state.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        warnings.warn(
            f"{state} is not needed any more, but cannot be removed: {reason}.",
            Rot180Warning,
            stacklevel=3,
        )
    return written
