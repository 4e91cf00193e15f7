"""``rot180.scan``: one pass of a network over a data set, into an atlas."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rot180.atlas.accumulator import ScanState
from rot180.atlas.atlas import Atlas, open_atlas
from rot180.atlas.identity import ScanIdentity, check_same
from rot180.atlas.imaging import encode
from rot180.atlas.methods import KEY, measure_methods
from rot180.atlas.observation import BatchObservation
from rot180.atlas.options import (
    ScanModel,
    ScanOptions,
    check_output,
    resolve_dataset,
    resolve_model,
)
from rot180.atlas.parallel import ordered_map
from rot180.atlas.scan_plan import Range, ScanPlan, utc_now
from rot180.atlas.writer import AtlasWriter, FileBusy, roll_back
from rot180.datasets import BadImage, Dataset, resize_and_crop
from rot180.datasets.base import image_name
from rot180.datasets.loader import Batch, BatchLoader
from rot180.errors import Rot180Error, Rot180Warning


@dataclass(frozen=True)
class ScanProgress:
    """How far a scan has come.

    Attributes:
        done, total: numbers of images that were scanned, and that this part of the scan has.
        images_per_second: rate since the scan was started or resumed.
        waiting: share of that time spent waiting for images.
        left: seconds until the end, at this rate.
        doing: "scanning", where images are counted, or "testing methods", where layers are.
    """

    done: int
    total: int
    images_per_second: float
    waiting: float
    left: float
    doing: str = "scanning"


Progress = Callable[[ScanProgress], None]


def scan(
    model: Any,
    data: Any,
    path: Any,
    *,
    split: Any = "all",
    layers: Any = None,
    examples: Any = 9,
    sample: Any = 1000,
    images: Any = "lossless",
    batch: Any = None,
    shard: Any = (1, 1),
    on_bad_image: Any = "skip",
    checkpoint_seconds: Any = 30.0,
    methods: Any = True,
    mean: Any = None,
    std: Any = None,
    progress: Progress | None = None,
) -> Atlas:
    """Pass a network over a data set once, and write what excites its features into one file.

    A scan that was interrupted or killed goes on from its last checkpoint when it is started again
    with the same arguments, and ends with the same file. One that is over takes other names of
    classes, if these are given then. It costs little more than the forward
    passes; its memory does not depend on the number of images.

    Args:
        model: what :func:`rot180.load` returned, or a network of :func:`rot180.capture`; then
            ``mean`` and ``std`` say how its images are normalised.
        data: a data set, its name (see :func:`rot180.open_dataset`), or images (n, h, w, c) of
            bytes.
        path: of the atlas.
        split: of a data set that is named: "train", "test" or "all".
        layers: names of layers, or patterns like ``layer4.*``; None: all.
        examples: how many of the strongest images to keep of each feature.
        sample: of how many images, chosen by chance, to keep the peaks of all features, by which
            atlases are compared.
        images: how the pictures of examples are stored: "lossless", "compact" or "none".
        batch: images that go through the network together; by default 16 of 224x224, and more of
            smaller ones.
        shard: (i, n): scan the i-th of n parts, i from 1; :func:`rot180.merge` joins them.
        on_bad_image: "skip" (leave out and name in the atlas) or "fail".
        checkpoint_seconds: minimal number of seconds between two checkpoints; there are more where
            a checkpoint takes long.
        methods: whether to test at the end, at up to twelve layers and on images of the data, which
            method's pictures are the most faithful (see ``rot180.projection.faithfulness``).
            That takes a minute or two for a large network.
        mean, std: of each channel, for values from 0 to 1; with a bare network only.
        progress: called after each batch with a :class:`ScanProgress`, and after each tested layer.

    Returns:
        The atlas, opened.

    Raises:
        Rot180Error: an argument is wrong, the file holds another scan, or cannot be written; what
            was scanned until then is kept.
        KeyboardInterrupt: after what was scanned is saved.

    Example:
        >>> import numpy as np, rot180
        >>> images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
        >>> atlas = rot180.scan(rot180.load("two-layer"), images, "noise.atlas")
        >>> list(atlas), len(atlas["conv2"]), atlas.complete
        (['conv1', 'conv2', 'head'], 64, True)
        >>> best = atlas["conv2"][40].examples[0]
        >>> atlas.picture(best.image).pixels.shape
        (32, 32, 3)
        >>> atlas.close()
    """
    options = ScanOptions.checked(
        layers=layers,
        examples=examples,
        sample=sample,
        images=images,
        batch=batch,
        shard=shard,
        on_bad_image=on_bad_image,
        checkpoint_seconds=checkpoint_seconds,
        methods=methods,
    )
    scan_model = resolve_model(model, mean, std)
    dataset = resolve_dataset(data, split)
    return run_scan(scan_model, dataset, check_output(path), options, progress)


def run_scan(
    model: ScanModel,
    data: Dataset,
    path: Path,
    options: ScanOptions,
    progress: Progress | None = None,
) -> Atlas:
    """Begin a scan, or resume it, with arguments that were checked; see :func:`scan`."""
    return _Scan(ScanPlan(model, data, options), path, progress).run()


class _Scan:
    """One scan, or one part of it, from opening the file to its last picture."""

    def __init__(self, plan: ScanPlan, path: Path, progress: Progress | None) -> None:
        self.plan, self.path, self.progress = plan, path, progress
        self.data, self.options = plan.data, plan.options
        self.skipped: dict[int, tuple[str, str]] = {}

    def run(self) -> Atlas:
        """Begin or resume the scan, and run it to the end."""
        if self.path.exists() and self.path.stat().st_size:
            with open_atlas(self.path) as atlas:
                check_same(ScanIdentity.for_atlas(atlas), self.plan.identity, self.path)
                self._check_shard(atlas)
                has_new_names = self._has_new_names(atlas)
                if atlas.finished:
                    roll_back(self.path)
                    if has_new_names:
                        with AtlasWriter(self.path) as writer:
                            self._rename(writer)
                    return open_atlas(self.path)
                atlas.check_pages()
                state = atlas.state()
                saved = atlas.progress  # read in the same transaction as the state
            writer = AtlasWriter(self.path)
            if has_new_names:
                self._rename(writer)
        else:
            index = self.plan.make_index()
            saved, state = self.plan.ranges(), ScanState(index)
            writer = self.plan.create(self.path, index)
        with writer:
            self._scan_images(writer, state, saved)
            self._store_pictures(writer)
            self._measure_methods(writer)
            is_whole = _covers(writer.progress(), len(self.data))
            writer.finish({"finished": utc_now()}, keep_state=not is_whole)
        return open_atlas(self.path)

    def _has_new_names(self, atlas: Atlas) -> bool:
        """Return whether the data or the model give names that the atlas does not have."""
        names = self.plan.names()
        differ = any(atlas.metadata.get(key) != value for key, value in names.items())
        return differ or atlas.classes != self.data.classes

    def _rename(self, writer: AtlasWriter) -> None:
        """Store the present names; no image has to be scanned again for them."""
        writer.rename(self.plan.names(), self.data.classes)

    def _check_shard(self, atlas: Atlas) -> None:
        stored = [(first, stop) for first, stop, _ in atlas.progress]
        if stored != [(first, stop) for first, stop, _ in self.plan.ranges()]:
            shown = ", ".join(f"{first} to {stop - 1}" for first, stop in stored)
            raise Rot180Error(
                f"{self.path} holds another part of this scan (images {shown}): give each part a "
                "file of its own, and join them with 'rot180 merge'."
            )

    def _scan_images(self, writer: AtlasWriter, state: ScanState, saved: list[Range]) -> None:
        """Run the batches after ``saved``, which is how far the state has come."""
        ((first, stop, after),) = saved
        if after >= stop:
            return
        size = self.plan.model.size
        started = last_try = last_save = time.perf_counter()
        cost, done, put_off = 0.0, 0, False
        with (
            _interrupt_after_batch() as stopping,
            BatchLoader(
                self.data,
                [range(after, stop)],
                self.plan.batch,
                size,
                self.plan.channels,
                on_bad_image=self.options.on_bad_image,
            ) as loader,
        ):
            one_thread_each = size[0] * size[1] >= _SMALL
            device = self.plan.network.device
            observations = ordered_map(self._observe, loader, device, one_thread_each)
            for batch, observation in observations:
                self._update(state, batch, observation)
                after, done = batch.stop, done + batch.stop - after
                now = time.perf_counter()
                seconds = max(now - started, 1e-9)
                self._report(after - first, stop - first, done / seconds, loader.waited / seconds)
                if stopping.is_set():
                    break
                pause = max(self.options.checkpoint_seconds, _SHARE * cost)
                if after < stop and now - last_try > pause:
                    try:
                        saved = self._save(writer, state, saved, after, now - last_save, patience=0)
                        last_save = now
                    except FileBusy:  # the state is still in memory: a later checkpoint saves it
                        if not put_off:
                            warnings.warn(_PUT_OFF.format(self.path), Rot180Warning, stacklevel=5)
                        put_off = True
                    last_try = time.perf_counter()
                    cost = last_try - now
            observations.close()
            # After an error or a second interrupt the state may be half updated: it is not saved.
            self._save(writer, state, saved, after, time.perf_counter() - last_save)
        if stopping.is_set() and after < stop:
            raise KeyboardInterrupt

    def _report(self, done: int, total: int, rate: float, waiting: float) -> None:
        if self.progress is not None:
            left = (total - done) / rate
            self.progress(ScanProgress(done, total, rate, waiting, left))

    def _observe(self, batch: Batch) -> BatchObservation | None:
        """Run a batch; return None if all its images are broken."""
        if not len(batch.indices):
            return None
        inputs = self.plan.model.prepare(batch.images)
        return self.plan.recorder.observe(batch.indices, batch.labels, batch.images, inputs)

    def _update(self, state: ScanState, batch: Batch, observation: BatchObservation | None) -> None:
        for number, _, reason in batch.bad:
            self.skipped[number] = (image_name(self.data, number), reason)
        if observation is not None:
            state.update(observation)

    def _save(
        self,
        writer: AtlasWriter,
        state: ScanState,
        before: list[Range],
        after: int,
        seconds: float,
        patience: float | None = None,
    ) -> list[Range]:
        """Make a checkpoint, and return the progress that it stores."""
        ((first, stop, _),) = before
        progress = [(first, stop, after)]
        skipped = [(number, *name_and_reason) for number, name_and_reason in self.skipped.items()]
        writer.save(
            state,
            self.plan.fields,
            self.plan.image_info,
            progress,
            before,
            skipped,
            seconds,
            patience,
        )
        self.skipped.clear()
        return progress

    def _measure_methods(self, writer: AtlasWriter) -> None:
        """Measure the faithfulness of the methods, unless that was done before an interrupt."""
        with open_atlas(self.path) as atlas:
            done = KEY in atlas.metadata
        if done or not self.options.methods:
            return
        started = time.perf_counter()

        def on_layer(tested: int, layers: int) -> None:
            if self.progress is not None:
                rate = tested / max(time.perf_counter() - started, 1e-9)
                left = (layers - tested) / rate
                self.progress(ScanProgress(tested, layers, rate, 0.0, left, "testing methods"))

        model = self.plan.model
        facts = measure_methods(
            self.plan.network,
            list(self.plan.layers),
            self.data,
            model.size,
            model.prepare,
            on_layer,
        )
        writer.set_metadata(facts)

    def _store_pictures(self, writer: AtlasWriter) -> None:
        """Store the pictures of the examples."""
        kind, size, channels = self.options.images, self.plan.model.size, self.plan.channels
        if kind == "none":
            return

        def picture(number: int) -> tuple[int, bytes]:
            return number, encode(resize_and_crop(self.data.image(number), size, channels), kind)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            try:
                writer.add_pictures(lambda numbers: pool.map(picture, numbers))
            except BadImage as error:
                raise Rot180Error(
                    f"{error.description} was read during the scan and cannot be read now: "
                    f"{error.reason}. Put it back, and give the same command again."
                ) from error


_PUT_OFF = (
    "Another program is reading {} or writing to it: this checkpoint is put off, and the scan "
    "goes on."
)

_SHARE = 50
"""Checkpoints take at most one part in this many of the time."""

_SMALL = 2**14
"""Pixels of an image below which several batches share all threads."""


@contextmanager
def _interrupt_after_batch() -> Iterator[threading.Event]:
    """Let an interrupt (Ctrl-C) end the scan after its batch; a second one ends it at once."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def stop(number: int, frame: Any) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, before)


def _covers(progress: Sequence[Range], images: int) -> bool:
    """Return whether all images have been scanned."""
    return [(first, after) for first, _, after in progress] == [(0, images)]
