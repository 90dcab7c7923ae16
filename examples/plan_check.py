"""The prediction of `recalib plan` against trainings by 1, 2 and 4 processes of this machine (gloo), in turn.

python examples/plan_check.py --data DIR --json results/plan/check.json
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import distributed, multiprocessing

from recalib.classification import recipe
from recalib.classification.network import build_network
from recalib.runs import environment, read_metrics, write_json
from recalib.study.plan import Cluster, Interconnect, step, work_of

WORLDS = (1, 2, 4)
SIZES = (10_000, 1_000_000, 16_000_000)  # bytes


@dataclass(frozen=True)
class Arguments:
    """Measure, predict, compare."""

    data: Path
    """folder with CIFAR-10's official files"""
    json: Path
    """file for the record"""
    model: str = "resnet20"
    """name of the network"""
    batch: int = 128
    """images a step over all processes"""
    limit: int = 512
    """training images"""
    rounds: int = 2
    """of all numbers of processes, in turn"""


def main() -> None:
    """Run, predict, write."""
    given = tyro.cli(Arguments, description=__doc__)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    link = measured_link()
    rates: dict[int, list[float]] = {world: [] for world in WORLDS}
    for _ in range(given.rounds):
        for world in WORLDS:
            rates[world].append(_rate(given, world))
    medians = {world: statistics.median(found) for world, found in rates.items()}
    network = build_network(replace(recipe("cifar-paper"), model=given.model), 10)
    work = work_of(network, 32, device=None, rate=medians[1], source="measured here", states=1, half=False)
    cluster = Cluster(link, link, cores=len(os.sched_getaffinity(0)))
    predicted = {world: step(work, cluster, world, given.batch, 0.0).images_per_second for world in WORLDS}
    errors = {world: predicted[world] / medians[world] - 1 for world in WORLDS}
    for world in WORLDS:
        print(
            f"{world} processes: {medians[world]:.0f} images/s, predicted {predicted[world]:.0f}: {errors[world]:+.0%}"
        )
    record = {
        "images_per_second": rates, "predicted": predicted, "errors": errors, "link": asdict(link),
        "load": os.getloadavg(), "environment": environment(),
    }  # fmt: skip
    write_json(given.json, record)


def _rate(given: Arguments, world: int) -> float:
    """Images a second of a training's last epoch; the first warms up."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "recalib", "train", "cifar-paper", "--data", str(given.data), "--out", out]
        sizes = ["--model", given.model, "--batch", str(given.batch), "--limit", str(given.limit), "--epochs", "2"]
        where = ["--device", "cpu", "--devices", str(world), "--name", "run", "--eval-limit", "10"]
        alone = os.environ | {"OMP_NUM_THREADS": "1"}  # a core is a device: one process does not take them all
        subprocess.run([*command, *sizes, *where], check=True, stdout=subprocess.DEVNULL, env=alone)
        rates = [row["images_per_second"] for row in read_metrics(Path(out) / "run") if "images_per_second" in row]
        return float(rates[-1])


def measured_link() -> Interconnect:
    """Rate and latency of gloo between two processes, from all-reduces of three sizes."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_reduce, args=(folder,), nprocs=2)
        times = torch.load(Path(folder) / "times.pt", weights_only=True)
    latency = times[0].item() / 4  # a ring of two: four messages as the plan counts them
    rate = (SIZES[-1] - SIZES[0]) / (times[-1] - times[0]).item()
    return Interconnect(rate, latency)


def _reduce(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    times = []
    for size in SIZES:
        message, taken = torch.zeros(size // 4), []
        for _ in range(12):
            distributed.barrier()
            began = time.perf_counter()
            distributed.all_reduce(message)
            taken.append(time.perf_counter() - began)
        times.append(statistics.median(taken))
    if rank == 0:
        torch.save(torch.tensor(times), f"{folder}/times.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
