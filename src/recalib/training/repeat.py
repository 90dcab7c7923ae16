"""Jobs with many modules and seeds, each in a process of its own, one after another or side by side."""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from recalib.errors import RecalibError, WorkFailed
from recalib.runs import read_metrics, stop_on_signals, write_json
from recalib.runs.executor import Command, Executor, Here, Running, end
from recalib.runs.lock import is_held
from recalib.training.job import Job
from recalib.training.processes import under_torchrun

J = TypeVar("J", bound=Job)
SPARE_GIB = 0.7  # of the device for each process beside what it allocates: its CUDA context and kernels


def with_modules(job: J, modules: Sequence[str | None]) -> list[J]:
    """A job for each module, None for none, which has no options; the job itself where none are named."""
    if not modules:
        return [job]
    return [_with_module(job, module, len(modules) > 1) for module in dict.fromkeys(modules)]


def with_seeds(jobs: Sequence[J], seeds: int) -> list[J]:
    """Each job with ``seeds`` seeds, counted from the recipe's, seed by seed.

    Raises:
        RecalibError: for fewer than one.
    """
    if seeds < 1:
        raise RecalibError(f"seeds {seeds}: should be at least 1")
    return [_with_seed(job, job.recipe.seed + i, seeds > 1) for i in range(seeds) for job in jobs]


def run_jobs(
    jobs: Sequence[Job], side_by_side: int | None = None, *, resume: bool = False, seconds: float = math.inf,
    executor: Executor | None = None, gpus: float = 0,
) -> bool:  # fmt: skip
    """Run jobs in this order, each in a process of its own.

    Args:
        jobs: resolved, each with a folder of its own.
        side_by_side: runs at a time on the same device; by default as many as it holds, as `fitting` says.
        resume: go on with those that were begun.
        seconds: stop after so many; what runs then saves. With 0 none is begun.
        executor: where they run, by default here. A cluster has its own queue: it is given as many as there are, and a
            run whose node is lost goes on from its checkpoint on another. All nodes see the runs' folders.
        gpus: cards of a run on a cluster, or a part of one.

    Returns:
        Whether all came to their end.

    Raises:
        RecalibError: for fewer than one at a time.
        WorkFailed: where a run fails, or was stopped before its end.
    """
    if side_by_side is not None and side_by_side < 1:
        raise RecalibError(f"jobs {side_by_side}: should be at least 1")
    if under_torchrun():
        raise RecalibError("torchrun starts the processes of one training: name one module and one seed")
    began = time.monotonic()
    if len({job.folder for job in jobs}) < len(jobs):
        raise RecalibError(f"several runs would share the folder {jobs[0].folder}")
    executor = executor or Here()
    if executor.queues and jobs:
        jobs[0].out.mkdir(parents=True, exist_ok=True)  # where other machines see the scratch folder too
    place = jobs[0].out if executor.queues and jobs else None
    with tempfile.TemporaryDirectory(dir=place) as scratch, stop_on_signals() as stop:
        start = _Start(executor, Path(scratch).resolve(), gpus, resume)
        waiting, running, lost = [*jobs], dict[Path, Running](), list[Job]()
        while waiting or running or lost:
            if time.monotonic() - began >= seconds:
                end([*running.values()])
                return False
            places = side_by_side or _places(jobs, executor)
            for one in [one for one in lost if not is_held(one.folder)]:
                lost.remove(one)
                waiting.insert(0, one)
            while waiting and len(running) < places:
                one = waiting.pop(0)
                running[one.folder] = start(one, alone=not executor.queues and places == 1)
            for folder, status in [(folder, process.poll()) for folder, process in running.items()]:
                if running[folder].lost:
                    print(f"the node of {folder} is lost: the run goes on from its checkpoint on another")
                    lost += [job for job in jobs if job.folder == folder]
                    start.again.add(folder)
                    del running[folder]
                elif status is not None:
                    del running[folder]
                if status:
                    end([*running.values()])
                    raise WorkFailed(f"the run {folder} failed; its messages are above or in its log.txt")
            if stop:
                end([*running.values()])
                raise WorkFailed("stopped; the same command with --resume goes on")
            time.sleep(0.1)
    return True


def _places(jobs: Sequence[Job], executor: Executor) -> int:
    if executor.queues:
        return len(jobs)
    return fitting(jobs[0].folder) if jobs[0].devices == 1 else 1


def fitting(first: Path) -> int:
    """Number of runs such as a first one that its device holds: one, until the first epoch has shown what a run takes.

    Only a GPU's memory is told in the metrics; elsewhere it stays at one.
    """
    told = [row for row in read_metrics(first) if "memory_gib" in row]
    return 1 + int(0.95 * told[0]["free_gib"] // (told[0]["memory_gib"] + SPARE_GIB)) if told else 1


def _with_module(job: J, module: str | None, named: bool) -> J:
    bare: dict[str, Any] = {} if module else {"options": (), "identity": False}
    name = f"{job.name}-{module or 'baseline'}" if job.name and named else job.name
    return replace(job, recipe=replace(job.recipe, **bare, attention=module), name=name)


def _with_seed(job: J, seed: int, named: bool) -> J:
    name = f"{job.name}-seed{seed}" if job.name and named else job.name
    return replace(job, recipe=replace(job.recipe, seed=seed), name=name)


@dataclass
class _Start:
    """Starts jobs, each by a configuration of its own in a scratch folder."""

    executor: Executor
    scratch: Path
    gpus: float
    resume: bool
    again: set[Path] = field(default_factory=set)  # folders of runs that go on in any case

    def __call__(self, job: Job, *, alone: bool) -> Running:
        config = self.scratch / f"{job.folder.name}.json"
        write_json(config, job.config())
        resume = ["--resume"] if self.resume or job.folder in self.again else []
        words = (*job.command.split(), "--config", str(config), *resume)
        log = None if alone else job.folder / "log.txt"
        return self.executor.start(Command(words, name=str(job.folder), cpus=job.devices, gpus=self.gpus, log=log))
