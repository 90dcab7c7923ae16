"""``recalib detect evaluate``: COCO's average precision of a trained detector, or of a result file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from recalib.cli.arguments import parse
from recalib.cli.detect_check import SHOWN
from recalib.cli.device import device_of
from recalib.cli.json_file import write_json
from recalib.data.annotations import Problem, counts, usable
from recalib.data.detection_data import open_detection
from recalib.data.labels import read_annotations
from recalib.detection.average_precision import FIGURES, IouType, average_precision
from recalib.detection.checkpoints import load_detector
from recalib.detection.domains import domain_of
from recalib.detection.evaluation import detect, summary
from recalib.detection.prediction import makes_masks
from recalib.detection.results import of_known_categories, read_results
from recalib.errors import RecalibError, WorkFailed
from recalib.runs import environment


@dataclass(frozen=True)
class Arguments:
    """COCO's average precision and recall, in total, per class and per domain.

    Examples:
      recalib detect evaluate --predictions RESULT.json --annotations INSTANCES.json
      recalib detect evaluate --weights runs/A --data DATA --split val --out RESULTS
    """

    predictions: Path | None = None
    """detections in COCO's result format"""
    annotations: Path | None = None
    """the objects there are: COCO's instances, or BDD100K's labels"""
    weights: Path | None = None
    """a run of recalib detect train, or its weights"""
    data: Path | None = None
    """folder of the data set, or one of its label files"""
    split: str | None = None
    """part of the data set, such as val"""
    domain: str | None = None
    """images with this attribute only, as in timeofday=night"""
    iou_type: Literal["bbox", "segm"] | None = None
    """of boxes or of masks; by default boxes, and of a detector that makes masks both"""
    strict: bool = False
    """refuse whatever would be left out"""
    out: Path | None = None
    """write the detector's results here, in COCO's format"""
    batch: int = 1
    """images at a time"""
    workers: int = 2
    """processes that read images"""
    device: str | None = None
    """such as cpu or cuda; by default the best this machine has"""
    json: Path | None = None
    """file for all figures"""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib detect evaluate")
    if args.predictions and args.annotations and not (args.weights or args.data):
        found = _of_file(args, args.predictions, args.annotations)
    elif args.weights and args.data and not (args.predictions or args.annotations):
        found = _of_detector(args, args.weights, args.data)
    else:
        raise RecalibError("give either --predictions and --annotations, or --weights and --data")
    _say(found)
    write_json(args.json, {**found, "environment": environment()})
    return 0


def _of_file(args: Arguments, predictions: Path, annotations: Path) -> dict[str, Any]:
    truth = read_annotations(annotations, args.split)
    iou_type: IouType = args.iou_type or "bbox"
    _, wrong = usable(truth, masks=iou_type == "segm")
    results, strange = of_known_categories(read_results(predictions, truth), truth)
    if iou_type == "segm" and any("segmentation" not in result for result in results):
        raise RecalibError(f"{predictions} has detections without a mask: there is no {iou_type} AP of boxes")
    _refuse([*wrong, *strange], truth.source, strict=args.strict)
    found = average_precision(truth, results, iou_type)
    left_out = {"left_out": counts([*wrong, *strange]), "named": [str(each) for each in (*wrong, *strange)]}
    about = {"predictions": str(predictions), "annotations": str(annotations), "iou_type": iou_type}
    return {**about, **found, **left_out}


REFUSED = ("unknown image", "inverted box")  # a file with such labels is of something else, or written wrongly


def _refuse(problems: Sequence[Problem], source: Path, *, strict: bool) -> None:
    """Refuse what nobody can mean, and if strict whatever is wrong.

    Raises:
        WorkFailed: naming the first of them.
    """
    worst = [problem for problem in problems if strict or problem.kind in REFUSED]
    if worst:
        more = f" (and {len(worst) - 1} more)" if len(worst) > 1 else ""
        raise WorkFailed(f"{source}: {worst[0]}{more}; recalib detect check lists them")


def _of_detector(args: Arguments, checkpoint: Path, data: Path) -> dict[str, Any]:
    model, classes = load_detector(checkpoint)
    makes: tuple[IouType, ...] = ("bbox", "segm") if makes_masks(model) else ("bbox",)
    if args.iou_type not in (None, *makes):
        raise RecalibError(f"--iou-type {args.iou_type}: {checkpoint} makes no masks")
    iou_types = (args.iou_type,) if args.iou_type else makes
    dataset = open_detection(
        data, strict=args.strict, split=args.split, domain=domain_of(args.domain), masks="segm" in iou_types
    )
    _refuse(dataset.dropped, dataset.annotations.source, strict=args.strict)
    model.to(device_of(args.device))
    results, truth = detect(
        model, dataset, iou_types=iou_types, classes=classes, batch=args.batch, workers=args.workers
    )  # fmt: skip
    for iou_type, found in results.items():
        write_json(args.out and args.out / f"{iou_type}.json", found)
    left_out = {"left_out": counts(dataset.dropped), "unreadable": dataset.unreadable}
    return {
        "checkpoint": str(checkpoint),
        "data": str(data),
        "iou_type": iou_types[0],
        **summary(results, truth),
        **left_out,
    }


def _say(found: Mapping[str, Any]) -> None:
    console, texts = Console(), {"bbox": "boxes, %", "segm": "masks, %"}
    columns = {texts[found["iou_type"]]: found, **{texts[name]: found[name] for name in texts if name in found}}
    table = Table(f"{found['images']} images", *columns, box=box.SIMPLE_HEAD)
    for name in FIGURES:
        table.add_row(name, *(_percent(figures[name]) for figures in columns.values()))
    console.print(table)
    if found["per_domain"]:
        console.print(_domains(found["per_domain"]))
    there = {name: each["AP"] for name, each in found["per_class"].items() if each["AP"] >= 0}
    lowest = sorted(there, key=there.__getitem__)[:3]
    console.print("lowest AP: " + ", ".join(f"{name} {_percent(there[name])}" for name in lowest))
    for kind, count in found.get("left_out", {}).items():
        console.print(f"left out or cut off: {count} x {kind}; recalib detect check lists them")
    for name in found.get("named", [])[:SHOWN]:
        console.print(f"  {name}", markup=False, highlight=False)
    unreadable = found.get("unreadable")
    if unreadable:
        console.print(f"{len(unreadable)} images could not be read and were left out: {', '.join(unreadable[:10])}")


def _domains(per_domain: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("images with", "images", *FIGURES[:6], box=box.SIMPLE_HEAD)
    for attribute, values in per_domain.items():
        for value, figures in values.items():
            shown = (_percent(figures[name]) for name in FIGURES[:6])
            table.add_row(f"{attribute} {value}", str(figures["images"]), *shown)
    return table


def _percent(value: float) -> str:
    return f"{100 * value:.1f}" if value >= 0 else "-"
