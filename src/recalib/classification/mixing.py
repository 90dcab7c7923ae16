"""MixUp and CutMix, one of the two for each batch."""

from collections.abc import Callable

from torch import Tensor
from torchvision.transforms import v2

Mixer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def mixer(mixup: float, cutmix: float, classes: int) -> Mixer:
    """The mixing of a batch: images (N, 3, H, W) and labels (N,) to images and class shares (N, classes).

    Without either it hands back what it is given. With several processes each mixes its own part of the batch.

    Args:
        mixup: Beta's parameter, 0 for none; Zhang et al. 2018, https://arxiv.org/abs/1710.09412.
        cutmix: Beta's parameter, 0 for none; Yun et al. 2019, https://arxiv.org/abs/1905.04899.
        classes: number of classes.
    """
    chosen = [kind(alpha=a, num_classes=classes) for kind, a in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if a]
    if not chosen:
        return lambda images, labels: (images, labels)
    mix: Mixer = v2.RandomChoice(chosen)
    return mix
