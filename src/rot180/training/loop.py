"""The training loop of the two-layer network, by either engine."""

import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from rot180.datasets import ArrayDataset
from rot180.device import resolve_device
from rot180.errors import Rot180Error, Rot180Warning
from rot180.files import check_writable, is_file
from rot180.models.checkpoint import Checkpoint, load_checkpoint
from rot180.models.model import normalise
from rot180.models.two_layer import TwoLayer
from rot180.training.augment import jitter_colour, shift_and_flip
from rot180.training.engines import make_engine
from rot180.training.patch_pca import principal_kernels
from rot180.training.recipe import Recipe
from rot180.training.run import TrainingRun, check_best, resume_run, save_run
from rot180.training.schedules import learning_rate_schedule, weight_average

_KERNEL_NORM = 0.3
"""Initial norm of the kernels of the first layer."""


@runtime_checkable
class TrainingCallback(Protocol):
    """Follows the progress of a training."""

    def on_step(self, epoch: int, step: int, steps: int, values: dict[str, float]) -> None:
        """Called after each step with "loss", "accuracy" (running means), "images_per_second"."""

    def on_epoch(self, values: dict[str, float]) -> None:
        """Called after each epoch with an entry of the history (see :class:`Checkpoint`)."""


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

    After each epoch the averaged weights are evaluated on the held-out images; if they are the
    best so far, ``out`` is written. A file beside it, with the suffix ``.resume``, stores the state
    of the run. With it, an interrupted run can be resumed and ends with the same weights as a run
    without interruption. The file is removed when the training is complete.

    Args:
        training: images and labels to train on.
        held_out: images of the same size and classes to evaluate on.
        recipe: settings of the training.
        out: path of the checkpoint, a safetensors file.
        hidden: number of neurons of the hidden layer; 0 for none.
        engine: "pytorch", or "equations" for rot180's own back-propagation in NumPy. Both take the
            same steps; with dropout they draw different random numbers.
        device: "cpu", "cuda", "mps", or "auto"; the engine "equations" needs the CPU.
        resume: whether to continue an interrupted run.
        callbacks: called after each step and each epoch.

    Returns:
        The checkpoint as it was written. Its notes hold "held_out_with_flips", the accuracy when
        the scores of each image and of its mirror image are added.

    Raises:
        Rot180Error: the two sets do not fit each other, the loss is no longer finite, or there is
            nothing to resume.
    """
    _check_data(training, held_out, recipe)
    check_writable(out)
    torch_device = resolve_device(device)
    mean, std = _channel_statistics(training.images)
    run = _new_run(training, recipe, hidden, engine, torch_device, mean, std)
    best = Checkpoint(
        run.averaged,
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
        resume_run(run, best, state, Path(out))
    try:
        with torch.random.fork_rng():
            for epoch in range(len(run.history), recipe.epochs):
                torch.manual_seed(_epoch_seed(recipe, epoch))
                started = time.perf_counter()
                values = _train_epoch(run, training, recipe, best, epoch, callbacks)
                values["held_out"] = accuracy(best, held_out)
                values["seconds"] = time.perf_counter() - started
                improved = all(values["held_out"] > row["held_out"] for row in run.history)
                run.history.append(values)
                best.history = run.history
                if improved:
                    best.save(out)
                save_run(run, best, state)
                for callback in callbacks:
                    callback.on_epoch(values)
    finally:
        run.engine.close()
    return _finish(best, held_out, Path(out), state)


@torch.no_grad()
def accuracy(checkpoint: Checkpoint, data: ArrayDataset, flips: bool = False) -> float:
    """Return the share of images whose class has the largest score.

    With ``flips`` the scores of an image and its mirror image are added first.
    """
    assert data.labels is not None
    correct = 0
    for images, labels in _batches(data, 500):
        x = checkpoint.prepare(images)
        scores = checkpoint.model(x)
        if flips:
            scores = scores + checkpoint.model(x.flip(-1))
        correct += int((scores.argmax(1).cpu().numpy() == labels).sum())
    return correct / len(data)


def _check_data(training: ArrayDataset, held_out: ArrayDataset, recipe: Recipe) -> None:
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


def _channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
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
) -> TrainingRun:
    size, channels = training.images.shape[1:3], training.images.shape[3]
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = TwoLayer(len(training.classes), channels, size, hidden)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    first = model.conv1.weight
    with torch.no_grad():
        first.copy_(_KERNEL_NORM * principal_kernels(training.images, mean, std, len(first)))
    steps_per_epoch = len(training) // recipe.batch
    steps = recipe.epochs * steps_per_epoch
    average = AveragedModel(model, multi_avg_fn=weight_average(recipe, steps)).eval()
    schedule = learning_rate_schedule(recipe, steps)
    return TrainingRun(
        model, average, make_engine(engine, model, recipe, schedule), steps_per_epoch
    )


def _train_epoch(
    run: TrainingRun,
    training: ArrayDataset,
    recipe: Recipe,
    best: Checkpoint,
    epoch: int,
    callbacks: tuple[TrainingCallback, ...],
) -> dict[str, float]:
    """Train on all images once; return the running means after the last step."""
    generator = torch.Generator().manual_seed(_epoch_seed(recipe, epoch))
    order = torch.randperm(len(training), generator=generator).numpy()
    steps = run.steps_per_epoch
    device = run.model.conv1.weight.device
    loss_sum, correct, started = 0.0, 0, time.perf_counter()
    for step, (images, labels) in enumerate(
        _batches(training, recipe.batch, order[: steps * recipe.batch])
    ):
        shifted = shift_and_flip(torch.from_numpy(images), recipe, generator).to(device)
        x = jitter_colour(normalise(shifted, best.mean, best.std), recipe, generator)
        try:
            loss, hits = run.engine.step(x, labels)
        except Rot180Error as error:
            raise Rot180Error(f"Epoch {epoch + 1}, step {step + 1}: {error}") from error
        run.average.update_parameters(run.model)
        loss_sum += loss
        correct += hits
        images_seen = (step + 1) * recipe.batch
        running = {
            "loss": loss_sum / (step + 1),
            "accuracy": correct / images_seen,
            "images_per_second": images_seen / (time.perf_counter() - started),
        }
        if not np.isfinite(loss_sum):
            raise Rot180Error(
                f"The loss is no longer finite in epoch {epoch + 1}, step {step + 1}. Lower the "
                f"learning rates (now {recipe.rate} and {recipe.kernel_rate})."
            )
        for callback in callbacks:
            callback.on_step(epoch, step, steps, running)
    return {"epoch": epoch + 1, **running}


def _batches(
    data: ArrayDataset, size: int, order: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images and labels in the given order."""
    assert data.labels is not None
    order = np.arange(len(data)) if order is None else order
    for first in range(0, len(order), size):
        indices = order[first : first + size]
        yield data.images[indices], data.labels[indices]


def _epoch_seed(recipe: Recipe, epoch: int) -> int:
    """Return the seed of an epoch, so that a resumed run draws the same random numbers."""
    return recipe.seed * 100_003 + epoch


def _finish(best: Checkpoint, held_out: ArrayDataset, out: Path, state: Path) -> Checkpoint:
    """Write the whole history to the checkpoint, remove the state, and return the checkpoint."""
    written = load_checkpoint(out, best.device) if is_file(out) else None
    written = check_best(written, best.history, best, out)
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
