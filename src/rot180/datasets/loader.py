"""Batches of a data set for one pass, decoded in threads while the batch before is processed.

Only a bounded number of batches is in memory, and nothing is written. (For data that are used many
times, ``decode_all`` makes one array of all images instead.)
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8

from rot180.datasets.arrays import ArrayDataset
from rot180.datasets.base import Dataset
from rot180.datasets.decode import BadImage, bad_image_policy
from rot180.datasets.resize import check_size, resize_and_crop
from rot180.errors import Rot180Error

# Batches that are decoded ahead take about this many bytes together, but are at least two.
AHEAD_BYTES = 64 * 1024**2
AHEAD_LEAST = 2
# A thread decodes images of about this many bytes at a time. More, and the threads would not
# finish a batch together; less, and handing them over would take a large share of the time.
CHUNK_BYTES = 256 * 1024
CHUNK_MOST = 64
# After this many images, more than half of them broken is an error of the whole data set.
SEEN_ENOUGH = 100

Pixels = UInt8[np.ndarray, "h w c"]


class SkippedImage(NamedTuple):
    """A broken image that was left out.

    Attributes:
        image_index: index in the data set.
        description: which image it is, for people.
        reason: why it cannot be decoded.
    """

    image_index: int
    description: str
    reason: str


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive images of a data set, without the broken ones.

    Attributes:
        indices: indices of the images in the data set, ascending.
        images: pixels, 0 to 255.
        labels: indices into the data set's classes, -1 for an image without a class.
        stop: index after the last image of the batch, counting the broken ones.
        bad: the broken images.
    """

    indices: Int64[np.ndarray, " n"]
    images: UInt8[np.ndarray, "n h w c"]
    labels: Int64[np.ndarray, " n"]
    stop: int
    bad: tuple[SkippedImage, ...]


@runtime_checkable
class SupportsRanges(Protocol):
    """A data set that reads consecutive images faster than one at a time."""

    def read_images(self, indices: range) -> Iterator[Pixels | BadImage]:
        """Yield the images in order, or the error for a broken one."""
        ...

    def read_labels(self, indices: range) -> Int64[np.ndarray, " n"]:
        """Return their classes, -1 for none."""
        ...


@runtime_checkable
class SupportsResizing(Protocol):
    """A data set that resizes images with less memory than by making them arrays first."""

    def read_resized(
        self, indices: range, size: tuple[int, int], channels: int
    ) -> Iterator[Pixels | BadImage]:
        """Yield consecutive images as ``resize_and_crop`` makes them, or the errors."""
        ...


class BatchLoader:
    """One pass over ranges of a data set in batches. It can be iterated once.

    The threads end with the iteration, also if a ``for`` loop is left early or by an exception.
    Use a ``with`` statement to be sure. Several threads read the data set at once.

    Attributes:
        waited: seconds that the consumer has waited for batches so far.
    """

    def __init__(
        self,
        dataset: Dataset,
        ranges: Sequence[range],
        batch_size: int,
        size: tuple[int, int],
        channels: int,
        *,
        on_bad_image: str = "skip",
        ahead: int | None = None,
    ) -> None:
        """Prepare the loader. Nothing is read before the iteration starts.

        Args:
            dataset: data set with the images.
            ranges: ranges of consecutive indices. Each is cut into batches of its own, so no batch
                has images of two ranges.
            batch_size: number of images in a batch. The last batch of a range may have fewer, and
                broken images are left out of theirs, which may leave it empty.
            size: (height, width) in pixels; images are resized and cropped (``resize_and_crop``).
            channels: 1 (grey) or 3 (RGB).
            on_bad_image: ``skip`` leaves broken images out and lists them in their batch; ``fail``
                raises ``BadImage`` in place of the batch with the first one.
            ahead: maximal number of batches to decode before they are requested, at least 1; by
                default as many as fit in 64 MiB, but at least two.

        Raises:
            Rot180Error: an argument is wrong.
            IndexError: a range is not one of consecutive images of the data set.
        """
        height, width = check_size(size, channels)
        if batch_size < 1:
            raise Rot180Error(f"A batch cannot hold {batch_size} images: give 1 or more.")
        if ahead is not None and ahead < 1:
            raise Rot180Error(f"{ahead} batches cannot be decoded ahead: give 1 or more.")
        for indices in ranges:
            if indices.step != 1 or indices.start < 0 or indices.stop > len(dataset):
                raise IndexError(f"{indices} of a data set with {len(dataset)} images")
        self.waited = 0.0
        self._dataset = dataset
        self._policy = bad_image_policy(on_bad_image)
        self._shape = (height, width, channels)
        image_bytes = height * width * channels
        self._ahead = ahead or max(AHEAD_LEAST, AHEAD_BYTES // (batch_size * image_bytes))
        self._array = (
            dataset
            if isinstance(dataset, ArrayDataset) and dataset.images.shape[1:] == self._shape
            else None
        )
        chunk_size = max(1, min(CHUNK_MOST, CHUNK_BYTES // image_bytes))
        self._chunk_size = batch_size if self._array is not None else chunk_size
        self._ranges = (part for indices in ranges for part in _split(indices, batch_size))
        self._pending: deque[_PendingBatch] = deque()
        self._seen = self._broken = 0
        self._first_broken: SkippedImage | None = None
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(
            max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="rot180-loading"
        )

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in the order of the ranges.

        Raises:
            BadImage: an image is broken and ``on_bad_image`` is ``fail``.
            Rot180Error: more than half of at least 100 images are broken, or the data set raises
                it.
            RuntimeError: the loader is closed, or has been iterated before.
        """
        try:
            while (pending := self._next()) is not None:
                yield self._check(pending.batch(), len(pending.indices))
        finally:
            self.close()

    def close(self) -> None:
        """End the threads, each after its current image. Closing twice is allowed."""
        self._closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()

    def __enter__(self) -> "BatchLoader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _next(self) -> "_PendingBatch | None":
        """Wait for the next batch, after starting those ahead of it; None if there is none."""
        if self._closed.is_set():
            raise RuntimeError("a BatchLoader is iterated once, and not after it is closed")
        requested = time.perf_counter()
        while len(self._pending) <= self._ahead:
            indices = next(self._ranges, None)
            if indices is None:
                break
            self._pending.append(self._start(indices))
        if not self._pending:
            return None
        pending = self._pending.popleft()
        try:
            pending.wait()
        finally:
            self.waited += time.perf_counter() - requested
        return pending

    def _start(self, indices: range) -> "_PendingBatch":
        images = np.empty((len(indices), *self._shape), dtype=np.uint8)
        labels = np.empty(len(indices), dtype=np.int64)
        chunks = []
        for chunk in _split(indices, self._chunk_size):
            rows = slice(chunk.start - indices.start, chunk.stop - indices.start)
            chunks.append(self._pool.submit(self._read, chunk, images[rows], labels[rows]))
        return _PendingBatch(indices, images, labels, chunks)

    def _read(
        self,
        indices: range,
        images: UInt8[np.ndarray, "n h w c"],
        labels: Int64[np.ndarray, " n"],
    ) -> list[SkippedImage]:
        """Fill in consecutive images and labels, in a thread; return the broken images."""
        if self._array is not None:
            images[:] = self._array.images[indices.start : indices.stop]
            known = self._array.labels
            labels[:] = -1 if known is None else known[indices.start : indices.stop]
            return []
        bad = []
        labels[:] = self._labels(indices)
        for row, result in enumerate(self._images(indices)):
            if self._closed.is_set():
                raise CancelledError
            if isinstance(result, BadImage):
                bad.append(SkippedImage(indices[row], result.description, result.reason))
            else:
                images[row] = result
        return bad

    def _images(self, indices: range) -> Iterator[Pixels | BadImage]:
        """Yield consecutive images of the requested size, or the error for a broken one."""
        height, width, channels = self._shape
        size = (height, width)
        if isinstance(self._dataset, SupportsResizing):
            yield from self._dataset.read_resized(indices, size, channels)
        elif isinstance(self._dataset, SupportsRanges):
            for result in self._dataset.read_images(indices):
                if isinstance(result, BadImage):
                    yield result
                else:
                    yield resize_and_crop(result, size, channels)
        else:
            for index in indices:
                try:
                    yield resize_and_crop(self._dataset.image(index), size, channels)
                except BadImage as error:
                    yield error

    def _labels(self, indices: range) -> Int64[np.ndarray, " n"]:
        if isinstance(self._dataset, SupportsRanges):
            return self._dataset.read_labels(indices)
        labels = (self._dataset.label(index) for index in indices)
        return np.array([-1 if label is None else label for label in labels], dtype=np.int64)

    def _check(self, batch: Batch, images: int) -> Batch:
        """Return the next batch, unless too many images are broken.

        Args:
            batch: the next batch.
            images: number of images in it, counting the broken ones.
        """
        if batch.bad and self._policy == "fail":
            raise BadImage(batch.bad[0].reason, batch.bad[0].description)
        self._seen += images
        self._broken += len(batch.bad)
        self._first_broken = self._first_broken or next(iter(batch.bad), None)
        if self._first_broken and self._seen >= SEEN_ENOUGH and 2 * self._broken > self._seen:
            raise Rot180Error(
                f"{self._broken} of {self._seen} images in {self._dataset.name} "
                f"({self._dataset.split}) cannot be read, the first of them "
                f"{self._first_broken.description}: {self._first_broken.reason}. Check that these "
                "are the data you mean."
            )
        return batch


@dataclass(frozen=True, eq=False)
class _PendingBatch:
    """A batch that threads are filling in."""

    indices: range
    images: UInt8[np.ndarray, "n h w c"]
    labels: Int64[np.ndarray, " n"]
    chunks: Sequence[Future[list[SkippedImage]]]

    def wait(self) -> None:
        """Wait for all chunks, and raise the exception of a chunk if there is one."""
        for chunk in self.chunks:
            chunk.result()

    def batch(self) -> Batch:
        """Return the batch, once all chunks are finished."""
        indices = np.arange(self.indices.start, self.indices.stop, dtype=np.int64)
        bad = tuple(skipped for chunk in self.chunks for skipped in chunk.result())
        if not bad:
            return Batch(indices, self.images, self.labels, self.indices.stop, ())
        good = np.ones(len(indices), dtype=bool)
        good[[skipped.image_index - self.indices.start for skipped in bad]] = False
        return Batch(indices[good], self.images[good], self.labels[good], self.indices.stop, bad)


def _split(indices: range, length: int) -> Iterator[range]:
    """Yield consecutive parts of ``length`` indices; the last may be shorter."""
    for start in range(indices.start, indices.stop, length):
        yield range(start, min(start + length, indices.stop))
