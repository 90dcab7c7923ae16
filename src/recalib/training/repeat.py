"""Jobs with many modules and seeds, each in a process of its own, one after another or side by side."""

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from recalib.errors import RecalibError, WorkFailed
from recalib.runs import read_metrics, stop_on_signals, write_json
from recalib.training.job import Job

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
    jobs: Sequence[Job], side_by_side: int | None = None, *, resume: bool = False, seconds: float = math.inf
) -> bool:
    """Run jobs in this order, each in a process of its own.

    Args:
        jobs: resolved, each with a folder of its own.
        side_by_side: how many at a time, on the same device; by default as many as it holds, as `fitting` says.
        resume: go on with those that were begun.
        seconds: stop after so many; what runs then saves. With 0 none is begun.

    Returns:
        Whether all came to their end.

    Raises:
        RecalibError: for fewer than one at a time.
        WorkFailed: where a run fails, or was stopped before its end.
    """
    if side_by_side is not None and side_by_side < 1:
        raise RecalibError(f"jobs {side_by_side}: should be at least 1")
    began = time.monotonic()
    if len({job.folder for job in jobs}) < len(jobs):
        raise RecalibError(f"several runs would share the folder {jobs[0].folder}")
    with tempfile.TemporaryDirectory() as scratch, stop_on_signals() as stop:
        waiting, running = [*jobs], dict[Path, subprocess.Popen[bytes]]()
        while waiting or running:
            if time.monotonic() - began >= seconds:
                _end(running)
                return False
            places = side_by_side or (fitting(jobs[0].folder) if jobs[0].devices == 1 else 1)
            while waiting and len(running) < places:
                one = waiting.pop(0)
                running[one.folder] = _start(one, Path(scratch), resume=resume, alone=places == 1)
            for folder in [f for f, process in running.items() if process.poll() is not None]:
                if running.pop(folder).returncode:
                    _end(running)
                    raise WorkFailed(f"the run {folder} failed; its messages are above or in its log.txt")
            if stop:
                _end(running)
                raise WorkFailed("stopped; the same command with --resume goes on")
            time.sleep(0.1)
    return True


def fitting(first: Path) -> int:
    """How many runs such as a first one its device holds: one, until the first epoch has shown what a run takes.

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


def _start(job: Job, scratch: Path, *, resume: bool, alone: bool) -> subprocess.Popen[bytes]:
    config = scratch / f"{job.folder.name}.json"
    write_json(config, job.config())
    command = [
        sys.executable,
        "-m",
        "recalib",
        *job.command.split(),
        "--config",
        str(config),
        *(["--resume"] if resume else []),
    ]
    if alone:
        return subprocess.Popen(command)
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def _end(running: dict[Path, "subprocess.Popen[bytes]"]) -> None:
    for process in running.values():
        process.terminate()  # each saves and says how to go on
    for process in running.values():
        process.wait()
