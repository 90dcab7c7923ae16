"""Images that int8 takes its scales from, and others on which a reduced precision is compared with float32."""

import functools
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor

NOISE = "noise"
NOISE_IMAGES = 16


@dataclass(frozen=True, eq=False)
class Samples:
    """Normalised images, float32, on the CPU.

    Attributes:
        calibration: shape (M, 3, H, W).
        images: shape (K, 3, H, W), none of them among those of the calibration.
        source: of the images, in words.
        labels: of the images, where their data set has the network's classes; int64, shape (K,).
        trained: whether the network that sees them has a checkpoint's weights: random ones agree by chance.
    """

    calibration: Tensor
    images: Tensor
    source: str
    labels: Tensor | None = None
    trained: bool = False


@functools.cache
def noise(size: tuple[int, int], trained: bool = False) -> Samples:
    """Noise for where nobody gives images: enough to time a network, not to judge its accuracy."""
    calibration, images = torch.randn(2, NOISE_IMAGES, 3, *size, generator=torch.Generator().manual_seed(2))
    return Samples(calibration, images, NOISE, trained=trained)


def batches_of(images: Tensor, N: int) -> list[Tensor]:
    """Images N at a time, the last batch filled up from the first images."""
    whole = -(-len(images) // N) * N
    return list(torch.stack(list(islice(cycle(images), whole))).split(N))
