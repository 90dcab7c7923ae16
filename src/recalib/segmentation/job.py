"""One run of a segmentation recipe: on which data, into which folder, on which devices."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from recalib.data.order import held_out
from recalib.errors import RecalibError, require_packages
from recalib.segmentation.data import open_pictures
from recalib.segmentation.recipes import RECIPES, SegmentationRecipe
from recalib.segmentation.task import Segmentation
from recalib.training.job import Job

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True, kw_only=True)
class SegmentationJob(Job):
    """A recipe and where it runs.

    Attributes:
        recipe: network and training.
        data: folder of the data set: COCO's layout, or images/SPLIT, labels/SPLIT and classes.txt.
        train_split: its part to train on.
        eval_split: its part to evaluate on.
    """

    recipe: SegmentationRecipe = field(default_factory=SegmentationRecipe)
    train_split: str = "train"
    eval_split: str = "val"

    task: ClassVar[str] = "segmentation"
    command: ClassVar[str] = "segment train"

    def next_command(self) -> str:
        """Its evaluation, class by class."""
        return f"recalib segment evaluate --weights {self.folder} --data {self.data} --split {self.eval_split}"

    def preset_recipe(self) -> SegmentationRecipe | None:
        """The recipe that the job was made from, if any."""
        return RECIPES.get(self.preset)

    def open(self, fabric: "Fabric") -> Segmentation:
        """Data and network of a job.

        Raises:
            RecalibError: for a missing extra, data that is not there, or parts that tell different classes apart.
        """
        require_packages(("torchmetrics",), "segment", "segmentation")
        recipe = self.recipe
        whole, tested = (open_pictures(self.data, split) for split in (self.train_split, self.eval_split))
        if whole.classes != tested.classes:
            differ = ", ".join(sorted({*whole.classes} ^ {*tested.classes})[:5])
            raise RecalibError(f"{self.train_split} and {self.eval_split} differ in their classes: {differ}")
        train = whole.only(range(len(whole))[: recipe.limit])
        parts = {"train": train, "test": tested.only(range(len(tested))[: recipe.test_images])}
        if recipe.holdout:
            held = held_out(len(train), recipe.holdout)
            if not held.any():
                raise RecalibError(f"holdout {recipe.holdout}: sets no training image aside")
            parts |= {
                "train": train.only((~held).nonzero()[0].tolist()),
                "aside": train.only(held.nonzero()[0].tolist()),
            }
        return Segmentation(
            recipe, parts, (len(whole), len(tested)), self.preset, device=fabric.device, workers=self.workers,
            share=(fabric.global_rank, fabric.world_size),
        )  # fmt: skip
