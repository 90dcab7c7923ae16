"""A sweep of attention x optimizer x batch, undisturbed and with its workers killed: the same trials, the same best.

python examples/sweep_kills.py --data DIR --out results/sweep
python examples/sweep_kills.py --data DIR --out results/sweep --ray    # and on a Ray cluster of two nodes, one killed
"""

import json
import os
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
    ray: bool = False
    """on a cluster too"""


def main() -> None:
    """Run what has not been run into the folder yet, compare, write."""
    given = tyro.cli(Arguments, description=__doc__)
    ways = {"undisturbed": _undisturbed, "killed": _hunted} | ({"ray": _on_ray} if given.ray else {})
    ends, kills = dict[str, Any](), dict[str, Any]()
    for name, way in ways.items():
        kept, work = given.out / f"{name}.json", given.out / "work" / name
        if not kept.exists():
            kills[name] = way(given, work)
            write_json(kept, json.loads((work / "sweep.json").read_text()))
        ends[name] = json.loads(kept.read_text())
    same = all(_told(results) == _told(ends["undisturbed"]) for results in ends.values())
    before = given.out / "kills.json"
    kills = (json.loads(before.read_text())["kills"] if before.exists() else {}) | kills
    record = {
        "same_trials_and_best": same, "best": ends["killed"]["best"]["index"], "kills": kills,
        "attempts": {name: [t["attempts"] for t in results["trials"]] for name, results in ends.items()},
        "environment": environment(),
    }  # fmt: skip
    write_json(before, record)
    print(f"{', '.join(ends)}; the same trials and best: {same}")
    sys.exit(not same)


def _undisturbed(given: Arguments, out: Path) -> list[dict[str, Any]]:
    assert _worker(given, out).wait() == 0
    return []


def _on_ray(given: Arguments, out: Path) -> list[dict[str, Any]]:
    """Two nodes, a worker on each; when a trial is under way the second is killed, and the program that began it."""
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112, so Ray spells it
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20, include_dashboard=False)
    node = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    there = ["--engine", "ray", "--address", cluster.address, "--jobs", "2"]
    driver = _worker(given, out, *there)
    while len(_saved(out)) < 3:
        time.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)
    kills = [{"node": 1, "checkpoints": len(_saved(out))}, {"driver": driver.pid}]
    driver.kill()
    driver.wait()
    assert _worker(given, out, *there).wait() == 0
    cluster.shutdown()
    return kills


def _worker(given: Arguments, out: Path, *where: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "recalib", "sweep", str(given.space), "--data", str(given.data), "--out", str(out)]
    sizes = ["--trials", str(given.trials), "--limit", str(given.limit), "--epochs", str(given.epochs)]
    return subprocess.Popen([*command, *sizes, "--device", "cpu", "--join", *where])


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
