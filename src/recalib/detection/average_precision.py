"""COCO's average precision and recall of a result file, in total, per class and per domain."""

from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, Literal

import numpy as np

from recalib.data.annotations import Annotations, Object, usable
from recalib.errors import RecalibError, require_packages

IouType = Literal["bbox", "segm"]
Result = dict[str, Any]
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def average_precision(truth: Annotations, results: Sequence[Result], iou_type: IouType) -> dict[str, Any]:
    """COCO's twelve figures, as pycocotools computes them (to the last bits of float64), by faster-coco-eval.

    AP is the mean over classes and over IoU thresholds 0.5, 0.55, ..., 0.95 of precision at 101 recalls, AP50 and AP75
    are at one threshold, s, m and l of objects below 32 x 32, below 96 x 96, and larger, in pixels; AR1, AR10 and AR100
    are recalls with so many detections an image. Crowd regions are no objects: what lies in them counts neither way.
    A figure is -1 where there is nothing of the kind.

    Args:
        truth: the objects there are; what `recalib.data.annotations.usable` leaves out is no object.
        results: in COCO's result format: image_id, category_id (the data set's own), score, and bbox
            (x, y, width, height) or segmentation (compressed run lengths, or polygons).
        iou_type: boxes or masks.

    Returns:
        The figures by name, ``images``, ``per_class`` (AP and AP50 by name of the class), and ``per_domain``: where the
        images have attributes, the figures by attribute and value.

    Raises:
        RecalibError: for results of images that are not there, or without the boxes or masks asked for.
    """
    truth, _ = usable(truth, masks=iou_type == "segm")
    ids = [image["id"] for image in truth.images]
    evaluator = _evaluator(truth, results, iou_type)
    whole = _figures(evaluator, ids)
    names = dict(zip(truth.categories.values(), _classes(evaluator, list(truth.categories)), strict=True))
    domains: dict[str, dict[str, Any]] = {}
    for attribute, value, members in _domains(truth):
        domains.setdefault(attribute, {})[value] = _figures(evaluator, members)
    return {**whole, "per_class": names, "per_domain": domains}


def _evaluator(truth: Annotations, results: Sequence[Result], iou_type: IouType) -> Any:
    require_packages(("faster_coco_eval",), "detect", "evaluation")
    from faster_coco_eval import COCO, COCOeval_faster

    content = {
        "images": [{key: image[key] for key in ("id", "width", "height")} for image in truth.images],
        "annotations": [_object(i, each) for i, each in enumerate(truth.objects, 1)],
        "categories": [{"id": number, "name": name} for number, name in truth.categories.items()],
    }
    key = "bbox" if iou_type == "bbox" else "segmentation"
    if any(key not in result for result in results):
        raise RecalibError(f"the results have no {key}: there is nothing to compute {iou_type} AP from")
    known = {image["id"] for image in truth.images}
    foreign = next((result["image_id"] for result in results if result["image_id"] not in known), None)
    if foreign is not None:
        raise RecalibError(f"the results are of image {foreign}, which {truth.source.name} does not have")
    with redirect_stdout(StringIO()):
        coco = COCO(content)
        return COCOeval_faster(coco, coco.loadRes([dict(result) for result in results]), iou_type)


def _object(number: int, each: Object) -> Object:
    """With an id that is not 0, which the evaluator takes for unmatched."""
    area = each.get("area", each["bbox"][2] * each["bbox"][3])
    kept = {key: each[key] for key in ("image_id", "category_id", "bbox", "segmentation") if each.get(key) is not None}
    return {**kept, "id": number, "area": area, "iscrowd": int(each.get("iscrowd", 0))}


def _figures(evaluator: Any, ids: Sequence[int]) -> dict[str, Any]:
    evaluator.params.imgIds = list(ids)
    with redirect_stdout(StringIO()):
        evaluator.run()
    return {**dict(zip(FIGURES, map(float, evaluator.stats[:12]), strict=True)), "images": len(ids)}


def _classes(evaluator: Any, categories: list[int]) -> Iterator[dict[str, float]]:
    precision = evaluator.eval["precision"][:, :, :, 0, -1]  # thresholds, recalls, classes; all sizes, 100 detections
    order = {category: k for k, category in enumerate(evaluator.params.catIds)}
    for category in categories:
        mine = precision[:, :, order[category]]
        yield {"AP": _mean(mine), "AP50": _mean(mine[0])}


def _mean(values: np.ndarray) -> float:
    there = values[values > -1]
    return float(there.mean()) if there.size else -1.0


def _domains(truth: Annotations) -> Iterator[tuple[str, str, list[int]]]:
    found: dict[tuple[str, str], list[int]] = {}
    for image in truth.images:
        for attribute, value in (image.get("attributes") or {}).items():
            if value is not None:
                found.setdefault((attribute, str(value)), []).append(image["id"])
    for (attribute, value), members in sorted(found.items()):
        yield attribute, value, members
