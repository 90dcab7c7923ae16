"""A training on machines of a Slurm cluster, by submitit: requeued where it is preempted, elastic where one is lost.

pip install submitit
python examples/cluster/slurm.py --nodes 4 --gpus 8 -- imagenet-klomp --data s3://bucket/imagenet --out /shared/runs
"""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import submitit
import tyro


@dataclass(frozen=True)
class Arguments:
    """What Slurm is asked for, and what is trained."""

    training: Annotated[tuple[str, ...], tyro.conf.Positional]
    """after --: what follows `recalib train`; its --out is a folder that all machines see"""
    nodes: int = 2
    """machines"""
    gpus: int = 8
    """processes a machine, one a card"""
    fewest: int = 1
    """machines that are enough to go on"""
    hours: int = 24
    """after which Slurm ends it; what is saved goes on in the requeued job"""
    partition: str | None = None
    """of the cluster"""
    logs: Path = Path("slurm")
    """folder of submitit's logs"""
    cluster: str | None = None
    """for trying it out: local starts one machine's part here, debug runs it in this process"""


@dataclass(frozen=True)
class Machine:
    """One machine's part: torchrun, which meets the others at the first of them."""

    training: tuple[str, ...]
    nodes: int
    gpus: int
    fewest: int

    def __call__(self) -> int:
        """Train until the end."""
        return subprocess.run(self.command(), check=True).returncode

    def command(self) -> list[str]:
        """The command of this machine, one a Slurm task."""
        hosts = os.environ.get("SLURM_JOB_NODELIST", "localhost")
        first = submitit.JobEnvironment().hostnames[0] if hosts != "localhost" else "localhost"
        meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{first}:29400", "--rdzv-id", _job()]
        size = ["--nnodes", f"{self.fewest}:{self.nodes}", "--nproc-per-node", str(self.gpus), "--max-restarts", "100"]
        words = ["-m", "recalib", "train", *self.training, "--resume"]
        return [sys.executable, "-m", "torch.distributed.run", *size, *meet, *words]

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Where Slurm preempts it or its time is over: the same again, which goes on from the run's checkpoint."""
        return submitit.helpers.DelayedSubmission(self)


def _job() -> str:
    return os.environ.get("SLURM_JOB_ID", "here")


def main() -> None:
    """Submit."""
    given = tyro.cli(Arguments, description=__doc__)
    executor = submitit.AutoExecutor(folder=given.logs, cluster=given.cluster)
    slurm = {"slurm_partition": given.partition} if given.partition else {}
    executor.update_parameters(
        name="recalib", nodes=given.nodes if given.cluster is None else 1, tasks_per_node=1, gpus_per_node=given.gpus,
        timeout_min=60 * given.hours, slurm_additional_parameters={"requeue": True} if given.cluster is None else {},
        **slurm,
    )  # fmt: skip
    job = executor.submit(Machine(given.training, given.nodes, given.gpus, given.fewest))
    print(f"job {job.job_id}: recalib train {shlex.join(given.training)}; logs in {given.logs}")
    if given.cluster is not None:
        job.result()


if __name__ == "__main__":
    main()
