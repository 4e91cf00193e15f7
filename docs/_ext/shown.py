"""The data that the pages show: CIFAR-10 where it is at hand, else the embedded photographs."""

import os
from functools import cache
from pathlib import Path

import rot180
from rot180.datasets.cache import cache_directory

_CHECKOUT = Path(__file__).parents[2]
_BESIDE = _CHECKOUT.parent / "shared" / "data" / "cifar10"


def data() -> str:
    """Return the name of the data, as ``--data`` and ``open_dataset`` take it.

    ``ROT180_DOCS_DATA`` names it, a path as seen from the checkout. Without, it is CIFAR-10 if that
    lies in ``shared/data`` beside the checkout or was downloaded before, and else ``photos``.
    Nothing is downloaded here.
    """
    named = os.environ.get("ROT180_DOCS_DATA")
    if named:
        return str(_CHECKOUT / named) if (_CHECKOUT / named).exists() else named
    if _BESIDE.is_dir():
        return str(_BESIDE)
    downloaded = (cache_directory() / "cifar-10-batches-py").is_dir()
    return "cifar10" if downloaded else "photos"


@cache
def words() -> str:
    """Return a sentence that says which images the pages show."""
    images = rot180.open_dataset(data(), "test")
    if data() == "photos":
        return (
            f"This site was built without CIFAR-10: its pages show the {len(images):,} test tiles, "
            "of 32x32 pixels, of the photographs that come with scikit-image."
        )
    return f"This site was built with the {len(images):,} test images of {images.name}."
