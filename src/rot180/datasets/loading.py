"""The images of a data set in batches, decoded in threads while the batch before is computed on.

For one pass over data of any size: only a bounded number of batches is in memory, and nothing is
written. (``decoded`` makes one array of all images instead, for data that are gone through often.)
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
from rot180.datasets.dataset import Dataset
from rot180.datasets.decode import BadImage, bad_image_policy, checked_size, fitted
from rot180.errors import Rot180Error

# Batches that wait for the consumer take about this many bytes together, but are two at least.
AHEAD_BYTES = 64 * 1024**2
AHEAD_LEAST = 2
# A thread takes images of about this many bytes (when decoded) at a time: so many that handing
# them over costs little beside decoding them, so few that the threads finish a batch together.
PART_BYTES = 256 * 1024
PART_MOST = 64
# With this many images seen, more than half of them broken is not about single ones.
SEEN_ENOUGH = 100

Pixels = UInt8[np.ndarray, "h w c"]


class Skipped(NamedTuple):
    """A broken image that was left out: its number, its name for a person, what is wrong."""

    number: int
    where: str
    reason: str


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive images of a data set, without the broken ones.

    Attributes:
        numbers: which images of the data set these are, ascending.
        images: 0 to 255.
        labels: indices into the data set's classes, -1 for an image without a class.
        stop: the number after the last image that the batch stands for, broken ones included.
        bad: the broken ones.
    """

    numbers: Int64[np.ndarray, " n"]
    images: UInt8[np.ndarray, "n h w c"]
    labels: Int64[np.ndarray, " n"]
    stop: int
    bad: tuple[Skipped, ...]


@runtime_checkable
class ReadsRuns(Protocol):
    """A data set that reads consecutive images with less work than one at a time."""

    def images_of(self, numbers: range) -> Iterator[Pixels | BadImage]:
        """The images in their order, or what is wrong with them."""
        ...

    def labels_of(self, numbers: range) -> Int64[np.ndarray, " n"]:
        """Their classes, -1 for none."""
        ...


@runtime_checkable
class ReadsFitted(Protocol):
    """A data set that brings images to a size with less memory than making them arrays first."""

    def fitted_of(
        self, numbers: range, size: tuple[int, int], channels: int
    ) -> Iterator[Pixels | BadImage]:
        """Consecutive images as ``decode.fitted`` makes them, or what is wrong with them."""
        ...


class Loading:
    """One pass over ranges of a data set in batches; to be iterated once.

    The threads end with the iteration, also when a ``for`` loop is left early or by an exception;
    a ``with`` statement makes sure of it. The data set is read by several threads at once.

    Attributes:
        waited: seconds for which the consumer has waited for batches so far.
    """

    def __init__(
        self,
        dataset: Dataset,
        ranges: Sequence[range],
        batch: int,
        size: tuple[int, int],
        channels: int,
        *,
        on_bad_image: str = "skip",
        ahead: int | None = None,
    ) -> None:
        """Nothing is read before the iteration starts.

        Args:
            dataset: the images.
            ranges: numbers of consecutive images. Every range is cut into batches from its own
                start on, so no batch holds images of two.
            batch: images in a batch; the last of a range may have fewer, and broken images are
                missing from theirs, which may leave it empty.
            size: (height, width) in pixels; other images are fitted (``decode.fitted``).
            channels: 1 (grey) or 3 (RGB).
            on_bad_image: ``skip`` leaves broken images out and names them in their batch;
                ``fail`` raises ``BadImage`` in place of the batch with the first.
            ahead: how many batches may be decoded before they are asked for, at least 1; by
                default as many as fit in 64 MiB, but two at least.

        Raises:
            Rot180Error: an argument is wrong.
            IndexError: a range is not one of consecutive images of the data set.
        """
        height, width = checked_size(size, channels)
        if batch < 1:
            raise Rot180Error(f"A batch cannot hold {batch} images: give 1 or more.")
        if ahead is not None and ahead < 1:
            raise Rot180Error(f"{ahead} batches cannot be decoded ahead: give 1 or more.")
        for numbers in ranges:
            if numbers.step != 1 or numbers.start < 0 or numbers.stop > len(dataset):
                raise IndexError(f"{numbers} of a data set with {len(dataset)} images")
        self.waited = 0.0
        self._dataset = dataset
        self._policy = bad_image_policy(on_bad_image)
        self._shape = (height, width, channels)
        image_bytes = height * width * channels
        most = AHEAD_BYTES // (batch * image_bytes)
        self._ahead = max(AHEAD_LEAST, most) if ahead is None else ahead
        self._array = (
            dataset
            if isinstance(dataset, ArrayDataset) and dataset.images.shape[1:] == self._shape
            else None
        )
        part = max(1, min(PART_MOST, PART_BYTES // image_bytes))
        self._part = batch if self._array is not None else part
        self._batches = (cut for numbers in ranges for cut in _cuts(numbers, batch))
        self._waiting: deque[_Coming] = deque()
        self._seen = self._broken = 0
        self._first: Skipped | None = None
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(
            max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="rot180-loading"
        )

    def __iter__(self) -> Iterator[Batch]:
        """The batches in the order of the ranges.

        Raises:
            BadImage: an image is broken and ``on_bad_image`` is ``fail``.
            Rot180Error: more than half of at least 100 images are broken, or the data set raises
                one.
            RuntimeError: the loading is closed, or has been iterated.
        """
        try:
            while (coming := self._next()) is not None:
                yield self._checked(coming.batch(), len(coming.numbers))
        finally:
            self.close()

    def close(self) -> None:
        """End the threads, after the image that each is at; closing twice does no harm."""
        self._closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()

    def __enter__(self) -> "Loading":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _next(self) -> "_Coming | None":
        """Wait for the next batch; behind it ``ahead`` others are decoded. None: there is none."""
        if self._closed.is_set():
            raise RuntimeError("a Loading is iterated once, and not after it is closed")
        asked = time.perf_counter()
        while len(self._waiting) <= self._ahead:
            numbers = next(self._batches, None)
            if numbers is None:
                break
            self._waiting.append(self._started(numbers))
        if not self._waiting:
            return None
        coming = self._waiting.popleft()
        try:
            coming.wait()
        finally:
            self.waited += time.perf_counter() - asked
        return coming

    def _started(self, numbers: range) -> "_Coming":
        images = np.empty((len(numbers), *self._shape), dtype=np.uint8)
        labels = np.empty(len(numbers), dtype=np.int64)
        parts = []
        for part in _cuts(numbers, self._part):
            here = slice(part.start - numbers.start, part.stop - numbers.start)
            parts.append(self._pool.submit(self._read, part, images[here], labels[here]))
        return _Coming(numbers, images, labels, parts)

    def _read(
        self,
        numbers: range,
        images: UInt8[np.ndarray, "n h w c"],
        labels: Int64[np.ndarray, " n"],
    ) -> list[Skipped]:
        """Fill in consecutive images and their labels, in a thread; those of broken ones stay."""
        if self._array is not None:
            images[:] = self._array.images[numbers.start : numbers.stop]
            known = self._array.labels
            labels[:] = -1 if known is None else known[numbers.start : numbers.stop]
            return []
        bad = []
        labels[:] = self._labels(numbers)
        for place, result in enumerate(self._images(numbers)):
            if self._closed.is_set():
                raise CancelledError
            if isinstance(result, BadImage):
                bad.append(Skipped(numbers[place], result.where, result.reason))
            else:
                images[place] = result
        return bad

    def _images(self, numbers: range) -> Iterator[Pixels | BadImage]:
        """Consecutive images at the size that is wanted, or what is wrong with them."""
        height, width, channels = self._shape
        size = (height, width)
        if isinstance(self._dataset, ReadsFitted):
            yield from self._dataset.fitted_of(numbers, size, channels)
        elif isinstance(self._dataset, ReadsRuns):
            for result in self._dataset.images_of(numbers):
                yield result if isinstance(result, BadImage) else fitted(result, size, channels)
        else:
            for number in numbers:
                try:
                    yield fitted(self._dataset.image(number), size, channels)
                except BadImage as error:
                    yield error

    def _labels(self, numbers: range) -> Int64[np.ndarray, " n"]:
        if isinstance(self._dataset, ReadsRuns):
            return self._dataset.labels_of(numbers)
        labels = (self._dataset.label(number) for number in numbers)
        return np.array([-1 if label is None else label for label in labels], dtype=np.int64)

    def _checked(self, batch: Batch, images: int) -> Batch:
        """The next batch, which stands for so many images, unless too many of them are broken."""
        if batch.bad and self._policy == "fail":
            raise BadImage(batch.bad[0].reason, batch.bad[0].where)
        self._seen += images
        self._broken += len(batch.bad)
        self._first = self._first or next(iter(batch.bad), None)
        if self._first and self._seen >= SEEN_ENOUGH and 2 * self._broken > self._seen:
            raise Rot180Error(
                f"{self._broken} of {self._seen} images in {self._dataset.name} "
                f"({self._dataset.split}) cannot be read, the first of them {self._first.where}: "
                f"{self._first.reason}. Check that these are the data you mean."
            )
        return batch


@dataclass(frozen=True, eq=False)
class _Coming:
    """A batch that threads are filling in."""

    numbers: range
    images: UInt8[np.ndarray, "n h w c"]
    labels: Int64[np.ndarray, " n"]
    parts: Sequence[Future[list[Skipped]]]

    def wait(self) -> None:
        """Wait for all parts, and raise what one of them raised."""
        for part in self.parts:
            part.result()

    def batch(self) -> Batch:
        """The batch, once the parts are there."""
        numbers = np.arange(self.numbers.start, self.numbers.stop, dtype=np.int64)
        bad = tuple(skipped for part in self.parts for skipped in part.result())
        if not bad:
            return Batch(numbers, self.images, self.labels, self.numbers.stop, ())
        kept = np.ones(len(numbers), dtype=bool)
        kept[[skipped.number - self.numbers.start for skipped in bad]] = False
        return Batch(numbers[kept], self.images[kept], self.labels[kept], self.numbers.stop, bad)


def _cuts(numbers: range, length: int) -> Iterator[range]:
    """Consecutive numbers in pieces of ``length``, the last of which may be shorter."""
    for start in range(numbers.start, numbers.stop, length):
        yield range(start, min(start + length, numbers.stop))
