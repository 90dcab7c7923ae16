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
from recalib.data.imagenet import CROP
from recalib.deploy.about import label_names
from recalib.deploy.classifier import Classifier, open_exported_classifier
from recalib.deploy.formats import format_of
from recalib.errors import RecalibError
from recalib.models import create_model
from recalib.runs.folder import weights_of
from recalib.surgery import CheckpointInfo, inspect_checkpoint, load_checkpoint


@dataclass(frozen=True)
class Evaluation:
    """A checkpoint as it was understood, and its predictions.

    Attributes:
        facts: checkpoint, format, architecture, attention, normalization and who told it, data and dataset.
        predictions: on every image of the test set.
        classes: names, in the test set's order.
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
    image_size: int | None = None,
    limit: int | None = None,
    workers: int = 4,
    device: torch.device | None = None,
) -> Evaluation:
    """Evaluate a checkpoint, the weights that a run ended with, or a file of `recalib export`.

    Args:
        checkpoint: a file in any format that `load_checkpoint` reads, an exported one, or a run's folder.
        data: folder of CIFAR's official files, or with ImageNet's ``val``.
        model: the network, where the checkpoint does not tell it.
        normalization: mean and std of the input, instead of the checkpoint's.
        dataset: by default what the folder holds.
        image_size: side of ImageNet's images, instead of what the checkpoint tells.
        limit: on so many images only.
        workers: processes that read images.
        device: by default the best this machine has.

    Raises:
        RecalibError: for a checkpoint or data that cannot be read, or that do not belong together.
    """
    file = weights_of(checkpoint)
    exported = open_exported_classifier(file) if format_of(file) else None
    seen = _seen(exported) if exported else inspect_checkpoint(file)
    dataset = dataset or dataset_in(data)
    shown = _shown_as(seen, exported, file)
    fixed = exported is not None and not exported.about.dynamic
    if fixed and image_size not in (None, shown.get("size")):
        raise RecalibError(f"image size {image_size}: {file.name} holds for {shown['size']} only")
    size = image_size or shown.get("size") or ClassificationRecipe.image_size
    told = normalization_name(*seen.normalization) if seen.normalization else None
    form = normalization or told or ("imagenet" if dataset == "imagenet" else "cifar")
    recipe = ClassificationRecipe(dataset=dataset, normalization=form, image_size=size, limit=limit)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cropped = {key: shown[key] for key in ("crop", "interpolation") if key in shown and dataset == "imagenet"}
    batches, classes = open_test(data, recipe, device, workers=workers, **cropped)
    _refuse_other_classes(file, shown.get("classes"), data, classes)
    network = _load(file, seen, model, len(classes), exported).to(device)
    watched = track(batches, f"evaluating {checkpoint.name}", len(batches), transient=True, disable=not _terminal())
    predictions = predict(network, watched)
    facts = {
        "checkpoint": str(checkpoint), "format": seen.format, "architecture": model or seen.architecture,
        "attention": seen.attention, "normalization": form,
        "normalization_from": "the flag" if normalization else "the checkpoint" if told else "the data set",
        "data": str(data), "dataset": dataset, "trained_on": seen.metadata.get("dataset"),
        "image_size": size if dataset == "imagenet" else 32,
        "image_size_from": "the flag" if image_size else "the checkpoint" if shown.get("size") else "the data set",
        "crop": cropped.get("crop", CROP) if dataset == "imagenet" else 1.0,
        "interpolation": cropped.get("interpolation", "bilinear"),
    }  # fmt: skip
    return Evaluation(facts, predictions, classes, list(getattr(batches, "unreadable", [])))


def _seen(exported: Classifier) -> CheckpointInfo:
    """Facts of an exported file, in the form of a checkpoint's."""
    about = exported.about
    return CheckpointInfo(
        format=exported.form, source="recalib export", architecture=about.model, attention=about.attention or None,
        modules=0, kernels=None, num_classes=len(about.labels) or None, normalization=(about.mean, about.std),
        missing=(), unexpected=(), differing=(), metadata={},
    )  # fmt: skip


def _shown_as(seen: CheckpointInfo, exported: Classifier | None, file: Path) -> dict[str, Any]:
    """Size, crop, interpolation and class names, as far as a file tells them."""
    if exported is None:
        told = seen.metadata.get("preprocessing") or {}
        size = told.get("size")
        about = {key: told[key] for key in ("crop", "interpolation") if key in told}
        names = seen.metadata.get("classes")
    else:
        size, names = exported.about.size, list(exported.about.labels) or None
        about = {"crop": exported.about.crop, "interpolation": exported.about.interpolation}
    if size is not None:
        if size[0] != size[1]:
            raise RecalibError(f"{file.name} holds for {size[0]}x{size[1]}; test images are square")
        about["size"] = size[0]
    return {**about, "classes": names}


def _refuse_other_classes(file: Path, theirs: list[str] | None, data: Path, ours: tuple[str, ...]) -> None:
    """Names that differ mean that figures would be of other classes; numbers in their place are no names.

    Raises:
        RecalibError: naming the first class that differs.
    """
    if theirs is None or len(theirs) != len(ours) or all(name.isdigit() for name in theirs):
        return
    if tuple(theirs) in (ours, label_names(list(ours), len(ours))) or all(name.isdigit() for name in ours):
        return
    place = next(i for i, (one, other) in enumerate(zip(theirs, ours, strict=True)) if one != other)
    raise RecalibError(
        f"{file.name} was trained on other classes than {data} has: {place} is {theirs[place]!r} there, "
        f"{ours[place]!r} here"
    )


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
