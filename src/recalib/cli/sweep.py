"""``recalib sweep``: a Weights & Biases sweep file, searched here by any number of workers that may die."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from recalib.classification import RECIPES, ClassificationJob, recipe
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.errors import RecalibError
from recalib.report.sweep import show_sweep
from recalib.runs import environment
from recalib.study.sweep import HOLDOUT, Sweep, sweep
from recalib.study.sweep_space import read_space


@dataclass(frozen=True)
class Arguments:
    """Search the settings of a recipe: a sweep file of Weights & Biases, run by itself, with nothing to start.

    What is compared is measured on training images set aside; the test set chooses nothing. The same seed finds the
    same best trial, however many workers there were and whatever was killed.

    Example: recalib sweep sweep.yaml --data DIR --trials 20 --limit 5000 --epochs 10
    A second worker, in another terminal or on another machine that sees the folder: the same with --join
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


def main(argv: list[str]) -> int:
    """Run the command."""
    given = parse(Arguments, argv, "recalib sweep", config=(FlagCreatePairsOff,))
    for name in ("parallel", "trials", "heartbeat"):
        value = getattr(given, name)
        if value is not None and value <= 0:
            raise RecalibError(f"--{name} {value}: should be above 0")
    job = _job(given)
    space = read_space(given.space, job.recipe)
    for note in space.notes:
        print(note)
    out = given.out or Path("sweeps") / given.space.stem
    asked = Sweep(space=space, job=job, out=out, seed=given.seed, parallel=given.parallel)
    results = sweep(asked, trials=given.trials, join=given.join, heartbeat=given.heartbeat)
    show_sweep(results)
    if results["stopped"]:
        print(results["stopped"])
    write_json(given.json, results | {"environment": environment()})
    return 0


def _job(given: Arguments) -> ClassificationJob:
    """What every trial is, but for what the space sets."""
    preset = given.recipe or ("cifar-quick" if "cifar-quick" in RECIPES else "cifar-paper")
    base = recipe(preset)
    limit, epochs = given.limit or base.limit, given.epochs or base.epochs
    holdout = base.holdout or HOLDOUT if given.holdout is None else given.holdout
    if not holdout:
        raise RecalibError("--holdout 0: trials are compared on training images set aside, never on the test set")
    base = replace(base, model=given.model, limit=limit, epochs=epochs, holdout=holdout, seed=given.seed)
    return ClassificationJob(
        recipe=base, data=given.data, preset=preset, accelerator=given.accelerator, devices=given.devices,
        workers=given.workers, track=given.track,
    )  # fmt: skip
