"""How long backbone, neck and heads of a detector take, with and without attention, call after call in turn.

    python examples/detector_parts.py --attention ab eca --json results/detector_parts.json

The weights are random, so that the first stage proposes as many boxes as it may and the second finds hardly any.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from recalib.benchmark.detector_parts import medians, parts_latency
from recalib.cli.json_file import write_json
from recalib.detection.detectors import build_detector
from recalib.runs import environment


@dataclass
class Arguments:
    model: str = "fasterrcnn_resnet50_fpn"
    attention: tuple[str, ...] = ("ab", "eca")
    size: tuple[int, int] = (800, 1280)  # height and width
    rounds: int = 5
    device: str = "cpu"
    json: Path | None = None


def main(given: Arguments) -> None:
    torch.manual_seed(0)
    detectors = {
        name: build_detector(given.model, num_classes=81, attention=None if name == "baseline" else name)
        for name in ("baseline", *given.attention)
    }
    images = [torch.rand(3, *given.size, device=given.device)]
    times: dict[str, dict[str, list[float]]] = {name: {} for name in detectors}
    for round_ in range(given.rounds + 1):  # the first warms up
        for name, detector in detectors.items():
            found = parts_latency(detector.to(given.device), images, rounds=1, warm_up=0)
            for part, values in found.items() if round_ else ():
                times[name].setdefault(part, []).extend(values)
    for name, parts in times.items():
        print(f"{name:10}", *(f"{part} {value:.0f}" for part, value in medians(parts).items()), "ms")
    what = {"model": given.model, "size": given.size, "unit": "ms", "device": given.device}
    write_json(given.json, {**what, "times": times, "environment": environment()})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
