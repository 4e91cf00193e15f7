"""An atlas as large as a real one: EfficientNet-Lite0's layers over 500 images, the numbers random.

It is made from the state of a scan that never was, by what writes every atlas, in some seconds.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rot180.atlas.accumulator import BINS, UNIT, ScanState, bin_edges
from rot180.atlas.feature_index import FeatureIndex, LayerSlice, scale_of
from rot180.atlas.identity import ScanIdentity
from rot180.atlas.imaging import encode
from rot180.atlas.tables import ReceptiveFields
from rot180.atlas.writer import create

IMAGES, CLASSES, SIZE = 500, 40, 64
FEATURES = 22_008

_STAGES = ((1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 2, 3, 3),
           (6, 112, 1, 5, 3), (6, 192, 2, 5, 4), (6, 320, 1, 3, 1))  # fmt: skip
"""Of EfficientNet-Lite0: how wide the blocks of a stage are inside and outside, the stride of the
first, the size of the kernels, and how many there are."""


class LargeLayer(NamedTuple):
    """A layer: its name and kind, channels, height (and width), field and stride in pixels."""

    name: str
    kind: str
    channels: int
    side: int
    sees: int
    every: int


def layers() -> list[LargeLayer]:
    """Return the layers of EfficientNet-Lite0 in their order."""
    made = [LargeLayer("_conv_stem", "convolution", 32, SIZE // 2, 3, 2)]
    number = 0

    def add(name: str, kind: str, channels: int, kernel: int = 1, stride: int = 1) -> None:
        last = made[-1]
        sees = last.sees + (kernel - 1) * last.every
        side = -(-last.side // stride)
        made.append(LargeLayer(name, kind, channels, side, sees, last.every * stride))

    for expansion, channels, first, kernel, count in _STAGES:
        for place in range(count):
            inside, block = expansion * made[-1].channels, f"_blocks.{number}."
            if expansion > 1:
                add(f"{block}_expand_conv", "convolution", inside)
            stride = first if place == 0 else 1
            add(f"{block}_depthwise_conv", "depthwise convolution", inside, kernel, stride)
            add(f"{block}_project_conv", "convolution", channels)
            number += 1
    add("_conv_head", "convolution", 1280)
    made.append(LargeLayer("_fc", "linear", 1000, 1, SIZE, 0))
    return made


def large_atlas(path: Path) -> Path:
    """Write the atlas."""
    rng, found = np.random.default_rng(0), layers()
    peaks = [np.maximum(rng.gamma(2, 1, (IMAGES, one.channels)) - 1, 0) for one in found]
    parts = [
        LayerSlice(one.name, one.channels, one.side, one.side, scale_of(float(values.max())))
        for one, values in zip(found, peaks, strict=True)
    ]
    index = FeatureIndex(tuple(parts), CLASSES, 3, 9, 200)
    assert index.features == FEATURES
    labels = np.arange(IMAGES) % CLASSES
    rows = [
        (one.name, n, one.kind, "ReLU6" * (one.kind != "linear"), one.channels, one.side, one.side,
         *(min(one.sees, SIZE),) * 2, float(one.every), float(one.every), 1)
        for n, one in enumerate(found)
    ]  # fmt: skip
    fields = {one.name: ReceptiveFields(*(_spans(one),) * 2) for one in found}
    names = tuple(f"kind {n}" for n in range(CLASSES))
    done, ranges = [(0, IMAGES, IMAGES)], [(0, IMAGES, 0)]
    with create(path, _about(found), rows, fields, names, index, ranges) as writer:
        state = _state(index, np.concatenate(peaks, axis=1), labels, rng)
        writer.save(state, fields, lambda n: (f"{n:03}.png", int(labels[n])), done, None, ())
        writer.add_pictures(lambda numbers: _pictures(list(numbers), rng))
        writer.finish({"finished": "2024-01-01T00:00:00+00:00"}, keep_state=False)
    return path


def _spans(layer: LargeLayer) -> np.ndarray:
    """Return what each row of a layer's maps sees, of kernels that lie around their position."""
    starts = np.arange(layer.side) * layer.every - (layer.sees - layer.every) // 2
    return np.clip(np.stack([starts, starts + layer.sees], axis=1), 0, SIZE)


def _about(found: list[LargeLayer]) -> dict[str, object]:
    kinds = ((0.5,) * 3, (0.5,) * 3, (3.0, float(SIZE), float(SIZE)))
    names = tuple(one.name for one in found)
    identity = ScanIdentity("none", "none", kinds, names, 9, 200, "lossless", 1)
    return {
        "identity": identity.to_json(),
        "model": "a network as large as EfficientNet-Lite0",
        "answers": [],
        "data": {"name": "blots", "split": "all"},
        "images": IMAGES,
        "network": {
            "input": [3, SIZE, SIZE],
            "error": 0.0,
            "connections": [[n - 1, n] for n in range(len(found))],
        },
        "versions": {},
        "started": "2024-01-01T00:00:00+00:00",
        "seconds": 0.0,
    }


def _state(
    index: FeatureIndex, peaks: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> ScanState:
    """Return the state after images with these peaks (images, features)."""
    state, scales = ScanState(index), index.scales
    peaks = peaks.astype(np.float32)
    order = np.argpartition(-peaks, index.examples, axis=0)[: index.examples]
    values = np.take_along_axis(peaks, order, axis=0)
    rank = np.argsort(-values, axis=0, kind="stable")
    state.images = IMAGES
    state.class_images[:-1] = np.bincount(labels, minlength=CLASSES)
    state.best[:] = np.take_along_axis(values, rank, axis=0).T
    state.best_strength[:] = state.best
    state.best_image[:] = np.take_along_axis(order, rank, axis=0).T
    positions = index.per_feature([one.height * one.width for one in index.layers])[:, None]
    state.best_position[:] = (rng.random(state.best.shape) * positions).astype(np.int64)
    units = scales * UNIT
    for label in range(CLASSES):
        state.peaks[label] = np.rint(peaks[labels == label].sum(0) / units)
    state.mean[:] = np.rint(peaks.sum(0) / 4 / units)
    state.fired_images[:] = (peaks > 0).sum(0)
    state.fired[:] = state.fired_images * positions[:, 0] // 2
    bins = np.searchsorted(bin_edges().astype(np.float64), peaks / scales, side="right") - 1
    bins = np.where(peaks == 0, BINS // 2, bins)
    places = np.arange(index.features) * BINS + bins
    state.histogram[:] = np.bincount(places.ravel(), minlength=index.features * BINS).reshape(
        index.features, BINS
    )
    state.sample_images = np.arange(index.sample)
    state.sample_peaks = (peaks[: index.sample] / scales).astype(np.float16)
    for number, moments in enumerate(state.moments):
        some = peaks[:100, index.slice_of(number), None].transpose(0, 2, 1)
        moments.add(some, rng.random((100, 1, 3)))
        moments.flush()
    return state


def _pictures(numbers: list[int], rng: np.random.Generator) -> Iterator[tuple[int, bytes]]:
    for number in numbers:
        coarse = rng.random((8, 8, 3))
        soft = np.kron(coarse, np.ones((SIZE // 8, SIZE // 8, 1)))
        pixels = (200 * soft + 55 * rng.random(soft.shape)).astype(np.uint8)
        yield number, encode(pixels, "lossless")
