"""The data of a job: training and test batches on its device, checked before training starts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from recalib.data import (
    Folder,
    FolderTest,
    FolderTrain,
    Images,
    Normalization,
    ResidentTest,
    ResidentTrain,
    Share,
    find_cifar,
    find_shards,
    normalization,
    normalization_name,
    read_cifar,
    read_folder,
)
from recalib.data.dali import DaliTrain
from recalib.data.resident import Batch
from recalib.errors import RecalibError
from recalib.runs.folder import weights_of
from recalib.surgery import inspect_checkpoint
from recalib.training.job import Job
from recalib.training.recipes import Dataset, Recipe


class TrainBatches(Protocol):
    """What the loop needs of training data."""

    def __len__(self) -> int:
        """Steps in an epoch."""
        ...

    def epoch(self, epoch: int, start: int = 0, attempt: int = 0) -> Iterator[Batch]:
        """This process's share of each batch of an epoch, from a step on."""
        ...


class TestBatches(Protocol):
    """What evaluation needs of test data."""

    def __len__(self) -> int:
        """Number of batches."""
        ...

    def __iter__(self) -> Iterator[Batch]:
        """This process's share of the test set."""
        ...


@dataclass(frozen=True)
class Feeds:
    """Training and test batches, the classes they are of, and training images that were set aside, if any."""

    train: TrainBatches
    test: TestBatches
    classes: tuple[str, ...]
    aside: TestBatches | None = None

    @property
    def unreadable(self) -> list[str]:
        """Images that could not be read so far."""
        return [name for feed in (self.train, self.test, self.aside) for name in getattr(feed, "unreadable", [])]


def dataset_in(root: Path) -> Dataset:
    """Name of the data set that a folder holds: cifar10, cifar100 or imagenet.

    Raises:
        RecalibError: where it holds none of them.
    """
    name = find_cifar(root)
    if name is not None:
        return name
    if (root / "val").is_dir() or find_shards(root, train=False):
        return "imagenet"
    raise RecalibError(
        f"{root} holds no data set: no official folders of CIFAR, no train and val of ImageNet, no parquet"
    )


def resolved(job: Job) -> Job:
    """The job with data set, model and normalisation written out where they were left to be found.

    Raises:
        RecalibError: where the folder holds no data set, the weights are not readable, or do not tell the model.
    """
    recipe = job.recipe
    dataset = recipe.dataset or dataset_in(job.data)
    model, form = recipe.model, recipe.normalization
    if recipe.weights is not None:
        seen = inspect_checkpoint(weights_of(recipe.weights))
        model = model or seen.architecture
        form = form or (normalization_name(*seen.normalization) if seen.normalization else None)
    if model is None:
        raise RecalibError("which network? Give --model, or --weights that tell it")
    form = form or ("imagenet" if dataset == "imagenet" else "cifar")
    return replace(job, recipe=replace(recipe, dataset=dataset, model=model, normalization=form))


def open_feeds(job: Job, device: torch.device, share: Share = (0, 1)) -> Feeds:
    """Training and test batches of a resolved job.

    Args:
        job: its recipe's data set, batch and seed; its folder.
        device: where batches are wanted.
        share: this process and how many there are.

    Raises:
        RecalibError: naming the file that is missing, truncated or mislabelled.
    """
    recipe = job.recipe
    test, classes = open_test(job.data, recipe, device, share, job.workers)
    train, aside = _open_train(job, classes, device, share)
    if len(train) == 0 or recipe.batch < share[1]:
        raise RecalibError(f"batch {recipe.batch}: gives {share[1]} processes no whole batch of the training images")
    if recipe.holdout and len(aside) == 0:
        raise RecalibError(f"holdout {recipe.holdout}: sets no training image aside")
    return Feeds(train, test, classes, aside if recipe.holdout else None)


def _open_train(
    job: Job, classes: tuple[str, ...], device: torch.device, share: Share
) -> tuple[TrainBatches, TestBatches]:
    recipe, kind = job.recipe, normalization(job.recipe.normalization or "")
    common: dict[str, Any] = {"device": device, "seed": recipe.seed, "drop_last": recipe.drop_last, "share": share}
    if recipe.dataset != "imagenet":
        if job.reader == "dali":
            raise RecalibError("--reader dali reads folders of images; CIFAR stays on the device as it is")
        images = read_cifar(job.data, recipe.dataset or "cifar10", train=True).first(recipe.limit)
        images, aside = images.split(recipe.holdout)
        return ResidentTrain(images, kind, recipe.batch, **common), _resident_test(aside, kind, device, share)
    folder = read_folder(job.data, train=True, limit=recipe.limit)
    if folder.classes != classes:
        differ = ", ".join(sorted({*folder.classes} ^ {*classes})[:5])
        raise RecalibError(f"{job.data}/train and val have different classes: {differ} is in one only")
    common |= {"size": recipe.image_size, "workers": job.workers}
    folder, held = folder.split(recipe.holdout)
    held_test = _folder_test(held, kind, recipe, device, share, job.workers)
    if job.reader == "dali":
        return DaliTrain(folder, kind, recipe.batch, **common), held_test
    return FolderTrain(folder, kind, recipe.batch, **common, strict=job.strict), held_test


def open_test(
    root: Path, recipe: Recipe, device: torch.device, share: Share = (0, 1), workers: int = 0
) -> tuple[TestBatches, tuple[str, ...]]:
    """Test batches of a recipe whose data set and normalisation are resolved, and the classes they are of.

    Raises:
        RecalibError: naming the file that is missing, truncated or mislabelled.
    """
    kind = normalization(recipe.normalization or "")
    if recipe.dataset == "imagenet":
        folder = read_folder(root, train=False, limit=recipe.limit)
        return _folder_test(folder, kind, recipe, device, share, workers), folder.classes
    images = read_cifar(root, recipe.dataset or "cifar10", train=False).first(recipe.limit)
    return _resident_test(images, kind, device, share), images.classes


def _folder_test(
    folder: Folder, kind: Normalization, recipe: Recipe, device: torch.device, share: Share, workers: int
) -> FolderTest:
    return FolderTest(folder, kind, 100, size=recipe.image_size, device=device, workers=workers, share=share)


def _resident_test(images: Images, kind: Normalization, device: torch.device, share: Share) -> ResidentTest:
    return ResidentTest(images, kind, 500, device=device, share=share)
