"""Is the first line of `recalib compare` true under load? The same command with nothing beside it, and beside busy loops.

python examples/busy.py --out results/busy                       # a ResNet-50, two times three minutes
python examples/busy.py --out /tmp/busy --minutes 0.5 -- cifar_resnet20 --size 32 --runtime eager

Writes OUT/quiet and OUT/busy (raw samples, page, what was printed) and OUT/verdicts.json: the first line of each, the
load that it saw, and whether the two contradict each other. "Open" contradicts nothing; a module named in the one
verdict and certainly slower by the other does.
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
from typing import Annotated, Any

import tyro
from tyro.conf import arg

from recalib.choose.rules import runtimes
from recalib.choose.verdict import relation, verdicts
from recalib.measure.cells import BASELINE, Cell
from recalib.measure.store import read_results
from recalib.runs import environment, write_json


@dataclass(frozen=True)
class Arguments:
    """What is compared, and how long."""

    out: Path = Path("results/busy")
    minutes: float = 3.0
    loops: int = 2
    compare: Annotated[tuple[str, ...], arg(name="compare")] = ()
    """Further arguments of `recalib compare`; after a bare -- they need no flag."""


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


def named(cells: list[Cell]) -> list[str]:
    """Modules that the verdict says to use or calls as good; none where it is open."""
    (line,) = verdicts(cells)
    if not line.startswith("Use "):
        return []
    good = line.partition(", deployed")[0].removeprefix("Use ")
    others = line.partition("; ")[2].partition(" as good")[0] if " as good" in line else ""
    return [
        cell
        for cell in dict.fromkeys(one.module for one in cells)
        if cell in f"{good} {others}".replace(",", " ").split()
    ]


def contradicted(verdict_of: list[Cell], by: list[Cell]) -> list[str]:
    """Modules that the one verdict names and that by the other's samples are certainly slower than its own fastest."""
    model = next(cell.model for cell in by if cell.module != BASELINE)
    runtime = runtimes(by, model)[0]
    deployed = {c.module: c for c in by if (c.model, c.runtime, c.deployed) == (model, runtime, True) and c.latency_ms}
    best = [deployed[name] for name in named(by) if name in deployed]
    return [
        name
        for name in named(verdict_of)
        if best and name in deployed and all(relation(deployed[name], one) == "slower" for one in best)
    ]


def main() -> None:
    """Run both, and write what they say."""
    words = sys.argv[1:]
    own, _, further = (
        (words, None, []) if "--" not in words else (words[: words.index("--")], None, words[words.index("--") + 1 :])
    )
    given = tyro.cli(Arguments, args=own, description=__doc__)
    found = {
        name: compared(given, [*given.compare, *further], given.out / name, count)
        for name, count in (("quiet", 0), ("busy", given.loops))
    }
    cells = {name: read_results([given.out / name]).cells for name in found}
    against = {
        "quiet_by_busy": contradicted(cells["quiet"], cells["busy"]),
        "busy_by_quiet": contradicted(cells["busy"], cells["quiet"]),
    }
    write_json(given.out / "verdicts.json", {**found, "contradicted": against, "environment": environment()})
    print(json.dumps({**found, "contradicted": against}, indent=1))


if __name__ == "__main__":
    main()
