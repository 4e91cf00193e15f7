"""``rot180.scan``: one pass of a network over a data set, into an atlas."""

import os
import platform
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rot180 import __version__
from rot180.atlas import identity, methods, options
from rot180.atlas.accumulator import ScanState
from rot180.atlas.atlas import Atlas, open_atlas
from rot180.atlas.feature_index import FeatureIndex
from rot180.atlas.identity import ScanIdentity
from rot180.atlas.imaging import encode
from rot180.atlas.model import portable_model_name
from rot180.atlas.observation import BatchObservation
from rot180.atlas.outputs import named_outputs
from rot180.atlas.parallel import ordered_map
from rot180.atlas.recorder import ActivationRecorder
from rot180.atlas.tables import ReceptiveFields
from rot180.atlas.writer import AtlasWriter, FileBusy, create, create_atomically, roll_back
from rot180.datasets import BadImage, Dataset, resize_and_crop
from rot180.datasets.base import image_name
from rot180.datasets.loader import Batch, BatchLoader
from rot180.errors import Rot180Error, Rot180Warning
from rot180.graph.layer_graph import connections
from rot180.graph.receptive_field import receptive_fields

Range = tuple[int, int, int]
"""First image, the one after the last, and the next one to be scanned."""


@dataclass(frozen=True)
class ScanProgress:
    """How a scan goes on.

    Attributes:
        done, total: images scanned, and to be scanned, here.
        images_per_second: since the scan was started or resumed.
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
        checkpoint_seconds: seconds between checkpoints, at least; more where one takes long.
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
    settings = options.settings(
        layers, examples, sample, images, batch, shard, on_bad_image, checkpoint_seconds, methods
    )
    subject = options.resolve_model(model, mean, std)
    found = options.resolve_dataset(data, split)
    return _Scan(subject, found, options.check_output(path), settings).run(progress)


class _Scan:
    """One scan, or one part of it, from opening the file to its last picture."""

    def __init__(
        self, subject: options.FigureContext, data: Dataset, path: Path, settings: options.Settings
    ) -> None:
        self.subject, self.data, self.path, self.settings = subject, data, path, settings
        self.network = subject.network
        self.batch = settings.batch or options.default_batch_size(self.subject.size)
        self.layers = options.select_layers(self.network, settings.layers)
        self.fields = {
            name: ReceptiveFields(*spans)
            for name, spans in receptive_fields(self.network, self.layers).items()
        }
        self.recorder = ActivationRecorder(self.network, self.layers, self.fields, self.batch)
        self.skipped: dict[int, tuple[str, str]] = {}

    def run(self, progress: Progress | None) -> Atlas:
        """Begin or go on, to the end."""
        who = self._identity()
        if self.path.exists() and self.path.stat().st_size:
            with open_atlas(self.path) as atlas:
                identity.check_same(ScanIdentity.for_atlas(atlas), who, self.path)
                self._check_shard(atlas)
                named_anew = self._named_anew(atlas)
                if atlas.finished:
                    roll_back(self.path)
                    if named_anew:
                        with AtlasWriter(self.path) as writer:
                            self._rename(writer)
                    return open_atlas(self.path)
                atlas.check_pages()
                state = atlas.state()
                saved = atlas.progress  # of the same moment
            writer = AtlasWriter(self.path)
            if named_anew:
                self._rename(writer)
        else:
            index = self._make_index()
            saved, state = self._ranges(), ScanState(index)
            writer = self._created(who, index)
        with writer:
            self._scanned(writer, state, saved, progress)
            self._pictures(writer)
            self._methods(writer, progress)
            whole = _covers(writer.progress(), len(self.data))
            writer.finish({"finished": utc_now()}, keep_state=not whole)
        return open_atlas(self.path)

    def _names(self) -> dict[str, Any]:
        """Return what an atlas says of names: of the network's outputs, and of class folders."""
        found: dict[str, Any] = {}
        outputs = named_outputs(self.network, self.subject.classes, self.data)
        if outputs is not None and outputs.layer in self.fields:
            found["outputs"] = outputs.to_json()
        folders = getattr(self.data, "folders", ())
        if folders and folders != self.data.classes:
            found["folders"] = list(folders)
        return found

    def _named_anew(self, atlas: Atlas) -> bool:
        """Say whether names are given that the atlas does not have."""
        other = any(atlas.metadata.get(key) != value for key, value in self._names().items())
        return other or atlas.classes != self.data.classes

    def _rename(self, writer: AtlasWriter) -> None:
        """Take the names that are given now: nothing has to be scanned again for them."""
        writer.rename(self._names(), self.data.classes)

    def _identity(self) -> ScanIdentity:
        return identity.for_scan(
            self.network,
            self.data,
            self.subject.mean,
            self.subject.std,
            [one.name for one in self.layers],
            self.settings.examples,
            self.settings.sample,
            self.settings.images,
            self.batch,
        )

    def _check_shard(self, atlas: Atlas) -> None:
        there = [(first, stop) for first, stop, _ in atlas.progress]
        if there != [(first, stop) for first, stop, _ in self._ranges()]:
            shown = ", ".join(f"{first} to {stop - 1}" for first, stop in there)
            raise Rot180Error(
                f"{self.path} holds another part of this scan (images {shown}): give each part a "
                "file of its own, and join them with 'rot180 merge'."
            )

    def _ranges(self) -> list[Range]:
        """Return the images of the part that is scanned here; it begins with a whole batch."""
        batch, total = self.batch, len(self.data)
        batches, (number, parts) = -(-total // batch), self.settings.shard
        first, last = batches * (number - 1) // parts, batches * number // parts
        if first == last:
            raise Rot180Error(
                f"Part {number} of {parts} is empty: {total} images are {batches} batches of "
                f"{batch}. Use fewer parts, or a smaller batch."
            )
        return [(first * batch, min(last * batch, total), first * batch)]

    def _make_index(self) -> FeatureIndex:
        """Find the scale of each layer, on the data's first images: the same in every part."""
        size, batch = self.subject.size, self.batch
        channels = self.network.input_shape[0]
        with BatchLoader(
            self.data, [range(len(self.data))], batch, size, channels, on_bad_image="skip", ahead=1
        ) as loading:
            first = next((one for one in loading if len(one.indices)), None)
        if first is None:
            raise Rot180Error(f"No image of {self.data.name} ({self.data.split}) can be read.")
        parts = self.recorder.measure_scales(self.subject.prepared(first.images))
        classes = len(self.data.classes)
        return FeatureIndex(parts, classes, channels, self.settings.examples, self.settings.sample)

    def _created(self, who: ScanIdentity, index: FeatureIndex) -> AtlasWriter:
        about = {
            "identity": who.to_json(),
            "model": portable_model_name(self.subject.name, self.path.parent),
            "weights": self.subject.weights,
            **self._names(),
            "data": {"name": self.data.name, "split": self.data.split},
            "images": len(self.data),
            "network": {
                "input": list(self.network.input_shape),
                "error": self.network.error,
                "connections": connections(self.network, self.layers),
            },
            "versions": {
                "rot180": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "started": utc_now(),
            "seconds": 0.0,
        }
        layers = [
            (
                one.name,
                number,
                one.kind,
                one.rectifier,
                one.channels,
                one.height,
                one.width,
                *one.receptive_field,
                *map(float, one.stride),
                part.sample_grid[0] * part.sample_grid[1],
            )
            for number, (one, part) in enumerate(zip(self.layers, index.layers, strict=True))
        ]
        ranges = self._ranges()
        classes = self.data.classes
        with (
            create_atomically(self.path) as new,
            create(new, about, layers, self.fields, classes, index, ranges) as writer,
        ):
            writer.save(ScanState(index), self.fields, self._named, ranges, None, ())
        return AtlasWriter(self.path)

    def _named(self, number: int) -> tuple[str, int | None]:
        return image_name(self.data, number), self.data.label(number)

    def _scanned(
        self, writer: AtlasWriter, state: ScanState, saved: list[Range], progress: Progress | None
    ) -> None:
        """Run the batches after ``saved``, which is how far the state has come."""
        ((first, stop, after),) = saved
        if after >= stop:
            return
        size, channels = self.subject.size, self.network.input_shape[0]
        started = last = kept = time.perf_counter()
        cost, done, put_off = 0.0, 0, False
        with (
            _stopped_softly() as stopping,
            BatchLoader(
                self.data,
                [range(after, stop)],
                self.batch,
                size,
                channels,
                on_bad_image=self.settings.on_bad_image,
            ) as loading,
        ):
            apart = size[0] * size[1] >= _SMALL
            taken = ordered_map(self._observe, loading, self.network.device, apart)
            for batch, observed in taken:
                self._take(batch, observed, state)
                after, done = batch.stop, done + batch.stop - after
                now = time.perf_counter()
                if progress is not None:
                    rate = done / max(now - started, 1e-9)
                    waiting = loading.waited / max(now - started, 1e-9)
                    left = (stop - after) / rate
                    progress(ScanProgress(after - first, stop - first, rate, waiting, left))
                if stopping.is_set():
                    break
                if after < stop and now - last > max(
                    self.settings.checkpoint_seconds, _SHARE * cost
                ):
                    try:
                        saved = self._saved(writer, state, saved, after, now - kept, patience=0)
                        kept = now
                    except FileBusy:  # all is in memory still
                        if not put_off:
                            warnings.warn(_PUT_OFF.format(self.path), Rot180Warning, stacklevel=4)
                        put_off = True
                    last = time.perf_counter()
                    cost = last - now
            taken.close()
            # After an error or a second interrupt the state may be half updated: it is not saved.
            self._saved(writer, state, saved, after, time.perf_counter() - kept)
        if stopping.is_set() and after < stop:
            raise KeyboardInterrupt

    def _observe(self, batch: Batch) -> BatchObservation | None:
        """Run a batch; None if all its images are broken."""
        if not len(batch.indices):
            return None
        inputs = self.subject.prepared(batch.images)
        return self.recorder.observe(batch.indices, batch.labels, batch.images, inputs)

    def _take(self, batch: Batch, observed: BatchObservation | None, state: ScanState) -> None:
        for number, _, reason in batch.bad:
            self.skipped[number] = (image_name(self.data, number), reason)
        if observed is not None:
            state.update(observed)

    def _saved(
        self,
        writer: AtlasWriter,
        state: ScanState,
        before: list[Range],
        after: int,
        seconds: float,
        patience: float | None = None,
    ) -> list[Range]:
        """Make a checkpoint, and return the progress that it says."""
        ((first, stop, _),) = before
        progress = [(first, stop, after)]
        skipped = [(number, *about) for number, about in self.skipped.items()]
        writer.save(state, self.fields, self._named, progress, before, skipped, seconds, patience)
        self.skipped.clear()
        return progress

    def _methods(self, writer: AtlasWriter, progress: Progress | None) -> None:
        """Test the methods, unless that was done before an interrupt."""
        with open_atlas(self.path) as atlas:
            done = methods.KEY in atlas.metadata
        if done or not self.settings.methods:
            return
        started = time.perf_counter()

        def went(tested: int, of: int) -> None:
            seconds = time.perf_counter() - started
            if progress is not None:
                rate = tested / max(seconds, 1e-9)
                progress(
                    ScanProgress(tested, of, rate, 0.0, (of - tested) / rate, "testing methods")
                )

        size, layers = self.subject.size, list(self.layers)
        facts = methods.measure_methods(
            self.network, layers, self.data, size, self.subject.prepared, went
        )
        writer.set_metadata(facts)

    def _pictures(self, writer: AtlasWriter) -> None:
        """Store the pictures of the examples."""
        kind = self.settings.images
        if kind == "none":
            return
        size, channels = self.subject.size, self.network.input_shape[0]

        def picture(number: int) -> tuple[int, bytes]:
            return number, encode(resize_and_crop(self.data.image(number), size, channels), kind)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            try:
                writer.add_pictures(lambda some: pool.map(picture, some))
            except BadImage as error:
                raise Rot180Error(
                    f"{error.description} was read during the scan and cannot be read now: "
                    f"{error.reason}. Put it back, and give the same command again."
                ) from error


_PUT_OFF = (
    "Another program holds {}, as one does that reads it: this checkpoint is put off, and the scan "
    "goes on."
)

_SHARE = 50
"""Checkpoints take no more than one part in so many of the time."""

_SMALL = 2**14
"""Pixels below which batches are worked on in shared threads."""


@contextmanager
def _stopped_softly() -> Iterator[threading.Event]:
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
    """Say whether all images have been scanned."""
    return [(first, after) for first, _, after in progress] == [(0, images)]


def utc_now() -> str:
    """Return the time, in words that sort."""
    return datetime.now(UTC).isoformat(timespec="seconds")
