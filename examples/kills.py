"""Kill a training twenty times at random moments, resume it each time, and compare its end with an undisturbed one's.

python examples/kills.py --data CIFAR --model resnet20 --kills 10 --json results/kills_resnet20.json
python examples/kills.py --data COCO --detector fasterrcnn_resnet18_fpn --attention eca --kills 10 --json OUT.json
"""

import hashlib
import json
import multiprocessing
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch
import tyro
from safetensors.torch import load_file

from recalib.classification import ClassificationJob, recipe, run
from recalib.errors import RecalibError
from recalib.runs import environment, read_metrics, read_state, write_json
from recalib.training.job import Job, plain


@dataclass(frozen=True)
class Arguments:
    """Kill a training twenty times and compare its end with that of an undisturbed one, bit for bit."""

    data: Path
    """folder with CIFAR-10's official files, or, for a detector, of COCO's form"""
    kills: int = 20
    """how often"""
    model: str = "cifar_resnet8"
    """name of the network"""
    detector: str | None = None
    """train this detector instead, on the first eight images, by the recipe overfit"""
    attention: str | None = None
    """module in the network"""
    epochs: int = 3
    """of the run"""
    limit: int = 2000
    """training and test images"""
    seed: int = 0
    """of the moments"""
    json: Path | None = None
    """file for the record"""


@dataclass(frozen=True)
class Kill:
    """One kill -9: in which run, after how many seconds, and the epoch and step that the checkpoint then stood at."""

    run: int
    seconds: float
    epoch: int | None
    step: int | None


@dataclass(frozen=True)
class Hunt:
    """Every kill, and the fingerprint of every run that came to its end in spite of them."""

    kills: list[Kill]
    ends: list[dict[str, str]]


def forkserver() -> ForkServerContext:
    """Processes that start with the packages imported, and can be killed for real."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recalib.classification", "timm", "lightning_fabric"])
    return context


def undisturbed(job: Job) -> tuple[dict[str, str], float]:
    """Fingerprint of a run that nobody disturbs, and the seconds one takes when everything is warm."""
    run(job)
    began = time.perf_counter()
    run(replace(job, name=f"{job.name}-again"))
    return fingerprint(job.folder), time.perf_counter() - began


def hunt(
    job: Job,
    kills: int,
    duration: float,
    processes: ForkServerContext,
    seed: int = 0,
    target: Callable[..., object] = run,
) -> Hunt:
    """Kill a run after 10 to 70 % of its duration and resume it; begin it anew whenever it came to its end.

    Seconds count from when the process has the run's folder, so that kills fall into the training and not into a start
    that other work has made slow.

    Args:
        job: what is trained, in a folder of its own.
        kills: how many.
        duration: seconds that the run takes.
        processes: that start quickly.
        seed: of the moments.
        target: what is run with the job, with ``resume``.
    """
    moments = random.Random(seed)
    done = Hunt([], [])
    while True:
        process = processes.Process(target=target, args=(job,), kwargs={"resume": True})
        process.start()
        moment = moments.uniform(0.1, 0.7) * duration
        while process.exitcode is None and not _has(job, process.pid):
            process.join(0.01)
        process.join(moment if len(done.kills) < kills else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            done.kills.append(Kill(len(done.ends), moment, *_reached(job)))
        elif process.exitcode:
            raise RecalibError(f"{job.folder} failed with {process.exitcode}")
        else:
            done.ends.append(fingerprint(job.folder))
            if len(done.kills) == kills:
                return done
            shutil.rmtree(job.folder)


def _has(job: Job, pid: int | None) -> bool:
    """Whether a process has locked the job's folder."""
    lock = job.folder / "lock"
    return lock.exists() and f'"pid": {pid},' in lock.read_text()


def _reached(job: Job) -> tuple[int | None, int | None]:
    file = job.folder / "last.pt"
    state = read_state(file) if file.exists() else {}
    return state.get("epoch"), state.get("step")


def fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 of everything a run ends with that must not depend on how often it was interrupted."""
    rows = [{key: value for key, value in row.items() if key != "images_per_second"} for row in read_metrics(folder)]
    weights = {file.name: load_file(file) for file in sorted(folder.glob("*.safetensors"))}
    parts = {"metrics.jsonl": rows, "last.pt": read_state(folder / "last.pt"), **weights}
    return {name: _digest(part) for name, part in parts.items()}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(_plain(value)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), *value.shape, hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()]
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key]) for key in sorted(value, key=str)}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _job(args: Arguments) -> Job:
    if args.detector is None:
        small = {"model": args.model, "attention": args.attention, "epochs": args.epochs, "limit": args.limit}
        return ClassificationJob(recipe=replace(recipe("cifar-paper"), **small, ema=0.9, lr=0.05), data=args.data)
    from recalib.detection.job import DetectionJob
    from recalib.detection.recipes import recipe as detection_recipe

    tiny = {"min_size": 96, "max_size": 128, "repeat": 2, "limit": 8, "eval_limit": 4}
    chosen = replace(
        detection_recipe("overfit"), model=args.detector, attention=args.attention, epochs=args.epochs, **tiny
    )
    return DetectionJob(recipe=chosen, data=args.data, workers=0)


def main() -> None:
    """Hunt, say what came of it, and write the record."""
    args = tyro.cli(Arguments, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        calm = replace(_job(args), out=Path(folder), name="calm", accelerator="cpu", save_every=2, log_every=1)
        expected, duration = undisturbed(calm)
        done = hunt(replace(calm, name="hunted"), args.kills, duration, forkserver(), args.seed)
    equal = all(end == expected for end in done.ends)
    print(f"{len(done.kills)} kills in {len(done.ends)} runs: {'every' if equal else 'not every'} end is the same")
    recipe_ = {key: value for key, value in plain(asdict(calm.recipe)).items() if value is not None}
    record = {
        "equal": equal, "undisturbed": expected, "ends": done.ends, "kills": [asdict(kill) for kill in done.kills],
        "undisturbed_seconds": duration, "recipe": recipe_, "save_every": 2, "environment": environment(),
    }  # fmt: skip
    if args.json:
        write_json(args.json, record)


if __name__ == "__main__":
    main()
