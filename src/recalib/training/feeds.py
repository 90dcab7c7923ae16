"""The data of a job: training and test batches on its device, checked before training starts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from recalib.data import Normalization, ResidentTest, ResidentTrain, find_cifar, normalization, read_cifar
from recalib.data.resident import Batch
from recalib.errors import RecalibError
from recalib.training.job import Job

TEST_BATCH = 500


class TrainBatches(Protocol):
    """What the loop needs of training data."""

    def __len__(self) -> int:
        """Steps in an epoch."""
        ...

    def epoch(self, epoch: int, start: int = 0, attempt: int = 0) -> Iterator[Batch]:
        """This process's share of each batch of an epoch, from a step on."""
        ...


@dataclass(frozen=True)
class Feeds:
    """Training and test batches, and the classes they are of."""

    train: TrainBatches
    test: Iterable[Batch]
    classes: tuple[str, ...]


def dataset_in(root: Path) -> str:
    """Name of the data set that a folder holds: cifar10, cifar100 or imagenet.

    Raises:
        RecalibError: where it holds none of them.
    """
    name = find_cifar(root) or ("imagenet" if (root / "val").is_dir() else None)
    if name is None:
        raise RecalibError(f"{root} holds no data set: neither CIFAR's official folders nor ImageNet's train and val")
    return name


def resolved(job: Job) -> Job:
    """The job with data set and normalisation written out where they were left to be found.

    Raises:
        RecalibError: where the folder holds no data set, or the weights are not readable.
    """
    recipe = job.recipe
    dataset = recipe.dataset or dataset_in(job.data)
    own = "imagenet" if dataset == "imagenet" else "cifar"
    return replace(job, recipe=replace(recipe, dataset=dataset, normalization=recipe.normalization or own))


def open_feeds(job: Job, device: torch.device, share: tuple[int, int] = (0, 1)) -> Feeds:
    """Training and test batches of a resolved job.

    Args:
        job: its recipe's data set, batch and seed; its folder.
        device: where batches are wanted.
        share: this process and how many there are.

    Raises:
        RecalibError: naming the file that is missing, truncated or mislabelled.
    """
    recipe, kind = job.recipe, normalization(job.recipe.normalization or "")
    name = recipe.dataset or ""
    images = read_cifar(job.data, name, train=True).first(recipe.limit)
    train = ResidentTrain(
        images, kind, recipe.batch, device=device, seed=recipe.seed, drop_last=recipe.drop_last, share=share
    )
    return Feeds(train, open_test(job.data, name, kind, device, share, recipe.limit), images.classes)


def open_test(
    root: Path,
    dataset: str,
    kind: Normalization,
    device: torch.device,
    share: tuple[int, int] = (0, 1),
    limit: int | None = None,
) -> ResidentTest:
    """Test batches of a data set."""
    images = read_cifar(root, dataset, train=False).first(limit)
    return ResidentTest(images, kind, TEST_BATCH, device=device, share=share)
