"""Data that can be learned in seconds, a short recipe, and a callback that records."""

import numpy as np

from rot180.datasets import ArrayDataset
from rot180.training.recipe import Recipe


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
