"""``recalib sweep``: a Weights & Biases sweep file, searched here by any number of workers that may die."""

import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from recalib.classification import RECIPES, ClassificationJob, recipe
from recalib.cli.arguments import parse
from recalib.cli.engine import FLAGS, TRAINING, TrainingEngine, without
from recalib.cli.json_file import write_json
from recalib.errors import RecalibError, require_packages
from recalib.report.sweep import show_sweep
from recalib.runs.executor import Command
from recalib.runtimes import find_runtime


@dataclass(frozen=True)
class Arguments:
    """Search the settings of a recipe: a sweep file of Weights & Biases, run by itself, with nothing to start.

    What is compared is measured on training images set aside; the test set chooses nothing. The same seed finds the
    same best trial, however many workers there were and whatever was killed.

    Examples:
      recalib sweep sweep.yaml --data DIR --trials 20 --limit 5000 --epochs 10

    A second worker, in another terminal or on another machine that sees the folder:
      recalib sweep sweep.yaml --data DIR --trials 20 --limit 5000 --epochs 10 --join

    On a cluster whose nodes see the folders, four trials a card:
      recalib sweep sweep.yaml --data DIR --engine ray --address auto --jobs 8 --gpus 0.25
    """

    space: Annotated[Positional[Path], arg(metavar="SPACE")]
    """method (grid, random, bayes), metric, parameters, early_terminate, as Weights & Biases has them"""
    data: Path = Path("data")
    """folder of the data set"""
    out: Path | None = None
    """the sweep's folder; by default sweeps/ and the file's name"""
    trials: int | None = None
    """how many; by default the file's run_cap, a whole grid, or 20"""
    recipe: str | None = None
    """what every trial is trained by, but for what the file varies; cifar-quick where there is one, else cifar-paper"""
    model: str = "resnet20"
    """network of every trial, unless the file varies it"""
    limit: int | None = None
    """the first so many training images only"""
    epochs: int | None = None
    """of every trial; by default the recipe's"""
    holdout: float | None = None
    """share of the training images set aside to compare trials on; by default the recipe's, or 0.1"""
    seed: int = 0
    """of the search and of every training"""
    parallel: int = 4
    """trials that may run at the same time; part of the result of a search that learns"""
    runtime: str = "eager"
    """runtime of the metrics latency_ms and latency_overhead: eager, compile, onnxruntime, openvino, ..."""
    jobs: int | None = None
    """workers, each a process with OMP_NUM_THREADS threads; by default one on this machine, --parallel on a cluster"""
    join: bool = False
    """go on with the sweep in the folder, or work at it beside others"""
    heartbeat: float = 60.0
    """seconds without a sign after which another machine's worker is taken for dead; on this one it is seen at once"""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """by default the best this machine has"""
    devices: int = 1
    """processes of each trial, one a device"""
    workers: int = 4
    """processes that read images, for data that does not stay on the device"""
    track: tuple[str, ...] = ()
    """live trackers of every trial beside metrics.jsonl"""
    json: Path | None = None
    """file for the best trial and all others"""
    where: TRAINING = field(default_factory=TrainingEngine)


def main(argv: list[str]) -> int:
    """Run the command."""
    given = parse(Arguments, argv, "recalib sweep")
    for name in ("parallel", "trials", "heartbeat", "jobs"):
        value = getattr(given, name)
        if value is not None and value <= 0:
            raise RecalibError(f"--{name} {value}: should be above 0")
    require_packages(("optuna",), "sweep", "sweeps")
    from recalib.study.sweep import HOLDOUT, Sweep, sweep
    from recalib.study.sweep_cluster import sweep_on
    from recalib.study.sweep_space import read_space

    job = _job(given, HOLDOUT)
    space = read_space(given.space, job.recipe)
    find_runtime(given.runtime)
    for note in space.notes:
        print(note)
    out = given.out or Path("sweeps") / given.space.stem
    asked = Sweep(space=space, job=job, out=out, seed=given.seed, parallel=given.parallel, target=given.runtime)
    cluster = given.where.cluster()
    if cluster is None:
        others = _Others(out, argv, (given.jobs or 1) - 1)
        with others:
            results = sweep(asked, trials=given.trials, join=given.join, heartbeat=given.heartbeat, begun=others.start)
    else:
        words = ["sweep", *(word for word in without(argv, (*FLAGS, "--jobs", "--json")) if word != "--join")]
        gpus = given.where.cards(cluster) * given.devices
        worker = Command((*words, "--join"), cpus=given.devices, gpus=gpus)
        results = sweep_on(cluster, asked, worker, given.jobs or given.parallel, join=given.join)
    show_sweep(results)
    if results["stopped"]:
        print(results["stopped"])
    write_json(given.json, results)
    return 0


class _Others:
    """Further workers of the same sweep, ended when the first has ended; what they say is in the sweep's folder."""

    def __init__(self, out: Path, argv: list[str], count: int) -> None:
        self.out, self.count = out, count
        self.command = [sys.executable, "-m", "recalib", "sweep", *argv, "--join", "--jobs", "1"]
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start them."""
        for i in range(self.count):
            with (self.out / f"worker{i + 2}.txt").open("ab") as log:
                self.running.append(subprocess.Popen(self.command, stdout=log, stderr=log))

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self.running:
            process.terminate()  # where it still trains, it saves; the others' trials have ended
        for process in self.running:
            process.wait()


def _job(given: Arguments, aside: float) -> ClassificationJob:
    """The job of every trial, but for what the space sets."""
    preset = given.recipe or ("cifar-quick" if "cifar-quick" in RECIPES else "cifar-paper")
    base = recipe(preset)
    limit, epochs = given.limit or base.limit, given.epochs or base.epochs
    holdout = base.holdout or aside if given.holdout is None else given.holdout
    if not holdout:
        raise RecalibError("--holdout 0: trials are compared on training images set aside, never on the test set")
    base = replace(base, model=given.model, limit=limit, epochs=epochs, holdout=holdout, seed=given.seed)
    return ClassificationJob(
        recipe=base, data=given.data, preset=preset, accelerator=given.accelerator, devices=given.devices,
        workers=given.workers, track=given.track,
    )  # fmt: skip
