"""The data of a job: training and test batches on its device, checked before training starts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from recalib.data import Normalization, ResidentTest, ResidentTrain, find_cifar, read_cifar
from recalib.data.resident import Batch
from recalib.errors import RecalibError
from recalib.training.recipes import Recipe

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


def cifar_feeds(
    recipe: Recipe, root: Path, normalization: Normalization, device: torch.device, share: tuple[int, int]
) -> Feeds:
    """CIFAR, resident on the device."""
    name = recipe.dataset or dataset_in(root)
    images = read_cifar(root, name, train=True).first(recipe.limit)
    train = ResidentTrain(
        images, normalization, recipe.batch, device=device, seed=recipe.seed, drop_last=recipe.drop_last, share=share
    )
    test = ResidentTest(read_cifar(root, name, train=False), normalization, TEST_BATCH, device=device, share=share)
    return Feeds(train, test, images.classes)
