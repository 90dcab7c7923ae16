"""A sweep of attention x optimizer x batch, undisturbed and with its workers killed: the same trials, the same best.

python examples/sweep_kills.py --data DIR --out results/sweep
"""

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from recalib.runs import environment, write_json


@dataclass(frozen=True)
class Arguments:
    """Run a sweep twice, the second time by workers of which some are killed, and compare."""

    data: Path
    """folder with CIFAR-10's official files"""
    out: Path
    """folder of results"""
    space: Path = Path("examples/sweep.yaml")
    """the sweep file"""
    trials: int = 8
    """of each sweep"""
    limit: int = 1000
    """training images"""
    epochs: int = 2
    """of a trial"""
    kills: int = 3
    """workers killed"""
    seed: int = 0
    """of the moments"""


def main() -> None:
    """Run, compare, write."""
    given = tyro.cli(Arguments, description=__doc__)
    work = given.out / "work"
    calm = _worker(given, work / "undisturbed")
    assert calm.wait() == 0
    kills = _hunted(given, work / "killed")
    ends = {name: json.loads((work / name / "sweep.json").read_text()) for name in ("undisturbed", "killed")}
    same = _told(ends["undisturbed"]) == _told(ends["killed"])
    for name, results in ends.items():
        write_json(given.out / f"{name}.json", results)
    record = {
        "same_trials_and_best": same, "best": ends["killed"]["best"]["index"], "kills": kills,
        "attempts": [t["attempts"] for t in ends["killed"]["trials"]], "environment": environment(),
    }  # fmt: skip
    write_json(given.out / "kills.json", record)
    print(f"{len(kills)} kills; the same trials and best: {same}")
    sys.exit(not same)


def _worker(given: Arguments, out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "recalib", "sweep", str(given.space), "--data", str(given.data), "--out", str(out)]
    sizes = ["--trials", str(given.trials), "--limit", str(given.limit), "--epochs", str(given.epochs)]
    return subprocess.Popen([*command, *sizes, "--device", "cpu", "--join"])


def _hunted(given: Arguments, out: Path) -> list[dict[str, Any]]:
    """Two workers at a time; one of them is killed in mid-trial again and again, and replaced."""
    moments, kills = random.Random(given.seed), list[dict[str, Any]]()
    running = [_worker(given, out), _worker(given, out)]
    while len(kills) < given.kills and all(process.poll() is None for process in running):
        before = _saved(out)
        while _saved(out) == before and all(process.poll() is None for process in running):
            time.sleep(0.1)  # until a trial has got on
        time.sleep(moments.uniform(0.0, 1.0))
        victim = moments.randrange(2)
        running[victim].kill()
        running[victim].wait()
        kills.append({"worker": victim, "checkpoints": len(_saved(out))})
        running[victim] = _worker(given, out)
    for process in running:
        process.wait()
    return kills


def _saved(out: Path) -> dict[str, float]:
    """When each trial last saved."""
    return {file.parent.name: file.stat().st_mtime for file in out.glob("trials/*/last.pt") if file.exists()}


def _told(results: dict[str, Any]) -> Any:
    """What must not depend on who ran what when."""
    trials = [{key: t[key] for key in ("index", "state", "params", "values", "curve")} for t in results["trials"]]
    return results["best"]["index"], trials


if __name__ == "__main__":
    main()
