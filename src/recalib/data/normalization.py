"""Input normalisation: ``(x / 255 - mean) / std`` per channel, by the names recipes use."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from recalib.errors import unknown

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of R, G and B, on a scale from 0 to 1."""

    mean: Three
    std: Three

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
    """The normalisation of that name, or written out as `normalization_name` does.

    Raises:
        RecalibError: for an unknown name.
    """
    if name in NORMALIZATIONS:
        return NORMALIZATIONS[name]
    try:
        mean, std = (tuple(map(float, part.split(","))) for part in name.split("/"))
    except ValueError:
        mean = std = ()
    if len(mean) == len(std) == 3 and all(value > 0 for value in std):
        return Normalization(mean, std)
    raise unknown("normalization", name, [*NORMALIZATIONS, "R,G,B/R,G,B (mean/std)"])


def normalization_name(mean: Iterable[float], std: Iterable[float]) -> str:
    """The name of these figures, as `normalization` takes it: a word, or ``mean,mean,mean/std,std,std``."""
    form = Normalization(*(tuple(float(v) for v in values) for values in (mean, std)))  # type: ignore[arg-type]
    names = [name for name, known in NORMALIZATIONS.items() if known == form]
    return names[0] if names else "/".join(",".join(map(str, values)) for values in (form.mean, form.std))
