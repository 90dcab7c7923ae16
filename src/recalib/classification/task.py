"""Classification as a task of the trainer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib.classification.feeds import Feeds
from recalib.classification.mixing import mixer
from recalib.classification.network import build_network, write_network
from recalib.classification.recipes import ClassificationRecipe
from recalib.classification.scores import accuracy
from recalib.training.task import Part, Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Batch = tuple[Tensor, Tensor, Tensor]  # images (N, 3, H, W), targets (labels or class shares), and labels (N,)


class Classification(Task):
    """A classifier, its training and test images.

    Args:
        recipe: resolved.
        feeds: its data.
        preset: the recipe's name, for the record.
    """

    score = "top1"
    evaluates_weights: ClassVar[bool] = True

    def __init__(self, recipe: ClassificationRecipe, feeds: Feeds, preset: str = "own") -> None:
        self.recipe, self.feeds, self.preset = recipe, feeds, preset
        self.train, self.aside = feeds.train, feeds.aside is not None
        self.network = build_network(recipe, len(feeds.classes))
        self.mix = mixer(recipe.mixup, recipe.cutmix, len(feeds.classes))

    def called(self, network: nn.Module, *, compiled: str | None) -> nn.Module:
        """The network, compiled if so asked."""
        made: Any = torch.compile(network, mode=compiled) if compiled else network
        return made

    def prepare(self, batch: Any) -> Batch:
        """Images in the layout that is asked for, mixed."""
        images, labels = batch
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        mixed, targets = self.mix(images.to(memory_format=layout), labels)
        return mixed, targets, labels

    def size(self, batch: Any) -> int:
        """Images in a batch of this process."""
        return len(batch[0])

    def parts(self, batch: Batch, count: int) -> Sequence[Batch]:
        """A batch in so many parts, or fewer."""
        return list(zip(*(t.chunk(count) for t in batch), strict=True))

    def losses(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy, and how many percent of the images were told right."""
        images, targets, labels = batch
        logits = model(images)
        loss = F.cross_entropy(logits, targets, label_smoothing=self.recipe.label_smoothing)
        return loss, {"top1": 100 * (logits.detach().argmax(1) == labels).sum()}

    def evaluate(self, network: nn.Module, part: Part, fabric: "Fabric") -> dict[str, float]:
        """Loss, top-1 and top-5."""
        batches = self.feeds.test if part == "test" else self.feeds.aside
        assert batches is not None
        return accuracy(network, batches, fabric)

    def write(self, network: nn.Module, path: Path, metrics: Mapping[str, Any]) -> None:
        """The network with what it takes to load it, its classes and accuracy."""
        about: dict[str, Any] = {"preset": self.preset, "classes": list(self.feeds.classes)}
        about |= {key: metrics.get(key) for key in ("epoch", "top1", "top5")}
        write_network(network, self.recipe, path, **about)

    def facts(self) -> dict[str, Any]:
        """Data set, classes and images."""
        return {"dataset": self.recipe.dataset, "classes": len(self.feeds.classes), **self.feeds.counts}

    def said(self, score: float) -> str:
        """Top-1 in percent."""
        return f"top-1 {score:.2f} %"

    def line(self, metrics: Mapping[str, Any]) -> str:
        """Losses and top-1 on training and test images."""
        tested = f"test loss {metrics['loss']:.4f}, top-1 {metrics['top1']:.2f} %; " if "top1" in metrics else ""
        return (
            f"epoch {metrics['epoch']}: train loss {metrics['train_loss']:.4f}, top-1 {metrics['train_top1']:.2f} %; "
            f"{tested}{metrics['images_per_second']:,.0f} images/s"
        )

    @property
    def unreadable(self) -> list[str]:
        """Images that could not be read so far."""
        return self.feeds.unreadable

    @staticmethod
    def restored_totals(totals: Any, batch: int, step: int) -> dict[str, Tensor]:
        """The first version kept the loss, the hits and the images."""
        loss, correct, images = totals
        return {"images": images, "loss": loss, "top1": 100 * correct}
