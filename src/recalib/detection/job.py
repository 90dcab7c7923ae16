"""One run of a detection recipe: on which data, into which folder, on which devices."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from recalib.data.detection_data import DetectionDataset, open_detection
from recalib.data.order import held_out
from recalib.detection.detectors import detector_spec
from recalib.detection.domains import domain_of
from recalib.detection.recipes import RECIPES, DetectionRecipe
from recalib.detection.task import Detection
from recalib.detection.watch import open_image
from recalib.errors import RecalibError
from recalib.training.job import Job

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True, kw_only=True)
class DetectionJob(Job):
    """A recipe and where it runs.

    Attributes:
        recipe: network and training.
        data: folder of the data set: COCO's or BDD100k's layout.
        train_split: its part to train on.
        eval_split: its part to evaluate on.
        watch: an image that is drawn after every epoch, for recalib detect predict --watch-training.
    """

    recipe: DetectionRecipe = field(default_factory=DetectionRecipe)
    train_split: str = "train"
    eval_split: str = "val"
    watch: Path | None = None

    task: ClassVar[str] = "detection"
    command: ClassVar[str] = "detect train"

    def next_command(self) -> str:
        """Its evaluation, per class and domain."""
        return f"recalib detect evaluate --weights {self.folder} --data {self.data} --split {self.eval_split}"

    def preset_recipe(self) -> DetectionRecipe | None:
        """The recipe that the job was made from, if any."""
        return RECIPES.get(self.preset)

    def name_parts(self) -> list[str]:
        """As for every task, and what makes the detector another."""
        recipe = self.recipe
        return [
            *super().name_parts(),
            *[f"ibn{recipe.ibn}"] * (recipe.ibn != "none"),
            *["style"] * recipe.style_adversarial,
        ]

    def open(self, fabric: "Fabric") -> Detection:
        """Data and network of a job.

        Raises:
            RecalibError: for data or an image to watch that are not there, or parts that differ in their classes.
        """
        watched = None if self.watch is None else open_image(self.watch)
        (train, aside, test), there = self.datasets()
        return Detection(
            self.recipe, train, test, aside, device=fabric.device, share=(fabric.global_rank, fabric.world_size),
            workers=self.workers, preset=self.preset, watched=watched, splits=(self.train_split, self.eval_split),
            there=there,
        )  # fmt: skip

    def datasets(self) -> tuple[tuple[DetectionDataset, DetectionDataset | None, DetectionDataset], tuple[int, int]]:
        """Training data, the part set aside, and test data; and the numbers of images without a limit.

        Raises:
            RecalibError: for data that is not there, or parts that tell different classes apart.
        """
        recipe, masks = self.recipe, detector_spec(self.recipe.model).masks
        train, test = (
            open_detection(self.data, split=split, domain=domain_of(domain), masks=masks, strict=self.strict)
            for split, domain in ((self.train_split, recipe.train_domain), (self.eval_split, recipe.eval_domain))
        )
        if train.classes != test.classes:
            strange = ", ".join(sorted({*train.classes} ^ {*test.classes})[:5])
            raise RecalibError(f"{self.train_split} and {self.eval_split} differ in their classes: {strange}")
        there = len(train), len(test)
        train = train.subset(range(len(train))[: recipe.limit])
        test = test.subset(range(len(test))[: recipe.test_images])
        if not recipe.holdout:
            return (train, None, test), there
        held = held_out(len(train), recipe.holdout).nonzero()[0].tolist()
        if not held:
            raise RecalibError(f"holdout {recipe.holdout}: sets no training image aside")
        return (train.subset(_others(len(train), held)), train.subset(held), test), there


def _others(count: int, held: Sequence[int]) -> list[int]:
    return [i for i in range(count) if i not in set(held)]
