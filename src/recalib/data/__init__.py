"""Images to train and measure on: CIFAR on the device, ImageNet as folders."""

from recalib.data.cifar import Images, find_cifar, read_cifar
from recalib.data.imagenet import Folder, FolderTest, FolderTrain, read_folder
from recalib.data.normalization import NORMALIZATIONS, Normalization, normalization, normalization_name
from recalib.data.order import Share, generator_for, seed_for
from recalib.data.parquet import find_shards
from recalib.data.resident import ResidentTest, ResidentTrain

__all__ = [
    "NORMALIZATIONS",
    "Folder",
    "FolderTest",
    "FolderTrain",
    "Images",
    "Normalization",
    "ResidentTest",
    "ResidentTrain",
    "Share",
    "find_cifar",
    "find_shards",
    "generator_for",
    "normalization",
    "normalization_name",
    "read_cifar",
    "read_folder",
    "seed_for",
]
