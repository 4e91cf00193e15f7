"""Data sets: photographs, CIFAR-10, torchvision's data sets, folders, Parquet files and arrays."""

from rot180.datasets.arrays import ArrayDataset
from rot180.datasets.base import SPLITS, Dataset, is_test
from rot180.datasets.cache import cache_directory
from rot180.datasets.decode import (
    POLICIES,
    BadImage,
    bad_image_policy,
    decode,
    decode_file,
)
from rot180.datasets.decode_all import decode_all
from rot180.datasets.open import open_dataset
from rot180.datasets.photos import Photos
from rot180.datasets.resize import resize_and_crop

__all__ = [
    "POLICIES",
    "SPLITS",
    "ArrayDataset",
    "BadImage",
    "Dataset",
    "Photos",
    "bad_image_policy",
    "cache_directory",
    "decode",
    "decode_all",
    "decode_file",
    "is_test",
    "open_dataset",
    "resize_and_crop",
]
