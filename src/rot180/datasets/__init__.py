"""Images in: embedded photographs, CIFAR-10, torchvision's data sets, folders, Parquet, arrays."""

from rot180.datasets.arrays import ArrayDataset
from rot180.datasets.dataset import SPLITS, Dataset, in_test
from rot180.datasets.decode import POLICIES, BadImage, bad_image_policy, decode, decode_file, fitted
from rot180.datasets.decoded import decoded
from rot180.datasets.opening import open_dataset
from rot180.datasets.photos import Photos
from rot180.datasets.store import cache_directory

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
    "decode_file",
    "decoded",
    "fitted",
    "in_test",
    "open_dataset",
]
