"""Images to train and measure on: CIFAR on the device, ImageNet as folders."""

from recalib.data.cifar import Images, find_cifar, read_cifar
from recalib.data.normalization import NORMALIZATIONS, Normalization, normalization
from recalib.data.resident import ResidentTest, ResidentTrain
from recalib.data.seeds import generator_for, seed_for

__all__ = [
    "NORMALIZATIONS",
    "Images",
    "Normalization",
    "ResidentTest",
    "ResidentTrain",
    "find_cifar",
    "generator_for",
    "normalization",
    "read_cifar",
    "seed_for",
]
