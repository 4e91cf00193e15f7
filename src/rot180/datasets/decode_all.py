"""A whole data set as one array of one size, decoded once and stored in the cache directory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from rot180.datasets.arrays import ArrayDataset
from rot180.datasets.base import Dataset, image_name
from rot180.datasets.cache import Write, get_or_build
from rot180.datasets.decode import BadImage, bad_image_policy
from rot180.datasets.fingerprints import combine
from rot180.datasets.loader import BatchLoader
from rot180.datasets.resize import check_size
from rot180.errors import Rot180Error

# Part of the name of a cached array. Raise it when decoding or resizing changes.
VERSION = "2"
# Images are decoded in batches of about this many bytes, which bounds the memory in use.
BATCH_BYTES = 32 * 1024**2
BATCH_MOST = 256

Progress = Callable[[int, int], None]


def decode_all(
    dataset: Dataset,
    size: tuple[int, int],
    channels: int,
    *,
    on_bad_image: str = "skip",
    progress: Progress | None = None,
) -> ArrayDataset:
    """Decode all images to one size. The second time, the array comes from the cache directory.

    Args:
        dataset: data set with the images.
        size: (height, width) in pixels; images are resized and cropped (``resize_and_crop``).
        channels: 1 (grey) or 3 (RGB).
        on_bad_image: ``skip`` leaves broken images out and lists them in ``bad``; ``fail`` stops
            at the first one, even if an earlier run skipped it.
        progress: called with (images done, images in all).

    Returns:
        The images as one memory-mapped array. An ``ArrayDataset`` of this size is returned as it
        is.

    Raises:
        BadImage: an image is broken and ``on_bad_image`` is ``fail``.
        Rot180Error: more than half of the images (or of the first hundred or more) are broken,
            there are no images, or an argument is wrong.
    """
    policy = bad_image_policy(on_bad_image)
    height, width = check_size(size, channels)
    total = len(dataset)
    if total == 0:
        raise Rot180Error(f"There are no images in {dataset.name} ({dataset.split}).")
    if isinstance(dataset, ArrayDataset) and dataset.images.shape[1:] == (*size, channels):
        return dataset

    def build(write: Write) -> dict[str, Any]:
        bad: list[list[Any]] = []
        batch_size = max(1, min(BATCH_MOST, BATCH_BYTES // (height * width * channels)))
        with BatchLoader(
            dataset, [range(total)], batch_size, size, channels, on_bad_image=policy
        ) as batches:
            for batch in batches:
                write(batch.images)
                bad += map(list, batch.bad)
                _check_bad(bad, total, dataset)
                if progress is not None and batch.stop < total:
                    progress(batch.stop, total)
        return {"bad": bad, "total": total}

    key = combine([dataset.fingerprint, f"{height}x{width}x{channels}", VERSION])
    # A fingerprint does not cover every byte; the cached array has to be of the present files.
    state = getattr(dataset, "state", "")
    images, notes = get_or_build(combine([key, state]), (total, height, width, channels), build)
    if progress is not None:
        progress(total, total)
    # Describe the images anew: the data may have moved since the array was cached.
    bad = [(int(index), reason) for index, _, reason in notes["bad"]]
    if bad and policy == "fail":
        raise BadImage(bad[0][1], dataset.describe(bad[0][0]))
    return _as_dataset(dataset, images, bad, key)


def _as_dataset(
    dataset: Dataset, images: UInt8[np.ndarray, "n h w c"], bad: list[tuple[int, str]], key: str
) -> ArrayDataset:
    good = np.ones(len(dataset), dtype=bool)
    good[[index for index, _ in bad]] = False
    sources = np.flatnonzero(good).astype(np.int64)
    decoded = ArrayDataset(
        images,
        _labels(dataset, sources),
        dataset.classes,
        name=dataset.name,
        split=dataset.split,
        describe=dataset.describe,
        sources=sources,
        bad=[(dataset.describe(index), reason) for index, reason in bad],
        fingerprint=combine([key, *(str(index) for index, _ in bad)]),
        names=partial(image_name, dataset),
    )
    decoded.folders = getattr(dataset, "folders", ())
    decoded.class_file = getattr(dataset, "class_file", None)
    return decoded


def _labels(dataset: Dataset, sources: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"] | None:
    labels = [dataset.label(int(index)) for index in sources]
    if all(label is None for label in labels):
        return None
    return np.array([-1 if label is None else label for label in labels], dtype=np.int64)


def _check_bad(bad: list[list[Any]], total: int, dataset: Dataset) -> None:
    """Raise as soon as more than half of the images are broken: something is wrong with all."""
    if 2 * len(bad) > total:
        _, description, reason = bad[0]
        raise Rot180Error(
            f"{len(bad)} of the {total} images in {dataset.name} ({dataset.split}) cannot be read, "
            f"the first of them {description}: {reason}. Check that these are the data you mean."
        )
