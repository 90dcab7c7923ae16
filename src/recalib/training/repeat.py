"""Jobs, such as the same with many seeds, each in a process of its own, one after another or side by side."""

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recalib.errors import RecalibError, WorkFailed
from recalib.runs import read_metrics, stop_on_signals, write_json
from recalib.training.job import Job

SPARE_GIB = 0.7  # of the device for each process beside what it allocates: its CUDA context and kernels


def run_seeds(job: Job, seeds: int, side_by_side: int | None = None, *, resume: bool = False) -> list[Path]:
    """Train a job with ``seeds`` seeds, counted from the recipe's.

    Args:
        job: what is trained; a name given becomes a prefix.
        seeds: how many.
        side_by_side: how many at a time, on the same device; by default as many as it holds, as `fitting` says.
        resume: go on with those that were begun.

    Returns:
        The run folders.

    Raises:
        RecalibError: for fewer than one seed or process, or data that is not there.
        WorkFailed: where a run fails, or was stopped before its end.
    """
    if seeds < 1:
        raise RecalibError(f"seeds {seeds}: should be at least 1")
    jobs = [_with_seed(job.resolved(), job.recipe.seed + i) for i in range(seeds)]
    run_jobs(jobs, side_by_side, resume=resume)
    return [one.folder for one in jobs]


def run_jobs(
    jobs: Sequence[Job], side_by_side: int | None = None, *, resume: bool = False, seconds: float = math.inf
) -> bool:
    """Run jobs in this order, each in a process of its own.

    Args:
        jobs: resolved, each with a folder of its own.
        side_by_side: how many at a time, on the same device; by default as many as it holds, as `fitting` says.
        resume: go on with those that were begun.
        seconds: stop after so many; what runs then saves.

    Returns:
        Whether all came to their end.

    Raises:
        RecalibError: for fewer than one at a time.
        WorkFailed: where a run fails, or was stopped before its end.
    """
    if side_by_side is not None and side_by_side < 1:
        raise RecalibError(f"jobs {side_by_side}: should be at least 1")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, stop_on_signals() as stop:
        waiting, running = [*jobs], dict[Path, subprocess.Popen[bytes]]()
        while waiting or running:
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
            if time.monotonic() - began > seconds:
                _end(running)
                return False
            time.sleep(0.1)
    return True


def fitting(first: Path) -> int:
    """How many runs such as a first one its device holds: one, until the first epoch has shown what a run takes.

    Only a GPU's memory is told in the metrics; elsewhere it stays at one.
    """
    told = [row for row in read_metrics(first) if "memory_gib" in row]
    return 1 + int(0.95 * told[0]["free_gib"] // (told[0]["memory_gib"] + SPARE_GIB)) if told else 1


def _with_seed(job: Job, seed: int) -> Job:
    name = f"{job.name}-seed{seed}" if job.name else None
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
