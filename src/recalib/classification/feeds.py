"""The data of a job: training and test batches on its device, checked before training starts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from recalib.classification.recipes import ClassificationRecipe, Dataset
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
    read_cifar,
    read_folder,
)
from recalib.data.dali import DaliTrain
from recalib.data.resident import Batch
from recalib.errors import RecalibError
from recalib.training.task import Feed

Reader = Literal["torchvision", "dali"]


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

    train: Feed
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


def open_feeds(
    data: Path,
    recipe: ClassificationRecipe,
    device: torch.device,
    share: Share = (0, 1),
    *,
    workers: int = 0,
    reader: Reader = "torchvision",
    strict: bool = False,
) -> Feeds:
    """Training and test batches of a recipe whose data set and normalisation are resolved.

    Args:
        data: folder of the data set.
        recipe: its data set, batch and seed.
        device: where batches are wanted.
        share: this process and how many there are.
        workers: processes that read images.
        reader: of folders of images, for training.
        strict: stop at the first image that cannot be read.

    Raises:
        RecalibError: naming the file that is missing, truncated or mislabelled.
    """
    test, classes = open_test(data, recipe, device, share, workers)
    common: dict[str, Any] = {
        "device": device, "seed": recipe.seed, "drop_last": recipe.drop_last, "share": share, "repeat": recipe.repeat,
    }  # fmt: skip
    kind = normalization(recipe.normalization or "")
    train: Feed
    aside: TestBatches
    if recipe.dataset != "imagenet":
        if reader == "dali":
            raise RecalibError("--reader dali reads folders of images; CIFAR stays on the device as it is")
        images = read_cifar(data, recipe.dataset or "cifar10", train=True).first(recipe.limit)
        images, held = images.split(recipe.holdout)
        train, aside = ResidentTrain(images, kind, recipe.batch, **common), _resident_test(held, kind, device, share)
    else:
        folder, held_folder = _train_folder(data, recipe, classes)
        aside = _folder_test(held_folder, kind, recipe, device, share, workers)
        common |= {"size": recipe.image_size, "workers": workers}
        if reader == "dali":
            train = DaliTrain(folder, kind, recipe.batch, **common)
        else:
            train = FolderTrain(folder, kind, recipe.batch, **common, strict=strict)
    if len(train) == 0 or recipe.batch < share[1]:
        raise RecalibError(f"batch {recipe.batch}: gives {share[1]} processes no whole batch of the training images")
    if recipe.holdout and len(aside) == 0:
        raise RecalibError(f"holdout {recipe.holdout}: sets no training image aside")
    return Feeds(train, test, classes, aside if recipe.holdout else None)


def _train_folder(data: Path, recipe: ClassificationRecipe, classes: tuple[str, ...]) -> tuple[Folder, Folder]:
    """Training images, and those set aside."""
    folder = read_folder(data, train=True, limit=recipe.limit)
    if folder.classes != classes:
        differ = ", ".join(sorted({*folder.classes} ^ {*classes})[:5])
        raise RecalibError(f"{data}/train and val have different classes: {differ} is in one only")
    return folder.split(recipe.holdout)


def open_test(
    root: Path, recipe: ClassificationRecipe, device: torch.device, share: Share = (0, 1), workers: int = 0
) -> tuple[TestBatches, tuple[str, ...]]:
    """Test batches of a recipe whose data set and normalisation are resolved, and the classes they are of.

    Raises:
        RecalibError: naming the file that is missing, truncated or mislabelled.
    """
    kind = normalization(recipe.normalization or "")
    if recipe.dataset == "imagenet":
        folder = read_folder(root, train=False, limit=recipe.test_images)
        return _folder_test(folder, kind, recipe, device, share, workers), folder.classes
    images = read_cifar(root, recipe.dataset or "cifar10", train=False).first(recipe.test_images)
    return _resident_test(images, kind, device, share), images.classes


def _folder_test(
    folder: Folder, kind: Normalization, recipe: ClassificationRecipe, device: torch.device, share: Share, workers: int
) -> FolderTest:
    return FolderTest(folder, kind, 100, size=recipe.image_size, device=device, workers=workers, share=share)


def _resident_test(images: Images, kind: Normalization, device: torch.device, share: Share) -> ResidentTest:
    return ResidentTest(images, kind, 500, device=device, share=share)
