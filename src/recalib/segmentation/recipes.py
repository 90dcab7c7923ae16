"""Presets of trainings; every field is a flag of `recalib segment train`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from recalib.errors import RecalibError, unknown
from recalib.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe(Recipe):
    """Everything that decides the result of a training, besides the data.

    Attributes:
        model: deeplabv3_resnet50, fcn_resnet50, ... of torchvision, or smp:ARCHITECTURE:ENCODER such as
            smp:unet:resnet18 of segmentation_models.pytorch.
        size: side of the square that images are scaled into, in training and evaluation.
        augment: crop: scaled by 0.5 to 2, cropped at random, and flipped; or none.
    """

    model: str = "deeplabv3_resnet50"
    size: int = 480
    augment: Literal["none", "crop"] = "crop"
    epochs: int = 30
    batch: int = 16
    lr: float = 0.01
    lr_batch: int = 16
    schedule: Literal["step", "cosine", "linear", "exponential"] = "linear"

    AT_LEAST_ONE: ClassVar[tuple[str, ...]] = (*Recipe.AT_LEAST_ONE, "size")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is not None:
            raise RecalibError("weights: segmentation networks start from random weights, or --from a finished run")


RECIPES = {
    # ours, after torchvision's references/segmentation: 30 epochs of SGD, its rate falling to zero (there as x^0.9)
    "coco-deeplab": SegmentationRecipe(),
    # ours: the first eight images by heart, in minutes on a CPU: does everything work?
    "overfit": SegmentationRecipe(
        model="smp:unet:resnet18", size=96, augment="none", limit=8, eval_limit=8, repeat=20, epochs=4, batch=4,
        optimizer="adamw", lr=1e-3, lr_batch=0, schedule="cosine",
    ),
}  # fmt: skip


def recipe(name: str) -> SegmentationRecipe:
    """The preset of that name.

    Raises:
        RecalibError: for an unknown name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]
