"""`recalib latency` of a detector: backbone, neck and heads, with and without attention."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn
from tyro.conf import FlagCreatePairsOff, Positional, arg

from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.cli.measuring import progress_bar, stoppable
from recalib.detection.detectors import DETECTORS, build_detector, detector_spec
from recalib.errors import unknown
from recalib.measure.cells import BASELINE
from recalib.measure.compare import MODULES, check_numbers
from recalib.measure.detector_latency import Form, rows, see_much_, time_in_turn, with_deployed_backbone
from recalib.measure.networks import module_names, seeded
from recalib.measure.sizes import parse_size, sides
from recalib.runtimes import Settings, find_protocol
from recalib.runtimes.machine import best_device, describe
from recalib.runtimes.timer import FEWEST_FOR_AN_INTERVAL

COCO_CLASSES = 81  # with the background
DIVISOR = 32  # torchvision's detectors pad the sides of images to multiples of it


@dataclass(frozen=True)
class Arguments:
    """Measure detectors: backbone, neck and heads, plain and with each module, as inserted and deployed.

    Weights are random; every image gets as many proposals (1000) and masks (100) as `recalib cost` counts.

    Example: recalib latency fasterrcnn_resnet50_fpn --modules eca se --sizes 800x1280 --json latency.json
    """

    models: Annotated[Positional[tuple[str, ...]], arg(name="model", metavar="MODEL [MODEL ...]")]
    """Detectors: fasterrcnn_resnetD_fpn, maskrcnn_resnetD_fpn, retinanet_resnetD_fpn, ssd512_resnet34."""
    modules: tuple[str, ...] = MODULES
    """Attention modules; the plain detector always runs."""
    sizes: tuple[str, ...] = ("800x1280",)
    """HEIGHTxWIDTH of the images, or the side of square ones; an SSD resizes them to 512."""
    batches: tuple[int, ...] = (1,)
    """Images in one forward pass."""
    rounds: int = 10
    """Samples of each detector."""
    threads: int | None = None
    """CPU threads; by default PyTorch's choice."""
    json: Path | None = None
    """File for machine and cells, with every sample of every part."""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib latency", config=(FlagCreatePairsOff,))
    check_numbers(
        threads=(args.threads, 1), rounds=(args.rounds, FEWEST_FOR_AN_INTERVAL), batches=(min(args.batches), 1)
    )
    for model in args.models:
        if model not in DETECTORS:
            raise unknown("detector", model, DETECTORS)
    sizes, modules = [sides(parse_size(size)) for size in args.sizes], module_names(args.modules)
    settings = Settings("fp32", args.threads or torch.get_num_threads(), best_device(), find_protocol("clean"))
    machine = describe(settings) | {"protocol": "detector parts"}
    cells: list[dict[str, Any]] = []
    with stoppable() as check, progress_bar(check) as progress, _threads(settings.threads):
        for model, size, batch in itertools.product(args.models, sizes, args.batches):
            detectors = _detectors(model, modules, size, batch, settings.device)
            images = list(torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1)).to(settings.device))
            found = rows(time_in_turn(detectors, images, args.rounds, progress))
            what = {"model": model, "size": list(size), "batch": batch, "precision": "fp32", "runtime": "eager"}
            cells += [{**what, **row} for row in found]
            write_json(args.json, {"machine": machine, "cells": cells})
            Console().print(_table(f"{model}, {batch} x 3 x {size[0]} x {size[1]}, ms", found))
    return 0


def _detectors(
    model: str, modules: list[str], size: tuple[int, int], batch: int, device: torch.device
) -> dict[Form, nn.Module]:
    made: dict[Form, nn.Module] = {}
    side = detector_spec(model).side
    sizes: dict[str, Any] = {} if side else {"min_size": min(size), "max_size": max(size)}
    height, width = (side, side) if side else (-(-side // DIVISOR) * DIVISOR for side in size)
    for module in modules:
        with seeded():
            attention = None if module == BASELINE else module
            detector = build_detector(model, num_classes=COCO_CLASSES, attention=attention, **sizes)
            see_much_(detector)
        made[module, False] = detector.eval()
        made[module, True] = with_deployed_backbone(detector, batch, height, width)
    return {form: detector.to(device).to(memory_format=torch.channels_last) for form, detector in made.items()}


def _table(title: str, found: list[dict[str, Any]]) -> Table:
    table = Table("module", title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown = [part for part in found[0]["parts_ms"] if part not in ("transform", "rest")]  # small: in --json only
    for heading in (*shown, "total", "overhead"):
        table.add_column(heading.replace("_", " "), justify="right")
    for row in found:
        parts = [_short(part["median"]) for part in (*map(row["parts_ms"].get, shown), row["latency_ms"])]
        over = row["overhead"]
        more = [f"{100 * (over[name] - 1):+.1f}" for name in ("ratio", "low", "high")]
        style = None if over["distinguishable"] else "dim"
        name = row["module"] + ", deployed" * row["deployed"]
        table.add_row(name, *parts, f"{more[0]} % ({more[1]} to {more[2]})", style=style)
    return table


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.1f}"


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
