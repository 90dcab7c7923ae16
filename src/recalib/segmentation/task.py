"""Segmentation as a task of the trainer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib.errors import RecalibError
from recalib.segmentation.data import IGNORED, Batch, Pictures, SegmentationFeed, changes
from recalib.segmentation.evaluation import Overlap, overlap
from recalib.segmentation.networks import build_segmenter, write_segmenter
from recalib.segmentation.recipes import SegmentationRecipe
from recalib.training.task import Part, Task
from recalib.training.trainer import summed

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Segmentation(Task):
    """A segmentation network, its training and test images.

    Args:
        recipe: network and training.
        parts: train, test, and aside where training images were set aside.
        there: numbers of training and test images without a limit.
        preset: the recipe's name, for the record.
        **reading: device, share and workers of `recalib.segmentation.data.Feed`.
    """

    score = "miou"

    def __init__(
        self, recipe: SegmentationRecipe, parts: Mapping[str, Pictures], there: tuple[int, int], preset: str = "own",
        **reading: Any,
    ) -> None:  # fmt: skip
        self.recipe, self.pictures, self.there, self.preset = recipe, parts, there, preset
        self.classes, self.aside = parts["train"].classes, "aside" in parts
        common = {"seed": recipe.seed, "repeat": recipe.repeat, "drop_last": recipe.drop_last, **reading}
        self.batches = SegmentationFeed(parts["train"], recipe.batch, changes(recipe.augment, recipe.size), **common)
        self.train = self.batches
        self.shown = {name: SegmentationFeed(parts[name], reading["share"][1], changes("none", recipe.size), **reading)
                      for name in parts if name != "train"}  # fmt: skip
        self.network = build_segmenter(
            recipe.model, num_classes=len(self.classes), attention=recipe.attention, identity=recipe.identity,
            options=recipe.options,
        )  # fmt: skip

    def prepare(self, batch: Batch) -> Batch:
        """Images in the layout that is asked for."""
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        return batch[0].to(memory_format=layout), batch[1]

    def size(self, batch: Batch) -> int:
        """Images in a batch of this process."""
        return len(batch[0])

    def parts(self, batch: Batch, count: int) -> Sequence[Batch]:
        """A batch in so many parts, or fewer."""
        return list(zip(*(t.chunk(count) for t in batch), strict=True))

    def losses(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy over the pixels that count, and the share of them that was told right, in percent."""
        images, labels = batch
        logits, counts = model(images), labels != IGNORED
        total = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        right = (logits.detach().argmax(1) == labels) & counts
        pixels = counts.sum().clamp(min=1)
        return total / pixels, {"pixels": 100 * right.sum() / pixels * len(images)}

    def evaluate(self, network: nn.Module, part: Part, fabric: "Fabric") -> dict[str, float]:
        """Mean IoU over the classes that are there or were seen, and the share of right pixels; from 0 to 1."""
        feed = self.shown[part]
        own = overlap(
            network, feed.in_order(self.recipe.batch), len(self.classes), fabric.device, fabric.autocast
        )  # fmt: skip
        seen = int(summed(torch.tensor(float(own.images), device=fabric.device), fabric))
        if not seen:
            raise RecalibError(f"{self.pictures[part].source}: none of its images can be read, or none has labels")
        own.metric.confmat = summed(own.metric.confmat, fabric)
        return Overlap(own.metric, seen).figures()

    def write(self, network: nn.Module, path: Path, metrics: Mapping[str, Any]) -> None:
        """The network with what it takes to use it."""
        about = {"preset": self.preset, "epoch": metrics["epoch"], "miou": metrics.get("miou")}
        write_segmenter(network, path, self.recipe.model, self.classes, self.recipe.size, **about)

    def facts(self) -> dict[str, Any]:
        """Data, classes and images."""
        return {
            "dataset": f"{self.pictures['train'].source} and {self.pictures['test'].source}",
            "classes": len(self.classes),
            "train_images": len(self.pictures["train"]), "train_images_there": self.there[0],
            "aside_images": len(self.pictures.get("aside", ())),
            "test_images": len(self.pictures["test"]), "test_images_there": self.there[1],
        }  # fmt: skip

    def said(self, score: float) -> str:
        """Mean IoU in percent."""
        return f"mean IoU {100 * score:.1f} %"

    def line(self, metrics: Mapping[str, Any]) -> str:
        """Loss, mean IoU and pixels."""
        told = {"miou": "mean IoU", "pixel_accuracy": "pixels"}
        tested = "".join(f"{text} {100 * metrics[key]:.1f} %; " for key, text in told.items() if key in metrics)
        return (
            f"epoch {metrics['epoch']}: train loss {metrics['train_loss']:.4f}, "
            f"pixels {metrics['train_pixels']:.1f} %; {tested}{metrics['images_per_second']:,.1f} images/s"
        )

    @property
    def unreadable(self) -> list[str]:
        """Images that could not be read so far."""
        return [name for feed in (self.batches, *self.shown.values()) for name in feed.unreadable]
