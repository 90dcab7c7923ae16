"""Images a second of our trainer and of torchvision's reference loop, on the same data, loader and network, in turn.

    python examples/detection_speed.py --data COCO --json results/detection/speed.json

torchvision's loop is `train_one_epoch` of its references/detection, without its printing: images and targets to the
device, the losses' sum, a look at whether it is finite, backward, step. Samples are interleaved, so that what else the
machine does falls on both; the ratio has its interval over the pairs.
"""

import copy
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from recalib.detection.job import DetectionJob
from recalib.detection.recipes import recipe
from recalib.runs import environment, write_json
from recalib.statistics import half_width
from recalib.training.processes import launched
from recalib.training.trainer import Trainer


@dataclass(frozen=True)
class Arguments:
    """Train by both loops in turn, and compare."""

    data: Path
    """folder of COCO's form"""
    model: str = "fasterrcnn_resnet18_fpn"
    """detector"""
    attention: str | None = "eca"
    """module in the backbone"""
    batch: int = 2
    """images a step"""
    size: int = 256
    """shorter side of images"""
    steps: int = 4
    """of a sample"""
    samples: int = 8
    """of each loop"""
    workers: int = 1
    """processes that read images"""
    json: Path | None = None
    """file for every sample"""


def main() -> None:
    """Measure, print, and write."""
    args = tyro.cli(Arguments, description=__doc__)
    needed = args.batch * args.steps * (args.samples + 1)
    chosen = replace(
        recipe("coco-1x"), model=args.model, attention=args.attention, batch=args.batch, min_size=args.size,
        max_size=2 * args.size, norms="batch", repeat=-(-needed // 64), limit=64, eval_limit=1,
    )  # fmt: skip
    fabric = launched("auto", 1, chosen.precision)
    task = DetectionJob(recipe=chosen, data=args.data, workers=args.workers).open(fabric)
    plain = copy.deepcopy(task.network).to(fabric.device).train()
    optimizer = torch.optim.SGD(plain.parameters(), chosen.lr, momentum=0.9, weight_decay=1e-4)
    trainer = Trainer(fabric, task, chosen)
    loops: dict[str, Iterator[Any]] = {
        "ours": trainer.run_epoch(), "torchvision": _reference(plain, optimizer, task.train.epoch(0)),
    }  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for sample in range(args.samples + 1):
        for name, loop in loops.items():
            began = time.perf_counter()
            for _ in range(args.steps):
                next(loop)
            if fabric.device.type == "cuda":
                torch.cuda.synchronize()
            if sample:  # the first warms up
                rates[name].append(args.steps * args.batch / (time.perf_counter() - began))
    logs = [math.log(a / b) for a, b in zip(rates["ours"], rates["torchvision"], strict=True)]
    middle, half = statistics.fmean(logs), half_width(logs)
    ratio, low, high = (math.exp(value) for value in (middle, middle - half, middle + half))
    medians = {name: statistics.median(each) for name, each in rates.items()}
    print(f"ours {medians['ours']:.2f} images/s, torchvision's loop {medians['torchvision']:.2f}: "
          f"{ratio:.3f} times as fast [{low:.3f}, {high:.3f}]")  # fmt: skip
    if args.json:
        settings = {
            key: getattr(args, key) for key in ("model", "attention", "batch", "size", "steps", "samples", "workers")
        }
        result = {"settings": settings, "ratio": ratio, "interval": [low, high], "images_per_second": medians}
        write_json(args.json, {**result, "samples": rates, "environment": environment()})


def _reference(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: Iterator[Any]) -> Iterator[float]:
    """torchvision's loop."""
    device = next(model.parameters()).device
    for images, targets in batches:
        images = [image.to(device) for image in images]
        targets = [{k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in t.items()} for t in targets]
        losses = sum(model(images, targets).values())
        value = losses.item()
        if not math.isfinite(value):
            raise SystemExit(f"Loss is {value}, stopping training")
        optimizer.zero_grad()
        losses.backward()
        optimizer.step()
        yield value


if __name__ == "__main__":
    main()
