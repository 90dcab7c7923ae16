"""The first line of `recalib compare` under load: the same command with nothing beside it, and beside busy loops.

python examples/busy.py --out results/busy                       # a ResNet-50, two times three minutes
python examples/busy.py --out /tmp/busy --minutes 0.5 -- cifar_resnet20 --size 32 --runtime eager

Writes OUT/quiet and OUT/busy (raw samples, page, what was printed) and OUT/verdicts.json: the first line of each, the
load that it saw, and the overheads of both beside each other. Takes twice the minutes, and some seconds.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from recalib.choose.advice import overhead_text
from recalib.measure.cells import BASELINE, Cell
from recalib.measure.store import read_results
from recalib.runs import environment, write_json


@dataclass(frozen=True)
class Arguments:
    """Where results go, and how long each run takes; what follows a bare -- is for `recalib compare`."""

    out: Path = Path("results/busy")
    minutes: float = 3.0
    loops: int = 2


@contextmanager
def loops(count: int) -> Iterator[None]:
    """So many processes that do nothing but use the processor."""
    busy = [multiprocessing.get_context("fork").Process(target=_for_ever, daemon=True) for _ in range(count)]
    for process in busy:
        process.start()
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.join()


def _for_ever() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        sum(range(10**6))


def compared(given: Arguments, further: list[str], out: Path, count: int) -> dict[str, Any]:
    """One run of `recalib compare` beside so many loops: its first line and what it found."""
    command = ["compare", *further, "--minutes", f"{given.minutes:g}", "--out", str(out), "--overwrite"]
    out.mkdir(parents=True, exist_ok=True)
    with loops(count):
        done = subprocess.run([sys.executable, "-m", "recalib", *command], capture_output=True, text=True, check=True)
    (out / "terminal.txt").write_text(done.stdout, encoding="utf-8")
    cells = read_results([out]).cells
    return {
        "command": "recalib " + " ".join(command[:-3]),
        "loops": count,
        "first_line": done.stdout.splitlines()[0],
        "load": max((cell.load or {} for cell in cells), key=lambda load: load.get("others", 0.0)),
        "rounds": {cell.runtime: len(cell.latency_ms.samples) for cell in cells if cell.latency_ms},
    }


def beside(quiet: list[Cell], busy: list[Cell]) -> list[dict[str, Any]]:
    """Each overhead of a deployed module that both found, and whether the two intervals overlap."""
    known = {(cell.model, cell.module, cell.runtime): cell.overhead for cell in busy if cell.deployed and cell.overhead}
    return [
        {
            "model": cell.model, "module": cell.module, "runtime": cell.runtime, "quiet": overhead_text(cell.over),
            "busy": overhead_text(other), "overlap": cell.over.low <= other.high and other.low <= cell.over.high,
        }
        for cell in quiet
        if cell.deployed and cell.overhead and cell.module != BASELINE
        if (other := known.get((cell.model, cell.module, cell.runtime))) is not None
    ]  # fmt: skip


def main() -> None:
    """Run both, and write what they say."""
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given = tyro.cli(Arguments, args=sys.argv[1:at], description=__doc__)
    runs = {"quiet": 0, "busy": given.loops}
    found = {name: compared(given, sys.argv[at + 1 :], given.out / name, count) for name, count in runs.items()}
    cells = {name: read_results([given.out / name]).cells for name in found}
    said = {**found, "overheads": beside(cells["quiet"], cells["busy"])}
    write_json(given.out / "verdicts.json", {**said, "environment": environment()})
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
