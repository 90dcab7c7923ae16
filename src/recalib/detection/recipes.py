"""Presets of published and own trainings of detectors; every field is a flag of `recalib detect train`."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from recalib.detection.backbones import Norms
from recalib.errors import RecalibError, unknown
from recalib.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DetectionRecipe(Recipe):
    """Everything that decides the result of a training, besides the data.

    Attributes:
        model: name of the detector: fasterrcnn_resnet50_fpn, maskrcnn_resnet18_fpn, ssd512_resnet34, ...
        attention: channel attention module for the backbone.
        weights: classification checkpoint or run for the backbone; by default random weights.
        norms: the backbone's: frozen, batch or group; by default frozen with weights, batch without.
        trainable_layers: number of the backbone's five layers that are trained, from the last; by default 3 with
            weights, all without.
        ibn: instance normalization in the early stages, by the scheme a or b of IBN-Net.
        style_adversarial: train the early stages against telling the domain from means and variances.
        style_labels: attributes of the images that are told apart.
        style_weight: factor of the reversed gradient.
        min_size: shorter side that images are scaled to; an SSD has its own.
        max_size: longer side that they may have then.
        proposals: regions that a two-stage detector looks at in an image in training; by default torchvision's 2000.
        regions: number of them that are sampled for the losses of the second stage.
        train_domain: train on images with this attribute only, as in timeofday=daytime,dawn/dusk.
        eval_domain: evaluate on images with this attribute only.
        augment: flip, or ssd: colours, zooming out, cropping, and flip.
    """

    model: str = "fasterrcnn_resnet50_fpn"
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
    epochs: int = 12
    batch: int = 16
    lr: float = 0.02
    lr_batch: int = 16
    milestones: tuple[int, ...] = (8, 11)
    warmup: int = 500
    warmup_from: float = 0.001
    augment: Literal["none", "flip", "ssd"] = "flip"

    AT_LEAST_ONE: ClassVar[tuple[str, ...]] = (*Recipe.AT_LEAST_ONE, "min_size", "max_size", "proposals", "regions")
    FROM_ZERO: ClassVar[tuple[str, ...]] = (*Recipe.FROM_ZERO, "style_weight")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norms == "frozen" and self.weights is None:
            raise RecalibError("norms 'frozen': random weights need norms that are trained; choose batch or group")
        style = (self.style_labels, self.style_weight) != (DetectionRecipe.style_labels, DetectionRecipe.style_weight)
        if style and not self.style_adversarial:
            raise RecalibError("style_labels, style_weight: belong to --style-adversarial")


# mmdetection's schedule_1x, which both ECA-Net and Klomp et al. 2023, section 4.4, trained with: 8 GPUs with 2 images
_COCO = DetectionRecipe()

RECIPES = {
    "coco-1x": _COCO,
    "coco-2x": replace(_COCO, epochs=24, milestones=(16, 22)),
    # Klomp et al. 2023, section 4.4: ScratchDet's ssd512_scratchdet_coco.py (3e-2, 20 images a GPU, warm-up of 500
    # steps from a third), 20 epochs. Not stated: the number of GPUs (8, as mmdetection assumes), where the rate falls
    # (at the shares of ScratchDet's 84 epochs: 38, 70, 80) and whether epochs repeat the data 5 times as its own do
    "scratchdet-bdd": DetectionRecipe(
        model="ssd512_resnet34", epochs=20, batch=160, lr=0.03, lr_batch=160, weight_decay=5e-4,
        milestones=(9, 17, 19), warmup_from=1 / 3, augment="ssd",
    ),
    # ours: the first eight images by heart, from random weights, in minutes on a CPU: does everything work?
    "overfit": DetectionRecipe(
        model="fasterrcnn_resnet18_fpn", norms="group", limit=8, repeat=20, epochs=4, batch=2,
        optimizer="adamw", lr=3e-4, lr_batch=2, milestones=(3,), warmup=20, augment="none", min_size=256, max_size=448,
        proposals=200, regions=64,
    ),
}  # fmt: skip


def recipe(name: str) -> DetectionRecipe:
    """The preset of that name.

    Raises:
        RecalibError: for an unknown name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]
