"""A segmentation network on labelled images: intersection over union, in total and of each class."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recalib.errors import RecalibError, require_packages
from recalib.segmentation.data import IGNORED, Batch, SegmentationFeed, changes, open_pictures
from recalib.segmentation.networks import load_segmenter

if TYPE_CHECKING:
    from torchmetrics.classification import MulticlassJaccardIndex


@dataclass(frozen=True)
class Overlap:
    """Pixels of each class, by the class they were taken for.

    Attributes:
        metric: torchmetrics' index of Jaccard, by class; its ``confmat`` holds the pixels that count, by true class
            (rows) and predicted class.
        images: with at least one pixel that counts.
    """

    metric: "MulticlassJaccardIndex"
    images: int

    def figures(self) -> dict[str, float]:
        """Mean IoU over the classes that are there or were predicted, and the share of right pixels; from 0 to 1."""
        each, confusion = self.iou(), self.metric.confmat
        right = float(confusion.trace() / confusion.sum())
        return {"miou": float(each[~each.isnan()].mean()), "pixel_accuracy": right, "images": self.images}

    def by_class(self, names: Sequence[str]) -> dict[str, float | None]:
        """IoU of each class; None of one that is not there and was not predicted."""
        return {name: None if iou != iou else iou for name, iou in zip(names, self.iou().tolist(), strict=True)}

    def iou(self) -> Tensor:
        """Intersection over union of each class, NaN where there is neither."""
        confusion, each = self.metric.confmat, self.metric.compute()
        return torch.where(confusion.sum(0) + confusion.sum(1) > 0, each, float("nan"))


def overlap(
    network: nn.Module, batches: Iterable[Batch], classes: int, device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Overlap:  # fmt: skip
    """Run a network over labelled images; it is left in the mode it is in.

    Args:
        network: maps images (N, 3, S, S) to logits (N, classes, S, S).
        batches: images, and labels (N, S, S) with 255 for what does not count.
        classes: their number.
        device: place of both.
        autocast: the precision that the network runs in.
    """
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(classes, average="none", ignore_index=IGNORED).to(device)
    was_training, images = network.training, 0
    network.eval()
    with torch.inference_mode():
        for x, labels in batches:
            with autocast():
                logits = network(x).float()
            metric.update(logits.argmax(1), labels)
            images += int((labels != IGNORED).flatten(1).any(1).sum())
    network.train(was_training)
    return Overlap(metric, images)


def evaluate(
    checkpoint: Path, data: Path, split: str = "val", *, limit: int | None = None, batch: int = 1, workers: int = 0,
    device: torch.device | None = None, watch: Callable[[Iterable[Batch], int], Iterable[Batch]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate a run or its weights on a part of a data set.

    Args:
        checkpoint: a run of `recalib segment train`, or a file of it.
        data: COCO's masks, or folders of label images.
        split: part of the data.
        limit: so many images only.
        batch: images at a time.
        workers: processes that read images.
        device: place of the network.
        watch: shows the progress; called with the batches and their number.

    Raises:
        RecalibError: for weights or data that are not there, or whose classes differ.
    """
    require_packages(("torchmetrics",), "segment", "segmentation")
    network, classes, side = load_segmenter(checkpoint)
    pictures, device = open_pictures(data, split), device or torch.device("cpu")
    if pictures.classes != classes:
        differ = ", ".join(sorted({*pictures.classes} ^ {*classes})[:5]) or "their order"
        raise RecalibError(f"{checkpoint} and {pictures.source} differ in their classes: {differ}")
    shown = pictures.only(range(len(pictures))[:limit])
    feed = SegmentationFeed(shown, 1, changes("none", side), device=device, workers=workers)
    batches: Iterable[Batch] = feed.in_order(batch)
    if watch is not None:
        batches = watch(batches, -(-len(shown) // batch))
    found = overlap(network.to(device), batches, len(classes), device)
    if not found.images:
        raise RecalibError(f"{pictures.source}: none of its images can be read, or none has labels")
    about: Mapping[str, Any] = {"checkpoint": str(checkpoint), "data": str(data), "split": split, "size": side}
    return {**about, **found.figures(), "per_class": found.by_class(classes), "unreadable": feed.unreadable}
