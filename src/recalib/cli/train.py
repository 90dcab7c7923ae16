"""``recalib train``: a recipe, on a network with or without attention, into a run folder that can be resumed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from recalib.classification import RECIPES, ClassificationJob, Outcome, recipe, run
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.errors import RecalibError
from recalib.report.trained import show_trained
from recalib.runs import environment, read_config
from recalib.training.repeat import run_seeds
from recalib.training.table import as_json, finished_runs, table

EXAMPLE = """Train a network by a recipe; every field of the recipe is a flag.

  recalib train cifar-paper --data DIR --model resnet20 --attention eca
  recalib train cifar-paper --data DIR --seeds 3
  recalib train --config runs/NAME/config.json --resume

Recipes: """


@dataclass(frozen=True)
class Arguments:
    """What may stand beside the job's own flags.

    Attributes:
        job: recipe, data and folder.
        resume: go on from the run's last checkpoint, where it has one.
        seeds: train with so many seeds, counted from the recipe's, and make a table of mean and deviation.
        jobs: seeds trained side by side; by default one, and on a GPU as many as its memory holds.
        json: write the result here.
    """

    job: Annotated[ClassificationJob, tyro.conf.arg(name="")]
    resume: bool = False
    seeds: int = 1
    jobs: int | None = None
    json: Path | None = None


def main(argv: list[str]) -> int:
    """Run the command."""
    job, rest = starting_job(argv)
    arguments = given(job, rest)
    if arguments.seeds > 1:
        write_json(arguments.json, train_seeds(arguments))
    else:
        outcome = run(arguments.job, resume=arguments.resume)
        if outcome.first:
            write_json(arguments.json, report(outcome))
    return 0


def starting_job(argv: list[str]) -> tuple[ClassificationJob, list[str]]:
    """The job that the first arguments name, ``RECIPE`` or ``--config FILE``, and the arguments after them."""
    if argv[:1] == ["--config"]:
        if len(argv) < 2:
            raise RecalibError("--config: should be followed by a run's config.json")
        return ClassificationJob.from_config(read_config(Path(argv[1])), Path(argv[1])), argv[2:]
    if argv and not argv[0].startswith("-"):
        return ClassificationJob(recipe=recipe(argv[0]), preset=argv[0]), argv[1:]
    if "--help" in argv or "-h" in argv:
        return ClassificationJob(), argv
    raise RecalibError(f"which recipe? There are {', '.join(RECIPES)}; or --config FILE")


def given(job: ClassificationJob, argv: list[str]) -> Arguments:
    """Flags on top of a job."""
    return parse(
        Arguments,
        argv,
        "recalib train RECIPE|--config FILE",
        description=EXAMPLE + ", ".join(RECIPES),
        default=Arguments(job),
        config=(tyro.conf.OmitArgPrefixes,),
    )


def train_seeds(arguments: Arguments) -> dict[str, object]:
    """Train with many seeds; print and return the table of all runs of this recipe in the same folder."""
    job = arguments.job
    folders = run_seeds(job, arguments.seeds, arguments.jobs, resume=arguments.resume)
    rows = table(finished_runs(job.out, folders[0]))
    show_trained(rows)
    return {"runs": [str(folder) for folder in folders], "table": as_json(rows), "environment": environment()}


def report(outcome: Outcome) -> dict[str, object]:
    """Say how a run ended; its metrics for ``--json``."""
    if outcome.stopped:
        print(outcome.stopped)
    told = {"run": str(outcome.folder), "stopped": outcome.stopped, **outcome.metrics}
    return {**told, "environment": environment()}
