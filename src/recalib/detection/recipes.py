"""How detectors were and are trained: presets whose every field is a flag of `recalib detect train`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from recalib.detection.backbones import Norms
from recalib.errors import RecalibError, unknown


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the result of a training, besides the data.

    Attributes:
        model: name of the detector: fasterrcnn_resnet50_fpn, maskrcnn_resnet18_fpn, ssd512_resnet34, ...
        attention: channel attention module for the backbone.
        options: of the attention module, such as ``kernel_size=5``.
        identity: start every fresh attention module as the identity.
        weights: classification checkpoint or run for the backbone; by default random weights.
        norms: of the backbone: frozen, batch or group; by default frozen with weights, batch without.
        trainable_layers: how many of the backbone's five layers are trained, from the last; by default 3 with weights,
            all without.
        ibn: instance normalization in the early stages, by the scheme a or b of IBN-Net.
        style_adversarial: train the early stages against telling the domain from means and variances.
        style_labels: attributes of the images that are told apart.
        style_weight: of the reversed gradient.
        min_size: shorter side that images are scaled to; an SSD has its own.
        max_size: longer side that they may have then.
        proposals: regions that a two-stage detector looks at in an image in training; by default torchvision's 2000.
        regions: how many of them are sampled for the losses of the second stage.
        train_domain: train on images with this attribute only, as in timeofday=daytime,dawn/dusk.
        eval_domain: evaluate on images with this attribute only.
        limit: take the first so many training images only, to try things out.
        epochs: how many; each is so many passes over the training images as `repeat` says.
        repeat: passes over the training images in an epoch, each in another order.
        eval_every: epochs between evaluations; there is one after the last epoch in any case.
        batch: images a step, over all processes.
        optimizer: sgd or adamw.
        lr: the highest learning rate, for batches of `lr_batch` images.
        lr_batch: the learning rate follows the batch size in proportion; 0 takes it as it is.
        momentum: of sgd.
        weight_decay: of everything but what modules mark.
        milestones: epochs, counted from 0, at which the learning rate is multiplied by gamma.
        gamma: of the milestones.
        warmup: steps over which the learning rate climbs to its value.
        warmup_from: share of the learning rate it begins with.
        clip: largest norm of the gradient; 0 for no limit.
        augment: flip, or ssd: colours, zooming out, cropping, and flip.
        precision: bf16-mixed and 16-mixed are automatic mixed precision.
        sync_batchnorm: batch statistics over all processes.
        seed: of initial weights, order, augmentation and sampling.
    """

    model: str = "fasterrcnn_resnet50_fpn"
    attention: str | None = None
    options: tuple[str, ...] = ()
    identity: bool = False
    weights: Path | None = None
    norms: Norms = "auto"
    trainable_layers: int | None = None
    ibn: Literal["none", "a", "b"] = "none"
    style_adversarial: bool = False
    style_labels: tuple[str, ...] = ("timeofday", "weather")
    style_weight: float = 0.1
    min_size: int = 800
    max_size: int = 1333
    proposals: int = 2000
    regions: int = 512
    train_domain: str | None = None
    eval_domain: str | None = None
    limit: int | None = None
    epochs: int = 12
    repeat: int = 1
    eval_every: int = 1
    batch: int = 16
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.02
    lr_batch: int = 16
    momentum: float = 0.9
    weight_decay: float = 1e-4
    milestones: tuple[int, ...] = (8, 11)
    gamma: float = 0.1
    warmup: int = 500
    warmup_from: float = 0.001
    clip: float = 0.0
    augment: Literal["none", "flip", "ssd"] = "flip"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    sync_batchnorm: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.norms == "frozen" and self.weights is None:
            raise RecalibError("norms 'frozen': random weights need norms that are trained; choose batch or group")
        for name in ("epochs", "repeat", "eval_every", "batch", "min_size", "max_size", "proposals", "regions"):
            if getattr(self, name) < 1:
                raise RecalibError(f"{name} {getattr(self, name)}: should be at least 1")
        if self.limit is not None and self.limit < 1:
            raise RecalibError(f"limit {self.limit}: should be at least 1")
        for name in ("lr", "lr_batch", "momentum", "weight_decay", "gamma", "warmup", "clip", "style_weight", "seed"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise RecalibError(f"{name} {getattr(self, name)}: should be a number from 0 up")

    @property
    def peak(self) -> float:
        """The learning rate after the warm-up, for this batch size."""
        return self.lr * self.batch / self.lr_batch if self.lr_batch else self.lr

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of a step, counted from 0 over the whole training."""
        falls = sum(step // steps_per_epoch >= milestone for milestone in self.milestones)
        warm = self.warmup_from + (1 - self.warmup_from) * step / self.warmup if step < self.warmup else 1.0
        return self.peak * self.gamma**falls * warm


# mmdetection's schedule_1x, which both ECA-Net and Klomp et al. 2023, section 4.4, trained with: 8 GPUs with 2 images
_COCO = Recipe()

RECIPES = {
    "coco-1x": _COCO,
    "coco-2x": replace(_COCO, epochs=24, milestones=(16, 22)),
    # Klomp et al. 2023, section 4.4: ScratchDet's ssd512_scratchdet_coco.py (3e-2, 20 images a GPU, warm-up of 500
    # steps from a third), 20 epochs. Not stated: the number of GPUs (8, as mmdetection assumes), where the rate falls
    # (at the shares of ScratchDet's 84 epochs: 38, 70, 80) and whether epochs repeat the data 5 times as its own do
    "scratchdet-bdd": Recipe(
        model="ssd512_resnet34", epochs=20, batch=160, lr=0.03, lr_batch=160, weight_decay=5e-4,
        milestones=(9, 17, 19), warmup_from=1 / 3, augment="ssd",
    ),
    # ours: the first eight images by heart, from random weights, in minutes on a CPU: does everything work?
    "overfit": Recipe(
        model="fasterrcnn_resnet18_fpn", norms="group", limit=8, repeat=20, epochs=4, batch=2,
        optimizer="adamw", lr=3e-4, lr_batch=2, milestones=(3,), warmup=20, augment="none", min_size=256, max_size=448,
        proposals=200, regions=64,
    ),
}  # fmt: skip


def recipe(name: str) -> Recipe:
    """The preset of that name.

    Raises:
        RecalibError: for an unknown name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]
