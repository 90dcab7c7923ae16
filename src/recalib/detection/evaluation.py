"""A detector on a data set: its detections, and their average precision."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from recalib.data import Share
from recalib.data.annotations import Annotations, only
from recalib.data.detection_data import DetectionDataset, Target
from recalib.detection.average_precision import IouType, Result, average_precision
from recalib.detection.results import results_of
from recalib.errors import RecalibError

Detections = tuple[dict[IouType, list[Result]], Annotations]  # what was found, and what there is in the same images


def evaluate(
    model: nn.Module,
    dataset: DetectionDataset,
    *,
    iou_types: Sequence[IouType] = ("bbox",),
    batch: int = 1,
    workers: int = 0,
) -> dict[str, Any]:
    """COCO's average precision of a detector.

    Args:
        model: torchvision's calling convention; its labels are indices of the data set's classes. It runs where its
            weights are, and is left in the mode it is in.
        dataset: images and objects.
        iou_types: boxes, and masks where the detector makes them.
        batch: images at a time.
        workers: processes that read images.

    Returns:
        What `average_precision` returns for the first type, and that for each further type under its name.
    """
    found, truth = detect(model, dataset, iou_types=iou_types, batch=batch, workers=workers)
    return summary(found, truth)


def summary(found: dict[IouType, list[Result]], truth: Annotations) -> dict[str, Any]:
    """Average precision of the first type of results, and that of each further type under its name."""
    first, *more = found
    return {
        **average_precision(truth, found[first], first),
        **{name: average_precision(truth, found[name], name) for name in more},
    }


def detect(
    model: nn.Module,
    dataset: DetectionDataset,
    *,
    iou_types: Sequence[IouType] = ("bbox",),
    classes: Sequence[str] | None = None,
    batch: int = 1,
    workers: int = 0,
    share: Share = (0, 1),
) -> Detections:
    """Detections in every image that can be read, in COCO's result format, and the objects in these.

    Args:
        model: as for `evaluate`.
        dataset: images.
        iou_types: with boxes, with masks.
        classes: names of the model's labels, where they may be in another order than those of the data set.
        batch: images at a time.
        workers: processes that read images.
        share: this process, and how many there are: of the images it takes one in so many; see `joined`.

    Raises:
        RecalibError: where the model and the data set have different classes.
    """
    category_ids = _category_ids(dataset, classes or dataset.classes)
    was_training, device = model.training, next(model.parameters()).device
    own = Subset(dataset, range(share[0], len(dataset), share[1]))
    loader: DataLoader[Any] = DataLoader(own, batch, num_workers=workers, collate_fn=_listed)
    found: dict[IouType, list[Result]] = {name: [] for name in iou_types}
    read: set[int] = set()
    model.eval()
    try:
        for images, targets in _shown(loader) if share[0] == 0 else loader:
            dataset.note(targets)
            there = [(image, t["image_id"]) for image, t in zip(images, targets, strict=True) if "instead_of" not in t]
            read.update(image_id for _, image_id in there)
            for prediction, (_, image_id) in zip(_predict(model, [i for i, _ in there], device), there, strict=True):
                for name in iou_types:
                    found[name] += results_of(prediction, image_id, category_ids, name)
    finally:
        model.train(was_training)
    return found, only(dataset.annotations, read)


def joined(parts: Sequence[Detections], dataset: DetectionDataset) -> Detections:
    """The return of `detect` for all images, joined from those for each share of them."""
    first, _ = parts[0]
    found = {
        name: sorted(chain(*(part[name] for part, _ in parts)), key=lambda each: each["image_id"]) for name in first
    }
    return found, only(dataset.annotations, {image["id"] for _, truth in parts for image in truth.images})


@torch.inference_mode()
def _predict(model: nn.Module, images: list[Tensor], device: torch.device) -> list[dict[str, Tensor]]:
    predictions: list[dict[str, Tensor]] = model([image.to(device) / 255 for image in images]) if images else []
    return predictions


def _category_ids(dataset: DetectionDataset, classes: Sequence[str]) -> list[int]:
    ids = dict(zip(dataset.classes, dataset.category_ids, strict=True))
    strange = sorted({*ids} ^ {*classes})
    if strange:
        raise RecalibError(f"the detector and the data differ in their classes: {', '.join(strange[:5])} in one only")
    return [ids[name] for name in classes]


def _listed(samples: list[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    return [image for image, _ in samples], [target for _, target in samples]


def _shown(loader: DataLoader[Any]) -> Iterable[Any]:
    console = Console(stderr=True)
    return track(loader, "evaluating", transient=True, console=console, disable=not console.is_terminal)
