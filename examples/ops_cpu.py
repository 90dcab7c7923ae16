"""Tails of residual blocks on a CPU: `recalib.ops.recalibrate` against the same modules one after the other.

Forward and backward (training) or forward alone (inference) of norm -> attention -> + shortcut -> ReLU, with the shapes
of ResNet-50's stages. "Unfused" is what torchvision's blocks run with attention behind the norm: each module is called,
``out += identity`` and ``ReLU(inplace)`` overwrite.

    python examples/ops_cpu.py
    python examples/ops_cpu.py --sizes 14 7 --json results/ops_cpu.json    # a part; other cells of the file stay
"""

import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.progress import track
from torch import nn

from recalib import create_attention
from recalib.measure.statistics import ratio_interval
from recalib.ops import recalibrate
from recalib.runtimes.base import Settings
from recalib.runtimes.machine import describe
from recalib.runtimes.protocol import find_protocol

STAGES = ((256, 56), (512, 28), (1024, 14), (2048, 7))
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass
class Arguments:
    """Latency of fused over unfused residual tails on this machine's CPU."""

    modules: tuple[str, ...] = ("none", "ab", "eca", "se", "srm", "multi_se", "gct")
    """attention modules; none for a plain tail"""
    sizes: tuple[int, ...] = (56, 28, 14, 7)
    """H and W of the maps"""
    modes: tuple[Literal["training", "inference"], ...] = ("training", "inference")
    batch: int = 8
    rounds: int = 30
    """how often each pair is timed, in turn"""
    threads: int = torch.get_num_threads()
    clock: Literal["wall", "cpu"] = "wall"
    """cpu: the thread's own time, which other processes do not lengthen; with one thread only"""
    json: Path | None = None
    """where to write the raw samples; cells that are there and are not measured now stay"""


RELU = nn.ReLU(inplace=True)


def unfused(x, norm, attention, residual):
    y = norm(x)
    if attention is not None:
        y = attention(y)
    y += residual
    return RELU(y)


def fused(x, norm, attention, residual):
    return recalibrate(x, norm, attention, residual)


def steps(name: str, training: bool, layout: torch.memory_format, shape: tuple[int, ...]) -> list[Callable[[], None]]:
    """One training or inference step, fused and unfused, on the same operands."""
    x, residual, gradient = (torch.randn(shape).contiguous(memory_format=layout) for _ in range(3))
    norm = nn.BatchNorm2d(shape[1]).train(training)
    attention = None if name == "none" else create_attention(name, shape[1]).train(training)

    def train(run):
        operands = x.detach().requires_grad_(), residual.detach().requires_grad_()
        run(operands[0], norm, attention, operands[1]).backward(gradient)

    def infer(run):
        with torch.no_grad():
            run(x, norm, attention, residual)

    return [lambda run=run: (train if training else infer)(run) for run in (fused, unfused)]


def measure(pair: list[Callable[[], None]], rounds: int, clock: Callable[[], float]) -> tuple[list[float], ...]:
    """Seconds of each, in turn; who goes first, and finds the operands cold, changes every round."""
    samples = [], []
    for number in range(-3, rounds):  # three to warm up
        for which in (0, 1) if number % 2 else (1, 0):
            start = clock()
            pair[which]()
            if number >= 0:
                samples[which].append(clock() - start)
    return samples


def key(cell: dict) -> tuple:
    """What a cell is a measurement of."""
    return cell["mode"], cell["layout"], *cell["shape"], cell["module"]


def main(arguments: Arguments) -> None:
    torch.set_num_threads(arguments.threads)
    clock = time.perf_counter if arguments.clock == "wall" else time.thread_time
    cells = {}
    if arguments.json and arguments.json.exists():
        kept = json.loads(arguments.json.read_text(encoding="utf-8"))
        cells = {key(cell): cell for cell in kept["cells"]}
    stages = [stage for stage in STAGES if stage[1] in arguments.sizes]
    for mode, layout, (channels, size), name in track(
        list(product(arguments.modes, LAYOUTS, stages, arguments.modules)), "tails"
    ):
        shape = arguments.batch, channels, size, size
        samples = measure(steps(name, mode == "training", LAYOUTS[layout], shape), arguments.rounds, clock)
        ratio, low, high = ratio_interval(*samples)
        what = {"mode": mode, "layout": layout, "shape": shape, "module": name}
        raw = dict(
            zip(("fused_ms", "unfused_ms"), ([round(s * 1e3, 4) for s in each] for each in samples), strict=True)
        )
        cell = {**what, "ratio": ratio, "low": low, "high": high, **raw}
        cells[key(cell)] = cell
        print(f"{what['mode']:9} {layout:13} {shape!s:18} {name:8} {ratio:.2f} ({low:.2f} to {high:.2f})")
    if arguments.json:
        settings = Settings("fp32", arguments.threads, torch.device("cpu"), find_protocol("clean"))
        machine = describe(settings) | {
            "os": f"{platform.system()} {platform.machine()}",
            "layout": "as the cells say",
            "protocol": f"ops_cpu, {arguments.clock} clock",
        }
        record = {"command": " ".join(["python", *sys.argv]), "machine": machine, "cells": list(cells.values())}
        arguments.json.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
