"""Detection and instance segmentation as a task of the trainer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recalib.data import Share
from recalib.data.detection_data import DetectionDataset
from recalib.detection.average_precision import IouType
from recalib.detection.checkpoints import write_detector
from recalib.detection.detectors import build_from_recipe, detector_spec
from recalib.detection.domains import values_of
from recalib.detection.evaluation import detect, joined, summary
from recalib.detection.feed import Batch, DetectionFeed
from recalib.detection.recipes import DetectionRecipe
from recalib.detection.style import Adversarial
from recalib.detection.watch import keep_frame
from recalib.runs import write_json
from recalib.training.task import Part, Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric


SHOWN = 10  # classes of a table that is said after every epoch
BY_CLASS = "per_class.json"  # in a run's folder: AP of every class, at the last evaluation


class _Sealed:
    """A batch that Fabric does not look into: mixed precision would round boxes to whole pixels and worse."""

    def __init__(self, batch: Batch) -> None:
        self.images, self.targets = batch


class _Losses(nn.Module):
    """A network called with a sealed batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: _Sealed) -> Any:
        return self.network(batch.images, batch.targets)


class Detection(Task):
    """A detector, or one with its adversary, its training and test images.

    Args:
        recipe: network and training.
        train: trained on.
        test: evaluated on.
        aside: training images that were set aside, if any.
        device: place of the batches.
        share: this process, and how many there are.
        workers: processes that read images.
        preset: the recipe's name, for the record.
        watched: an image (3, H, W), uint8, that is drawn after every epoch.
        splits: names of what is trained and evaluated on.
        there: numbers of training and test images without a limit.

    Raises:
        RecalibError: for settings of the detector that it does not take.
    """

    score = "AP"

    def __init__(
        self, recipe: DetectionRecipe, train: DetectionDataset, test: DetectionDataset,
        aside: DetectionDataset | None = None, *, device: torch.device, share: Share = (0, 1), workers: int = 0,
        preset: str = "own", watched: Tensor | None = None, splits: tuple[str, str] = ("train", "val"),
        there: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        self.recipe, self.workers, self.preset, self.watched = recipe, workers, preset, watched
        self.classes, self.aside, self.splits = train.classes, aside is not None, splits
        self.there = there or (len(train) + len(aside or ()), len(test))
        self.datasets: dict[str, DetectionDataset] = {
            "train": train,
            "test": test,
            **({"aside": aside} if aside else {}),
        }
        self.train = DetectionFeed(
            train, batch=recipe.batch, augment=recipe.augment, seed=recipe.seed, repeat=recipe.repeat,
            drop_last=recipe.drop_last, workers=workers, device=device, share=share,
        )  # fmt: skip
        self.by_class: dict[str, dict[str, float]] = {}  # AP and AP50, at the last evaluation on the test images
        self.network = build_from_recipe(recipe, len(train.classes))
        if recipe.style_adversarial:
            labels = values_of(train, recipe.style_labels)
            self.network = Adversarial(self.network, labels, recipe.style_weight)

    def called(self, network: nn.Module, *, compiled: str | None) -> nn.Module:
        """The network with its losses; what is compiled is the backbone, whose shapes are few."""
        if compiled:
            backbone: Any = _detector(network).backbone
            backbone.compile(mode=compiled)
        return _Losses(network)

    def size(self, batch: Batch) -> int:
        """Images in a batch of this process."""
        return len(batch[0])

    def parts(self, batch: Batch, count: int) -> Sequence[Batch]:
        """A batch in so many parts, or fewer."""
        each = -(-len(batch[0]) // count)
        return [(batch[0][i : i + each], batch[1][i : i + each]) for i in range(0, len(batch[0]), each)]

    def losses(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the detector's losses, and each of them."""
        losses: dict[str, Tensor] = model(_Sealed(batch))
        loss = torch.stack(list(losses.values())).sum()
        return loss, {name: value.detach().float() * len(batch[0]) for name, value in losses.items()}

    def evaluate(self, network: nn.Module, part: Part, fabric: "Fabric") -> dict[str, float]:
        """COCO's average precisions: each process detects in its share of the images, the first one scores."""
        world, rank, dataset = fabric.world_size, fabric.global_rank, self.datasets[part]
        iou_types: tuple[IouType, ...] = ("bbox", "segm") if detector_spec(self.recipe.model).masks else ("bbox",)
        own = detect(
            _detector(network), dataset, iou_types=iou_types, workers=self.workers, share=(rank, world)
        )  # fmt: skip
        parts = [own] * world
        if world > 1:
            torch.distributed.all_gather_object(parts, own)
        found = summary(*joined(parts, dataset)) if rank == 0 else {}
        if part == "test":
            self.by_class = found.get("per_class", {})
        metrics: dict[str, float] = fabric.broadcast(_numbers(found) if found else {})
        return metrics

    def write(self, network: nn.Module, path: Path, metrics: Mapping[str, Any]) -> None:
        """The detector alone, with what it takes to load it."""
        about = {"preset": self.preset, "epoch": metrics["epoch"], "AP": metrics.get("AP")}
        write_detector(_detector(network), path, self.recipe.model, self.classes, self.recipe.ibn, **about)

    def facts(self) -> dict[str, Any]:
        """Files of the labels, classes without the background, images and objects."""
        train, test = self.datasets["train"], self.datasets["test"]
        return {
            "dataset": f"{train.annotations.source.stem} and {test.annotations.source.stem}",
            "classes": len(self.classes) - 1, "train_objects": len(train.annotations.objects),
            "train_images": len(train), "train_images_there": self.there[0],
            "aside_images": len(self.datasets.get("aside", ())),
            "test_images": len(test), "test_images_there": self.there[1],
        }  # fmt: skip

    def notes(self) -> list[str]:
        """Parts of the data that were left out, and the learning rate."""
        lines = [
            f"{name}: {count} x {kind}, left out or cut off; recalib detect check lists them"
            for name, part in zip(self.splits, ("train", "test"), strict=True)
            for kind, count in Counter(problem.kind for problem in self.datasets[part].dropped).items()
        ]
        recipe = self.recipe
        if recipe.lr_batch:
            scaled = f"{recipe.lr:g} for batches of {recipe.lr_batch}, in proportion for {recipe.batch}"
            lines.append(f"learning rate {recipe.peak:g}: {scaled} (the linear rule)")
        return lines

    def details(self) -> list[str]:
        """A table of the classes, the lowest AP first; of many the lowest ones."""
        there = {name: each for name, each in self.by_class.items() if each["AP"] >= 0}
        order = sorted(there, key=lambda name: there[name]["AP"])
        width = max(map(len, order[:SHOWN]), default=0)
        rows = [f"  {name:<{width}}  AP {100 * there[name]['AP']:5.1f}, AP50 {100 * there[name]['AP50']:5.1f}"
                for name in order[:SHOWN]]  # fmt: skip
        more = len(order) - SHOWN
        return [*rows, f"  and {more} classes above these, in {BY_CLASS}"] if more > 0 else rows

    def finished_epoch(self, network: nn.Module, folder: Path, epoch: int) -> None:
        """Keep the figures of every class, and draw the image that is watched."""
        if self.by_class:
            write_json(folder / BY_CLASS, self.by_class)
        if self.watched is not None:
            keep_frame(_detector(network), self.watched, self.classes, folder, epoch)

    def said(self, score: float) -> str:
        """AP from 0 to 100."""
        return f"AP {100 * score:.1f}"

    def line(self, metrics: Mapping[str, Any]) -> str:
        """Loss and average precision."""
        told = {"AP": "AP", "AP50": "AP50", "mask_AP": "mask AP", "mask_AP50": "mask AP50"}
        scores = [f"{text} {100 * metrics[key]:.1f}" for key, text in told.items() if key in metrics]
        parts = [f"train loss {metrics['train_loss']:.4f}", *([", ".join(scores)] if scores else [])]
        return f"epoch {metrics['epoch']}: {'; '.join(parts)}; {metrics['images_per_second']:,.1f} images/s"

    @property
    def unreadable(self) -> list[str]:
        """Images that could not be read so far."""
        return [name for dataset in self.datasets.values() for name in dataset.unreadable]

    @staticmethod
    def restored_totals(totals: Any, batch: int, step: int) -> dict[str, Tensor]:
        """The first version kept the losses, summed over the steps."""
        images = torch.tensor(float(step * batch), dtype=torch.float64)
        return {} if not totals else {"images": images, **{name: t.double() * batch for name, t in totals.items()}}


def _detector(network: nn.Module) -> nn.Module:
    """The detector alone."""
    return network.detector if isinstance(network, Adversarial) else network


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """Figures for a row of metrics, masks' as ``mask_AP`` and so on; without those of which there is nothing."""
    boxes = {name: value for name, value in found.items() if isinstance(value, float)}
    masks = {f"mask_{name}": value for name, value in found.get("segm", {}).items() if isinstance(value, float)}
    there = {name: value for name, value in (boxes | masks).items() if value >= 0}
    return {**there, "images": found["images"]}
