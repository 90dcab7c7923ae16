"""Input normalisation: ``(x / 255 - mean) / std`` per channel, by the names recipes and checkpoints use."""

from dataclasses import dataclass

import torch
from torch import Tensor

from recalib.errors import unknown


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of R, G and B, on a scale from 0 to 1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Float images from uint8 pixels (N, 3, H, W)."""
        mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] * 255 for v in (self.mean, self.std))
        return pixels.float().sub_(mean).div_(std)


NORMALIZATIONS = {
    "cifar": Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),  # bearpaw, and GluonCV's recipes
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "tensorflow": Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def normalization(name: str) -> Normalization:
    """The normalisation of that name.

    Raises:
        RecalibError: for an unknown name.
    """
    if name not in NORMALIZATIONS:
        raise unknown("normalization", name, NORMALIZATIONS)
    return NORMALIZATIONS[name]
