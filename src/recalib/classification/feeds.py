"""The data of a job: training and test batches on its device, checked before training starts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
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
from recalib.data.shards import Shards, has_shards
from recalib.errors import RecalibError
from recalib.training.task import Feed

Reader = Literal["torchvision", "dali"]


class TestBatches(Protocol):
    """Test data as evaluation needs it."""

    def __len__(self) -> int:
        """Number of batches."""
        ...

    def __iter__(self) -> Iterator[Batch]:
        """This process's share of the test set."""
        ...


@dataclass(frozen=True)
class Feeds:
    """Training and test batches, the classes they are of, and training images that were set aside, if any.

    Counts are of images, as `recalib.training.task.Task.facts` has them.
    """

    train: Feed
    test: TestBatches
    classes: tuple[str, ...]
    aside: TestBatches | None = None
    counts: dict[str, int] = field(default_factory=dict)

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
    if (root / "val").is_dir() or find_shards(root, train=False) or has_shards(root, train=False):
        return "imagenet"
    raise RecalibError(
        f"{root} holds no data set: no official folders of CIFAR, no train and val of ImageNet, no parquet, no shards"
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
        device: place of the batches.
        share: this process and how many there are.
        workers: processes that read images.
        reader: library that reads folders of images, for training.
        strict: stop at the first image that cannot be read.

    Raises:
        RecalibError: naming the file that is missing, truncated or mislabelled.
    """
    common: dict[str, Any] = {
        "device": device, "seed": recipe.seed, "drop_last": recipe.drop_last, "share": share, "repeat": recipe.repeat,
    }  # fmt: skip
    kind, whole, tested = normalization(recipe.normalization or ""), *_halves(data, recipe)
    kept, held = whole.first(recipe.limit).split(recipe.holdout)
    shown = tested.first(recipe.test_images)
    train: Feed
    if isinstance(kept, Images):
        if reader == "dali":
            raise RecalibError("--reader dali reads folders of images; CIFAR stays on the device as it is")
        train = ResidentTrain(kept, kind, recipe.batch, **common)
    else:
        common |= {"size": recipe.image_size, "workers": workers}
        if reader == "dali":
            if isinstance(kept, Shards):
                raise RecalibError("--reader dali reads folders of images; shards are read by torchvision")
            train = DaliTrain(kept, kind, recipe.batch, **common)
        else:
            train = FolderTrain(kept, kind, recipe.batch, **common, strict=strict)
    if len(train) == 0 or recipe.batch < share[1]:
        raise RecalibError(f"batch {recipe.batch}: gives {share[1]} processes no whole batch of the training images")
    if recipe.holdout and not len(held):
        raise RecalibError(f"holdout {recipe.holdout}: sets no training image aside")
    test, aside = (_test_batches(each, kind, recipe, device, share, workers) for each in (shown, held))
    counts = {
        "train_images": len(kept), "train_images_there": len(whole), "aside_images": len(held),
        "test_images": len(shown), "test_images_there": len(tested),
    }  # fmt: skip
    return Feeds(train, test, tested.classes, aside if recipe.holdout else None, counts)


def _halves(data: Path, recipe: ClassificationRecipe) -> tuple[Images | Folder | Shards, Images | Folder | Shards]:
    """All training and test images."""
    train, test = (_half(data, recipe, train=train) for train in (True, False))
    if train.classes != test.classes:
        differ = ", ".join(sorted({*train.classes} ^ {*test.classes})[:5]) or "their order"
        raise RecalibError(f"{data}/train and val have different classes: {differ} is in one only")
    return train, test


def _half(data: Path, recipe: ClassificationRecipe, *, train: bool) -> Images | Folder | Shards:
    if recipe.dataset == "imagenet":
        return read_folder(data, train=train)
    return read_cifar(data, recipe.dataset or "cifar10", train=train)


def open_test(
    root: Path,
    recipe: ClassificationRecipe,
    device: torch.device,
    share: Share = (0, 1),
    workers: int = 0,
    **shown: Any,
) -> tuple[TestBatches, tuple[str, ...]]:
    """Test batches of a recipe whose data set and normalisation are resolved, and the classes they are of.

    ``shown`` is how images are shown to the network, crop and interpolation, where that is not ImageNet's usual way.

    Raises:
        RecalibError: naming the file that is missing, truncated or mislabelled.
    """
    images = _half(root, recipe, train=False).first(recipe.test_images)
    kind = normalization(recipe.normalization or "")
    return _test_batches(images, kind, recipe, device, share, workers, **shown), images.classes


def _test_batches(
    images: Images | Folder | Shards, kind: Normalization, recipe: ClassificationRecipe, device: torch.device,
    share: Share, workers: int, **shown: Any,
) -> TestBatches:  # fmt: skip
    if isinstance(images, Images):
        return ResidentTest(images, kind, 500, device=device, share=share)
    return FolderTest(images, kind, 100, size=recipe.image_size, device=device, workers=workers, share=share, **shown)
