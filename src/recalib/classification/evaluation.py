"""A checkpoint of ours or of another project on a test set, its network and normalisation recognised."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from recalib.classification.feeds import dataset_in, open_test
from recalib.classification.recipes import ClassificationRecipe, Dataset
from recalib.classification.scores import Predictions, predict, summary
from recalib.data import normalization_name
from recalib.deploy.classifier import Classifier, open_exported
from recalib.deploy.formats import format_of
from recalib.errors import RecalibError
from recalib.models import create_model
from recalib.runs.folder import weights_of
from recalib.surgery import CheckpointInfo, inspect_checkpoint, load_checkpoint


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint was taken for, and what it predicted.

    Attributes:
        facts: checkpoint, format, architecture, attention, normalization and who told it, data and dataset.
        predictions: on every image of the test set.
        classes: of the test set.
        unreadable: images left out because they could not be read.
    """

    facts: dict[str, Any]
    predictions: Predictions
    classes: tuple[str, ...]
    unreadable: list[str]

    def results(self) -> dict[str, Any]:
        """Facts and figures, for ``--json``."""
        return {**self.facts, **summary(self.predictions, self.classes), "unreadable": self.unreadable}


def evaluate(
    checkpoint: Path,
    data: Path,
    *,
    model: str | None = None,
    normalization: str | None = None,
    dataset: Dataset | None = None,
    image_size: int = 224,
    limit: int | None = None,
    workers: int = 4,
    device: torch.device | None = None,
) -> Evaluation:
    """Evaluate a checkpoint, the weights that a run ended with, or a file of `recalib export`.

    Args:
        checkpoint: a file in any format that `load_checkpoint` reads, an exported one, or a run's folder.
        data: folder of CIFAR's official files, or with ImageNet's ``val``.
        model: the network, where the checkpoint does not tell it.
        normalization: of the input, instead of what the checkpoint tells.
        dataset: by default what the folder holds.
        image_size: of ImageNet; a file exported for one size is evaluated at that.
        limit: on so many images only.
        workers: processes that read images.
        device: by default the best this machine has.

    Raises:
        RecalibError: for a checkpoint or data that cannot be read, or that do not belong together.
    """
    file = weights_of(checkpoint)
    exported = open_exported(file) if format_of(file) else None
    seen = _seen(exported) if exported else inspect_checkpoint(file)
    dataset = dataset or dataset_in(data)
    if exported and not exported.about.dynamic:
        image_size = _side(exported, file)
    told = normalization_name(*seen.normalization) if seen.normalization else None
    form = normalization or told or ("imagenet" if dataset == "imagenet" else "cifar")
    recipe = ClassificationRecipe(dataset=dataset, normalization=form, image_size=image_size, limit=limit)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches, classes = open_test(data, recipe, device, workers=workers)
    network = _load(file, seen, model, len(classes), exported).to(device)
    shown = track(batches, f"evaluating {checkpoint.name}", len(batches), transient=True, disable=not _terminal())
    predictions = predict(network, shown)
    facts = {
        "checkpoint": str(checkpoint), "format": seen.format, "architecture": model or seen.architecture,
        "attention": seen.attention, "normalization": form,
        "normalization_from": "the flag" if normalization else "the checkpoint" if told else "the data set",
        "data": str(data), "dataset": dataset,
    }  # fmt: skip
    return Evaluation(facts, predictions, classes, list(getattr(batches, "unreadable", [])))


def _seen(exported: Classifier) -> CheckpointInfo:
    """What an exported file tells, as a checkpoint would."""
    about = exported.about
    return CheckpointInfo(
        format=exported.form, source="recalib export", architecture=about.model, attention=about.attention or None,
        modules=0, kernels=None, num_classes=len(about.labels) or None, normalization=(about.mean, about.std),
        missing=(), unexpected=(), differing=(), metadata={},
    )  # fmt: skip


def _side(exported: Classifier, file: Path) -> int:
    height, width = exported.about.size
    if height != width:
        raise RecalibError(f"{file.name} holds for {height}x{width}; test images are square")
    return height


def _load(
    file: Path, seen: CheckpointInfo, model: str | None, classes: int, exported: Classifier | None
) -> torch.nn.Module:
    if seen.num_classes not in (None, classes):
        raise RecalibError(f"{file.name} tells {seen.num_classes} classes apart, the data has {classes}")
    if exported:
        return exported.network
    if model is None and seen.architecture is None:
        raise RecalibError(f"{file.name} does not tell its network; name it with --model")
    return load_checkpoint(file, model=create_model(model, num_classes=classes) if model else None)


def _terminal() -> bool:
    from rich.console import Console

    return Console().is_terminal
