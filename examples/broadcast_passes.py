"""Few passes against operator after operator: a training step of each gate that is broadcast over the map, on a CPU.

    python examples/broadcast_passes.py --json results/broadcast_passes.json

Both are timed in turns in one process; the ratio is of the medians, so it says less on a busy machine, and is labelled.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import torch

import recalib
from recalib.ops.broadcast import composed

NAMES = ("cbam", "triplet", "simam", "coord", "ela")
SHAPES = ((8, 64, 56, 56), (32, 256, 14, 14))


def seconds(module: torch.nn.Module, x: torch.Tensor) -> float:
    """Of one forward and backward."""
    module.zero_grad()
    x.grad = None
    start = time.perf_counter()
    module(x).sum().backward()
    return time.perf_counter() - start


def main() -> None:
    """Time every gate at every shape and layout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the raw samples")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    law = sys.modules[composed.__module__]
    rows = []
    for shape in SHAPES:
        for layout in (torch.contiguous_format, torch.channels_last):
            for name in NAMES:
                module = recalib.create_attention(name, shape[1])
                x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
                samples: dict[str, list[float]] = {"passes": [], "operators": []}
                for form, least in (("passes", 0), ("operators", 2**62)) * (args.rounds + 1):
                    law.WORTHWHILE = least  # type: ignore[attr-defined]
                    samples[form].append(seconds(module, x))
                samples = {form: taken[1:] for form, taken in samples.items()}  # the first warms up
                ratio = statistics.median(samples["passes"]) / statistics.median(samples["operators"])
                rows.append({"attention": name, "shape": shape, "layout": str(layout), "ratio": ratio, **samples})
                print(f"{name:8} {shape!s:18} {layout!s:24} {ratio:.2f}", flush=True)
    if args.json:
        about = {
            "command": "python examples/broadcast_passes.py",
            "version": recalib.__version__,
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
            "load": os.getloadavg()[0],
            "threads": 1,
            "unit": "seconds",
        }
        args.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
