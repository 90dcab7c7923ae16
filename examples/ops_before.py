"""Tails of residual blocks on a CPU, now and at an earlier commit: what the wider law must not have slowed.

    python examples/ops_before.py                                        # about three minutes
    python examples/ops_before.py --commit cdf9ac3 --json results/ops_before.json

Two processes hold the two versions, each from a folder of its own, and are timed in turn: a training step and a forward
pass of norm -> attention -> + shortcut -> ReLU at two sites of a ResNet-50. Freed memory stays with the process: page
faults of large maps would differ from process to process by more than the versions do.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = ("se", "eca", "ab", "srm", "gct")
SITES = ((256, 56), (1024, 14))

CHILD = """
import sys, time, torch
from torch import nn
from recalib import create_attention
from recalib.ops import recalibrate

torch.set_num_threads(1)
cells = {}

def step(name, mode, layout, channels, size):
    torch.manual_seed(0)
    layout = getattr(torch, layout)
    x, residual, gradient = (torch.randn(8, channels, size, size).contiguous(memory_format=layout) for _ in range(3))
    training = mode == "training"
    norm, gate = nn.BatchNorm2d(channels).train(training), create_attention(name, channels).train(training)
    def train():
        operands = x.detach().requires_grad_(), residual.detach().requires_grad_()
        recalibrate(operands[0], norm, gate, operands[1]).backward(gradient)
    def infer():
        with torch.no_grad():
            recalibrate(x, norm, gate, residual)
    return train if training else infer

for line in sys.stdin:
    name, mode, layout, channels, size = line.split()
    if line not in cells:
        cells.clear()
        cells[line] = step(name, mode, layout, int(channels), int(size))
        for _ in range(3):
            cells[line]()
    start = time.thread_time()
    cells[line]()
    print(time.thread_time() - start, flush=True)
"""


@dataclass
class Arguments:
    """Time of fused tails now over that at an earlier commit."""

    commit: str = "cdf9ac3"
    """the earlier version"""
    rounds: int = 10
    """how often each pair is timed, in turn"""
    modules: tuple[str, ...] = MODULES
    json: Path | None = None
    """where to write the raw samples"""


def child(source: Path) -> subprocess.Popen:
    """A process that has the code of one version."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    environment |= dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"), str(2**29))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", CHILD], cwd=source, env=environment, **pipes)


def seconds(process: subprocess.Popen, cell: tuple) -> float:
    """Of one step, by the process's own clock, which other work on the machine does not lengthen."""
    process.stdin.write(" ".join(map(str, cell)) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise SystemExit(f"{cell}: the process ended")
    return float(answer)


def compare(before: Path, arguments: Arguments) -> list[dict]:
    """Every cell with its ratio, an interval, and the raw samples."""
    from recalib.measure.statistics import ratio_interval

    processes = child(ROOT / "src"), child(before / "src")
    cells = []
    layouts = ("contiguous_format", "channels_last")
    for mode, layout, (channels, size), name in product(("training", "inference"), layouts, SITES, arguments.modules):
        cell = name, mode, layout, channels, size
        samples: tuple[list[float], list[float]] = ([], [])
        for number in range(arguments.rounds):
            for which in (0, 1) if number % 2 else (1, 0):
                samples[which].append(seconds(processes[which], cell))
        ratio, low, high = ratio_interval(*samples)
        print(
            f"{name:5} {mode:9} {layout:17} {channels:4} x {size} x {size}  {ratio:.3f} ({low:.3f} to {high:.3f})",
            flush=True,
        )
        now, then = ([round(s * 1e3, 4) for s in each] for each in samples)
        cells.append({"module": name, "mode": mode, "layout": layout, "shape": [8, channels, size, size]})
        cells[-1] |= {"ratio": ratio, "low": low, "high": high, "now_ms": now, "before_ms": then}
    for process in processes:
        process.stdin.close()
        process.wait()
    return cells


def main(arguments: Arguments) -> None:
    """Compare, and keep what was found."""
    import torch

    from recalib.runs.environment import code_version
    from recalib.runtimes.base import Settings
    from recalib.runtimes.machine import describe
    from recalib.runtimes.protocol import find_protocol

    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(before), arguments.commit], check=True)
        try:
            cells = compare(before, arguments)
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)
    ratios = sorted(cell["ratio"] for cell in cells)
    print(
        f"{len(cells)} cells, now over {arguments.commit}: median {ratios[len(ratios) // 2]:.3f}, most {ratios[-1]:.3f}"
    )
    if arguments.json:
        machine = describe(Settings("fp32", 1, torch.device("cpu"), find_protocol("clean")))
        about = {"command": " ".join(["python", *sys.argv]), "code": code_version(), "before": arguments.commit}
        record = {**about, "machine": machine | {"protocol": "ops_before, clock of the thread"}, "cells": cells}
        arguments.json.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
