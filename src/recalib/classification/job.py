"""One run of a classification recipe: on which data, into which folder, on which devices."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from recalib.classification.feeds import Reader, dataset_in, open_feeds
from recalib.classification.recipes import RECIPES, ClassificationRecipe
from recalib.classification.task import Classification
from recalib.data import normalization_name
from recalib.errors import RecalibError
from recalib.runs.folder import weights_of
from recalib.surgery import inspect_checkpoint
from recalib.training.job import Job

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True, kw_only=True)
class ClassificationJob(Job):
    """A recipe and where it runs.

    Attributes:
        recipe: network and training.
        data: folder of the data set: CIFAR's official files, or ImageNet's train and val.
        reader: library that reads folders of images for training: torchvision, or NVIDIA DALI (an extra), which decodes
            on a GPU.
    """

    recipe: ClassificationRecipe = field(default_factory=ClassificationRecipe)
    reader: Reader = "torchvision"

    task: ClassVar[str] = "classification"
    command: ClassVar[str] = "train"

    def next_command(self) -> str:
        """Its evaluation, with intervals."""
        return f"recalib evaluate --weights {self.folder} --data {self.data}"

    def preset_recipe(self) -> ClassificationRecipe | None:
        """The recipe that the job was made from, if any."""
        return RECIPES.get(self.preset)

    def resolved(self) -> "ClassificationJob":
        """The job with data set, model and normalisation written out where they were left to be found.

        Raises:
            RecalibError: where the folder holds no data set, the weights are not readable, or do not tell the model.
        """
        recipe = self.recipe
        dataset = recipe.dataset or dataset_in(self.data)
        if dataset != "imagenet" and recipe.image_size != ClassificationRecipe.image_size:
            raise RecalibError(f"image_size {recipe.image_size}: images of {dataset} are trained on at their 32 pixels")
        model, form = recipe.model, recipe.normalization
        if recipe.weights is not None:
            seen = inspect_checkpoint(weights_of(recipe.weights))
            model = model or seen.architecture
            form = form or (normalization_name(*seen.normalization) if seen.normalization else None)
        if model is None:
            raise RecalibError("which network? Give --model, or --weights that tell it")
        form = form or ("imagenet" if dataset == "imagenet" else "cifar")
        return replace(self, recipe=replace(recipe, dataset=dataset, model=model, normalization=form))

    def open(self, fabric: "Fabric") -> Classification:
        """Data and network of a resolved job."""
        feeds = open_feeds(
            self.data, self.recipe, fabric.device, (fabric.global_rank, fabric.world_size),
            workers=self.workers, reader=self.reader, strict=self.strict,
        )  # fmt: skip
        return Classification(self.recipe, feeds, self.preset)
