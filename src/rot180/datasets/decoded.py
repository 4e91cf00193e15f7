"""A whole data set as one array of one size, decoded once and kept in the cache directory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from rot180.datasets.arrays import ArrayDataset
from rot180.datasets.dataset import Dataset, image_name
from rot180.datasets.decode import BadImage, bad_image_policy, checked_size
from rot180.datasets.fingerprints import combined
from rot180.datasets.loading import Loading
from rot180.datasets.store import Write, remembered
from rot180.errors import Rot180Error

# Belongs to the name of a kept array: raise it when decoding or fitting changes.
VERSION = "2"
# Images are decoded in batches of about this many bytes, which bounds the memory in use.
BATCH_BYTES = 32 * 1024**2
BATCH_MOST = 256

Progress = Callable[[int, int], None]


def decoded(
    dataset: Dataset,
    size: tuple[int, int],
    channels: int,
    *,
    on_bad_image: str = "skip",
    progress: Progress | None = None,
) -> ArrayDataset:
    """Decode every image to one size; the second time the array comes from the cache directory.

    Args:
        dataset: the images.
        size: (height, width) in pixels; other images are fitted (``decode.fitted``).
        channels: 1 (grey) or 3 (RGB).
        on_bad_image: ``skip`` leaves broken images out and names them in ``bad``; ``fail`` stops
            at the first one, also when an earlier run has skipped it.
        progress: called with (images done, images in all).

    Returns:
        The images as one memory-mapped array; an ``ArrayDataset`` that fits already is returned
        as it is.

    Raises:
        BadImage: an image is broken and ``on_bad_image`` is ``fail``.
        Rot180Error: more than half of the images (or of the first ones, a hundred or more) are
            broken, or there are none, or an argument is wrong.
    """
    policy = bad_image_policy(on_bad_image)
    height, width = checked_size(size, channels)
    total = len(dataset)
    if total == 0:
        raise Rot180Error(f"There are no images in {dataset.name} ({dataset.split}).")
    if isinstance(dataset, ArrayDataset) and dataset.images.shape[1:] == (*size, channels):
        return dataset

    def fill(write: Write) -> dict[str, Any]:
        bad: list[list[Any]] = []
        batch = max(1, min(BATCH_MOST, BATCH_BYTES // (height * width * channels)))
        with Loading(
            dataset, [range(total)], batch, size, channels, on_bad_image=policy
        ) as loading:
            for loaded in loading:
                write(loaded.images)
                bad += map(list, loaded.bad)
                _check_enough(bad, total, dataset)
                if progress is not None and loaded.stop < total:
                    progress(loaded.stop, total)
        return {"bad": bad, "total": total}

    key = combined([dataset.fingerprint, f"{height}x{width}x{channels}", VERSION])
    # A fingerprint is not made of every byte; what is kept has to be of the files as they are now.
    state = getattr(dataset, "state", "")
    images, notes = remembered(combined([key, state]), (total, height, width, channels), fill)
    if progress is not None:
        progress(total, total)
    # Names are made anew: the data may lie elsewhere than when the array was made.
    bad = [(int(index), reason) for index, _, reason in notes["bad"]]
    if bad and policy == "fail":
        raise BadImage(bad[0][1], dataset.where(bad[0][0]))
    return _assembled(dataset, images, bad, key)


def _assembled(
    dataset: Dataset, images: UInt8[np.ndarray, "n h w c"], bad: list[tuple[int, str]], key: str
) -> ArrayDataset:
    kept = np.ones(len(dataset), dtype=bool)
    kept[[index for index, _ in bad]] = False
    sources = np.flatnonzero(kept).astype(np.int64)
    found = ArrayDataset(
        images,
        _labels(dataset, sources),
        dataset.classes,
        name=dataset.name,
        split=dataset.split,
        where=dataset.where,
        sources=sources,
        bad=[(dataset.where(index), reason) for index, reason in bad],
        fingerprint=combined([key, *(str(index) for index, _ in bad)]),
        names=partial(image_name, dataset),
    )
    found.folders = getattr(dataset, "folders", ())
    found.class_file = getattr(dataset, "class_file", None)
    return found


def _labels(dataset: Dataset, sources: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"] | None:
    labels = [dataset.label(int(index)) for index in sources]
    if all(label is None for label in labels):
        return None
    return np.array([-1 if label is None else label for label in labels], dtype=np.int64)


def _check_enough(bad: list[list[Any]], total: int, dataset: Dataset) -> None:
    """Stop as soon as more than half of the images are broken: then it is not about single ones."""
    if 2 * len(bad) > total:
        _, where, reason = bad[0]
        raise Rot180Error(
            f"{len(bad)} of the {total} images in {dataset.name} ({dataset.split}) cannot be read, "
            f"the first of them {where}: {reason}. Check that these are the data you mean."
        )
