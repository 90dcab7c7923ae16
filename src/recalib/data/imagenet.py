"""ImageNet, or anything laid out like it: ``train/CLASS/image`` and ``val/CLASS/image``, or the same as parquet."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, v2

from recalib.data.normalization import Normalization
from recalib.data.order import Share, generator_for, held_out, order_of, seed_for, share_of, steps_in
from recalib.data.parquet import Record, find_shards, read_parquet
from recalib.data.pictures import image_files, open_picture
from recalib.data.resident import Batch
from recalib.data.shards import Shards, has_shards, read_shards
from recalib.errors import RecalibError, WorkFailed

CROP = 224 / 256  # the share of the short side that ImageNet is evaluated on


@dataclass(frozen=True)
class Folder:
    """Images of one half of a data set.

    Attributes:
        files: the images, paths or rows of parquet files.
        labels: index of each image's class.
        classes: names of the class folders, sorted, or what the parquet files name.
    """

    files: tuple[Path | Record, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def first(self, count: int | None) -> "Folder":
        """So many of the images, spread evenly over the classes; all of them for None."""
        step = max(1, len(self) // count) if count else 1
        return Folder(self.files[::step][:count], self.labels[::step][:count], self.classes)

    def split(self, share: float) -> tuple["Folder", "Folder"]:
        """The rest after a share of the images of every class is set aside, and that share."""
        aside = held_out(len(self.files), share)
        return self._only(~aside), self._only(aside)

    def order(self, repeat: int, draw: torch.Generator) -> Tensor:
        """Indices of so many passes over the images, each in an order of its own."""
        return order_of(len(self), repeat, draw)

    def after(self, index: int) -> int:
        """The image that stands in for one that cannot be read."""
        return (index + 1) % len(self)

    def _only(self, wanted: np.ndarray) -> "Folder":
        return Folder(tuple(compress(self.files, wanted)), tuple(compress(self.labels, wanted)), self.classes)


def read_folder(root: Path, train: bool) -> Folder | Shards:
    """List the images of ``root/train`` or ``root/val``, or of parquet files or other shards for them.

    Args:
        root: the data set.
        train: the training half, or the test half.

    Raises:
        RecalibError: naming the folder that is missing, empty, or not sorted into classes, or what is wrong with the
            parquet files.
    """
    if has_shards(root, train):
        return read_shards(root, train)
    parquet = find_shards(root, train)
    if parquet:
        return Folder(*read_parquet(parquet))
    half = root / ("train" if train else "val")
    if not half.is_dir():
        raise RecalibError(f"{half} is missing: images are expected in {half}/CLASS/")
    classes = sorted(folder.name for folder in half.iterdir() if folder.is_dir())
    if not classes:
        raise RecalibError(f"{half} has no class folders: sort its images into {half}/CLASS/")
    found = [(file, label) for label, name in enumerate(classes) for file in image_files(half / name)]
    files, labels = zip(*found, strict=True)
    return Folder(files, labels, tuple(classes))


class _Pictures(Dataset[tuple[Tensor, int, int]]):
    """Decoded and cropped images by (index, seed); for an unreadable one the next that can be read, and its index."""

    def __init__(self, folder: Folder | Shards, transform: v2.Compose) -> None:
        self.folder, self.transform = folder, transform

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int, int]:
        wanted, seed = key
        index, count = wanted, len(self.folder.files)
        for _ in range(count):
            picture = open_picture(self.folder.files[index])
            if picture is not None:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    return self.transform(picture), self.folder.labels[index], -1 if index == wanted else wanted
            index = self.folder.after(index)
        raise WorkFailed(f"none of {count} images can be read, {self.folder.files[0]} the first of them")


class _Loading:
    """Base of training and test batches: reads in other processes, and notes what cannot be read."""

    def __init__(
        self,
        folder: Folder | Shards,
        normalization: Normalization,
        transform: v2.Compose,
        device: torch.device,
        workers: int,
    ) -> None:
        self.pictures, self.folder = _Pictures(folder, transform), folder
        self.normalization, self.device, self.workers = normalization, device, workers
        self.unreadable: list[str] = []

    def load(self, keys: Iterable[list[tuple[int, int]]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        loader: DataLoader[Any] = DataLoader(
            self.pictures, batch_sampler=keys, num_workers=self.workers,
            pin_memory=self.device.type == "cuda", generator=torch.Generator(),
        )  # fmt: skip
        for images, labels, lost in loader:
            for index in lost[lost >= 0].tolist():
                name = str(self.folder.files[index])
                if name not in self.unreadable:
                    self.unreadable.append(name)
            pixels = images.to(self.device, non_blocking=True)
            yield self.normalization(pixels), labels.to(self.device, non_blocking=True), lost


class FolderTrain(_Loading):
    """Training batches: a random part of each image, resized and flipped at random.

    Crops and flips follow from (seed, epoch, position), whichever process reads the image. An unreadable image is
    replaced by the next one and named in ``unreadable``.

    Args:
        folder: the images.
        normalization: mean and std of the pixels.
        batch: images a step, over all processes.
        size: side of a crop.
        device: place of the batches.
        workers: reading processes.
        seed: decides order and augmentation.
        drop_last: let images that do not fill a batch sit out the epoch.
        share: this process and how many there are.
        strict: stop at the first unreadable image.
        repeat: passes over the images in an epoch.
    """

    def __init__(
        self, folder: Folder | Shards, normalization: Normalization, batch: int, *, size: int, device: torch.device,
        workers: int, seed: int, drop_last: bool = False, share: Share = (0, 1), strict: bool = False,
        repeat: int = 1,
    ) -> None:  # fmt: skip
        crop = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()]
        super().__init__(folder, normalization, v2.Compose(crop), device, workers)
        self.batch, self.seed, self.drop_last, self.share, self.strict = batch, seed, drop_last, share, strict
        self.repeat, self.count = repeat, len(folder.files) * repeat

    def __len__(self) -> int:
        """Steps in an epoch."""
        return steps_in(self.count, self.batch, self.drop_last, self.share)

    def epoch(self, epoch: int, start: int = 0, attempt: int = 0) -> Iterator[Batch]:
        """This process's share of the batches of an epoch, from step ``start`` on.

        Raises:
            WorkFailed: at an unreadable image, if strict.
        """
        count = self.count
        order = self.folder.order(self.repeat, generator_for(self.seed, epoch, attempt)).tolist()
        mine = (range(count)[share_of(step, self.batch, count, self.share)] for step in range(start, len(self)))
        keys = ([(order[i], seed_for(self.seed, epoch, attempt, i)) for i in positions] for positions in mine)
        for images, labels, _ in self.load(keys):
            if self.strict and self.unreadable:
                raise WorkFailed(f"{self.unreadable[0]} cannot be read")
            yield images, labels


class FolderTest(_Loading):
    """Test batches: the centre of each image, its short side first brought to the size divided by the crop.

    An unreadable image is left out and named in ``unreadable``.

    Args:
        folder: the images.
        normalization: mean and std of the pixels.
        batch: images a step in each process.
        size: side of the centre.
        device: place of the batches.
        workers: reading processes.
        share: this process and how many there are.
        crop: share of the short side that is shown.
        interpolation: bilinear or bicubic.
    """

    def __init__(
        self, folder: Folder | Shards, normalization: Normalization, batch: int, *, size: int, device: torch.device,
        workers: int, share: Share = (0, 1), crop: float = CROP, interpolation: str = "bilinear",
    ) -> None:  # fmt: skip
        whole = v2.Resize(round(size / crop), InterpolationMode(interpolation), antialias=True)
        centre = [whole, v2.CenterCrop(size), v2.PILToTensor()]
        super().__init__(folder, normalization, v2.Compose(centre), device, workers)
        self.batch, self.mine = batch, range(share[0], len(folder.files), share[1])

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.mine) // self.batch)

    def __iter__(self) -> Iterator[Batch]:
        """Images (N, 3, size, size), float32, and labels (N,)."""
        mine = [(i, 0) for i in self.mine]
        keys = [mine[i : i + self.batch] for i in range(0, len(mine), self.batch)]
        for images, labels, lost in self.load(keys):
            read = (lost < 0).to(self.device)
            yield images[read], labels[read]
