"""Training batches of a detection data set, each a function of (seed, epoch, step)."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from recalib.data import Share, generator_for, seed_for
from recalib.data.detection_data import DetectionDataset, Target, learnable
from recalib.data.order import order_of, share_of, steps_in
from recalib.errors import RecalibError

Batch = tuple[list[Tensor], list[Target]]
LEARNT = ("boxes", "labels", "masks", "image_id", "instead_of")


class DetectionFeed:
    """Batches of images (3, H, W) in [0, 1] and their targets, without crowd regions, on a device.

    Each target has ``domain`` besides, what is known of the image, such as ``{"timeofday": "night"}``; nothing where it
    stands in for an image that could not be read.

    Args:
        dataset: training data.
        batch: images a step, over all processes.
        augment: ``"none"``, ``"flip"`` or ``"ssd"``.
        seed: decides order and augmentation.
        repeat: passes over the images in an epoch.
        drop_last: let images that do not fill a batch sit out the epoch.
        workers: processes that read images.
        device: place of the batches.
        share: this process, and how many there are.

    Raises:
        RecalibError: where a batch has less images than there are processes.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        *,
        batch: int,
        augment: str = "none",
        seed: int = 0,
        repeat: int = 1,
        drop_last: bool = False,
        workers: int = 0,
        device: torch.device | None = None,
        share: Share = (0, 1),
    ) -> None:
        self.dataset, self.batch, self.augment, self.seed, self.workers = dataset, batch, augment, seed, workers
        self.device, self.share = device or torch.device("cpu"), share
        self.repeat, self.drop_last = repeat, drop_last
        self.images, self.count = len(dataset), len(dataset) * repeat
        if len(self) == 0:
            raise RecalibError(f"batch {batch}: gives {share[1]} processes no batch of {self.count} images")

    def __len__(self) -> int:
        """Steps in an epoch."""
        return steps_in(self.count, self.batch, self.drop_last, self.share)

    def epoch(self, epoch: int, start: int = 0, attempt: int = 0) -> Iterator[Batch]:
        """This process's share of each batch of an epoch, from a step on."""
        draw = generator_for(self.seed, attempt, epoch)
        passes = torch.arange(self.repeat).repeat_interleave(self.images)
        order = (order_of(self.images, self.repeat, draw) + passes * self.images).tolist()
        shares = [order[share_of(step, self.batch, self.count, self.share)] for step in range(start, len(self))]
        pictures = _Augmented(self.dataset, self.images, transform(self.augment), (self.seed, attempt, epoch))
        reader: Any = DataLoader(
            pictures, batch_sampler=shares, num_workers=self.workers, collate_fn=_as_lists,
            generator=generator_for(self.seed, attempt, epoch), pin_memory=self.device.type == "cuda",
        )  # fmt: skip
        for images, targets in reader:
            self.dataset.note(targets)
            yield [self._floats(image) for image in images], [self._moved(target) for target in targets]

    def _floats(self, image: Tensor) -> Tensor:
        return image.to(self.device, non_blocking=True).float() / 255

    def _moved(self, target: Target) -> Target:
        there = {key: v.to(self.device, non_blocking=True) for key, v in target.items() if isinstance(v, Tensor)}
        return {**target, **there}


def transform(augment: str) -> v2.Transform | None:
    """Random changes of an image and its target; ``"ssd"`` as Liu et al. 2016 and ScratchDet."""
    flip = [v2.RandomHorizontalFlip()]
    if augment == "ssd":
        fill: Any = {tv_tensors.Image: (124, 116, 104), "others": 0}
        flip = [v2.RandomPhotometricDistort(), v2.RandomZoomOut(fill=fill), v2.RandomIoUCrop(), *flip]
    return None if augment == "none" else v2.Compose([*flip, v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes()])


class _Augmented(Dataset[tuple[Tensor, Target]]):
    """Images that differ from pass to pass, but not from one reading to the next; indices count over the passes."""

    def __init__(
        self, dataset: DetectionDataset, images: int, change: v2.Transform | None, counters: tuple[int, ...]
    ) -> None:
        self.dataset, self.images, self.change, self.counters = dataset, images, change, counters

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        image, target = self.dataset[index % self.images]
        domain = {} if "instead_of" in target else self.dataset.attributes(index % self.images)
        target = {key: value for key, value in learnable(target).items() if key in LEARNT}
        if self.change is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed_for(*self.counters, index))
                image, target = _changed(self.change, image, target)
        return image, {**target, "domain": domain}


def _changed(change: v2.Transform, image: Tensor, target: Target) -> tuple[Tensor, Target]:
    size: Any = image.shape[-2:]
    kinds: dict[str, Any] = {
        "boxes": lambda boxes: tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "masks": tv_tensors.Mask,
    }
    wrapped = {key: kinds[key](value) if key in kinds else value for key, value in target.items()}
    image, wrapped = change(tv_tensors.Image(image), wrapped)
    plain = {key: v.as_subclass(Tensor) if isinstance(v, Tensor) else v for key, v in wrapped.items()}
    return image.as_subclass(Tensor), plain


def _as_lists(samples: Sequence[tuple[Tensor, Target]]) -> Batch:
    return [image for image, _ in samples], [target for _, target in samples]
