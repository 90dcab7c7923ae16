"""``recalib segment evaluate``: intersection over union of a trained network, class by class."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from recalib.cli.arguments import parse
from recalib.cli.device import device_of
from recalib.cli.json_file import write_json
from recalib.runs import environment
from recalib.segmentation.evaluation import evaluate

SHOWN = 30  # classes of the table on the terminal; all are in --json


@dataclass(frozen=True)
class Arguments:
    """Intersection over union of a segmentation network, in total and of each class, as it was trained: on squares.

    Examples:
      recalib segment evaluate --weights runs/A --data COCO --split val --json OUT.json
    """

    weights: Path = tyro.MISSING
    """a run of recalib segment train, or its weights"""
    data: Path = tyro.MISSING
    """COCO's masks, or a folder with images/SPLIT, labels/SPLIT and classes.txt"""
    split: str = "val"
    """part of the data"""
    limit: int | None = None
    """evaluate on so many images only"""
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
    args = parse(Arguments, argv, "recalib segment evaluate")
    terminal = Console(stderr=True)
    found = evaluate(
        args.weights, args.data, args.split, limit=args.limit, batch=args.batch, workers=args.workers,
        device=device_of(args.device),
        watch=lambda batches, count: track(
            batches, "evaluating", count, console=terminal, transient=True, disable=not terminal.is_terminal
        ),
    )  # fmt: skip
    _say(found)
    write_json(args.json, {**found, "environment": environment()})
    return 0


def _say(found: Mapping[str, Any]) -> None:
    console = Console()
    there = {name: iou for name, iou in found["per_class"].items() if iou is not None}
    table = Table("class", "IoU, %", title=f"{found['images']} images, squares of {found['size']} pixels",
                  box=box.SIMPLE_HEAD)  # fmt: skip
    for name, iou in sorted(there.items(), key=lambda item: item[1])[:SHOWN]:
        table.add_row(name, f"{100 * iou:.1f}")
    console.print(table)
    if len(there) > SHOWN:
        console.print(f"the {SHOWN} lowest of {len(there)} classes; all of them: --json FILE")
    console.print(f"mean IoU {100 * found['miou']:.1f} %, pixels {100 * found['pixel_accuracy']:.1f} %")
    lost = found["unreadable"]
    if lost:
        console.print(f"{len(lost)} images could not be read and were left out: {', '.join(lost[:10])}")
