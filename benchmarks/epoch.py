"""Is an epoch of ``rot180 train`` as fast as a plain PyTorch loop? Both in turn, in one run.

The plain loop is what one would write by hand: channels-last, SGD with momentum, flips and shifts
of whole batches. Both train the same network on the same images; the figure is the ratio of the
two times, pair by pair.

    python benchmarks/epoch.py [--pairs 6] [--steps 30]
"""

import argparse
import statistics
import time
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch
from torch.nn import functional as F

from rot180.datasets import ArrayDataset, decode_all, open_dataset
from rot180.models.two_layer import TwoLayer
from rot180.training.loop import train
from rot180.training.recipe import Recipe


class PlainLoop:
    """A training loop without anything that rot180 adds."""

    def __init__(self, data: ArrayDataset) -> None:
        self.images = torch.from_numpy(data.images.copy())
        self.labels = torch.from_numpy(data.labels)
        values = self.images.float()
        self.mean, self.std = values.mean((0, 1, 2)), values.std((0, 1, 2))
        self.model = TwoLayer(len(data.classes)).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4
        )

    def epoch(self, batch: int) -> None:
        """Go once through the images."""
        order = torch.randperm(len(self.images))
        for first in range(0, len(order) - batch + 1, batch):
            chosen = order[first : first + batch]
            x = ((self.images[chosen].float() - self.mean) / self.std).permute(0, 3, 1, 2)
            if torch.rand(()) < 0.5:
                x = x.flip(3)
            dy, dx = torch.randint(-2, 3, (2,)).tolist()
            x = x.roll((dy, dx), (2, 3))
            loss = F.cross_entropy(self.model(x), self.labels[chosen], label_smoothing=0.1)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=30, help="steps of 128 images in an epoch")
    asked = parser.parse_args()

    photos = decode_all(open_dataset("photos", "train"), (32, 32), 3)
    count = min(128 * asked.steps, len(photos))
    data = ArrayDataset(photos.images[:count], photos.labels[:count], photos.classes)
    few = ArrayDataset(photos.images[-8:], photos.labels[-8:], photos.classes)
    recipe = replace(Recipe(), epochs=1)
    plain = PlainLoop(data)

    def ours() -> float:
        with TemporaryDirectory() as directory:
            trained = train(data, few, recipe, f"{directory}/x.safetensors")
        return count / trained.history[0]["images_per_second"]

    def theirs() -> float:
        started = time.perf_counter()
        plain.epoch(recipe.batch)
        return time.perf_counter() - started

    times: dict[str, list[float]] = {"rot180": [], "plain loop": []}
    for pair in range(asked.pairs + 1):
        both = [("rot180", ours), ("plain loop", theirs)]
        for name, epoch in both if pair % 2 else reversed(both):
            seconds = epoch()
            if pair:  # the first pair warms up
                times[name].append(seconds)
    ratios = [a / b for a, b in zip(times["rot180"], times["plain loop"], strict=True)]
    print(f"{count} images of 32x32x3, batch {recipe.batch}, {torch.get_num_threads()} threads")
    for name, values in times.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        rate = count / middle
        print(f"{name:>12}: {low:.2f} / {middle:.2f} / {high:.2f} s, {rate:.0f} images/s")
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"       ratio: {low:.3f} / {middle:.3f} / {high:.3f}, rot180 over plain loop")
    print("each: least / median / most of the pairs")


if __name__ == "__main__":
    main()
