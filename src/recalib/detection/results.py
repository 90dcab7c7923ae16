"""Detections in COCO's result format, which every COCO tool reads."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from torch import Tensor

from recalib.data.annotations import Annotations, Problem
from recalib.data.coco import read_labels
from recalib.data.masks import as_runs, is_mask, runs_of
from recalib.detection.average_precision import IouType, Result
from recalib.errors import RecalibError

MASK_THRESHOLD = 0.5  # torchvision's detectors give the probability of each pixel


def results_of(
    prediction: Mapping[str, Tensor], image_id: int, category_ids: Sequence[int], iou_type: IouType
) -> list[Result]:
    """Detections in an image, as COCO writes them.

    Args:
        prediction: torchvision's: boxes (n, 4) xyxy, labels (n,), scores (n,), and for ``"segm"`` masks (n, 1, H, W).
        image_id: the image's.
        category_ids: the data set's own id of each label.
        iou_type: with boxes, or with masks. Not with both, as COCO's tools take the size of a detection from its box
            where there is one.
    """
    boxes, scores = prediction["boxes"].double().cpu(), prediction["scores"].double().cpu().tolist()
    boxes[:, 2:] -= boxes[:, :2]
    labels = prediction["labels"].tolist()
    facts = [
        {"image_id": image_id, "category_id": category_ids[label], "score": score}
        for label, score in zip(labels, scores, strict=True)
    ]
    if iou_type == "bbox":
        return [{**fact, "bbox": box} for fact, box in zip(facts, boxes.tolist(), strict=True)]
    masks = (prediction["masks"][:, 0] > MASK_THRESHOLD).cpu().numpy()
    return [{**fact, "segmentation": runs_of(mask)} for fact, mask in zip(facts, masks, strict=True)]


def read_results(file: Path, truth: Annotations) -> list[Result]:
    """Read a result file.

    Args:
        file: COCO's json, a list of detections.
        truth: the images they are of.

    Raises:
        RecalibError: naming the entry that is not of COCO's form, is of an image that is not there, or whose box has a
            negative side.
    """
    content = read_labels(file)
    if not isinstance(content, list):
        raise RecalibError(f"{file} is no COCO result file: it should be a list of detections")
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth.images}
    return [_result(entry, f"{file}: detection {i}", sizes) for i, entry in enumerate(content)]


def of_known_categories(results: list[Result], truth: Annotations) -> tuple[list[Result], list[Problem]]:
    """The results whose category the data set has, and the others."""
    known = [result for result in results if result["category_id"] in truth.categories]
    strange = (result for result in results if result["category_id"] not in truth.categories)
    wrong = [
        Problem("detection of an unknown category", f"image {each['image_id']}", f"category {each['category_id']}")
        for each in strange
    ]
    return known, wrong


def _result(entry: Any, where: str, sizes: Mapping[int, tuple[int, int]]) -> Result:
    if not isinstance(entry, dict) or not {"image_id", "category_id", "score"} <= entry.keys():
        raise RecalibError(f"{where} lacks image_id, category_id or score")
    if not isinstance(entry["image_id"], int) or not isinstance(entry["category_id"], int):
        raise RecalibError(
            f"{where} has image {entry['image_id']!r}, category {entry['category_id']!r}: not whole numbers"
        )
    if entry["image_id"] not in sizes:
        raise RecalibError(f"{where} is of image {entry['image_id']}, which the annotations do not have")
    box = entry.get("bbox", [0, 0, 0, 0])
    numbers = [entry["score"], *box] if isinstance(box, list) and len(box) == 4 else [None]
    if not all(isinstance(n, int | float) and isfinite(n) for n in numbers):
        raise RecalibError(f"{where} has score {entry['score']!r}, box {entry.get('bbox')!r}: not finite numbers")
    if min(box[2:]) < 0:
        raise RecalibError(f"{where} has the box {box}: its width or height is negative; boxes are x, y, width, height")
    result = {key: entry[key] for key in ("image_id", "category_id", "score", "bbox") if key in entry}
    if entry.get("segmentation"):
        height, width = sizes[entry["image_id"]]
        if not is_mask(entry["segmentation"], height, width):
            raise RecalibError(f"{where} has a mask that is not of COCO's form, or not of the size of its image")
        result["segmentation"] = as_runs(entry["segmentation"], height, width)
    return result
