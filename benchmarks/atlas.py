"""How much a scan costs beside the network itself.

    python benchmarks/atlas.py [vgg16] [resnet50] [efficientnet_lite0] [cifar10] [zennit] [state]

- Networks at 224x224, batches of 16, all convolutional layers, without decoding: a scan's loop (the
  network, peaks, sums, samples, the running state) over (a) the bare forward pass, channels last,
  and over (b) the eager model as a user calls it, contiguous. The three take turns.
- CIFAR-10's 60,000 images through the two-layer network, decoding and writing included, over the
  bare forward pass over the decoded array. Needs the images: ``--cifar10 DIR``.
- ``FeatureVisualization.run`` of zennit-crp (``pip install zennit-crp``), with EpsilonPlusFlat as
  its documentation does, over a scan; the same network, layers and images.
- The state's own update and merge, without a network, from 1,000 to 1,000,000 images: seconds an
  image, and the process' memory.
"""

import argparse
import contextlib
import io
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import classifiers
import numpy as np
import torch
from measuring import figure, machine, met, spread, timed
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

import rot180
from rot180.atlas.accumulator import ScanState
from rot180.atlas.feature_index import FeatureIndex, LayerSlice
from rot180.atlas.map_summary import MapSummary
from rot180.atlas.observation import BatchObservation
from rot180.atlas.parallel import ordered_map
from rot180.atlas.recorder import ActivationRecorder
from rot180.atlas.tables import ReceptiveFields
from rot180.datasets import ArrayDataset, decode_all, open_dataset
from rot180.graph.receptive_field import receptive_fields
from rot180.models.model import normalise

BATCH = 16
TURN = 6
"""A scan works on several batches at once: so many are timed together."""
PARTS = ("vgg16", "resnet50", "efficientnet_lite0", "cifar10", "zennit", "state")


def lite0() -> nn.Module:
    from tests.zoo import efficientnet_lite0

    return efficientnet_lite0()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg16": classifiers.vgg16,
    "resnet50": lambda: classifiers.resnet50(classifiers.astronaut(224)),
    "efficientnet_lite0": lite0,
}


class ScannedNetwork:
    """A scan's loop over pictures, without files."""

    def __init__(self, model: nn.Module, pictures: np.ndarray) -> None:
        self.pictures, self.number = pictures, 0
        first = self.inputs(0)
        network = rot180.capture(model, first[:1])
        layers = [one for one in network.layers.values() if "convolution" in one.kind]
        fields = {k: ReceptiveFields(*v) for k, v in receptive_fields(network, layers).items()}
        self.recorder = ActivationRecorder(network, layers, fields, BATCH)
        self.state = ScanState(FeatureIndex(self.recorder.measure_scales(first), classes=10))

    def inputs(self, at: int) -> Tensor:
        """Prepare a batch, as a scan does."""
        values = torch.from_numpy(self.pictures[at : at + BATCH])
        return normalise(values, *classifiers.IMAGENET).permute(0, 3, 1, 2)

    def _observe(self, number: int) -> BatchObservation:
        numbers, at = np.arange(number, number + BATCH), number % len(self.pictures)
        pictures = self.pictures[at : at + BATCH]
        return self.recorder.observe(numbers, numbers % 10, pictures, self.inputs(at))

    def batches(self, count: int) -> None:
        """Scan the next batches of the pictures, which come round and round."""
        first = self.number
        self.number += count * BATCH
        numbers = range(first, self.number, BATCH)
        for _, observed in ordered_map(self._observe, numbers, torch.device("cpu")):
            self.state.update(observed)


def pictures_of(count: int) -> np.ndarray:
    """Return squares of the photographs as 8-bit pictures (n, 224, 224, 3)."""
    mean, deviation = (torch.tensor(one).reshape(3, 1, 1) for one in classifiers.IMAGENET)
    values = classifiers.crops(np.random.default_rng(0), count, 224) * deviation + mean
    shown: np.ndarray = (values * 255).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(shown)


def networks(chosen: Sequence[str], batches: int) -> None:
    pictures = pictures_of(4 * BATCH)
    print(f"{batches} batches of {BATCH} images, 224x224, all convolutional layers; ms a batch")
    print("network               bare (channels last)  eager (contiguous)  scan  over bare, eager")
    for name in chosen:
        eager = NETWORKS[name]().eval()
        bare = NETWORKS[name]().eval().to(memory_format=torch.channels_last)
        scanned = ScannedNetwork(NETWORKS[name]().eval(), pictures)
        last = [scanned.inputs(at) for at in range(0, len(pictures), BATCH)]
        plain = [one.contiguous() for one in last]
        times: dict[str, list[float]] = {"bare": [], "eager": [], "scan": []}
        with torch.no_grad():
            eager(plain[0])
            bare(last[0])
            scanned.batches(2)
            for turn in range(batches):
                for key, model, inputs in (("bare", bare, last), ("eager", eager, plain)):
                    times[key].append(timed(partial(model, inputs[turn % len(inputs)]))[1])
                if turn % TURN == TURN - 1:
                    times["scan"].append(timed(partial(scanned.batches, TURN))[1] / TURN)
        total = {k: sum(v) / len(v) * 1e3 for k, v in times.items()}
        over_bare, over_eager = total["scan"] / total["bare"], total["scan"] / total["eager"]
        print(
            f"{name:<22}{figure(total['bare']):>20}{figure(total['eager']):>20}"
            f"{figure(total['scan']):>6}{over_bare:>8.2f} {met(over_bare <= 1.05):<4}"
            f"{over_eager:>5.2f} {met(over_eager <= 0.8)}",
            flush=True,
        )


def cifar10(where: str, turns: int) -> None:
    data = open_dataset(where, "all")
    named = rot180.load("two-layer")
    array = decode_all(data, named.size, named.channels)
    assert isinstance(array, ArrayDataset)
    inputs = named.prepare(array.images).contiguous(memory_format=torch.channels_last)
    ratios, bares, scans = [], [], []
    with tempfile.TemporaryDirectory() as directory, torch.no_grad():
        rot180.scan(named, array.images[:512], Path(directory) / "first.atlas")
        for turn in range(turns):
            sizes = {}
            for size in (16, 64, 256):

                def bare(size: int = size) -> None:
                    for start in range(0, len(inputs), size):
                        named.model(inputs[start : start + size])

                sizes[size] = timed(bare)[1]
            path = Path(directory) / f"{turn}.atlas"
            scan = timed(lambda path=path: rot180.scan(named, data, path))[1]
            best = min(sizes.values())
            ratios.append(scan / best)
            bares.append(best)
            scans.append(scan)
    print(
        f"CIFAR-10, {len(data)} images, two-layer network: bare forward pass over the decoded "
        f"array {spread(bares)} s (at its fastest of batches of 16, 64, 256), scan with decoding, "
        f"writing and pictures {spread(scans)} s"
    )
    middle = statistics.median(ratios)
    print(f"  scan over bare: {spread(ratios)}; asked 1.2: {met(middle <= 1.2)}", flush=True)


class _Prepared(torch.utils.data.Dataset[Any]):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.images[number], number % 10


def zennit(images_in_all: int) -> None:
    try:
        from crp.attribution import CondAttribution
        from crp.concepts import ChannelConcept
        from crp.helper import get_layer_names
        from crp.visualization import FeatureVisualization
        from zennit.composites import EpsilonPlusFlat
        from zennit.torchvision import VGGCanonizer
    except ImportError:
        print("zennit-crp is not installed (pip install zennit-crp): left out.")
        return
    images = classifiers.crops(np.random.default_rng(0), images_in_all, 224)
    model = classifiers.vgg16().requires_grad_(True)
    names = get_layer_names(model, [nn.Conv2d])
    with tempfile.TemporaryDirectory() as directory:
        visualization = FeatureVisualization(
            CondAttribution(model),
            _Prepared(images),
            {name: ChannelConcept() for name in names},
            path=directory,
        )
        quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
        with quiet[0], quiet[1]:
            composite = EpsilonPlusFlat([VGGCanonizer()])
            _, theirs = timed(lambda: visualization.run(composite, 0, len(images), BATCH, 100))
    scanned = ScannedNetwork(classifiers.vgg16(), pictures_of(len(images)))
    scanned.batches(2)
    _, mine = timed(lambda: scanned.batches(len(images) // BATCH))
    with torch.no_grad():
        bare = classifiers.vgg16()

        def forward() -> None:
            for start in range(0, len(images), BATCH):
                bare(images[start : start + BATCH])

        _, plain = timed(forward)
    print(
        f"zennit-crp, VGG-16, {len(names)} convolutions, {len(images)} images: "
        f"{theirs / len(images) * 1e3:.0f} ms an image, {theirs / plain:.1f} times the eager "
        f"forward pass; a scan {mine / len(images) * 1e3:.0f} ms, "
        f"{theirs / mine:.1f} times faster; asked 8: {met(theirs / mine >= 8)}",
        flush=True,
    )


def state() -> None:
    """Time batches of made-up summaries of 960 features in four layers."""
    rng = np.random.default_rng(0)
    channels = [64, 128, 256, 512]
    index = FeatureIndex(
        tuple(LayerSlice(f"{n}", c, 14, 14, 4.0) for n, c in enumerate(channels)), 1000
    )
    features, batches = index.features, 16

    def observed(numbers: np.ndarray, made: Sequence[Any]) -> BatchObservation:
        peak, samples, colours = made[int(numbers[0]) // BATCH % batches]
        fired = np.full(peak.shape, 9, np.int32)
        summary = MapSummary(peak, fired, peak * 0.25, fired, peak)
        return BatchObservation(numbers, numbers % 1000, summary, samples, colours)

    made = []
    for _ in range(batches):
        grids = [one.sample_grid[0] * one.sample_grid[1] for one in index.layers]
        made.append(
            (
                rng.exponential(size=(BATCH, features)).astype(np.float32),
                tuple(
                    rng.exponential(size=(BATCH, s, c)).astype(np.float32)
                    for s, c in zip(grids, channels, strict=True)
                ),
                tuple(rng.random((BATCH, s, 3)) for s in grids),
            )
        )
    print("The state of 960 features and 1,000 classes, without a network")
    print("images     update, us an image   merge of two, ms   memory of the process, MB")
    whole = ScanState(index)
    whole.update(observed(np.arange(BATCH), made))  # loads what was compiled
    done = whole.images
    for count in (1_000, 10_000, 100_000, 1_000_000):
        whole_before = done

        def go(stop: int = count) -> None:
            nonlocal done
            while done < stop:
                whole.update(observed(np.arange(done, done + BATCH), made))
                done += BATCH

        seconds = timed(go)[1]
        other = ScanState(index)
        other.update(observed(np.arange(done, done + BATCH), made))
        merging = min(timed(lambda other=other: whole.merge(other))[1] for _ in range(3))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        each = seconds / (done - whole_before) * 1e6
        print(f"{count:>9,}{each:>18.0f}{merging * 1e3:>20.0f}{memory:>24.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=(*PARTS, []), help="what to measure; else all")
    parser.add_argument("--batches", type=int, default=24, help="of each network")
    parser.add_argument("--cifar10", default="", help="where CIFAR-10 is; else left out")
    parser.add_argument("--turns", type=int, default=3, help="of the scan of CIFAR-10")
    parser.add_argument("--images", type=int, default=64, help="for zennit-crp")
    given = parser.parse_args()
    chosen = given.parts or PARTS
    print(machine(torch.get_num_threads()))
    if chosen_networks := [one for one in NETWORKS if one in chosen]:
        networks(chosen_networks, given.batches)
    if "cifar10" in chosen:
        if given.cifar10:
            cifar10(given.cifar10, given.turns)
        else:
            print("CIFAR-10 is left out: say where it is with --cifar10.")
    if "zennit" in chosen:
        zennit(given.images)
    if "state" in chosen:
        state()


if __name__ == "__main__":
    main()
