"""Do two measurements of the same cells agree? How many intervals of the overhead overlap, how far ratios are apart.

python examples/latency_again.py results/latency results/latency_again --json results/latency_again/agreement.json
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import tyro
from tyro.conf import Positional

from recalib.measure.cells import Overhead
from recalib.measure.store import read_results
from recalib.runs import environment, write_json

NAMES = ("model", "module", "runtime", "deployed", "size", "batch", "precision")


@dataclass(frozen=True)
class Arguments:
    """What `recalib latency` wrote twice."""

    first: Positional[Path]
    second: Positional[Path]
    json: Path | None = None


def overheads(folder: Path) -> dict[tuple[str, ...], Overhead]:
    """Overheads with their intervals, by cell."""
    cells = read_results([folder]).cells
    return {tuple(str(getattr(cell, name)) for name in NAMES): cell.overhead for cell in cells if cell.overhead}


def row(runtime: str, pairs: list[tuple[Overhead, Overhead]]) -> dict[str, Any]:
    """One runtime's cells: how many overlap, and their distances in points of overhead."""
    apart = [100 * abs(a.ratio - b.ratio) for a, b in pairs]
    overlap = sum(a.low <= b.high and b.low <= a.high for a, b in pairs)
    return {
        "runtime": runtime, "cells": len(pairs), "overlapping": overlap,
        "points_apart_median": median(apart), "points_apart_most": max(apart),
    }  # fmt: skip


def main() -> None:
    """Compare what both folders hold, print a line a runtime, and write it."""
    arguments = tyro.cli(Arguments, description=__doc__)
    first, second = overheads(arguments.first), overheads(arguments.second)
    both = [key for key in first if key in second]
    rows = [
        row(runtime, [(first[key], second[key]) for key in both if key[2] == runtime])
        for runtime in dict.fromkeys(key[2] for key in both)
    ]
    for one in rows:
        print(
            f"{one['runtime']:12} {one['overlapping']} of {one['cells']} intervals overlap; ratios are "
            f"{one['points_apart_median']:.1f} points apart (median), {one['points_apart_most']:.1f} at most"
        )
    if arguments.json is not None:
        write_json(arguments.json, {"rows": rows, "environment": environment()})


if __name__ == "__main__":
    main()
